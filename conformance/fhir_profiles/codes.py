"""Our code system, and the value sets that our profiles bind to."""

from __future__ import annotations

from fhir_profiles.definition import DATE, OWN, value_set

CODE_SYSTEM = {
    "resourceType": "CodeSystem",
    "id": "sightline",
    "url": OWN,
    "name": "Sightline",
    "title": "Codes of Sightline's own",
    "status": "active",
    "date": DATE,
    "publisher": "Sightline",
    "caseSensitive": True,
    "content": "complete",
    "concept": [
        {"code": "phrase-start", "display": "First character of the phrase in the report text, counted from 0"},
        {"code": "phrase-end", "display": "First character after the phrase in the report text, counted from 0"},
        {"code": "multimedia-report", "display": "Report whose phrases are linked to their image regions"},
        {"code": "decided", "display": "Decided by a radiologist through Sightline"},
    ],
}

VALUE_SETS = (
    value_set(
        "PhraseStatus",
        "Status of a phrase's Observation",
        status=("preliminary", "final", "amended", "corrected", "entered-in-error"),
    ),
    value_set("PhraseInterpretation", "What a report claims of a finding", interpretation=("POS", "IND", "NEG")),
    value_set("NoRegionReason", "Why an asserted phrase has no region", absent=("unknown", "unsupported")),
    value_set(
        "EntryStatus", "Status of a portal's entry", reference_status=("current", "superseded", "entered-in-error")
    ),
    value_set(
        "EntryDocStatus",
        "Status of what an entry shows",
        composition_status=("preliminary", "final", "amended", "entered-in-error"),
    ),
    value_set("SelectionStatus", "Status of a region", selection_status=("available", "entered-in-error")),
    value_set("ProvenanceRole", "Who made results, or decided about them", participant=("author", "verifier")),
    value_set("ProvenanceActivity", "Taken back, or decided about", operation=("NULLIFY", "UPDATE")),
    value_set("WritingMethod", "How a result is written", verb=("PUT", "POST")),
    value_set("EntryContent", "What an entry holds", mime=("text/html", "application/dicom")),
    value_set(
        "MultimediaReportStatus",
        "Status of a multimedia report (Table 2:4.141.4.1.2.2.1-1)",
        report_status=("partial", "preliminary", "final", "amended", "corrected", "appended", "cancelled"),
    ),
)
