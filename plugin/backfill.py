"""Taking what an archive already holds, day by day: resumable, and never ahead of those who do the work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from plugin.errors import InputError
from plugin.intake import StudyTaken
from plugin.values import StudyRef

STOPPED = timedelta(minutes=2)
"""A run tells of itself every few seconds, also while it waits for room."""


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


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a run of a backfill is.

    Parameters
    ----------
    plan : its name, for people.
    total, done : studies of this run.
    """

    plan: str
    total: int
    done: int
    began: datetime
    updated: datetime
    ended: bool = False

    @property
    def per_minute(self) -> float:
        """Studies a minute since the run began."""
        return 60 * self.done / max((self.updated - self.began).total_seconds(), 1.0)

    @property
    def remaining_s(self) -> float | None:
        """How long the rest takes at that rate; None before the first study."""
        return 60 * max(0, self.total - self.done) / self.per_minute if self.done else None

    def is_stopped(self, now: datetime) -> bool:
        """Whether the run was ended before it was done: it has not told of itself for a while."""
        return not self.ended and now - self.updated > STOPPED


@dataclass(frozen=True, slots=True)
class ProgressFile:
    """Where a run tells how far it is: a file, whole or not there."""

    path: Path

    def write(self, progress: BackfillProgress) -> None:
        """Replace what it told."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        told = asdict(progress) | {"began": progress.began.isoformat(), "updated": progress.updated.isoformat()}
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(self.path)


def progress_in(folder: Path, *, now: datetime) -> tuple[BackfillProgress, ...]:
    """What the runs of *folder* told, but for those that ended more than a day ago."""
    found = (_progress(path) for path in sorted(folder.glob("backfill-*.progress")))
    return tuple(each for each in found if each and now - each.updated < timedelta(days=1))


def _progress(path: Path) -> BackfillProgress | None:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        moments = {name: datetime.fromisoformat(told[name]) for name in ("began", "updated")}
        return BackfillProgress(**(told | moments))
    except (OSError, ValueError, TypeError, KeyError):
        return None


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
    waiting : called again and again while there is no room.
    """

    per_minute: float
    queued: Callable[[], int]
    most_queued: int
    clock: Callable[[], float]
    sleep: Callable[[float], object]
    waiting: Callable[[], object] = lambda: None
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
                self.waiting()
                self.sleep(2.0)
        self._room -= 1
        wait_s = self._next - self.clock()
        if wait_s > 0:
            self.sleep(wait_s)
        self._next = max(self._next, self.clock()) + 60.0 / self.per_minute
