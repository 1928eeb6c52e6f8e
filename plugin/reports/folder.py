"""Reports in a folder of FHIR JSON, results in another: the embedded report store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from plugin.errors import InputError, TransientError
from plugin.fhir.reading import ref_of, report_of
from plugin.fhir.resource import MAX_BYTES, parse, resources_of
from plugin.identity import derived_id
from plugin.ports import StudyIdentity
from plugin.reports.candidates import Candidate, is_about, newest_first, newest_of, puts
from plugin.values import Report, ReportDescription, ReportRef


class FolderReportStore:
    """Implements :class:`plugin.ports.ReportStore` on files.

    Parameters
    ----------
    folder : searched at any depth for ``*.json``; a file holds a DiagnosticReport, or a Bundle with it and with what
        it refers to. References are followed within a file only, since two exports may both have a ``Patient/1``.
    results : gets one file per bundle written; may lie inside *folder*, and is never read.
    """

    def __init__(self, folder: Path, results: Path) -> None:
        self._folder = folder
        self._results = results

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        """See :class:`plugin.ports.ReportStore`; files that hold no FHIR are passed over.

        Raises
        ------
        TransientError
            If the folder is not there.
        InputError
            If a report names the study, but another patient.
        """
        return newest_first(candidate for candidate in self._candidates() if is_about(candidate, study))

    def describe(self, report_id: str) -> ReportDescription | None:
        """See :class:`plugin.ports.ReportStore`."""
        return newest_of(self._candidates(), report_id)

    def read(self, report: ReportRef) -> Report:
        """See :class:`plugin.ports.ReportStore`."""
        for candidate in self._candidates():
            if ref_of(candidate.report, candidate.resources) == report:
                return report_of(candidate.report, candidate.resources)
        raise InputError("this version of the report is not in the folder: it was moved, or replaced by a newer one")

    def write(self, bundle: str) -> None:
        """See :class:`plugin.ports.ReportStore`. The file's name is derived from the resources it holds."""
        name = derived_id("bundle", *sorted(entry.child("request").string("url") for entry in puts(bundle)))
        content = bundle.encode()
        target = self._results / f"{name}.json"
        try:
            self._results.mkdir(parents=True, exist_ok=True)
            if not (target.exists() and target.read_bytes() == content):
                write_atomically(target, content)
        except OSError as error:
            raise TransientError(f"the results folder cannot be written ({error.strerror})") from None

    def _candidates(self) -> Iterator[Candidate]:
        if not self._folder.is_dir():
            raise TransientError("the folder of reports is not there: check SIGHTLINE_REPORTS_DIR")
        for path in sorted(self._folder.rglob("*.json")):
            if not path.is_relative_to(self._results):
                yield from candidates_in(path)


def candidates_in(path: Path) -> Iterator[Candidate]:
    """The reports in a file; none when it is no FHIR JSON, or not complete."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return
        resources = resources_of(parse(path.read_bytes()))
    except (OSError, InputError):
        return  # somebody else's file, or one that is being written just now
    for report in resources.of_type("DiagnosticReport"):
        yield Candidate(report, resources)


def write_atomically(target: Path, content: bytes) -> None:
    """All or nothing, also when the machine stops: the file appears under its name when it is complete."""
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".", suffix=".part", delete=False) as part:
        try:
            part.write(content)
            part.flush()
            os.fsync(part.fileno())
            Path(part.name).replace(target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
