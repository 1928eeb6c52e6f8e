"""The results folder as the shelf of multimedia reports."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from plugin.imr.held import MULTIMEDIA_FILE
from plugin.results import Pointer, ResultFolder
from plugin.values import StudyRef

REMEMBERED = 20_000
"""Reports whose file is kept in memory, about 4 KB each; what is beyond is read each time."""


@dataclass(frozen=True, slots=True)
class KeptResults:
    """The results of a study and a report in a folder; a :class:`plugin.imr.held.Kept`.

    Parameters
    ----------
    multimedia : content of the file that every search reads, or None.
    """

    results: ResultFolder
    study: StudyRef
    report_id: str
    changed: datetime
    withdrawn: bool
    multimedia: bytes | None

    def read(self, name: str) -> bytes | None:
        """The file *name*, or None; of a withdrawn report, too."""
        if name == MULTIMEDIA_FILE:
            return self.multimedia
        return self.results.remembered(self.study, self.report_id, name)


class ResultShelf:
    """Implements :class:`plugin.imr.held.Shelf` on the results of the service; may be used from several threads.

    What did not change since the last time is not read again.
    """

    def __init__(self, results: ResultFolder) -> None:
        self._results = results
        self._known: dict[Pointer, KeptResults] = {}

    def kept(self) -> Iterator[KeptResults]:
        """Every report with results, withdrawn ones, too."""
        known, found = self._known, dict[Pointer, KeptResults]()
        for pointer in self._results.pointers():
            kept = known.get(pointer) or self._read(pointer)
            if kept is not None:
                if len(found) < REMEMBERED:
                    found[pointer] = kept
                yield kept
        self._known = found

    def _read(self, pointer: Pointer) -> KeptResults | None:
        report = self._results.pointed(pointer)
        if report is None:
            return None
        study, report_id = StudyRef(pointer.study), report.ref.report_id
        return KeptResults(
            results=self._results,
            study=study,
            report_id=report_id,
            changed=datetime.fromtimestamp(pointer.changed_ns / 1e9, tz=UTC),
            withdrawn=report.status.withdrawn,
            multimedia=self._results.remembered(study, report_id, MULTIMEDIA_FILE),
        )
