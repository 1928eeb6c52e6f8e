"""Which decisions of the entrance are recorded, and as what. Pure."""

from __future__ import annotations

from typing import Final

from plugin.access.events import AccessEvent, Decision
from plugin.audit.record import AuditRecord, Kind

NOTHING_OF_PATIENTS: Final = frozenset(
    {
        "live",
        "ready",
        "public-keys",
        "metrics",
        "description",
        "icon",
        "page-parts",
        "worklist-parts",
        "changes",
        "fhir-metadata",
        "hub-configuration",
        "hub-own-configuration",
        "viewer",
        "viewer-path",
        "viewer-configuration",
        "viewer-panel",
        "viewer-files",
        "login",
        "launch",
        "callback",
        "event",
        "hook",
        "hook-resource",
    }
)
"""Routes whose answers tell nothing of patients: that they answered is not recorded, that they refused is."""
_REFUSED = (Decision.UNKNOWN, Decision.FORBIDDEN, Decision.TOO_MANY)
_ENTERED = {Decision.LOGIN: Kind.LOGIN, Decision.LOGOUT: Kind.LOGOUT}


def record_of(event: AccessEvent) -> AuditRecord | None:
    """What is kept of *event*; None when nothing of a patient was read, and nobody was kept out."""
    refused = event.decision in _REFUSED
    entered = event.decision in _ENTERED
    if event.route in NOTHING_OF_PATIENTS and not refused and not entered:
        return None
    caller = event.caller
    return AuditRecord(
        at=event.at,
        kind=Kind.REFUSED if refused else _ENTERED.get(event.decision, _of_method(event)),
        what=f"{event.method} {event.route}".strip(),
        ok=event.decision in (Decision.ANSWERED, Decision.LOGIN, Decision.LOGOUT),
        why=event.why or ("" if event.decision is not Decision.MISSING else "there is nothing to see"),
        who=caller.id if caller else "",
        roles=tuple(sorted(caller.roles)) if caller else (),
        address=event.address,
        patients=event.patients,
        studies=(event.study,) if event.study else (),
        report=event.report,
    )


def _of_method(event: AccessEvent) -> Kind:
    reads = event.method in ("GET", "HEAD", "WS") or event.route.endswith("-form") or event.route == "predict"
    return Kind.READ if reads else Kind.CHANGE
