"""Reports at a FHIR R4 server, results to the same: the networked report store."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plugin.errors import InputError
from plugin.fhir.capability import Release
from plugin.fhir.client import FhirClient, token
from plugin.fhir.codes import DICOM_UID_SYSTEM
from plugin.fhir.own import Alone, OwnResources
from plugin.fhir.reading import ref_of, report_of
from plugin.fhir.resource import Element, PdfReader, Resources, is_fhir_id, local_name
from plugin.ports import StudyIdentity
from plugin.reports.candidates import Candidate, is_about, newest_first, newest_of, puts
from plugin.values import Report, ReportDescription, ReportRef

_PAGE = "100"
_ETAG = re.compile(r'W/"([A-Za-z0-9\-.]{1,64})"')
_FOLLOWED = ("subject", "imagingStudy", "study", "basedOn", "result")


class FhirReportStore:
    """Implements :class:`plugin.ports.ReportStore` on a FHIR server.

    R4 has no search parameter from DiagnosticReport to its study. So the study, its orders and its patient are looked
    up first, then their reports, and of these the ladder of :mod:`plugin.matching` keeps the ones about the study.

    Parameters
    ----------
    server : where the reports are, and where results go.
    alone : a block in which no other worker writes there; needed where the server gives ids itself.
    read_pdf : makes text of PDFs; None: they are not read.
    """

    def __init__(
        self, server: FhirClient, *, alone: Alone = contextlib.nullcontext, read_pdf: PdfReader | None = None
    ) -> None:
        self._server = server
        self._own = OwnResources(server, alone=alone)
        self._read_pdf = read_pdf

    def find(self, study: StudyIdentity) -> tuple[ReportRef, ...]:
        """See :class:`plugin.ports.ReportStore`.

        Raises
        ------
        TransientError
            If the server does not answer.
        InputError
            If a report names the study, but another patient; if the server does not speak FHIR JSON.
        """
        known = tuple(self._anchors(study))
        pool = _pool(known)
        likely = (Candidate(report, pool) for report in self._reports_of(known))
        # Only a likely hit is worth the requests that complete it; what they bring may still speak against it.
        complete = (
            completed(self._server, each.report, known, read_pdf=self._read_pdf)
            for each in likely
            if is_about(each, study)
        )
        return newest_first(candidate for candidate in complete if is_about(candidate, study))

    def describe(self, report_id: str) -> ReportDescription | None:
        """See :class:`plugin.ports.ReportStore`."""
        report = self._server.read(f"DiagnosticReport/{report_id}") if is_fhir_id(report_id) else None
        return (
            None
            if report is None
            else newest_of((completed(self._server, report, read_pdf=self._read_pdf),), report_id)
        )

    def read(self, report: ReportRef) -> Report:
        """See :class:`plugin.ports.ReportStore`."""
        for name in _names(report):
            resource = self._server.read(name)
            if resource is None:
                continue
            candidate = completed(self._server, resource, read_pdf=self._read_pdf)
            if ref_of(candidate.report, candidate.resources) == report:
                return report_of(candidate.report, candidate.resources)
        raise InputError("this version of the report is not on the FHIR server: it was deleted, or is newer by now")

    @property
    def release(self) -> Release:
        """See :class:`plugin.ports.ReportStore`."""
        return self._server.release

    def written(self, names: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
        """See :class:`plugin.ports.ReportStore`."""
        found = self._own.there(names)
        return tuple(found[name].json for name in names if name in found)

    def write(self, bundle: str) -> None:
        """See :class:`plugin.ports.ReportStore`. What stands there already is not put again, as a new version."""
        entries = puts(bundle)
        versions = {
            entry.child("request").string("url"): version[1]
            for entry in entries
            if (version := _ETAG.fullmatch(entry.child("request").string("ifMatch")))
        }
        self._own.write((entry.child("resource") for entry in entries), versions=versions)

    def _anchors(self, study: StudyIdentity) -> Iterator[Element]:
        """The study, its orders and its patient, as far as the server has them."""
        uid = study.study.study_instance_uid
        both = ",".join(token(value, system=DICOM_UID_SYSTEM) for value in (f"urn:oid:{uid}", uid))
        yield from self._search("ImagingStudy", identifier=both)
        if study.accession_number.strip():
            for order in self._search("ServiceRequest", identifier=token(study.accession_number.strip())):
                yield order
                yield from self._search("ImagingStudy", basedon=f"ServiceRequest/{order.id}")
        if study.patient is not None and study.patient.patient_id.strip():
            yield from self._search("Patient", identifier=token(study.patient.patient_id.strip()))

    def _reports_of(self, anchors: tuple[Element, ...]) -> Iterator[Element]:
        links = [each.child("subject") for each in anchors]
        links += [reference for each in anchors for reference in each.children("basedOn")]
        names = [(each.type, each.id) for each in anchors]
        names += [name for link in links if (name := local_name(self._server.relative(link.string("reference"))))]
        seen: set[str] = set()
        for parameter, resource_type in (("based-on", "ServiceRequest"), ("subject", "Patient")):
            wanted = ",".join(dict.fromkeys("/".join(name) for name in names if name[0] == resource_type))
            for report in self._search("DiagnosticReport", **{parameter: wanted}) if wanted else ():
                if report.id and report.id not in seen:
                    seen.add(report.id)
                    yield report

    def _search(self, resource_type: str, **params: str) -> Iterator[Element]:
        return self._server.search(resource_type, params | {"_count": _PAGE})


def completed(
    server: FhirClient, report: Element, known: tuple[Element, ...] = (), *, read_pdf: PdfReader | None = None
) -> Candidate:
    """*report* with everything that it refers to on *server*, as far as it is not *known* yet.

    Raises
    ------
    TransientError, InputError
        See :meth:`plugin.fhir.client.FhirClient.read`.
    """
    links = [reference.string("reference") for name in _FOLLOWED for reference in report.children(name)]
    links += [form.string("url") for form in report.children("presentedForm") if not form.string("data")]
    found = known + _fetched(server, links, known)
    # The order may be named by the study alone.
    orders = [order.string("reference") for study in found for order in study.children("basedOn")]
    return Candidate(report, _pool(found + _fetched(server, orders, found), read_pdf=read_pdf))


def _fetched(server: FhirClient, links: list[str], known: tuple[Element, ...]) -> tuple[Element, ...]:
    """What *links* name on *server* and is not *known* yet."""
    names = dict.fromkeys(name for link in links if (name := local_name(server.relative(link))))
    have = {(resource.type, resource.id) for resource in known}
    reads = (server.read("/".join(name)) for name in names if name not in have)
    return tuple(resource for resource in reads if resource is not None)


def _pool(resources: Iterable[Element], *, read_pdf: PdfReader | None = None) -> Resources:
    """All of one server, so "Type/id" alone tells them apart."""
    return Resources((("", resource) for resource in resources), read_pdf=read_pdf)


def _names(report: ReportRef) -> Iterator[str]:
    if not is_fhir_id(report.report_id):
        return
    yield f"DiagnosticReport/{report.report_id}"
    if is_fhir_id(report.version):
        yield f"DiagnosticReport/{report.report_id}/_history/{report.version}"
