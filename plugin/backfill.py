"""Taking what an archive already holds, day by day: resumable, and never ahead of those who do the work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from pathlib import Path

from plugin.errors import InputError
from plugin.intake import StudyTaken
from plugin.values import StudyRef


@dataclass(frozen=True, slots=True)
class Plan:
    """Which studies: those of the days from *begin* to *end*, both included, that hold *modality*.

    Raises
    ------
    InputError
        If it ends before it begins.
    """

    begin: date
    end: date
    modality: str

    def __post_init__(self) -> None:
        if self.end < self.begin:
            raise InputError("--from is later than --to: give the earlier day first")

    def days(self, *, after: date | None = None) -> Iterator[date]:
        """Each day, the earliest first; those beyond *after* alone, if it is given."""
        day = self.begin if after is None else max(self.begin, after + timedelta(days=1))
        while day <= self.end:
            yield day
            day += timedelta(days=1)

    @property
    def name(self) -> str:
        """Names the plan's ledger."""
        return f"backfill-{self.begin:%Y%m%d}-{self.end:%Y%m%d}-{self.modality}"


@dataclass(slots=True)
class Tally:
    """What was done.

    Parameters
    ----------
    jobs : put, or found as they stood.
    waiting : studies without a report that could be worked on.
    refused : how many studies, by the reason.
    """

    studies: int = 0
    jobs: int = 0
    waiting: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def refuse(self, reason: str) -> None:
        self.refused[reason] = self.refused.get(reason, 0) + 1


@dataclass(frozen=True, slots=True)
class Ledger:
    """How far a plan was carried out: a file, whole or not there."""

    path: Path

    def read(self) -> tuple[date | None, Tally]:
        """The last day that is finished, and what was done until then."""
        if not self.path.exists():
            return None, Tally()
        told = json.loads(self.path.read_text(encoding="utf-8"))
        return date.fromisoformat(told["day"]), Tally(**told["tally"])

    def write(self, day: date, tally: Tally) -> None:
        """*day* is finished."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps({"day": day.isoformat(), "tally": asdict(tally)}, indent=2), encoding="utf-8")
        part.replace(self.path)


def backfill(
    plan: Plan,
    ledger: Ledger,
    *,
    find: Callable[[date], tuple[StudyRef, ...]],
    take: Callable[[StudyRef], StudyTaken],
    pace: Callable[[], object],
    tell: Callable[[], object],
) -> Tally:
    """Take every study of *plan* that is left; what was done in all.

    A day that was not finished is gone over again, which changes nothing: the same work is the same job.

    Parameters
    ----------
    find : the studies of a day.
    pace : called before each study; returns when the next may be taken.
    tell : called after each study.

    Raises
    ------
    TransientError
        If archive, report store or queue are away; call again later, it goes on there.
    """
    done, tally = ledger.read()
    for day in plan.days(after=done):
        for study in find(day):
            pace()
            _take(study, take, tally)
            tell()
        ledger.write(day, tally)
    return tally


def _take(study: StudyRef, take: Callable[[StudyRef], StudyTaken], tally: Tally) -> None:
    tally.studies += 1
    try:
        taken = take(study)
    except InputError as error:
        tally.refuse(str(error))
        return
    tally.jobs += len(taken.jobs)
    tally.waiting += not taken.jobs


@dataclass(slots=True)
class Pace:
    """Lets one study through at a time: no faster than *per_minute*, and only while few jobs wait.

    Parameters
    ----------
    queued : how many jobs wait now.
    most_queued : more are not let to wait, so that new studies and persons find room, and a stop costs little.
    """

    per_minute: float
    queued: Callable[[], int]
    most_queued: int
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    _next: float = 0.0
    _room: int = 0

    def __post_init__(self) -> None:
        if self.per_minute <= 0 or self.most_queued < 1:
            raise InputError("--rate and --most-queued are greater than 0")

    def __call__(self) -> None:
        """Return when the next study may be taken."""
        while self._room <= 0:
            self._room = self.most_queued - self.queued()
            if self._room <= 0:
                self.sleep(2.0)
        self._room -= 1
        wait_s = self._next - self.clock()
        if wait_s > 0:
            self.sleep(wait_s)
        self._next = max(self._next, self.clock()) + 60.0 / self.per_minute
