"""FHIR DiagnosticReports, and report files, as :class:`plugin.values.Report`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from plugin.errors import InputError, WithdrawnError
from plugin.fhir.carried import carried_of
from plugin.fhir.codes import DICOM_UID_SYSTEM
from plugin.fhir.ours import is_ours
from plugin.fhir.resource import (
    MAX_BYTES,
    Element,
    Identifier,
    PdfReader,
    Resources,
    identifiers,
    is_fhir_id,
    local_name,
    logical_id,
    parse,
    resources_of,
)
from plugin.fhir.text import text_of_file, text_of_report
from plugin.identity import derived_id, sha256_hex
from plugin.values import Accession, PatientRef, Report, ReportDescription, ReportRef, ReportStatus, StudyRef

_SECTIONS = ("http://terminology.hl7.org/CodeSystem/v2-0074", "http://hl7.org/fhir/v2/0074")
_OTHER_SECTIONS = re.compile(
    "AU|BG|BLB|C[GHPT]|CTH|CUS|E[CN]|GE|HM|ICU|IMM|LAB|MB|MCB|MYC|NM[RS]|NRS|OSL|OT|OUS|PF|PH[RY]|PT|R[CT]|RUS|S[PR]"
    "|TX|VR|VUS"
)
"""Diagnostic services of HL7 v2 table 0074 besides IMG, OTH, RAD, RX and XRC (and PAR, XRY of older versions)."""


@dataclass(frozen=True, slots=True)
class ReportIdentity:
    """Whom and what a DiagnosticReport is about, without its text; as in :class:`plugin.values.ReportDescription`."""

    patient: PatientRef | None = None
    other_patient_ids: tuple[PatientRef, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    accessions: tuple[Accession, ...] = ()

    @property
    def accession_numbers(self) -> tuple[str, ...]:
        """Without their issuers."""
        return tuple(dict.fromkeys(each.number for each in self.accessions))


def report_from_file(path: Path, *, read_pdf: PdfReader | None = None) -> tuple[Report, ...]:
    """The reports in a file: FHIR JSON (a DiagnosticReport or a Bundle), or the text of one report.

    Told by content: what starts with ``{`` is JSON, and so is every ``.json`` file; see
    :func:`plugin.fhir.text.text_of_file` for the rest.

    Raises
    ------
    InputError
        If the file cannot be read or holds no usable report; the message says why.
    """
    content = _read(path)
    if path.suffix.lower() == ".json" or _looks_like_json(content):
        return reports_from(content, read_pdf=read_pdf)
    if b"http://hl7.org/fhir" in content[:1024]:
        raise InputError("the report is FHIR in XML, which is not read: export it as FHIR JSON")
    return (report_from_text(content, read_pdf=read_pdf),)


def report_from_text(content: bytes, *, read_pdf: PdfReader | None = None) -> Report:
    """A report from the bytes of a text, HTML or PDF file. It names no patient and no study.

    Raises
    ------
    InputError
        See :func:`plugin.fhir.text.text_of_file`.
    """
    found = text_of_file(content, read_pdf=read_pdf)
    digest = sha256_hex(found.text.encode())
    return Report(
        ref=ReportRef(f"urn:uuid:{derived_id('report text', digest)}", f"sha256:{digest}"),
        status=ReportStatus.UNKNOWN,
        text=found.text,
        text_source=found.source,
    )


def reports_from(document: bytes, *, read_pdf: PdfReader | None = None) -> tuple[Report, ...]:
    """Every usable DiagnosticReport in FHIR JSON, in order; what Sightline wrote itself is passed over.

    Raises
    ------
    InputError
        If it is not FHIR JSON, holds no DiagnosticReport, or none of them can be used: the reason of the first.
    """
    resources = resources_of(parse(document), read_pdf=read_pdf)
    found = tuple(each for each in resources.of_type("DiagnosticReport") if not is_ours(each))
    if not found:
        raise InputError("there is no DiagnosticReport in the FHIR input: give the report, or a Bundle that holds it")
    reports, refusals = [], []
    for each in found:
        try:
            reports.append(report_of(each, resources))
        except InputError as error:
            refusals.append(error)
    if not reports:
        raise refusals[0]
    return tuple(reports)


def report_of(report: Element, resources: Resources) -> Report:
    """One DiagnosticReport; what it refers to is looked up in *resources*.

    Raises
    ------
    WithdrawnError
        If it was withdrawn (cancelled, entered-in-error).
    InputError
        If it has no usable text.
    """
    status = status_of(report)
    if status in (ReportStatus.CANCELLED, ReportStatus.ENTERED_IN_ERROR):
        raise WithdrawnError(
            f"the report was withdrawn (its status is {status}), so it is not used: give the current one"
        )
    found = text_of_report(report, resources)
    who = identity_of(report, resources)
    subject = report.child("subject")
    return Report(
        ref=_ref(report, text=found.text),
        status=status,
        text=found.text,
        text_source=found.source,
        patient=who.patient,
        other_patient_ids=who.other_patient_ids,
        study_instance_uids=who.study_instance_uids,
        accession_numbers=who.accession_numbers,
        issued=instant(report.string("issued")),
        service_request_ids=_logical_ids(_orders(report), "ServiceRequest", resources=resources, container=report),
        imaging_study_ids=_logical_ids(_studies(report), "ImagingStudy", resources=resources, container=report),
        subject_id=logical_id(subject, resources.resolve(subject, container=report)) or None,
        carried=carried_of(report, resources),
    )


def ref_of(report: Element, resources: Resources) -> ReportRef:
    """Which version of which report it is, also when it has no usable text."""
    if has_version(report):
        return _ref(report, text="")
    try:
        text = text_of_report(report, resources).text
    except InputError:
        text = ""
    return _ref(report, text=text)


def has_version(report: Element) -> bool:
    """Whether the report tells its id and version itself, so that they need not be derived from its content."""
    return bool(report.id) and is_fhir_id(report.child("meta").string("versionId"))


def status_of(report: Element) -> ReportStatus:
    """The report's status; UNKNOWN when it is missing or none of FHIR's."""
    try:
        return ReportStatus(report.string("status"))
    except ValueError:
        return ReportStatus.UNKNOWN


def identity_of(report: Element, resources: Resources) -> ReportIdentity:
    """Whom and what the report is about, as far as *resources* and logical references tell."""
    patients = _patients(report, resources)
    studies = tuple(_target(each, resources, container=report) for each in _studies(report))
    orders = tuple(_target(each, resources, container=report) for each in _orders(report)) + tuple(
        _target(each, resources, container=study) for study in studies for each in study.children("basedOn")
    )
    uids = (uid for study in studies for each in identifiers(study) if (uid := _study_uid(each)))
    accessions = (
        Accession(each.value, each.system or each.assigner)
        for about in (report, *orders, *studies)
        for each in identifiers(about)
        if each.kind == "ACSN"
    )
    return ReportIdentity(
        patient=patients[0] if patients else None,
        other_patient_ids=patients[1:],
        study_instance_uids=tuple(dict.fromkeys(uids)),
        accessions=tuple(dict.fromkeys(accessions)),
    )


def described(report: Element, resources: Resources) -> ReportDescription:
    """What the report says of itself; it need not be usable."""
    who = identity_of(report, resources)
    try:
        text_of_report(report, resources)
        unusable = ""
    except InputError as error:
        unusable = str(error)
    return ReportDescription(
        ref=ref_of(report, resources),
        status=status_of(report),
        patient=who.patient,
        other_patient_ids=who.other_patient_ids,
        study_instance_uids=who.study_instance_uids,
        accessions=who.accessions,
        radiograph=_may_be_of_radiographs(report),
        ours=is_ours(report),
        unusable=unusable,
        issued=instant(report.string("issued")),
    )


def _may_be_of_radiographs(report: Element) -> bool:
    """False only when every category is a section of HL7 v2 table 0074 that reads no radiographs."""
    sections = [
        coding.string("code") if coding.string("system") in _SECTIONS else ""
        for category in report.children("category")
        for coding in category.children("coding")
    ]
    return not sections or not all(map(_OTHER_SECTIONS.fullmatch, sections))


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"the report file is larger than {MAX_BYTES:,} bytes: give the report's text alone")
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise InputError(f"the report file cannot be read ({reason}): check --report") from None


def _looks_like_json(content: bytes) -> bool:
    head = content[:1024].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head.startswith(b"{") and not head.startswith(b"{\\rtf")


def _ref(report: Element, *, text: str) -> ReportRef:
    """Its own id and version; else derived from its identifier or *text*, and from status and *text*."""
    digest = sha256_hex(text.encode())
    report_id = report.id
    if not report_id:
        own = next(iter(identifiers(report)), None)
        derived = derived_id("report", own.system, own.value) if own else derived_id("report text", digest)
        report_id = f"urn:uuid:{derived}"
    version = report.child("meta").string("versionId")
    if not is_fhir_id(version):
        # A withdrawal leaves the text as it was, and is another version nevertheless.
        version = f"sha256:{sha256_hex(f'{status_of(report)} {digest}'.encode())}"
    return ReportRef(report_id, version)


def instant(text: str) -> datetime | None:
    """A FHIR instant; None when it is missing, malformed or names no time zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _studies(report: Element) -> tuple[Element, ...]:
    return report.children("imagingStudy") + report.children("study")  # R4, and what R5 calls it


def _orders(report: Element) -> tuple[Element, ...]:
    return report.children("basedOn")


def _target(reference: Element, resources: Resources, *, container: Element) -> Element:
    """The resource, or for a logical reference a stand-in that has only its identifier."""
    found = resources.resolve(reference, container=container)
    return found or Element({"identifier": reference.json.get("identifier")})


def _logical_ids(
    references: tuple[Element, ...], resource_type: str, *, resources: Resources, container: Element
) -> tuple[str, ...]:
    ids = []
    for reference in references:
        resolved = resources.resolve(reference, container=container)
        name = local_name(reference.string("reference"))
        kind = resolved.type or (name[0] if name else reference.string("type"))
        if kind == resource_type and (found := logical_id(reference, resolved)):
            ids.append(found)
    return tuple(dict.fromkeys(ids))


def _study_uid(identifier: Identifier) -> str:
    """The Study Instance UID that an ImagingStudy identifier states, or ""."""
    if identifier.system != DICOM_UID_SYSTEM:
        return ""
    uid = identifier.value.removeprefix("urn:oid:")
    try:
        return StudyRef(uid).study_instance_uid
    except ValueError:
        return ""


def _patients(report: Element, resources: Resources) -> tuple[PatientRef, ...]:
    """The patient's identifiers, medical record numbers (v2-0203 ``MR``) first."""
    known = identifiers(_target(report.child("subject"), resources, container=report))
    ranked = sorted(known, key=lambda each: each.kind != "MR")
    return tuple(dict.fromkeys(PatientRef(each.value, each.system or each.assigner) for each in ranked))
