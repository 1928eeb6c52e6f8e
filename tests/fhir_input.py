"""FHIR input for tests: a patient, an order, a study and its report, with parts left out or changed."""

from __future__ import annotations

import base64
import json
from typing import Any

from plugin.ports import StudyIdentity
from plugin.values import PatientRef, StudyRef

Fhir = dict[str, Any]

STUDY_UID = "1.2.826.0.1.3680043.8.498.1"
OTHER_STUDY_UID = "1.2.826.0.1.3680043.8.498.2"
ACCESSION = "ACC-7"
PATIENT_ID = "MRN-42"
ISSUER = "urn:oid:1.2.826.0.1.3680043.9"
TEXT = "FINDINGS: Small left pleural effusion.\r\nNo pneumothorax.  Größe 5 mm."

IDENTITY = StudyIdentity(StudyRef(STUDY_UID), ACCESSION, PatientRef(PATIENT_ID))


def attachment(content: str | bytes, content_type: str = "text/plain") -> Fhir:
    """A presentedForm with *content* (text in UTF-8)."""
    raw = content.encode() if isinstance(content, str) else content
    return {"contentType": content_type, "data": base64.b64encode(raw).decode()}


def typed(value: str, code: str, *, system: str | None = None) -> Fhir:
    """An Identifier with a type of HL7 v2 table 0203."""
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": code}
    return {"type": {"coding": [coding]}, "value": value} | ({"system": system} if system else {})


def patient(**changes: Any) -> Fhir:
    """The patient, with a national number before the medical record number."""
    national = {"system": "http://example.org/national", "value": "N-1"}
    return _merged(
        {
            "resourceType": "Patient",
            "id": "pat",
            "identifier": [national, typed(PATIENT_ID, "MR", system=ISSUER)],
            "name": [{"family": "Geheim"}],
        },
        changes,
    )


def order(**changes: Any) -> Fhir:
    """The order with the accession number."""
    return _merged(
        {
            "resourceType": "ServiceRequest",
            "id": "order",
            "status": "completed",
            "intent": "order",
            "subject": {"reference": "Patient/pat"},
            "identifier": [typed("PLACER-1", "PLAC"), typed(ACCESSION, "ACSN")],
        },
        changes,
    )


def imaging_study(**changes: Any) -> Fhir:
    """The study as a FHIR resource."""
    return _merged(
        {
            "resourceType": "ImagingStudy",
            "id": "study",
            "status": "available",
            "subject": {"reference": "Patient/pat"},
            "basedOn": [{"reference": "ServiceRequest/order"}],
            "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"}],
        },
        changes,
    )


def report(**changes: Any) -> Fhir:
    """The report; a change to None leaves the field out."""
    return _merged(
        {
            "resourceType": "DiagnosticReport",
            "id": "report",
            "meta": {"versionId": "3"},
            "status": "final",
            "code": {"text": "Chest X-ray"},
            "subject": {"reference": "Patient/pat"},
            "basedOn": [{"reference": "ServiceRequest/order"}],
            "imagingStudy": [{"reference": "ImagingStudy/study"}],
            "issued": "2026-03-01T10:00:00Z",
            "presentedForm": [attachment(TEXT)],
        },
        changes,
    )


def bundle(*resources: Fhir, kind: str = "collection") -> Fhir:
    """A Bundle of *resources*; the whole example when there are none."""
    resources = resources or (patient(), order(), imaging_study(), report())
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": each} for each in resources]}


def around(changed_report: Fhir) -> Fhir:
    """The whole example with another report."""
    return bundle(patient(), order(), imaging_study(), changed_report)


def as_bytes(document: Any) -> bytes:
    """*document* as UTF-8 JSON."""
    return json.dumps(document, ensure_ascii=False).encode()


def _merged(resource: Fhir, changes: Fhir) -> Fhir:
    return {name: value for name, value in (resource | changes).items() if value is not None}
