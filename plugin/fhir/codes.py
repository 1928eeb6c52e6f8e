"""The codes that our FHIR resources use, each with the code system it comes from."""

from __future__ import annotations

from nlp.phrases import Assertion
from plugin.identity import derived_uid

Coding = dict[str, str]
Concept = dict[str, object]

SYSTEMS = {
    "SCT": "http://snomed.info/sct",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "LN": "http://loinc.org",
    "RADLEX": "http://radlex.org",
    "UCUM": "http://unitsofmeasure.org",
    "CATEGORY": "http://terminology.hl7.org/CodeSystem/observation-category",
    "INTERPRETATION": "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation",
    "ABSENT": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
    "AUDIT_ENTITY": "http://terminology.hl7.org/CodeSystem/audit-entity-type",
    "AUDIT_LIFECYCLE": "http://terminology.hl7.org/CodeSystem/dicom-audit-lifecycle",
    "AUDIT_OUTCOME": "http://terminology.hl7.org/CodeSystem/audit-event-outcome",
    "AUDIT_ROLE": "http://terminology.hl7.org/CodeSystem/object-role",
    "AUDIT_SOURCE": "http://terminology.hl7.org/CodeSystem/security-source-type",
    "LIFECYCLE": "http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle",
    "OPERATION": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
    "PARTICIPANT": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
    "SIGHTLINE": f"urn:oid:{derived_uid('code system', 'sightline')}",
}
"""FHIR system of a DICOM Coding Scheme Designator (R4 terminologies-systems), and of what else is used here."""

DICOM_UID_SYSTEM = "urn:dicom:uid"
"""R4 ImagingStudy, "Mapping of DICOM UIDs": the value is ``urn:oid:`` and the UID; some write the bare UID."""

R5_EXTENSION = "http://hl7.org/fhir/5.0/StructureDefinition/extension-ImagingSelection."


def coding(scheme: str, value: str, meaning: str) -> Coding:
    """A Coding; *scheme* is a key of :data:`SYSTEMS`."""
    return {"system": SYSTEMS[scheme], "code": value, "display": meaning}


def coded(scheme: str, value: str, meaning: str) -> Concept:
    """A CodeableConcept of one code."""
    return {"coding": [coding(scheme, value, meaning)]}


def absent(code: str, reason: str | None) -> Concept:
    """A dataAbsentReason: its code, and the *reason* in words."""
    names = {"unknown": "Unknown", "unsupported": "Unsupported"}
    concept = coded("ABSENT", code, names[code])
    return concept | {"text": reason} if reason else concept


REVISE = coded("OPERATION", "UPDATE", "revise")
IMAGING = coded("CATEGORY", "imaging", "Imaging")
RADIOLOGY = coded("LN", "LP29684-5", "Radiology")
FINDING = coded("DCM", "121071", "Finding")
CERTAINTY = coded("DCM", "111012", "Certainty of Finding")
IMAGE_REGION = coded("DCM", "111030", "Image Region")
REFERENCED_SEGMENT = coded("DCM", "121191", "Referenced Segment")
FINDING_ABSENT = coding("SCT", "373572006", "Clinical finding absent")
PHRASE_START = coded("SIGHTLINE", "phrase-start", "First character of the phrase in the report text, counted from 0")
PHRASE_END = coded("SIGHTLINE", "phrase-end", "First character after the phrase in the report text, counted from 0")
DECIDED_HERE = coding("SIGHTLINE", "decided", "Decided by a radiologist through Sightline")
"""The tag (``meta.tag``) of an Observation whose status comes from such a decision."""
INTERPRETATION = {
    Assertion.AFFIRMED: coded("INTERPRETATION", "POS", "Positive"),
    Assertion.PROBABLE: coded("INTERPRETATION", "IND", "Indeterminate"),
    Assertion.POSSIBLE: coded("INTERPRETATION", "IND", "Indeterminate"),
    Assertion.NEGATED: coded("INTERPRETATION", "NEG", "Negative"),
}
