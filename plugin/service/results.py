"""What is read of results: the evidence of the report that governs a study, or of any of its reports."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Response
from pydantic import BaseModel, Field

from plugin.page.address import page_path
from plugin.page.document import EvidenceDocument
from plugin.results import KeptReport
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results, Services, study_of
from plugin.service.problems import GONE, NOT_FOUND, RESPONSES
from plugin.values import ReportStatus, StudyRef

EXAMPLE_UID = "1.2.826.0.1.3680043.8.498.1"
ReportId = Annotated[str, Path(description="Id of the DiagnosticReport.", examples=["report-1"], max_length=200)]
StudyUid = Annotated[str, Path(description="Study Instance UID.", examples=[EXAMPLE_UID], max_length=64)]


class ReportAnswer(BaseModel):
    """A report of the study that there are results of."""

    report_id: str = Field(examples=["report-1"])
    version: str = Field(examples=["2"])
    status: ReportStatus
    page: str = Field(description="Where its evidence page is; gone when the report was withdrawn.")
    evidence: str = Field(
        description="Where its evidence is, which patients are not shown; gone when the report was withdrawn."
    )


def results_router(services: Services) -> APIRouter:
    """Routes over the results of *services*."""
    router = APIRouter()

    @router.get(
        "/studies/{study_instance_uid}/evidence",
        responses=RESPONSES | NOT_FOUND | GONE,
        response_model=EvidenceDocument,
        summary="The evidence as JSON",
    )
    def evidence(study_instance_uid: StudyUid, visit: VisitNow) -> Response:
        """The evidence of the report that governs, byte for byte as it was written; docs/evidence.md tells its fields.

        That is the newest final report of the study, or the newest preliminary one when none is final.
        """
        content = result_file(visit.results(services.results), study_instance_uid, "evidence.json")
        return Response(content, media_type="application/json")

    @router.get("/studies/{study_instance_uid}/reports", responses=RESPONSES, summary="The reports of a study")
    def reports(study_instance_uid: StudyUid, visit: VisitNow) -> list[ReportAnswer]:
        """Every report that there are results of: first the one that governs, the withdrawn ones last."""
        study = study_of(study_instance_uid)
        return [_report_answer(study, kept) for kept in visit.results(services.results).reports(study)]

    @router.get(
        "/studies/{study_instance_uid}/reports/{report_id}/evidence",
        responses=RESPONSES | NOT_FOUND | GONE,
        response_model=EvidenceDocument,
        summary="The evidence of one report as JSON",
    )
    def evidence_of_report(study_instance_uid: StudyUid, report_id: ReportId, visit: VisitNow) -> Response:
        content = result_file(visit.results(services.results), study_instance_uid, "evidence.json", report_id)
        return Response(content, media_type="application/json")

    return router


def result_file(results: Results, study_instance_uid: str, name: str, report: str | None = None) -> bytes:
    """The newest *name* of the study and a report (its id), by default the one that governs.

    Raises
    ------
    InputError
        If that is no UID.
    HTTPException
        404, if there is none (yet); 410, if the report was withdrawn.
    """
    study = study_of(study_instance_uid)
    content = results.read(study, name, report)
    if content is not None:
        return content
    if any(report in (None, kept.ref.report_id) and kept.status.withdrawn for kept in results.reports(study)):
        raise HTTPException(410, "The report was withdrawn: nothing is shown of it any more.")
    raise HTTPException(404, "There are no results of this study yet; POST /studies asks for them.")


def _report_answer(study: StudyRef, kept: KeptReport) -> ReportAnswer:
    page = page_path(study, kept.ref.report_id)
    return ReportAnswer(
        report_id=kept.ref.report_id,
        version=kept.ref.version,
        status=kept.status,
        page=page,
        evidence=page.removesuffix("page") + "evidence",
    )
