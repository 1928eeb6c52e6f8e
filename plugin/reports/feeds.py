"""What is new among the reports: a FHIR server polled again and again, or a folder looked through."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from plugin.errors import TransientError
from plugin.fhir.client import FhirClient, SearchExpiredError
from plugin.fhir.ours import is_ours
from plugin.fhir.reading import has_version, instant, ref_of
from plugin.fhir.resource import Element, PdfReader, Resources
from plugin.ports import ReportPage
from plugin.reports.folder import candidates_in
from plugin.reports.rest import completed
from plugin.values import ReportRef

OVERLAP_S: Final = 120
"""What came so long before the cursor is shown again: servers round times, and show rows late (shared clocks, caches,
transactions that end in another order than they began)."""
PAGE: Final = 100
MOST_PAGES: Final = 100_000
RESTARTS: Final = 4
"""Times in a row that a search may be begun again without getting further."""


class FhirReportFeed:
    """Implements :class:`plugin.ports.ReportFeed` by polling a FHIR server; the cursor is an instant of its clock.

    It only ever moves to a time that the server showed, and within a search only when the server is known to sort.

    Parameters
    ----------
    categories : DiagnosticReport.category to ask for, as FHIR writes a token list ("RAD,http://loinc.org|LP29684-5");
        "" is any.
    read_pdf : as the report store reads PDFs, whose text tells versions apart where the server does not.
    clock : UTC; a report stamped later than that does not move the cursor beyond it.
    """

    def __init__(
        self,
        server: FhirClient,
        *,
        categories: str = "",
        read_pdf: PdfReader | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._server = server
        self._categories = categories
        self._read_pdf = read_pdf
        self._clock = clock

    def look(self, cursor: str) -> Iterator[ReportPage]:
        """See :class:`plugin.ports.ReportFeed`. A search that expired is begun again, from where it was sorted up to.

        Raises
        ------
        TransientError
            If the server does not answer, or its searches expire again and again.
        InputError
            If it is no FHIR server that speaks JSON.
        """
        progress = _Progress(cursor, begin=cursor, shown=cursor)
        restarts = 0
        while True:
            try:
                yield from self._searched(progress, page=PAGE << restarts)
            except SearchExpiredError:
                restarts = 0 if progress.begins_later() else restarts + 1
                if restarts > RESTARTS:
                    raise
            else:
                yield ReportPage((), progress.shown)
                return

    def _searched(self, progress: _Progress, *, page: int) -> Iterator[ReportPage]:
        """One search from where *progress* begins, which it keeps."""
        pages = self._server.pages(
            "DiagnosticReport", self._asked(progress.begin, "_lastUpdated", page), most=MOST_PAGES
        )
        for number, hits in enumerate(pages):
            if number == 1 and progress.sorted is None:
                progress.sorted = self._sorts(progress.begin)
            progress.saw(hits, now=self._clock())
            yield ReportPage(tuple(self._refs(hits)), progress.safe)

    def _sorts(self, begin: str) -> bool:
        """Whether the server heeds ``_sort``: then its first hit is older in one order than in the other."""
        ends = []
        for order in ("_lastUpdated", "-_lastUpdated"):
            hits = next(self._server.pages("DiagnosticReport", self._asked(begin, order, 1)), ())
            ends.append(_latest(hits[:1], ""))
        return bool(ends[0]) and ends[0] < ends[1]

    def _asked(self, begin: str, order: str, count: int) -> list[tuple[str, str]]:
        category = [("category", self._categories)] if self._categories else []
        since = [("_lastUpdated", f"ge{_earlier(begin)}")] if begin else []
        return [*category, *since, ("_sort", order), ("_count", str(count))]

    def _refs(self, hits: tuple[Element, ...]) -> Iterator[ReportRef]:
        for report in hits:
            if report.type != "DiagnosticReport" or not report.id or is_ours(report):
                continue
            # Without a version it is the text that tells one from another, and that may stand elsewhere on the server.
            yield ref_of(report, Resources(()) if has_version(report) else self._around(report))

    def _around(self, report: Element) -> Resources:
        return completed(self._server, report, read_pdf=self._read_pdf).resources


@dataclass(slots=True)
class _Progress:
    """How far a look has come; all instants as text of equal form, so that text order is time order, "" the first.

    Parameters
    ----------
    safe : everything up to there has been shown.
    begin : where the search at hand begins.
    shown : the latest instant that was shown.
    sorted : whether the server heeds ``_sort``; None while nobody asked.
    """

    safe: str
    begin: str
    shown: str
    sorted: bool | None = None

    def saw(self, hits: tuple[Element, ...], *, now: datetime) -> None:
        self.shown = max(self.shown, min(_latest(hits, ""), _text(now)))
        if self.sorted:
            self.safe = self.shown

    def begins_later(self) -> bool:
        """Begin the next search where the last one was sorted up to; whether that is later than before."""
        later = self.safe > self.begin
        self.begin = self.safe
        return later


def _latest(hits: Iterable[Element], otherwise: str) -> str:
    stamps = (instant(hit.child("meta").string("lastUpdated")) for hit in hits)
    return max((_text(stamp) for stamp in stamps if stamp), default=otherwise)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _earlier(cursor: str) -> str:
    """The cursor less the overlap, in whole seconds, which every server reads."""
    moment = datetime.fromisoformat(cursor) - timedelta(seconds=OVERLAP_S)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


class FolderReportFeed:
    """Implements :class:`plugin.ports.ReportFeed` on the folder of :class:`plugin.reports.folder.FolderReportStore`.

    The cursor is the time of a file and the folders that were there. A file that is being written, or holds no FHIR, is
    not shown, and is looked at again when it changes. Folders that were added or moved show everything again, since the
    files in them keep their times.
    """

    def __init__(
        self,
        folder: Path,
        results: Path,
        *,
        read_pdf: PdfReader | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._folder = folder
        self._results = results
        self._read_pdf = read_pdf
        self._clock_ns = clock_ns

    def look(self, cursor: str) -> Iterator[ReportPage]:
        """See :class:`plugin.ports.ReportFeed`.

        Raises
        ------
        TransientError
            If the folder is not there.
        """
        if not self._folder.is_dir():
            raise TransientError("the folder of reports is not there: check SIGHTLINE_REPORTS_DIR")
        now = self._clock_ns()
        stamped, folders = self._files()
        since, _, known = cursor.partition(" ")
        begin = int(since) - OVERLAP_S * 1_000_000_000 if known == folders else 0
        reports: list[ReportRef] = []
        shown = int(since) if known == folders else 0
        for stamp, path in stamped:
            if stamp < begin:
                continue
            candidates = candidates_in(path, read_pdf=self._read_pdf)
            found = [ref_of(each.report, each.resources) for each in candidates if not is_ours(each.report)]
            reports += found
            shown = max(shown, min(stamp, now) if found else 0)  # files from the future must not hide later ones
            if len(reports) >= PAGE:
                yield ReportPage(tuple(reports), f"{shown} {folders}")
                reports = []
        yield ReportPage(tuple(reports), f"{shown} {folders}")

    def _files(self) -> tuple[list[tuple[int, Path]], str]:
        """Every JSON file with the time it came or changed in ns, in that order; and what tells the folders apart."""
        files: list[tuple[int, Path]] = []
        folders = hashlib.sha256()
        for place, below, names in os.walk(self._folder):
            at = Path(place)
            below[:] = sorted(name for name in below if at / name != self._results)
            folders.update(f"{at.relative_to(self._folder)} {_inode(at)}\n".encode())
            files += [(stamp, at / name) for name in names if name.endswith(".json") and (stamp := _stamp(at / name))]
        return sorted(files), folders.hexdigest()[:16]


def _stamp(path: Path) -> int:
    """When the file came or changed: its own time may be older than its coming, if it was copied with it; 0: gone."""
    try:
        status = path.stat()
    except OSError:
        return 0
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _inode(folder: Path) -> int:
    try:
        return folder.stat().st_ino
    except OSError:
        return 0
