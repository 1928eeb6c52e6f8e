"""Who did what to which data: the AuditEvent that goes with everything that Sightline writes (R4 auditevent.html)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from plugin.fhir.codes import coded, coding
from plugin.fhir.parts import Fhir

APPLICATION = coded("DCM", "110150", "Application")
ACTIVITY = coding("DCM", "110100", "Application Activity")
TRANSFORM = coding("LIFECYCLE", "transform", "Transform/Translate Record Lifecycle Event")
DEPRECATE = coding("LIFECYCLE", "deprecate", "Deprecate Record Lifecycle Event")
SERVER = coding("AUDIT_SOURCE", "4", "Application Server")
PERSON, SYSTEM_OBJECT = coding("AUDIT_ENTITY", "1", "Person"), coding("AUDIT_ENTITY", "2", "System Object")
PATIENT, REPORT = coding("AUDIT_ROLE", "1", "Patient"), coding("AUDIT_ROLE", "3", "Report")
READ = coding("AUDIT_LIFECYCLE", "6", "Access / Use")
WRITTEN = coding("AUDIT_LIFECYCLE", "1", "Origination / Creation")
TAKEN_BACK = coding("AUDIT_LIFECYCLE", "14", "Logical deletion")


def audit_event(
    event_id: str,
    *,
    device: Fhir,
    recorded: str,
    what: Fhir,
    subject: Fhir | None,
    read: Iterable[Fhir] = (),
    written: Iterable[Fhir] = (),
    taken_back: Iterable[Fhir] = (),
) -> Fhir:
    """The event that *device* read, wrote or took back these (references), and succeeded. It holds no text.

    Parameters
    ----------
    what : :data:`TRANSFORM` or :data:`DEPRECATE`.
    subject : the patient whom all of it is about.
    """
    return {
        "resourceType": "AuditEvent",
        "id": event_id,
        "type": ACTIVITY,
        "subtype": [what],
        "action": "E",
        "recorded": recorded,
        "outcome": "0",
        "agent": [{"type": APPLICATION, "who": device, "requestor": False}],
        "source": {"observer": device, "type": [SERVER]},
        "entity": [
            *([{"what": subject, "type": PERSON, "role": PATIENT}] if subject else []),
            *_entities(read, READ),
            *_entities(written, WRITTEN),
            *_entities(taken_back, TAKEN_BACK),
        ],
    }


def _entities(references: Iterable[Fhir], lifecycle: Fhir) -> Iterator[Fhir]:
    for reference in references:
        yield {"what": reference, "type": SYSTEM_OBJECT, "role": REPORT, "lifecycle": lifecycle}
