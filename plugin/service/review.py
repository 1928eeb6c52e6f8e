"""``/review``: reports that need a person, because nobody else can say which study they are about, or why they wait.

For programs it speaks JSON, for people it is pages that work without script. A page's forms carry a key of this process
and the revision that was seen: another site's page cannot send them, and nobody decides about what they did not see.
Identifiers of patients are on the page that compares, and nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, HTTPException, Path, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from plugin.access.visit import Visit
from plugin.errors import InputError, MissingError, TransientError
from plugin.intake import Comparison, Intake, StaleError
from plugin.ports import Decided, Entry, Outcome
from plugin.service.entrance import VisitNow
from plugin.service.parts import study_of
from plugin.service.people import is_named, person_of
from plugin.service.problems import MEDIA_TYPE, NOT_FOUND, RESPONSES, Problem
from plugin.service.styled import rendered

MOST_LISTED = 100
NOT_STATED = "not stated"
LISTED = (Outcome.REVIEW, Outcome.WAITING, Outcome.EXPIRED, Outcome.REFUSED)
_CONFLICT: dict[int | str, dict[str, Any]] = {
    409: {
        "description": "The report changed since it was looked at, or was decided.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}
_KIND: dict[int | str, dict[str, Any]] = {
    415: {
        "description": "The body is neither JSON nor a form.",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
    }
}
ReportId = Annotated[str, Path(description="The report's logical id.", max_length=200)]


class DecisionPart(BaseModel):
    """A person's word."""

    studies: list[str]
    who: str
    reason: str
    made: datetime
    before: list[DecisionPart] = Field(default=[], description="Earlier words that this one changed, the first first.")


class ReportState(BaseModel):
    """What became of a report."""

    report_id: str
    outcome: Outcome
    reason: str = Field(description="In words, without patient data.")
    since: datetime
    due: datetime | None = Field(description="When it is looked at again unasked.")
    revision: int = Field(description="To be sent back with a decision about it.")
    candidates: list[str] = Field(description="Study Instance UIDs to choose from.")
    decision: DecisionPart | None


class ReviewAnswer(BaseModel):
    """The lists, each the longest standing first, and how many there are of each outcome."""

    counts: dict[Outcome, int]
    reports: list[ReportState]
    decided: list[ReportState] = Field(description="Those that a person decided about, the last changed first.")


class StudyChoice(BaseModel):
    """Which studies a report is about; none of them, when the list is empty."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    studies: list[str] = Field(max_length=50)
    who: str = Field("", max_length=200, description="Who decides; only where nobody signs in.")
    reason: str = Field(min_length=1, max_length=2000)
    revision: int = Field(ge=0)


_CHOICE_BODY = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": StudyChoice.model_json_schema()}}}
}


def review_router(intake: Intake) -> APIRouter:
    """Routes over *intake*."""
    router = APIRouter(tags=["review"])
    desk = _Desk(intake, secrets.token_bytes(32))

    @router.get("/review", responses=RESPONSES, response_model=ReviewAnswer, summary="Reports that need a person")
    def listed(request: Request) -> Response:
        """JSON, or a page for browsers."""
        if _wants_page(request):
            return HTMLResponse(desk.list_page())
        return _json(desk.listed())

    @router.get(
        "/review/{report_id}",
        responses=RESPONSES | NOT_FOUND,
        response_model=ReportState,
        summary="One report, for browsers with its candidates side by side",
    )
    def one(report_id: ReportId, request: Request, visit: VisitNow) -> Response:
        """JSON, or a page for browsers: there, report and studies are compared as they are now."""
        if _wants_page(request):
            return HTMLResponse(desk.page_of(report_id, visit))
        return _json(state_of(desk.entry(report_id)))

    @router.post(
        "/review/{report_id}",
        responses=RESPONSES | NOT_FOUND | _CONFLICT | _KIND,
        response_model=ReportState,
        openapi_extra=_CHOICE_BODY,
        summary="Say which studies a report is about",
    )
    async def decide(report_id: ReportId, request: Request, visit: VisitNow) -> Response:
        """The same word twice changes nothing; another one goes before it, by who knows what was decided (revision)."""
        return await run_in_threadpool(desk.decided, report_id, await _sent(request), visit)

    @router.post(
        "/review/{report_id}/check",
        responses=RESPONSES | NOT_FOUND | _KIND,
        response_model=ReportState,
        summary="Look at a report again now",
    )
    async def check(report_id: ReportId, request: Request, visit: VisitNow) -> Response:
        """Takes the report as if it had just come."""
        return await run_in_threadpool(desk.checked, report_id, await _sent(request), visit)

    return router


class _Sent:
    """The body of a request: JSON, or a form of our own pages."""

    def __init__(self, kind: str, body: bytes) -> None:
        self.form = kind == "application/x-www-form-urlencoded"
        if not self.form and kind != "application/json":
            raise HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send JSON.")
        self.body = body
        try:
            self.fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100) if self.form else {}
        except ValueError:
            raise InputError("The form cannot be read.") from None

    def field(self, name: str) -> str:
        """The first value of a field of the form, or ""."""
        return self.fields.get(name, [""])[0]

    def choice(self) -> StudyChoice:
        """What a person said.

        Raises
        ------
        InputError
            If it is not complete; the values are not repeated.
        """
        try:
            if not self.form:
                return StudyChoice.model_validate_json(self.body)
            studies = [] if self.field("none") else self.fields.get("study", [])
            if not studies and not self.field("none"):
                raise InputError("Choose a study, or say that it is none of them.")
            told = {name: self.field(name) for name in ("who", "reason", "revision")}
            return StudyChoice.model_validate({"studies": studies, **told})
        except ValidationError as error:
            wrong = sorted({str(each["loc"][0]) for each in error.errors() if each["loc"]})
            raise InputError(
                f"Say {' and '.join(wrong) or 'all that is asked'} as /openapi.json describes it."
            ) from None


async def _sent(request: Request) -> _Sent:
    return _Sent(request.headers.get("content-type", "").partition(";")[0].strip().lower(), await request.body())


class _Desk:
    """Answers the routes; *key* is of this process, so that only its own pages have forms that are taken."""

    def __init__(self, intake: Intake, key: bytes) -> None:
        self._intake = intake
        self._key = key

    def listed(self) -> ReviewAnswer:
        book = self._intake.book
        reports = [state_of(each) for outcome in LISTED for each in book.listed(outcome, limit=MOST_LISTED)]
        decided = [state_of(each) for each in book.decided(limit=MOST_LISTED)]
        return ReviewAnswer(counts=book.counts(), reports=reports, decided=decided)

    def entry(self, report_id: str) -> Entry:
        found = self._intake.book.entry(report_id)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "There is no such report.")
        return found

    def list_page(self) -> str:
        book = self._intake.book
        lists = [(outcome, book.listed(outcome, limit=MOST_LISTED)) for outcome in LISTED]
        return rendered(
            "review.html",
            forms=True,
            lists=lists,
            decided=book.decided(limit=MOST_LISTED),
            counts=book.counts(),
            address=address_of,
            token=self._token,
        )

    def page_of(self, report_id: str, visit: Visit, *, said: str = "") -> str:
        entry = self.entry(report_id)
        try:
            compared = self._intake.compare(entry)
        except (TransientError, InputError) as error:
            compared, said = None, f"{said} The report and its studies cannot be compared now: {error}".strip()
        return rendered(
            "compare.html",
            forms=True,
            entry=entry,
            rows=() if compared is None else comparison_rows(compared),
            said=said,
            named=is_named(visit),
            address=address_of,
            token=self._token(entry),
        )

    def decided(self, report_id: str, sent: _Sent, visit: Visit) -> Response:
        self._check_form(report_id, sent)
        try:
            choice = sent.choice()
            studies = tuple(dict.fromkeys(map(study_of, choice.studies)))
            entry = self._intake.decide(
                report_id,
                studies,
                who=person_of(visit, choice.who).name,
                reason=choice.reason,
                revision=choice.revision,
            )
        except MissingError as error:
            raise HTTPException(HTTPStatus.NOT_FOUND, str(error)) from None
        except InputError as error:
            status = HTTPStatus.CONFLICT if isinstance(error, StaleError) else HTTPStatus.UNPROCESSABLE_ENTITY
            return self._refused(report_id, sent, visit, status, str(error))
        return _see_list() if sent.form else _json(state_of(entry))

    def checked(self, report_id: str, sent: _Sent, visit: Visit) -> Response:
        self._check_form(report_id, sent)
        self.entry(report_id)
        try:
            self._intake.take_again(report_id)
        except (TransientError, InputError) as error:
            if not sent.form:
                raise
            return self._refused(report_id, sent, visit, HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        return _see_list() if sent.form else _json(state_of(self.entry(report_id)))

    def _refused(self, report_id: str, sent: _Sent, visit: Visit, status: HTTPStatus, why: str) -> Response:
        if not sent.form:
            raise HTTPException(status, why)
        return HTMLResponse(self.page_of(report_id, visit, said=why), status)

    def _check_form(self, report_id: str, sent: _Sent) -> None:
        expected = self._mac(report_id)
        if sent.form and not hmac.compare_digest(expected.encode(), sent.field("token").encode()):
            raise HTTPException(HTTPStatus.FORBIDDEN, "The page is too old: open the list again.")

    def _token(self, entry: Entry) -> str:
        return self._mac(entry.report_id)

    def _mac(self, report_id: str) -> str:
        return hmac.new(self._key, report_id.encode(), hashlib.sha256).hexdigest()


def address_of(entry: Entry) -> str:
    """Where the report is compared, below the service's root."""
    return f"/review/{quote(entry.report_id, safe='')}"


def state_of(entry: Entry) -> ReportState:
    """*entry* as it is told."""
    word = entry.decision
    return ReportState(
        report_id=entry.report_id,
        outcome=entry.outcome,
        reason=entry.reason,
        since=entry.since,
        due=entry.due,
        revision=entry.revision,
        candidates=[study.study_instance_uid for study in entry.choices],
        decision=_part_of(word) if word else None,
    )


def _part_of(word: Decided) -> DecisionPart:
    studies = [study.study_instance_uid for study in word.studies]
    before = [_part_of(each) for each in word.before]
    return DecisionPart(studies=studies, who=word.who, reason=word.reason, made=word.made, before=before)


def comparison_rows(compared: Comparison) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """What can be compared: the name of each row, what the report says, then what each candidate does."""
    report, studies = compared.report, compared.candidates
    accessions = [f"{each.number} {each.issuer}".strip() for each in report.accessions] if report else []
    patients = [each for each in (report.patient, *report.other_patient_ids) if each] if report else []
    said = [
        ("Accession number", _lines(accessions) or NOT_STATED, [each.accession for each in studies]),
        ("Patient", _lines([_patient(each) for each in patients]) or NOT_STATED, [_lines(e.patients) for e in studies]),
        ("Date", f"{report.issued:%Y-%m-%d}" if report and report.issued else NOT_STATED, [e.date for e in studies]),
        ("Description", "", [each.description for each in studies]),
        ("Modality", "", [_lines(each.modalities) for each in studies]),
        ("Body part", "", [_lines(each.body_parts) for each in studies]),
        ("Views", "", [_lines(each.views) for each in studies]),
        ("Radiographs", "", [str(each.radiographs) for each in studies]),
    ]
    return tuple((name, (first, *(value or NOT_STATED for value in rest))) for name, first, rest in said)


def _lines(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(filter(None, values)))


def _patient(patient: Any) -> str:
    return f"{patient.patient_id} {patient.issuer}".strip()


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")


def _json(model: BaseModel) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _see_list() -> Response:
    return RedirectResponse("/review", HTTPStatus.SEE_OTHER)
