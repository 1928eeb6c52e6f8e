"""The results folder as the shelf of multimedia reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from plugin.results import ResultFolder
from plugin.values import StudyRef


@dataclass(frozen=True, slots=True)
class KeptResults:
    """The results of a study and a report in a folder; a :class:`plugin.imr.held.Kept`."""

    results: ResultFolder
    study: StudyRef
    report_id: str
    changed: datetime
    withdrawn: bool

    def read(self, name: str) -> bytes | None:
        """The file *name*, or None; of a withdrawn report, too."""
        return self.results.remembered(self.study, self.report_id, name)


@dataclass(frozen=True, slots=True)
class ResultShelf:
    """Implements :class:`plugin.imr.held.Shelf` on the results of the service."""

    results: ResultFolder

    def kept(self) -> Iterator[KeptResults]:
        """Every report with results, withdrawn ones, too."""
        for study, report, changed in self.results.everything():
            yield KeptResults(self.results, study, report.ref.report_id, changed, report.status.withdrawn)
