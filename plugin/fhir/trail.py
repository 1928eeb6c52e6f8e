"""Records of the audit trail as AuditEvent (R4 auditevent.html; R5 where the server speaks that)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from plugin.audit.codes import EVENTS, NOBODY, SOURCE, outcome_of
from plugin.audit.record import Link
from plugin.fhir.audit import PATIENT, PERSON, REPORT, SERVER, SYSTEM_OBJECT
from plugin.fhir.capability import Release
from plugin.fhir.codes import DICOM_UID_SYSTEM, coding
from plugin.fhir.parts import URI, Fhir, clean, hash_uri, logical
from plugin.fhir.r5 import as_r5
from plugin.fhir.resource import is_fhir_id
from plugin.fhir.writing import transaction
from plugin.identity import derived_id

SECURITY_RESOURCE = coding("AUDIT_ROLE", "13", "Security Resource")


def events_of(links: Sequence[Link], release: Release) -> str:
    """The transaction that stores *links*.

    Raises
    ------
    ConformanceError
        If one is not valid.
    """
    form = as_r5 if release is Release.R5 else dict
    return transaction([form(event_of(link)) for link in links], release)


def event_of(link: Link) -> Fhir:
    """The AuditEvent of *link*, R4; its last entity is the record itself, by hash: a copy that anchors it."""
    record = link.record
    told = EVENTS[record.kind]
    network = {"address": record.address, "type": "2"} if record.address else None
    agent = {
        "role": [{"text": role} for role in record.roles] or None,
        "who": {"identifier": {"value": clean(record.who)}} if record.who else {"display": NOBODY},
        "requestor": True,
        "network": network,
    }
    return {
        "resourceType": "AuditEvent",
        "id": derived_id("AuditEvent of the trail", link.hash),
        "type": coding("DCM", *told.id),
        "subtype": [coding("DCM", *told.type)] if told.type else None,
        "action": told.action,
        "recorded": record.at.isoformat(),
        "outcome": outcome_of(record),
        "outcomeDesc": clean(f"{record.what}: {record.why}" if record.why else record.what),
        "agent": [agent],
        "source": {"observer": {"display": SOURCE}, "type": [SERVER]},
        "entity": list(_entities(link)),
    }


def _entities(link: Link) -> Iterator[Fhir]:
    record = link.record
    for patient in record.patients:
        yield {"what": {"reference": patient}, "type": PERSON, "role": PATIENT}
    for study in record.studies:
        reference = logical(DICOM_UID_SYSTEM, f"urn:oid:{study}", kind="ImagingStudy")
        yield {"what": reference, "type": SYSTEM_OBJECT, "role": REPORT}
    if record.report:
        known = {"reference": f"DiagnosticReport/{record.report}"}
        what = known if is_fhir_id(record.report) else logical(URI, clean(record.report), kind="DiagnosticReport")
        yield {"what": what, "type": SYSTEM_OBJECT, "role": REPORT}
    what = {"identifier": {"system": URI, "value": hash_uri(link.hash)}}
    yield {"what": what, "type": SYSTEM_OBJECT, "role": SECURITY_RESOURCE}
