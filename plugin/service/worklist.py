"""The worklist: jobs and their states for those who run the service, what waits for a person, and long work's progress.

One page, rendered here. Its script asks for it again by its ETag and puts the new list in the place of the old one; so
it works without script, too; :mod:`plugin.service.changes` tells it when. It names studies by their UIDs, and nobody.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from threading import Lock
from typing import Annotated
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, Response

from plugin.access.caller import Role
from plugin.access.visit import Visit
from plugin.backfill import BackfillProgress
from plugin.page.view import SERVED_POLICY
from plugin.ports import Backlog, JobState, Outcome, ReportBook
from plugin.service.entrance import VisitNow
from plugin.service.pages import cached
from plugin.service.parts import Services
from plugin.service.problems import RESPONSES

POLICY = SERVED_POLICY.replace("form-action 'none'", "form-action 'self'")
ON_A_PAGE = 50
FILTERS = (JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.DONE, JobState.CANCELLED)
_MEDIA = {"worklist.css": "text/css; charset=utf-8", "worklist.js": "text/javascript; charset=utf-8"}
# Counting a hundred thousand jobs takes longer than showing fifty: many who look share one count.
_COUNTS_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs.

    Parameters
    ----------
    words : part of a study's UID, a job's id, or an error.
    before : of the page before, where this one begins; "" for the newest.
    """

    state: JobState | None = None
    words: str = ""
    before: str = ""

    def address(self, **changes: str) -> str:
        """Of the list with other choices."""
        told = {"state": self.state or "", "q": self.words, "before": self.before} | changes
        query = urlencode({name: value for name, value in told.items() if value})
        return f"/?{query}" if query else "/"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is of everything."""

    backlog: Backlog
    reports: Mapping[Outcome, int]
    paused: bool


@dataclass(slots=True)
class Counter:
    """Counts, made anew when the last ones are too old."""

    count: Callable[[], Counts]
    clock: Callable[[], float] = time.monotonic
    _last: Counts | None = None
    _made: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def __call__(self) -> Counts:
        with self._lock:
            if self._last is None or self.clock() - self._made > _COUNTS_S:
                self._last, self._made = self.count(), self.clock()
            return self._last


def worklist_router(services: Services, counter: Counter, *, viewer: bool = False) -> APIRouter:
    """Routes over *services*; *viewer*: studies link to the viewer, too."""
    router = APIRouter(tags=["studies"])

    @router.get("/", response_class=HTMLResponse, responses=RESPONSES, summary="Studies and jobs, for people")
    def worklist(
        request: Request,
        visit: VisitNow,
        state: Annotated[str, Query(max_length=20)] = "",
        q: Annotated[str, Query(max_length=100)] = "",
        before: Annotated[str, Query(max_length=300)] = "",
    ) -> Response:
        """Jobs, the last changed first; *state* and *q* (a UID, an id, words of an error) leave out others."""
        wanted = Wanted(JobState(state) if state in FILTERS else None, " ".join(q.split()), before)
        page = _page(services, visit, wanted, counter(), viewer=viewer)
        answer = cached(request, page.encode(), "text/html; charset=utf-8")
        answer.headers["Cache-Control"] = "no-store"  # the script keeps the tag, and browsers keep nothing
        return answer

    @router.get("/worklist/{name}", include_in_schema=False)
    def part(name: str, request: Request) -> Response:
        if name not in _MEDIA:
            raise HTTPException(404, "There is no such file.")
        return cached(request, asset(name).encode(), _MEDIA[name])

    return router


def counts_of(services: Services) -> Counts:
    """Asks the queue and the book."""
    book: ReportBook = services.intake.book
    return Counts(services.queue.backlog(), book.counts(), services.queue.paused())


def _page(services: Services, visit: Visit, wanted: Wanted, counts: Counts, *, viewer: bool) -> str:
    jobs, older = services.queue.page(ON_A_PAGE, state=wanted.state, words=wanted.words, before=wanted.before or None)
    roles = visit.caller.roles
    none_at_all = not any(counts.backlog.jobs.values())
    results = visit.results(services.results)
    return _template().render(
        policy=POLICY,
        wanted=wanted,
        filters=FILTERS,
        counts=counts,
        oldest=_span(counts.backlog.oldest_s),
        jobs=jobs,
        older=older,
        others=tuple(results.studies())[:ON_A_PAGE] if none_at_all else (),
        progress=tuple(map(_told, services.progress())),
        reads=Role.RADIOLOGIST in roles,
        acts=bool(roles & {Role.OPERATOR, Role.SERVICE}),
        viewer=viewer,
        ended=(JobState.DONE, JobState.FAILED, JobState.CANCELLED),
        moving=bool(counts.backlog.jobs[JobState.QUEUED] or counts.backlog.jobs[JobState.RUNNING]),
    )


def _told(progress: BackfillProgress) -> Mapping[str, object]:
    """A backfill in words."""
    left = progress.remaining_s
    if progress.ended:
        state = "finished"
    elif progress.is_stopped(datetime.now(UTC)):
        state = "stopped: the same command goes on where it was"
    else:
        state = f"{progress.per_minute:.0f} studies a minute; {_span(left)} left" if left is not None else "beginning"
    return {"plan": progress.plan, "done": progress.done, "total": progress.total, "state": state}


def _span(seconds: float) -> str:
    """A duration, to the unit that matters: "45 s", "12 min", "3 h", "2 days"."""
    for most, unit, name in ((90, 1, "s"), (5400, 60, "min"), (129_600, 3600, "h")):
        if seconds < most:
            return f"{round(seconds / unit)} {name}"
    return f"{round(seconds / 86_400)} days"


def asset(name: str) -> str:
    """The text of a file of the worklist."""
    return files("plugin.service").joinpath(name).read_text(encoding="utf-8")


def plural(number: int, one: str, many: str) -> str:
    """*number* with the word that fits it."""
    return f"{number} {one if number == 1 else many}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plugin.service", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = plural
    return environment.get_template("worklist.html")
