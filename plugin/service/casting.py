"""What a page needs for a FHIRcast session: the context of its report, and the Observation of each phrase."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from plugin.access.visit import subject_in
from plugin.fhir.writing import observation_id
from plugin.fhircast.messages import Json
from plugin.page.document import EvidenceDocument, read_evidence
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results, study_of
from plugin.service.problems import GONE, NOT_FOUND, RESPONSES
from plugin.service.results import ReportId, StudyUid, result_file


class Cast(BaseModel):
    """The report as FHIRcast tells of it."""

    report: str = Field(description="Id of the DiagnosticReport.", examples=["report-1"])
    context: tuple[Json, ...] = Field(
        description="Of DiagnosticReport-open; without the patient where no FHIR server tells it."
    )
    observations: dict[str, str] = Field(description="Id of the Observation of each phrase, by its tracking UID.")


def casting_router(results: Results) -> APIRouter:
    """The route over *results*."""
    router = APIRouter(tags=["FHIRcast"], responses=RESPONSES | NOT_FOUND | GONE)

    @router.get("/studies/{study_instance_uid}/reports/{report_id}/fhircast", summary="The report for FHIRcast")
    def cast(study_instance_uid: StudyUid, report_id: ReportId, visit: VisitNow) -> Cast:
        """What opens the report in a session, and what its phrases are selected by."""
        shown = visit.results(results)
        document = read_evidence(result_file(shown, study_instance_uid, "evidence.json", report_id))
        study = study_of(study_instance_uid)
        kept = next(each for each in shown.reports(study) if each.ref.report_id == report_id)
        return cast_of(document, subject_in(results, study, kept))

    return router


def cast_of(document: EvidenceDocument, subject: str | None) -> Cast:
    """*document* as FHIRcast tells of it.

    Parameters
    ----------
    subject : "Patient/<id>"; None: not known.
    """
    report_id, uid = document.report.report_id, document.study_instance_uid
    by_uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}
    about = {} if subject is None else {"subject": {"reference": subject}}
    report = {
        "resourceType": "DiagnosticReport",
        "id": report_id,
        "status": document.report.status,
        **about,
        "imagingStudy": [{"type": "ImagingStudy", "identifier": by_uid}],
    }
    study = {"resourceType": "ImagingStudy", "status": "available", **about, "identifier": [by_uid]}
    context = [{"key": "report", "resource": report}, {"key": "study", "resource": study}]
    if subject is not None:
        patient = {"resourceType": "Patient", "id": subject.rpartition("/")[2]}
        context.append({"key": "patient", "resource": patient})
    observations = {phrase.tracking_uid: observation_id(phrase.tracking_uid) for phrase in document.phrases}
    return Cast(report=report_id, context=tuple(context), observations=observations)
