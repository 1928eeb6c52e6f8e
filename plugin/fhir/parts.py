"""What our FHIR resources are built from: references, identifiers, narratives, and the words of what they are about."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC
from html import escape
from typing import Any

from plugin.fhir.codes import DICOM_UID_SYSTEM
from plugin.fhir.resource import is_fhir_id
from plugin.identity import derived_id
from plugin.page.document import ProvenancePart
from plugin.values import Evidence, Provenance, ReportRef

Fhir = dict[str, Any]
"""A resource, or a part of one, while it is built; None means absent. Never leaves the FHIR modules."""

URI = "urn:ietf:rfc:3986"
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def present(part: Any) -> Any:
    """*part* without what is absent: FHIR JSON has no null here, and no empty object."""
    if isinstance(part, dict):
        return {name: present(value) for name, value in part.items() if value is not None}
    return [present(each) for each in part] if isinstance(part, (list, tuple)) else part


def name_of(resource: Fhir) -> str:
    """Type/id of a resource that has both."""
    return f"{resource['resourceType']}/{resource['id']}"


def device_id(provenance: Provenance | ProvenancePart) -> str:
    """The Device of the model, the same for everything that it made."""
    card = provenance.model
    parts = (card.name, card.version, card.weights_sha256, provenance.software_version, provenance.reader_version)
    return derived_id("Device", *parts)


def subject_of(evidence: Evidence) -> Fhir | None:
    """The patient as the report, else the image, names them; None when neither does."""
    report = evidence.report
    if report.subject_id:
        return {"reference": f"Patient/{report.subject_id}"}
    patient = report.patient or evidence.images[0].description.patient
    if patient is None or not patient.patient_id.strip():
        return None
    identifier = {"value": clean(patient.patient_id)}
    if ":" in patient.issuer:
        identifier["system"] = patient.issuer
    return {"type": "Patient", "identifier": identifier}


def report_reference(evidence: Evidence) -> Fhir:
    """The report version that was read; by identifier when it is not a resource of its own."""
    return reference_to_report(evidence.report.ref)


def reference_to_report(ref: ReportRef) -> Fhir:
    """As :func:`report_reference`."""
    if not is_fhir_id(ref.report_id):
        return logical(URI, ref.report_id, kind="DiagnosticReport")
    version = f"/_history/{ref.version}" if is_fhir_id(ref.version) else ""
    return {"reference": f"DiagnosticReport/{ref.report_id}{version}"}


def study_reference(evidence: Evidence) -> Fhir:
    """The study; by its UID when it is not known as a resource."""
    report, uid = evidence.report, evidence.study.study_instance_uid
    if len(report.imaging_study_ids) == 1 and report.study_instance_uids == (uid,):
        return {"reference": f"ImagingStudy/{report.imaging_study_ids[0]}"}
    return logical(DICOM_UID_SYSTEM, f"urn:oid:{uid}", kind="ImagingStudy")


def logical(system: str, value: str, *, kind: str | None = None) -> Fhir:
    """A reference by identifier (R4 references.html#logical)."""
    return {"type": kind, "identifier": {"system": system, "value": value}}


def instance_reference(sop_instance_uid: str) -> Fhir:
    """A reference to a SOP instance."""
    return {"identifier": uid_identifier(sop_instance_uid)}


def uid_identifier(uid: str) -> Fhir:
    """A DICOM UID as an Identifier (R4 ImagingStudy, mapping of DICOM UIDs)."""
    return {"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}


def instant_of(evidence: Evidence) -> str:
    """A FHIR instant has a zone; a source's time without one (DICOM) is taken as UTC."""
    created = evidence.written
    return (created if created.tzinfo else created.replace(tzinfo=UTC)).isoformat()


def hash_uri(sha256: str) -> str:
    """RFC 6920: a name for content by its hash."""
    digest = base64.urlsafe_b64encode(bytes.fromhex(sha256)).decode().rstrip("=")
    return f"ni:///sha-256;{digest}"


def content_reference(sha256: str, display: str) -> Fhir:
    """A reference to bytes by their hash, whoever keeps them."""
    return logical(URI, hash_uri(sha256)) | {"display": display}


def narrative(*sentences: str) -> Fhir:
    """A generated Narrative with a paragraph for each sentence."""
    paragraphs = "".join(f"<p>{escape(clean(sentence))}</p>" for sentence in sentences)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{paragraphs}</div>'}


def clean(text: str) -> str:
    """*text* without the control characters that FHIR strings and XHTML do not allow (R4 datatypes, ``string``)."""
    return _UNPRINTABLE.sub(" ", text).strip()


def fingerprint(content: bytes) -> Fhir:
    """Attachment.size and .hash; SHA-1 is what R4 asks for."""
    digest = hashlib.sha1(content, usedforsecurity=False).digest()
    return {"size": len(content), "hash": base64.b64encode(digest).decode()}
