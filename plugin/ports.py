"""The edges of the pipeline as protocols. Each has two real implementations, and one contract test that both pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from model.geometry import Orientation
from model.values import Grounding, ModelCard, Query, Question, Suitability
from nlp.phrases import Reading
from plugin.fhir.capability import Release
from plugin.identity import derived_code
from plugin.values import (
    ImageDescription,
    ImageRef,
    PatientRef,
    Radiograph,
    RegionDecision,
    Report,
    ReportDescription,
    ReportRef,
    StudyDescription,
    StudyRef,
)


@dataclass(frozen=True, slots=True)
class StoredResult:
    """One instance that Sightline wrote earlier, as the archive holds it.

    Parameters
    ----------
    header : patient, study and identity of the instance as a DICOM file, without content.
    source_uids : of a Segmentation, the SOP instance UIDs of the images it is about.
    follows : of a report, the reports it replaced (Predecessor Documents Sequence).
    follows_series : of a Segmentation, the series of those it replaced (Related Series Sequence).
    rejects : of a rejection note, the SOP instance UIDs of the instances it rejects.
    report : the report it is about, as :func:`report_code` names it; "" where it does not tell (earlier versions).
    phrases : of a report, the tracking UIDs of its phrases in the order of the text.
    """

    image: ImageRef
    header: bytes
    source_uids: tuple[str, ...] = ()
    follows: tuple[ImageRef, ...] = ()
    follows_series: tuple[str, ...] = ()
    rejects: tuple[str, ...] = ()
    report: str = ""
    phrases: tuple[str, ...] = ()


def report_code(report_id: str) -> str:
    """How DICOM objects name the report they are about: short enough for a Performed Procedure Step ID."""
    return derived_code("report", report_id)


class ImageArchive(Protocol):
    """Where studies come from and results go to: a folder of DICOM files or any DICOMweb server."""

    def describe(self, study: StudyRef) -> tuple[ImageDescription, ...]:
        """Every radiograph of the study, in a stable order; our own and other derived objects are left out.

        Raises
        ------
        MissingError
            If the archive has no such study.
        InputError
            If it refuses us.
        TransientError
            If the archive does not answer.
        """

    def search(
        self, *, study: StudyRef | None = None, accession_number: str = "", patient_id: str = ""
    ) -> tuple[StudyDescription, ...]:
        """The studies that agree with everything given, in the order of their UIDs; values are compared whole.

        Nothing given finds nothing, and so does a value with the wildcards of DICOM (``*``, ``?``, backslash).

        Raises
        ------
        TransientError
            If the archive does not answer.
        InputError
            If it refuses us.
        """

    def read(self, image: ImageRef) -> Radiograph:
        """One image, decoded and windowed.

        Raises
        ------
        InputError
            If the instance is missing or cannot be used; the message says why.
        TransientError
            If the archive does not answer.
        """

    def results(self, study: StudyRef) -> tuple[StoredResult, ...]:
        """Every instance of the study that Sightline wrote, rejected ones and rejection notes too, in a stable order.

        Raises
        ------
        InputError
            If the archive has no such study.
        TransientError
            If the archive does not answer.
        """

    def store(self, study: StudyRef, instances: tuple[bytes, ...]) -> None:
        """Store DICOM Part 10 *instances*; one already stored counts as stored.

        Raises
        ------
        TransientError
            If the archive does not answer or is full.
        ConformanceError
            If the archive refuses an instance for good.
        InputError
            If nothing may be stored there: missing credentials, or a folder that is only read.
        """

    def remove(self, results: tuple[ImageRef, ...]) -> None:
        """Remove rejected *results* for good, where the archive is set up for that; else leave them as they are.

        Raises
        ------
        TransientError
            If the archive does not answer.
        InputError
            If it does not permit it.
        """


@dataclass(frozen=True, slots=True)
class Sighting:
    """A study that an archive shows; *mark* is another one when instances were added."""

    study: StudyRef
    mark: str


@dataclass(frozen=True, slots=True)
class Look:
    """What a feed showed, and the *cursor* to go on from; *more* can be had at once."""

    sightings: tuple[Sighting, ...]
    cursor: str
    more: bool = False


class StudyFeed(Protocol):
    """What is new in an archive: Orthanc's change log, or any archive by QIDO-RS."""

    def first(self) -> Look:
        """Where the archive stands now; of what it holds already, what later looks may show again.

        Raises
        ------
        TransientError
            If the archive does not answer.
        InputError
            If it refuses us.
        """

    def look(self, cursor: str) -> Look:
        """What is new since *cursor*, "" being the beginning; a study may be shown again, none is left out.

        Raises
        ------
        TransientError
            If the archive does not answer.
        InputError
            If it refuses us.
        """


@dataclass(frozen=True, slots=True)
class StudyIdentity:
    """What a report is matched against: UID, accession number and patient, as the images state them."""

    study: StudyRef
    accession_number: str = ""
    patient: PatientRef | None = None
    accession_issuer: str = ""


class ReportStore(Protocol):
    """Where reports come from and FHIR results go to: a folder of FHIR JSON or any FHIR server."""

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        """The reports about *study*, newest version of each; never matched by name or date alone.

        Newer come before older; withdrawn ones are named only when there is no other, so that reading says why.

        Raises
        ------
        TransientError
            If the server does not answer.
        InputError
            If a report names the study, but another patient than its images.
        """

    def describe(self, report_id: str) -> ReportDescription | None:
        """What the version that stands now says of itself; None when the report is there no more.

        Raises
        ------
        TransientError
            If the server does not answer.
        InputError
            If it refuses us.
        """

    def read(self, report: ReportRef) -> Report:
        """One report version.

        Raises
        ------
        InputError
            If it is missing, or has no usable text.
        TransientError
            If the server does not answer.
        """

    @property
    def release(self) -> Release:
        """The release of FHIR that :meth:`write` takes.

        Raises
        ------
        TransientError
            If the server does not answer.
        """

    def written(self, names: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
        """Those resources of *names* ("Observation/<id>") that :meth:`write` wrote and that are there, as FHIR JSON.

        Raises
        ------
        TransientError
            If the server does not answer.
        """

    def write(self, bundle: str) -> None:
        """Write a FHIR transaction Bundle (JSON) of PUT entries, all or nothing; the same bundle twice changes nothing.

        An entry with ``request.ifMatch`` is written over that version of :meth:`written` and over no other.

        Raises
        ------
        TransientError
            If the server does not answer, or another version stands there by now.
        ConformanceError
            If the server refuses the bundle.
        """


@dataclass(frozen=True, slots=True)
class ReportPage:
    """Report versions that a feed showed together, and the *cursor* to go on from once all of them are kept."""

    reports: tuple[ReportRef, ...]
    cursor: str


class ReportFeed(Protocol):
    """What is new or changed among the reports of a server or folder, whatever their status."""

    def look(self, cursor: str) -> Iterator[ReportPage]:
        """Page by page, every version that came since *cursor* at least once; "" is everything there is.

        A version may be shown again, none is left out: one that appears late with an earlier time is shown, too.

        Raises
        ------
        TransientError
            If the server does not answer; what was shown before stays shown.
        InputError
            If it refuses us.
        """


class ReportRepository(Protocol):
    """Where multimedia reports are stored (IHE RAD IMR, RAD-141): a folder, or any FHIR server."""

    @property
    def r5(self) -> bool:
        """Whether reports are wanted as FHIR R5."""

    def publish(self, bundle: str) -> None:
        """Store the report of a RAD-141 Bundle (JSON), once; earlier versions of it are withdrawn.

        Raises
        ------
        TransientError
            If the server does not answer.
        ConformanceError
            If the server refuses the report.
        """

    def retract(self, key: str) -> None:
        """Withdraw every version of a report; *key* is the first of its identifiers. One that is not there is none.

        Raises
        ------
        TransientError
            If the server does not answer.
        """


class Outcome(StrEnum):
    """What became of a report that was noticed."""

    QUEUED = "queued"  # its studies are here: a job for each
    WAITING = "waiting"  # for images, or for a server that did not answer
    EXPIRED = "expired"  # waited in vain; a late image, or a person, takes it up again
    REVIEW = "review"  # ambiguous: a person has to say
    REFUSED = "refused"  # cannot be used, or is of another patient than the images
    WITHDRAWN = "withdrawn"  # cancelled, entered in error or deleted
    IGNORED = "ignored"  # not ours to do


@dataclass(frozen=True, slots=True)
class Decided:
    """A person's word about an ambiguous report.

    Parameters
    ----------
    studies : what it is about; empty: none of *among*.
    among : the studies that the person chose from.
    who : free text, as the person gave it.
    made : UTC.
    before : the words that this one changed, the first one first; they have none before them.
    """

    studies: tuple[StudyRef, ...]
    among: tuple[StudyRef, ...]
    who: str
    reason: str
    made: datetime
    before: tuple[Decided, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A report as the book remembers it.

    Parameters
    ----------
    version : the one that was taken last; "" when none could be read yet.
    reason : of the outcome, in words without patient data.
    since, updated : when this outcome began, and when anything changed; UTC.
    due : when it is looked at again unasked; None: never.
    tries : how often it was looked at again.
    revision : counts changes; a person decides about what they saw, or not at all.
    withdrawals : how often results were taken back; tells a new job from the one that was done before.
    joined : the studies that its results stand in, or are being made for.
    candidates : the studies that a person chooses from.
    jobs : ids of the jobs that the last taking put.
    keys : studies, and what tells accession numbers and patients apart: whatever brings the report up again.
    """

    report_id: str
    version: str
    outcome: Outcome
    reason: str
    since: datetime
    updated: datetime
    due: datetime | None = None
    tries: int = 0
    revision: int = 0
    withdrawals: int = 0
    joined: tuple[StudyRef, ...] = ()
    candidates: tuple[StudyRef, ...] = ()
    jobs: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    decision: Decided | None = None

    @property
    def choices(self) -> tuple[StudyRef, ...]:
        """The studies that a person chooses from, or chose from when they may choose otherwise now; else none."""
        if self.outcome is Outcome.REVIEW:
            return self.candidates
        decided = self.decision is not None and self.outcome in (Outcome.QUEUED, Outcome.IGNORED)
        return self.decision.among if decided and self.decision else ()


class ReportBook(Protocol):
    """What became of every report that was noticed, and how far each feed was read. Shared by threads and processes.

    Every method raises TransientError when the book cannot be used now.
    """

    def entry(self, report_id: str) -> Entry | None:
        """What is known of the report, or None."""

    def settle(self, entry: Entry, *, after: int | None) -> bool:
        """Write *entry* if its revision is still *after* (None: there was none); whether it was."""

    def postpone(self, report_id: str, due: datetime | None, *, tries: int) -> None:
        """Look at the report again at *due*; its revision stays as it is."""

    def about(self, keys: Sequence[str]) -> tuple[str, ...]:
        """The ids of the reports that any of *keys* brings up, in a stable order."""

    def due(self, now: datetime, *, limit: int = 100) -> tuple[str, ...]:
        """The ids of the reports to be looked at again, the longest waiting first.

        So are those that are to wait for longer than half a day: a clock ran ahead when that was written.
        """

    def listed(self, outcome: Outcome, *, limit: int = 100) -> tuple[Entry, ...]:
        """The reports with that outcome, the longest standing first."""

    def decided(self, *, limit: int = 100) -> tuple[Entry, ...]:
        """The reports that a person decided about, the last changed first."""

    def counts(self) -> dict[Outcome, int]:
        """How many reports have each outcome."""

    def news(self, reports: Sequence[ReportRef], *, sweep: int | None = None) -> tuple[ReportRef, ...]:
        """Those of *reports* that the book does not know in this version; all that it knows are marked with *sweep*."""

    def remember(self, reports: Sequence[ReportRef], reason: str, *, now: datetime, sweep: int) -> None:
        """Keep *reports* that are new to the book as ignored, without taking them."""

    def unseen(self, sweep: int, *, limit: int = 100, after: str = "") -> tuple[str, ...]:
        """Ids beyond *after*, in their order, of the reports that the sweep did not mark and that are not withdrawn."""

    def known(self) -> int:
        """How many reports are not withdrawn."""

    def cursor(self, feed: str) -> str | None:
        """Where the next look at *feed* begins; None before the first."""

    def save_cursor(self, feed: str, cursor: str) -> None:
        """Begin the next look there."""

    def swept(self, feed: str) -> datetime | None:
        """When the last deep sweep of *feed* ended; None before the first."""

    def save_sweep(self, feed: str, ended: datetime) -> None:
        """A deep sweep ended."""

    def forget(self, before: datetime) -> int:
        """Forget withdrawn reports that did not change since; how many."""


@dataclass(frozen=True, slots=True)
class KeptDecision:
    """A radiologist's decision as the book keeps it.

    Parameters
    ----------
    job : id of the job that writes it back; "" until one was put.
    """

    study: StudyRef
    report_id: str
    decision: RegionDecision
    job: str = ""

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What it is found by; in the order of the book."""
        return self.study.study_instance_uid, self.report_id, *self.decision.place, self.decision.number


class DecisionBook(Protocol):
    """What radiologists decided about regions; nothing in it is ever changed. Shared by threads and processes.

    Every method raises TransientError when the book cannot be used now.
    """

    def keep(self, kept: KeptDecision) -> bool:
        """Keep a decision, unless one of its number is there; whether it was kept. It is on the disk then."""

    def about(self, study: StudyRef, report_id: str) -> tuple[KeptDecision, ...]:
        """Every decision about phrases of that report on images of that study, in the order they were made."""

    def note_job(self, kept: KeptDecision, job_id: str) -> None:
        """That this job writes it back."""

    def without_job(self, *, limit: int = 100) -> tuple[KeptDecision, ...]:
        """Decisions that no job was put for yet, the oldest first."""

    def every(self, *, after: KeptDecision | None = None, limit: int = 500) -> tuple[KeptDecision, ...]:
        """Decisions in the order of their keys, beyond *after*."""


class JobState(StrEnum):
    """The life of a job. A queued one may wait for a time: after a failure, or for a server that is away.

    WAITING is told of studies that have no job yet, and no job is ever in it.
    """

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Priority(IntEnum):
    """Who waits for a job; lower goes first."""

    PERSON = 1
    NEW = 2
    BACKFILL = 3


@dataclass(frozen=True, slots=True)
class Job:
    """One study to ground with one version of one report. *job_id* is derived from that, so asking twice is one job.

    *error* is one sentence without patient data; *updated* is UTC; *report* is None when it has to be found first;
    *priority* is that of the moment.
    """

    job_id: str
    study: StudyRef
    state: JobState
    attempts: int
    updated: datetime
    error: str | None = None
    report: ReportRef | None = None
    priority: Priority = Priority.NEW


@dataclass(frozen=True, slots=True)
class Step:
    """One part of the work of a job: what is finished is not done again, whoever dies in between.

    Parameters
    ----------
    name : of the same kind in every release that may take over running jobs.
    run : doing it twice changes nothing. Raises SightlineError.
    """

    name: str
    run: Callable[[Job], object]


Work = Callable[[Job], AbstractContextManager[tuple[Step, ...]]]
"""What is done for a job: while the block runs, the steps of one attempt at it, the same ones for every job."""


def independent(*steps: Step) -> Work:
    """Work whose *steps* hand nothing on to each other."""
    return lambda _: nullcontext(steps)


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much there is, by state, and for how long the oldest job has waited to begin or to be tried again."""

    jobs: Mapping[JobState, int]
    oldest_s: float = 0.0


class JobRunner(Protocol):
    """What works on the jobs of a queue, in this process."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self, timeout_s: float = 30.0) -> None:
        """End: the step at hand is finished if it takes no longer than *timeout_s*; the job goes back to the queue."""


class JobQueue(Protocol):
    """Durable work: a job put is done once, whatever dies in between.

    Raises
    ------
    TransientError
        From every method, if the queue cannot be used now.
    """

    def put(
        self, job_id: str, study: StudyRef, report: ReportRef | None = None, *, priority: Priority | None = None
    ) -> Job:
        """Queue the job, or return it as it stands if it was put before.

        One that failed or was cancelled is queued again with all its attempts; one that still waits moves forward when
        it is put with a better *priority*; without one it is a new study, unless the queue was made for others.
        """

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""

    def list(self, limit: int = 100, *, state: JobState | None = None) -> tuple[Job, ...]:
        """Jobs, the last changed first; those in *state* alone, if it is given."""

    def page(
        self, limit: int, *, state: JobState | None = None, words: str = "", before: str | None = None
    ) -> tuple[tuple[Job, ...], str | None]:
        """Jobs as :meth:`list`, page by page, and *before* of the next page; None when there is none.

        Parameters
        ----------
        words : only jobs that have them in their study's UID, their id or their error, however they are capitalised.
        before : what came with the page before; what is not from there begins anew.
        """

    def replay(self, job_id: str) -> Job | None:
        """Do a job that ended once more, from its first step and with all its attempts; None if there is none such.

        One that has not ended stays as it is.
        """

    def cancel(self, job_id: str) -> Job | None:
        """Let go of a job that has not ended: no further step begins; None if there is none such."""

    def pause(self) -> None:
        """Let no further job begin, in any process, until :meth:`resume`."""

    def resume(self) -> None:
        """Let jobs begin again."""

    def paused(self) -> bool:
        """Whether :meth:`pause` was called last."""

    def backlog(self) -> Backlog:
        """What there is to do, and what was done of late."""

    def runner(self, work: Work) -> JobRunner:
        """What does the *work* of the jobs of this queue; two jobs of one study never together."""

    def close(self) -> None:
        """Let go of what it holds; it is not used after that."""


class Grounder(Protocol):
    """The model as the pipeline sees it."""

    @property
    def card(self) -> ModelCard:
        """Which model this is."""

    def ground(
        self, pixels: npt.NDArray[np.float32], orientation: Orientation, queries: tuple[Query, ...]
    ) -> tuple[Grounding, ...]:
        """One answer per query, in order. *pixels* float32 (rows, columns) in [0, 1], bright is dense."""

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        """For each image one answer per query, in order."""

    def suitability(self, pixels: npt.NDArray[np.float32], orientation: Orientation) -> Suitability:
        """What kind of image the pixels show, and whether it can be grounded as *orientation* turns it."""


ReportReader = Callable[[str], Reading]
