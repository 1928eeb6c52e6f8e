"""What the service works with. The composition root builds it; nothing here knows an implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from plugin.backfill import BackfillProgress
from plugin.errors import InputError
from plugin.intake import Intake
from plugin.ports import Grounder, JobQueue, ReportReader, Work
from plugin.results import KeptReport
from plugin.service.metrics import Metrics
from plugin.taking import Decisions
from plugin.values import Radiograph, StudyRef


class Results(Protocol):
    """Where results are read from; :class:`plugin.results.ResultFolder` is one."""

    def read(self, study: StudyRef, name: str, report: str | None = None) -> bytes | None:
        """The newest file *name* of *study* and a report (its id), by default the one that governs; None: none."""

    def remembered(self, study: StudyRef, report: str, name: str) -> bytes | None:
        """As :meth:`read`, of a withdrawn report, too."""

    def reports(self, study: StudyRef) -> tuple[KeptReport, ...]:
        """Every report of *study* with results: first the one that governs, the withdrawn ones last."""

    def studies(self) -> tuple[StudyRef, ...]:
        """Every study with results to show."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing the service cannot work without; *probe* raises a SightlineError when it is not there."""

    name: str
    probe: Callable[[], object]


@dataclass(frozen=True, slots=True)
class Services:
    """Everything the routes call.

    Parameters
    ----------
    work : what is done for each job.
    intake : makes jobs of what is noticed: one for each study and report version.
    grounder : the model in force, as a person asks it who waits.
    read_dicom : one radiograph from the bytes of a DICOM file; raises InputError.
    progress : how far long work is, for the worklist.
    decisions : takes what radiologists decide; None: nobody can.
    metrics : what this process counts, for ``/metrics``.
    checks : what ``/health/ready`` asks.
    renew : puts the model in force that the settings name by now; what SIGHUP does.
    """

    queue: JobQueue
    results: Results
    work: Work
    intake: Intake
    grounder: Callable[[], Grounder]
    read_report: ReportReader
    read_dicom: Callable[[bytes], Radiograph]
    checks: tuple[Check, ...] = ()
    metrics: Metrics | None = None
    decisions: Decisions | None = None
    progress: Callable[[], Iterable[BackfillProgress]] = tuple
    renew: Callable[[], None] = lambda: None


class Part(Protocol):
    """Something that runs beside the routes, while the service does."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """End, and return when it has."""


def study_of(study_instance_uid: str) -> StudyRef:
    """The study of a request.

    Raises
    ------
    InputError
        If it is not a DICOM UID.
    """
    try:
        return StudyRef(study_instance_uid)
    except ValueError:
        raise InputError("That is not a study instance UID: digits and dots, at most 64 characters.") from None
