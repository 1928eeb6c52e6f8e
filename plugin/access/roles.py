"""Who somebody is here, by what their issuer says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from plugin.access.caller import Caller, Proof, Role

DEFAULT_ROLES: Final = (
    "patient=patient,radiologist=radiologist,operator=operator,service=service,"
    "Patient=patient,RelatedPerson=patient,Practitioner=radiologist,PractitionerRole=radiologist"
)
_REFERENCE = re.compile(r"(?P<base>https?://.*/)?(?P<type>[A-Z][A-Za-z]{2,40})/(?P<id>[A-Za-z0-9.-]{1,64})")


@dataclass(frozen=True, slots=True)
class RoleMap:
    """How claims become a caller.

    Parameters
    ----------
    roles : value of the claim, or FHIR type of ``fhirUser``, and the role that it means.
    role_claim : where the values stand; dots lead into objects ("realm_access.roles").
    patient_claim : where the patient of the launch context stands.
    fhir_urls : addresses of the FHIR server that results are about patients of; a patient of any other one is nobody,
        and without it nobody is a patient.
    """

    roles: Mapping[str, Role]
    role_claim: str = "roles"
    patient_claim: str = "patient"
    fhir_urls: tuple[str, ...] = ()

    def caller(self, claims: Mapping[str, Any], *, proof: Proof, study: str = "") -> Caller:
        """The caller that *claims* describe, which were proven."""
        scopes = tuple(_words(claims.get("scope"))) or tuple(_words(claims.get("scp")))
        user, patient = self._reference(claims.get("fhirUser")), self._patient(claims.get(self.patient_claim))
        found = {role for value in _words(_at(claims, self.role_claim)) if (role := self.roles.get(value))}
        if user and (role := self.roles.get(user.partition("/")[0])):
            found.add(role)
        if user.startswith("Patient/"):
            # A patient who reads has their own compartment alone, whatever else the token names.
            patient = user if not patient or found == {Role.PATIENT} else patient
        if not found and patient and any(scope.startswith("patient/") for scope in scopes):
            found.add(Role.PATIENT)
        if not found and not user and any(scope.startswith("system/") for scope in scopes):
            found.add(Role.SERVICE)
        who = f"{claims['iss']}|{claims['sub']}"
        ends = float(claims["exp"]) if proof is Proof.TOKEN and "exp" in claims else None
        return Caller(who, frozenset(found), proof, patient=patient, scopes=scopes, study=study, user=user, ends=ends)

    def _reference(self, value: object) -> str:
        """ "Type/id" of a reference to a resource of our FHIR server; "" for any other."""
        found = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
        known = {each.rstrip("/") for each in self.fhir_urls}
        if found is None or (found["type"] == "Patient" and not known):
            return ""
        if found["base"] and found["base"].rstrip("/") not in known:
            return ""
        return f"{found['type']}/{found['id']}"

    def _patient(self, value: object) -> str:
        """ "Patient/<id>" of a launch context, which is a bare id or a reference."""
        bare = f"Patient/{value}" if isinstance(value, str) and "/" not in value else value
        found = self._reference(bare)
        return found if found.startswith("Patient/") else ""


def role_map(text: str) -> dict[str, Role]:
    """What ``value=role,value=role`` says.

    Raises
    ------
    ValueError
        If it is not of that form, or names another role.
    """
    pairs = [pair.strip().rpartition("=") for pair in text.split(",") if pair.strip()]
    if any(not value or role not in tuple(Role) for value, _, role in pairs):
        raise ValueError(f"must be value=role with commas between; roles: {', '.join(Role)}")
    return {value: Role(role) for value, _, role in pairs}


def _at(claims: Mapping[str, Any], path: str) -> object:
    """What stands at *path*; a claim whose own name has dots goes before the path into objects."""
    if path in claims:
        return claims[path]
    found: object = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _words(value: object) -> Iterator[str]:
    """The words of a string, or the strings of a list."""
    if isinstance(value, str):
        yield from value.split()
    elif isinstance(value, Iterable):
        yield from (each for each in value if isinstance(each, str))
