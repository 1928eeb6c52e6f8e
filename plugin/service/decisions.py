"""What radiologists decide about regions: accepted, rejected, redrawn; who, why, and whether it is written back yet."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from plugin.access.visit import Visit
from plugin.decisions import MOST_REGIONS, MOST_VERTICES, Word
from plugin.errors import MissingError, TransientError
from plugin.page.document import DecisionPart, EvidenceDocument, decision_part, read_evidence
from plugin.ports import JobState, KeptDecision
from plugin.service.entrance import VisitNow
from plugin.service.parts import Results, Services
from plugin.service.people import person_of
from plugin.service.problems import GONE, MEDIA_TYPE, NOT_FOUND, RESPONSES, Problem
from plugin.service.results import ReportId, StudyUid, result_file
from plugin.taking import ChangedError, Decisions, Place
from plugin.values import Ruling

_REPORT = "/studies/{study_instance_uid}/reports/{report_id}"
_CHANGED: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status, description in (
        (412, "Something else stands there now than the person saw."),
        (428, "If-Match is missing: the tag of what the person saw."),
    )
}
_log = logging.getLogger(__name__)


class DecisionRequest(BaseModel):
    """A person's word about the regions of a phrase on an image."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    sop_instance_uid: str = Field(max_length=64, description="The image.")
    ruling: Ruling
    reason: str = Field("", max_length=500, description='Required to reject or redraw: "not there", "wrong place", ...')
    regions: tuple[Annotated[tuple[tuple[float, float], ...], Field(max_length=MOST_VERTICES)], ...] = Field(
        (), max_length=MOST_REGIONS, description="Of what is redrawn: outlines as in evidence.json."
    )
    who: str = Field("", max_length=200, description="Who decides; only where nobody signs in.")


class JobPart(BaseModel):
    """The job that writes a decision back."""

    job_id: str
    state: JobState
    error: str | None


class PlaceAnswer(BaseModel):
    """A phrase on an image, and what was decided about it."""

    tracking_uid: str
    sop_instance_uid: str
    tag: str = Field(description="To be sent back as If-Match, in quotation marks, with a decision about it.")
    decision: DecisionPart | None = Field(description="The last one; null when there is none, or it was taken back.")
    marked: bool = Field(description="Whether a region is marked, the last decision taken into account.")
    history: list[DecisionPart]
    written: bool = Field(description="Whether the evidence says already what the last decision does.")
    job: JobPart | None
    updated: datetime | None = Field(description="When the last decision was made.")


def decisions_router(services: Services, decisions: Decisions) -> APIRouter:
    """Routes over *decisions* about the results of *services*."""
    router = APIRouter(tags=["decisions"])

    def document(visit: Visit, study_instance_uid: str, report_id: str) -> EvidenceDocument:
        seen = visit.results(services.results)
        return read_evidence(result_file(seen, study_instance_uid, "evidence.json", report_id))

    @router.get(
        f"{_REPORT}/decisions",
        responses=RESPONSES | NOT_FOUND | GONE,
        summary="What radiologists decided about the regions of a report",
    )
    def listed(study_instance_uid: StudyUid, report_id: ReportId, visit: VisitNow) -> list[PlaceAnswer]:
        """Every phrase on every image that was looked at, in the order of the evidence."""
        return [answer_of(place) for place in decisions.places(document(visit, study_instance_uid, report_id))]

    @router.post(
        f"{_REPORT}/phrases/{{tracking_uid}}/decision",
        status_code=202,
        responses=RESPONSES | NOT_FOUND | GONE | _CHANGED,
        summary="Accept, reject or redraw the regions of a phrase on an image",
    )
    def decide(
        *,
        study_instance_uid: StudyUid,
        report_id: ReportId,
        tracking_uid: Annotated[str, Path(max_length=64, description="Of the phrase.")],
        said: DecisionRequest,
        visit: VisitNow,
        response: Response,
        if_match: Annotated[str | None, Header(description="The tag of what the person saw.")] = None,
    ) -> PlaceAnswer:
        """The decision is kept at once, and written back by a job. The same again, with the same tag, changes nothing.

        A later decision goes before an earlier one; `taken-back` leaves the word to the model again.
        """
        if if_match is None:
            raise HTTPException(428, "Send If-Match with the tag of what was looked at.")
        word = Word(if_match.strip().strip('"'), said.ruling, person_of(visit, said.who), said.reason, said.regions)
        try:
            place = decisions.decide(
                document(visit, study_instance_uid, report_id), (tracking_uid, said.sop_instance_uid), word
            )
        except ChangedError as error:
            raise HTTPException(HTTPStatus.PRECONDITION_FAILED, str(error)) from None
        except MissingError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
        response.headers["ETag"] = f'"{place.tag}"'
        return answer_of(place)

    return router


@dataclass(frozen=True, slots=True)
class LeftDecisions:
    """A :class:`plugin.service.parts.Part`: at the start, puts the jobs that a process left when it died."""

    decisions: Decisions
    results: Results

    def start(self) -> None:
        """Begin; a database that is away is no reason not to."""
        try:
            self.decisions.put_left(self._version)
        except TransientError as error:
            _log.warning("decisions wait for the next start to be written back: %s", error)

    def stop(self) -> None:
        """Nothing runs."""

    def _version(self, kept: KeptDecision) -> str | None:
        reports = self.results.reports(kept.study)
        return next((each.ref.version for each in reports if each.ref.report_id == kept.report_id), None)


def answer_of(place: Place) -> PlaceAnswer:
    """*place* as it is told."""
    last = place.history[-1] if place.history else None
    stands = last is not None and last.ruling is not Ruling.TAKEN_BACK
    return PlaceAnswer(
        tracking_uid=place.phrase.tracking_uid,
        sop_instance_uid=place.placement.sop_instance_uid,
        tag=place.tag,
        decision=decision_part(last) if last is not None and stands else None,
        marked=place.marked,
        history=[decision_part(each) for each in place.history],
        written=place.written,
        job=None
        if place.job is None
        else JobPart(job_id=place.job.job_id, state=place.job.state, error=place.job.error),
        updated=last.made if last else None,
    )
