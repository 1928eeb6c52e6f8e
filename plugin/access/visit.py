"""One request, let in: who asks, and what they see. Everything about patients is read through it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from plugin.access.caller import Caller, Sees
from plugin.access.rules import Rule
from plugin.imr.held import MULTIMEDIA_FILE, Held
from plugin.page.document import EvidenceDocument, read_evidence
from plugin.page.release import IMMEDIATELY, Rules, withheld_of
from plugin.results import KeptReport
from plugin.values import ReportStatus, StudyRef

if TYPE_CHECKING:
    from plugin.imr.endpoint import MultimediaReports
    from plugin.service.parts import Results


@dataclass(slots=True)
class Visit:
    """A request that a rule let in.

    Parameters
    ----------
    release : when patients see a report that is final.
    studies, patients : of everything that was asked for, shown or not; for the audit trail.
    """

    caller: Caller
    sees: Sees
    rule: Rule
    release: Rules = IMMEDIATELY
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    studies: dict[str, None] = field(default_factory=dict)
    patients: dict[str, None] = field(default_factory=dict)

    def admits(self, subject: str | None, status: ReportStatus, document: Callable[[], EvidenceDocument]) -> bool:
        """Whether a report may be shown.

        Parameters
        ----------
        subject : whom it is about, "Patient/<id>"; None: not known.
        document : its evidence, for the rules of release.
        """
        return self._noted(subject, seen=self._shows(subject, status, document))

    def results(self, results: Results) -> SeenResults:
        """Those of *results* that may be shown."""
        return SeenResults(results, self)

    def with_drafts(self, results: Results) -> SeenResults:
        """As :meth:`results`, with what is withheld from a patient for now: for a page that says so."""
        return SeenResults(results, replace(self, sees=replace(self.sees, drafts=True)))

    def reports(self, reports: MultimediaReports) -> MultimediaReports:
        """Those of *reports* that may be shown."""
        return reports.seen_by(_Eyes(self))

    def admits_study(self, results: Results, study: StudyRef) -> bool:
        """Whether the images of *study* may be shown: to who is bound to a patient, only if its results are theirs."""
        self.studies[study.study_instance_uid] = None
        kept = [(subject_in(results, study, each), each) for each in results.reports(study)]
        seen = self.sees.study((subject, each.status) for subject, each in kept) and all(
            each.status.withdrawn or self._shows(subject, each.status, partial(document_in, results, study, each))
            for subject, each in kept
        )
        for subject in dict.fromkeys(subject for subject, _ in kept if subject is not None):
            self._noted(subject, seen=seen)
        return seen

    def _shows(self, subject: str | None, status: ReportStatus, document: Callable[[], EvidenceDocument]) -> bool:
        if not self.sees.report(subject, status):
            return False
        if self.sees.drafts or status.withdrawn or not self.release.wait:
            return True
        try:
            return withheld_of(document(), self.release, now=self.clock()) is None
        except ValueError:  # damaged: nobody can say that it may be shown
            return False

    def _noted(self, subject: str | None, *, seen: bool) -> bool:
        if subject is not None:
            self.patients[subject] = None
        return seen


@dataclass(frozen=True, slots=True)
class SeenResults:
    """The results that a visit shows; a :class:`plugin.service.parts.Results`. What it hides is not there."""

    results: Results
    visit: Visit

    def read(self, study: StudyRef, name: str, report: str | None = None) -> bytes | None:
        """The newest file *name* of *study* and a report (its id), by default the one that governs; None: none."""
        shown = [each for each in self.reports(study) if not each.status.withdrawn]
        wanted = next((each for each in shown if report in (None, each.ref.report_id)), None)
        return None if wanted is None else self.results.read(study, name, wanted.ref.report_id)

    def remembered(self, study: StudyRef, report: str, name: str) -> bytes | None:
        """As :meth:`read`, of a withdrawn report, too."""
        seen = any(each.ref.report_id == report for each in self.reports(study))
        return self.results.remembered(study, report, name) if seen else None

    def reports(self, study: StudyRef) -> tuple[KeptReport, ...]:
        """Every report of *study* with results: first the one that governs, the withdrawn ones last."""
        self.visit.studies[study.study_instance_uid] = None
        kept = self.results.reports(study)
        return tuple(each for each in kept if self._admits(study, each))

    def studies(self) -> tuple[StudyRef, ...]:
        """Every study with results to show."""
        studies = self.results.studies()
        return tuple(each for each in studies if any(not kept.status.withdrawn for kept in self.reports(each)))

    def _admits(self, study: StudyRef, kept: KeptReport) -> bool:
        subject = subject_in(self.results, study, kept)
        return self.visit.admits(subject, kept.status, partial(document_in, self.results, study, kept))


@dataclass(frozen=True, slots=True)
class _Eyes:
    """Those of a visit on multimedia reports."""

    visit: Visit

    @property
    def workings(self) -> bool:
        return self.visit.sees.workings

    def sees(self, held: Held) -> bool:
        return self.visit._shows(held.subject, held.status, lambda: held.document)

    def looked(self, held: Held, *, seen: bool) -> None:
        self.visit.studies[held.study_instance_uid] = None
        self.visit._noted(held.subject, seen=seen)


def document_in(results: Results, study: StudyRef, kept: KeptReport) -> EvidenceDocument:
    """The evidence of a report; raises ValueError if it was lost or damaged."""
    return read_evidence(results.remembered(study, kept.ref.report_id, "evidence.json") or b"")


def subject_in(results: Results, study: StudyRef, kept: KeptReport) -> str | None:
    """Whom the results of a report are about, "Patient/<id>"; None when they do not say."""
    content = results.remembered(study, kept.ref.report_id, MULTIMEDIA_FILE)
    return None if content is None else subject_of(content)


def subject_of(multimedia: bytes) -> str | None:
    """Whom the content of a multimedia report's file is about, "Patient/<id>"; None when it does not say."""
    reference = json.loads(multimedia)["report"].get("subject", {}).get("reference")
    return reference if isinstance(reference, str) else None
