"""An archive, a report store and an intake over them, in memory: what the ports promise, as far as intake asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from books import book_at, decisions_at
from queues import MemoryQueue

from model.values import View
from plugin.errors import InputError, MissingError
from plugin.identity import derived_uid
from plugin.intake import Intake
from plugin.matching import match
from plugin.ports import DecisionBook, StudyIdentity
from plugin.values import (
    Accession,
    ImageDescription,
    ImageRef,
    PatientRef,
    ReportDescription,
    ReportRef,
    ReportStatus,
    StudyDescription,
    StudyRef,
)


def image(study: StudyRef, name: str = "pa", **changes: Any) -> ImageDescription:
    """A frontal radiograph of patient P1 under accession number A1."""
    ref = ImageRef(study, derived_uid("series", name), derived_uid("image", study.study_instance_uid, name), "1.2.840")
    told = ImageDescription(
        ref, "DX", View.FRONTAL, "ViewPosition PA", patient=PatientRef("P1"), accession_number="A1", body_part="CHEST"
    )
    return replace(told, **changes)


def report(report_id: str = "r", version: str = "1", **changes: Any) -> ReportDescription:
    """A final report of patient P1 that names nothing else."""
    return ReportDescription(
        **{
            "ref": ReportRef(report_id, version),
            "status": ReportStatus.FINAL,
            "patient": PatientRef("P1"),
            **changes,
        }
    )


@dataclass(slots=True)
class MemoryArchive:
    """Studies and their radiographs; *others* are studies that hold none, as a search tells them.

    *failure* is raised by every call while it is set.
    """

    studies: dict[StudyRef, tuple[ImageDescription, ...]] = field(default_factory=dict)
    others: dict[StudyRef, StudyDescription] = field(default_factory=dict)
    failure: Exception | None = None

    def add(self, *images: ImageDescription) -> None:
        for each in images:
            self.studies[each.image.study] = (*self.studies.get(each.image.study, ()), each)

    def describe(self, study: StudyRef) -> tuple[ImageDescription, ...]:
        self._answer()
        if study not in self.studies and study not in self.others:
            raise MissingError("The archive has no such study, or it holds no instances.")
        return self.studies.get(study, ())

    def search(
        self, *, study: StudyRef | None = None, accession_number: str = "", patient_id: str = ""
    ) -> tuple[StudyDescription, ...]:
        self._answer()
        known = {ref: _told(ref, images) for ref, images in self.studies.items()} | self.others
        return tuple(
            known[ref]
            for ref in sorted(known)
            if (study or accession_number or patient_id)
            and study in (None, ref)
            and (not accession_number or known[ref].accession == Accession(accession_number))
            and (not patient_id or (known[ref].patient or PatientRef("")).patient_id == patient_id)
        )

    def _answer(self) -> None:
        if self.failure:
            raise self.failure


def _told(study: StudyRef, images: tuple[ImageDescription, ...]) -> StudyDescription:
    number = images[0].accession_number
    return StudyDescription(study, Accession(number) if number else None, images[0].patient, ("DX",), "20260301")


@dataclass(slots=True)
class MemoryReports:
    """Reports as they stand now; *failure* is raised by every call while it is set."""

    reports: dict[str, ReportDescription] = field(default_factory=dict)
    failure: Exception | None = None
    described: int = 0

    def put(self, *reports: ReportDescription) -> ReportRef:
        for each in reports:
            self.reports[each.ref.report_id] = each
        return reports[-1].ref

    def describe(self, report_id: str) -> ReportDescription | None:
        self._answer()
        self.described += 1
        return self.reports.get(report_id)

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        self._answer()
        return tuple(each.ref for each in reversed(self.reports.values()) if _is_about(each, study))

    def _answer(self) -> None:
        if self.failure:
            raise self.failure


def _is_about(told: ReportDescription, study: StudyIdentity) -> bool:
    try:
        return match(told, study).proven
    except InputError:
        if study.study.study_instance_uid in told.study_instance_uids:
            raise
        return False


@dataclass(slots=True)
class Site:
    """An intake with everything around it in memory, but for its book."""

    folder: Path
    archive: MemoryArchive = field(default_factory=MemoryArchive)
    reports: MemoryReports = field(default_factory=MemoryReports)
    queue: MemoryQueue = field(default_factory=MemoryQueue)
    clock: Callable[[], datetime] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def intake(self) -> Intake:
        """A new one each time, as after a restart."""
        return Intake(
            self.archive,  # type: ignore[arg-type] - what intake asks of an archive, and no more
            self.reports,  # type: ignore[arg-type] - likewise
            self.queue,
            book_at(self.folder / "reports.sqlite"),
            lambda: ("maker",),
            clock=self.clock or self.queue.clock,
            **self.settings,
        )

    @property
    def decisions(self) -> DecisionBook:
        """What radiologists decided."""
        return decisions_at(self.folder / "decisions.sqlite")
