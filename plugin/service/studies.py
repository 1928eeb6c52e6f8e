"""Studies and jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from plugin.intake import StudyTaken
from plugin.ports import Job, JobState, Priority
from plugin.service.parts import Services, study_of
from plugin.service.problems import NOT_FOUND, RESPONSES
from plugin.service.results import EXAMPLE_UID, results_router
from plugin.values import StudyRef


class StudyRequest(BaseModel):
    """Ask for a study to be grounded; it and its report are fetched from the archive and the report store."""

    model_config = ConfigDict(extra="forbid")

    study_instance_uid: str = Field(max_length=64, examples=[EXAMPLE_UID])


class JobRequest(BaseModel):
    """What is to become of a job."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["replay", "cancel"]


class JobAnswer(BaseModel):
    """A job as it stands; or, without a job, that the study waits."""

    job_id: str | None
    study_instance_uid: str = Field(examples=[EXAMPLE_UID])
    state: JobState
    attempts: int = Field(examples=[1])
    updated: datetime | None
    error: str | None = Field(examples=["The study has no frontal chest radiograph."])
    detail: str | None = Field(default=None, description="What a study without a job waits for.")
    page: str = Field(description="Where the evidence page is, once the job is done.")
    evidence: str = Field(description="Where the evidence is, once the job is done.")


def answer_of(job: Job) -> JobAnswer:
    """*job* as it is told."""
    uid = job.study.study_instance_uid
    return JobAnswer(
        job_id=job.job_id,
        study_instance_uid=uid,
        state=job.state,
        attempts=job.attempts,
        updated=job.updated,
        error=job.error,
        page=f"/studies/{uid}/page",
        evidence=f"/studies/{uid}/evidence",
    )


def waiting_answer(study: StudyRef, says: str) -> JobAnswer:
    """That *study* waits, and for what."""
    uid = study.study_instance_uid
    return JobAnswer(
        job_id=None,
        study_instance_uid=uid,
        state=JobState.WAITING,
        attempts=0,
        updated=None,
        error=None,
        detail=says,
        page=f"/studies/{uid}/page",
        evidence=f"/studies/{uid}/evidence",
    )


Submit = Callable[[StudyRequest, Response], JobAnswer]


def taking(services: Services, *, priority: Priority) -> Callable[[StudyRef], StudyTaken]:
    """How a study becomes jobs, whoever tells of it; those that wait already move forward."""

    def taken(study: StudyRef) -> StudyTaken:
        result = services.intake.study_taken(study)
        if priority is Priority.NEW:
            return result
        put = services.queue.put
        return replace(
            result, jobs=tuple(put(job.job_id, job.study, job.report, priority=priority) for job in result.jobs)
        )

    return taken


def submission(taken: Callable[[StudyRef], StudyTaken]) -> Submit:
    """How a request becomes jobs."""

    def submit(request: StudyRequest, response: Response) -> JobAnswer:
        """Queue the study with each report about it, and answer the job of the newest.

        Asking again for the same work answers the same job; a failed one is queued again. Images alone cause nothing:
        a study without a report has no job yet, and the answer's state is `waiting`.
        """
        study = study_of(request.study_instance_uid)
        result = taken(study)
        if not result.jobs:
            return waiting_answer(study, result.says)
        response.headers["Location"] = f"/jobs/{result.jobs[-1].job_id}"
        return answer_of(result.jobs[-1])

    return submit


def studies_router(services: Services, submit: Submit) -> APIRouter:
    """Routes over *services*."""
    router = APIRouter(tags=["studies"])
    router.post("/studies", status_code=202, responses=RESPONSES, summary="Ground a study")(submit)

    @router.get("/jobs", responses=RESPONSES, summary="Jobs, the last changed first")
    def jobs(
        response: Response,
        state: Annotated[JobState | None, Query(description="Only these.")] = None,
        q: Annotated[str, Query(max_length=100, description="Part of a study's UID, a job's id or an error.")] = "",
        before: Annotated[str, Query(max_length=300, description="Of the link to the next page.")] = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> list[JobAnswer]:
        """Where there are more, the header `Link` names the next page (RFC 8288)."""
        found, older = services.queue.page(limit, state=state, words=q, before=before or None)
        if older:
            told = {"state": state or "", "q": q, "before": older, "limit": str(limit)}
            query = urlencode({name: value for name, value in told.items() if value})
            response.headers["Link"] = f'</jobs?{query}>; rel="next"'
        return [answer_of(job) for job in found]

    @router.get("/jobs/{job_id}", responses=RESPONSES | NOT_FOUND, summary="One job")
    def job(job_id: Annotated[str, Path(max_length=200)]) -> JobAnswer:
        found = services.queue.get(job_id)
        if found is None:
            raise HTTPException(404, "There is no such job.")
        return answer_of(found)

    @router.post("/jobs/{job_id}", responses=RESPONSES | NOT_FOUND, summary="Do a job again, or let it go")
    def act(job_id: Annotated[str, Path(max_length=200)], wanted: JobRequest) -> JobAnswer:
        """`replay` does a job that ended once more, with all its attempts; `cancel` begins no further step of it."""
        replay = wanted.action == "replay"
        found = services.queue.replay(job_id) if replay else services.queue.cancel(job_id)
        if found is None:
            raise HTTPException(404, "There is no such job.")
        return answer_of(found)

    router.include_router(results_router(services))

    @router.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return Response(status_code=204)

    return router
