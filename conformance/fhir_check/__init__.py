"""Checks FHIR resources offline: against HL7's definitions (R4 and R5), our profiles, and IHE IMR's rules.

In a test::

    from fhir_check import checker

    assert checker().check(resource) == []             # HL7's definitions, and the profiles that it claims
    assert checker().written(bundle) == []             # the same, and our profiles: whatever Sightline writes
    assert checker("R5").written(selection) == []      # the form for an R5 server

Every fault is a line "path: what", with the profile and the clause that ask for it. As a program::

    PYTHONPATH=conformance python -m fhir_check [--written] [--r5] FILE ...
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache

from fhir_check.bundles import entry_faults, reference_faults, unknown_extensions, unresolved
from fhir_check.checker import BaseChecker
from fhir_check.definitions import Json, definitions
from fhir_check.profiles import Profile, profiles

__all__ = ["Checker", "checker", "unresolved"]

# Our profile of each resource type that Sightline writes.
WRITTEN = {
    "R4": {
        "Bundle": "SightlineTransaction",
        "Device": "SightlineDevice",
        "DocumentReference": "SightlineDocumentReference",
        "Observation": "SightlinePhraseObservation",
        "Provenance": "SightlineProvenance",
    },
    "R5": {},
}
KNOWN_EXTENSIONS = frozenset[str]()


class Checker(BaseChecker):
    """A checker of one FHIR release; see the module."""

    def __init__(self, release: str = "R4") -> None:
        super().__init__(definitions(release))
        self._release = release

    def check(self, resource: Json) -> list[str]:
        """What is wrong with *resource*, by its release's definitions and by the profiles that it claims."""
        return [*super().check(resource), *self._claimed(resource)]

    def written(self, resource: Json, *, stored: Collection[str] = ()) -> list[str]:
        """What is wrong with a resource or transaction that Sightline wrote.

        *stored*: references ("Device/1") that need not be in the bundle, since the server has them.
        """
        kind = str(resource.get("resourceType"))
        if kind not in WRITTEN[self._release]:
            return [f"{kind}: Sightline has no profile of it in {self._release}"]
        profile = profiles().named(WRITTEN[self._release][kind])
        faults = [*self.check(resource), *profiles().faults(resource, profile, where=kind)]
        faults += unknown_extensions(resource, KNOWN_EXTENSIONS, kind)
        if kind == "Bundle":
            faults += [*reference_faults(resource, stored=stored), *entry_faults(resource)]
        return faults

    def conforms(self, resource: Json, profile: Profile) -> list[str]:
        """What *resource* has against one profile, the base definition apart."""
        return list(profiles().faults(resource, profile, where=profile.type))

    def _coding(self, item: Json, *, where: str) -> Iterator[str]:
        yield from super()._coding(item, where=where)
        if profiles().has_code(str(item.get("system")), str(item.get("code"))) is False:
            yield f"{where}: {item.get('code')} is no code of ours"

    def _claimed(self, resource: Json) -> Iterator[str]:
        meta = resource.get("meta")
        for url in meta.get("profile", ()) if isinstance(meta, dict) else ():
            profile = profiles().get(str(url))
            if profile is not None:
                yield from profiles().faults(resource, profile, where=profile.type)


@cache
def checker(release: str = "R4") -> Checker:
    """The checker of "R4" or "R5", made once."""
    return Checker(release)
