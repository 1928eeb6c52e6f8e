"""The report of a synthetic study as a FHIR R4 Bundle, as a hospital's export has it."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

from fhir.resources.R4B.bundle import Bundle

from plugin.fhir.codes import DICOM_UID_SYSTEM, coded
from plugin.identity import derived_id, derived_uid
from plugin.twin import TwinRecord

_V2_0203 = "http://terminology.hl7.org/CodeSystem/v2-0203"
_HOSPITAL = f"urn:oid:{derived_uid('assigner', 'twin hospital')}"


def report_bundle(record: TwinRecord, *, text: str, modality: str) -> str:
    """Patient, ServiceRequest, ImagingStudy and DiagnosticReport as JSON text; equal arguments give equal text."""
    uid = record.study_instance_uid
    ids = {kind: derived_id(f"twin {kind}", uid) for kind in ("Patient", "ServiceRequest", "ImagingStudy", "Report")}
    subject = {"reference": f"Patient/{ids['Patient']}"}
    order = {"reference": f"ServiceRequest/{ids['ServiceRequest']}"}
    taken = record.taken.isoformat()
    resources: list[dict[str, object]] = [
        _patient(record, ids["Patient"]),
        {
            "resourceType": "ServiceRequest",
            "id": ids["ServiceRequest"],
            "identifier": [_identifier("ACSN", record.accession_number)],
            "status": "completed",
            "intent": "order",
            "subject": subject,
        },
        {
            "resourceType": "ImagingStudy",
            "id": ids["ImagingStudy"],
            "identifier": [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}],
            "status": "available",
            "modality": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": modality}],
            "subject": subject,
            "started": taken,
            "basedOn": [order],
        },
        {
            "resourceType": "DiagnosticReport",
            "id": ids["Report"],
            "basedOn": [order],
            "status": "final",
            "code": coded("LN", "18748-4", "Diagnostic imaging study"),
            "subject": subject,
            "effectiveDateTime": taken,
            "issued": (record.taken + timedelta(minutes=42)).isoformat(),
            "imagingStudy": [{"reference": f"ImagingStudy/{ids['ImagingStudy']}"}],
            "presentedForm": [
                {
                    "contentType": "text/plain; charset=utf-8",
                    "language": "en",
                    "data": base64.b64encode(text.encode()).decode(),
                }
            ],
        },
    ]
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": each} for each in resources]}
    Bundle.model_validate(bundle)
    return json.dumps(bundle, indent=1) + "\n"


def _patient(record: TwinRecord, patient_id: str) -> dict[str, object]:
    return {
        "resourceType": "Patient",
        "id": patient_id,
        "identifier": [_identifier("MR", record.patient_id)],
        "name": [{"family": record.family, "given": [record.given]}],
        "gender": {"F": "female", "M": "male"}[record.sex],
        "birthDate": str(record.birth_year),
    }


def _identifier(kind: str, value: str) -> dict[str, object]:
    return {"type": {"coding": [{"system": _V2_0203, "code": kind}]}, "system": _HOSPITAL, "value": value}
