"""Reports in a folder of FHIR JSON, results in another: the embedded report store."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plugin.errors import InputError, TransientError
from plugin.fhir.capability import Release
from plugin.fhir.reading import identity_of, ref_of, report_of
from plugin.fhir.resource import MAX_BYTES, PdfReader, parse, resources_of
from plugin.ports import StudyIdentity
from plugin.reports.candidates import Candidate, is_about, newest_first, newest_of, puts
from plugin.reports.index import FolderIndex
from plugin.results import ResultFile, write_results
from plugin.values import Report, ReportDescription, ReportRef


class FolderReportStore:
    """Implements :class:`plugin.ports.ReportStore` on files.

    Parameters
    ----------
    folder : searched at any depth for ``*.json``; a file holds a DiagnosticReport, or a Bundle with it and with what
        it refers to. References are followed within a file only, since two exports may both have a ``Patient/1``.
    results : gets one file per resource written; may lie inside *folder*, and is never read.
    read_pdf : makes text of PDFs; None: they are not read.
    """

    def __init__(self, folder: Path, results: Path, *, read_pdf: PdfReader | None = None) -> None:
        self._folder = folder
        self._results = results
        self._read_pdf = read_pdf
        self._index = FolderIndex(folder, results, self._keys_of)

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        """See :class:`plugin.ports.ReportStore`; files that hold no FHIR are passed over.

        Raises
        ------
        TransientError
            If the folder is not there.
        InputError
            If a report names the study, but another patient.
        """
        keys = (f"study {study.study.study_instance_uid}", f"order {study.accession_number.strip()}")
        candidates = self._candidates(*keys, thoroughly=True)
        return newest_first(candidate for candidate in candidates if is_about(candidate, study))

    def describe(self, report_id: str) -> ReportDescription | None:
        """See :class:`plugin.ports.ReportStore`."""
        return newest_of(self._candidates(f"report {report_id}"), report_id)

    def read(self, report: ReportRef) -> Report:
        """See :class:`plugin.ports.ReportStore`."""
        for thoroughly in (False, True):
            for candidate in self._candidates(f"report {report.report_id}", thoroughly=thoroughly):
                if ref_of(candidate.report, candidate.resources) == report:
                    return report_of(candidate.report, candidate.resources)
        raise InputError("this version of the report is not in the folder: it was moved, or replaced by a newer one")

    @property
    def release(self) -> Release:
        """See :class:`plugin.ports.ReportStore`."""
        return Release.R4

    def written(self, names: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
        """See :class:`plugin.ports.ReportStore`."""
        found = (_content(self._results / _file_name(name)) for name in names)
        return tuple(json.loads(content) for content in found if content is not None)

    def write(self, bundle: str) -> None:
        """See :class:`plugin.ports.ReportStore`. One file for each resource, ``<type>-<id>.json``."""
        files = (_file(entry.child("resource").json) for entry in puts(bundle))
        try:
            changed = tuple(file for file in files if _content(self._results / file.name) != file.content)
            if changed:
                write_results(self._results, changed)
        except (InputError, OSError) as error:
            cause = error if isinstance(error, OSError) else error.__cause__
            why = f" ({cause.strerror})" if isinstance(cause, OSError) else ""
            raise TransientError(f"the results folder cannot be written{why}") from None

    def _candidates(self, *keys: str, thoroughly: bool = False) -> Iterator[Candidate]:
        """The reports in the files that one of *keys* stands for, in the order of the files."""
        if not self._folder.is_dir():
            raise TransientError("the folder of reports is not there: check SIGHTLINE_REPORTS_DIR")
        for path in self._index.found(*keys, thoroughly=thoroughly):
            yield from candidates_in(path, read_pdf=self._read_pdf)

    def _keys_of(self, path: Path) -> Iterator[str]:
        """The reports in a file, and the studies and orders that they name: no other can be proven to be about one."""
        for candidate in candidates_in(path, read_pdf=self._read_pdf):
            identity = identity_of(candidate.report, candidate.resources)
            yield f"report {candidate.report.id or ref_of(candidate.report, candidate.resources).report_id}"
            yield from (f"study {uid}" for uid in identity.study_instance_uids)
            yield from (f"order {number}" for number in identity.accession_numbers)


def candidates_in(path: Path, *, read_pdf: PdfReader | None = None) -> Iterator[Candidate]:
    """The reports in a file; none when it is no FHIR JSON, or not complete."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return
        resources = resources_of(parse(path.read_bytes()), read_pdf=read_pdf)
    except (OSError, InputError):
        return  # somebody else's file, or one that is being written just now
    for report in resources.of_type("DiagnosticReport"):
        yield Candidate(report, resources)


def _file(resource: Mapping[str, Any]) -> ResultFile:
    content = json.dumps(resource, ensure_ascii=False, indent=1) + "\n"
    return ResultFile(_file_name(f"{resource['resourceType']}/{resource['id']}"), content.encode())


def _file_name(name: str) -> str:
    return f"{name.replace('/', '-')}.json"


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
