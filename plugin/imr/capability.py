"""What the FHIR endpoint says of itself (R4 and R5 capabilitystatement.html), made from the routes that it has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from plugin import __version__
from plugin.fhir.multimedia import BUNDLE_PROFILE, FHIR_ROOT, REPORT_PROFILE
from plugin.fhir.parts import Fhir
from plugin.fhir.selections import KIND
from plugin.imr.endpoint import INCLUDES
from plugin.imr.held import parameters, selection_parameters
from plugin.imr.search import Parameter

CHANGED = "2026-11-27"
"""When what follows was last changed."""
VERSIONS = {"4.0": "4.0.1", "5.0": "5.0.0"}
_SECURITY = (
    "Bearer tokens of the site's issuer, or of its file of programs, or a session after a login with the browser; "
    "SMART scopes narrow what is seen. Where nobody has to log in, the service answers its own machine alone."
)
_REPORTS = (
    "IHE RAD IMR 1.1.0: responder of Find Multimedia Report [RAD-143] and Retrieve Rendered Multimedia Report "
    "[RAD-144], in JSON. ImagingSelections, which R4 does not have, are here as R5: ask with fhirVersion=5.0."
)


def capability_statement(names: Iterable[str], *, version: str, base: str, creates: bool) -> Fhir:
    """The CapabilityStatement for the routes *names*, each "Type:interaction", of one FHIR version.

    Parameters
    ----------
    version : "4.0", or "5.0" for the resources that only R5 has.
    base : where this service is reached, without a slash at its end.
    creates : whether multimedia reports are stored at a FHIR server (RAD-141). IHE's CapabilityStatement of the Report
        Creator is not named as instantiated: conformance/ihe.md says what of it is not done.
    """
    interactions: dict[str, list[str]] = {}
    for kind, _, code in (name.partition(":") for name in names):
        if (kind == KIND) == (version == "5.0"):
            interactions.setdefault(kind, []).append(code)
    server = {
        "mode": "server",
        "documentation": _REPORTS,
        "security": {"description": _SECURITY},
        "resource": [_resource(kind, codes) for kind, codes in interactions.items()],
    }
    stored = {"code": "transaction", "documentation": BUNDLE_PROFILE}
    sender = "IHE RAD IMR 1.1.0: sender of Store Multimedia Report [RAD-141]."
    client = {"mode": "client", "documentation": sender, "interaction": [stored]}
    creator = creates and version == "4.0"
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": CHANGED,
        "kind": "instance",
        "software": {"name": "Sightline", "version": __version__},
        "implementation": {"description": "Sightline's multimedia reports", "url": f"{base}{FHIR_ROOT}"},
        "fhirVersion": VERSIONS[version],
        "format": ["application/fhir+json"],
        "rest": [server, client] if creator else [server],
    }


def _resource(kind: str, codes: Sequence[str]) -> Fhir:
    found: Fhir = {"type": kind}
    if kind == "DiagnosticReport":
        found["supportedProfile"] = [REPORT_PROFILE]
    found["interaction"] = [{"code": code} for code in dict.fromkeys(codes)]
    if "search-type" in codes:
        known: Sequence[Parameter[Any]] = selection_parameters("") if kind == KIND else parameters("")
        found |= {"searchInclude": list(INCLUDES)} if kind == "DiagnosticReport" else {}
        found["searchParam"] = [_parameter(each) for each in known]
    return found


def _parameter(parameter: Parameter[Any]) -> Fhir:
    names = {"documentation": f"also as {', '.join(parameter.aliases)}"} if parameter.aliases else {}
    return {"name": parameter.name, "type": parameter.kind} | names
