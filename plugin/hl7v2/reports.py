"""An ORU^R01 message as FHIR: each order's result is a DiagnosticReport with its patient, order and study.

Names, birth dates and addresses are not taken over: reports are matched by identifiers alone.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import hl7

from plugin.fhir.codes import DICOM_UID_SYSTEM, SYSTEMS
from plugin.hl7v2.message import Code, Message, MessageError, moment
from plugin.identity import derived_id
from plugin.values import ReportStatus, StudyRef

Fhir = dict[str, Any]

_V2 = "http://terminology.hl7.org/CodeSystem/v2-"

RESULT_STATUS: Final = {
    "O": ReportStatus.REGISTERED,
    "I": ReportStatus.REGISTERED,
    "S": ReportStatus.REGISTERED,
    "A": ReportStatus.PARTIAL,
    "R": ReportStatus.PARTIAL,
    "P": ReportStatus.PRELIMINARY,
    "F": ReportStatus.FINAL,
    "C": ReportStatus.CORRECTED,
    "X": ReportStatus.CANCELLED,
    "Y": ReportStatus.UNKNOWN,
    "Z": ReportStatus.UNKNOWN,
}
"""OBR-25 (HL7 table 0123) as DiagnosticReport.status. R is stored and not yet verified, which FHIR calls partial."""

OBSERVATION_STATUS: Final = {
    "D": ReportStatus.ENTERED_IN_ERROR,
    "W": ReportStatus.ENTERED_IN_ERROR,
    "X": ReportStatus.CANCELLED,
    "C": ReportStatus.CORRECTED,
    "F": ReportStatus.FINAL,
    "U": ReportStatus.FINAL,
    "P": ReportStatus.PRELIMINARY,
    "R": ReportStatus.PARTIAL,
    "S": ReportStatus.PARTIAL,
    "B": ReportStatus.PARTIAL,
    "I": ReportStatus.REGISTERED,
    "O": ReportStatus.REGISTERED,
    "N": ReportStatus.REGISTERED,
}
"""OBX-11 (HL7 table 0085) as the status of a report all of whose lines have it."""

_TAKEN_BACK: Final = frozenset("DWX")
_LEAST_FIRST: Final = (
    ReportStatus.REGISTERED,
    ReportStatus.PARTIAL,
    ReportStatus.PRELIMINARY,
    ReportStatus.CORRECTED,
    ReportStatus.FINAL,
    ReportStatus.CANCELLED,
    ReportStatus.ENTERED_IN_ERROR,
)

SECTIONS: Final = {
    "GDT": "FINDINGS",
    "IMP": "IMPRESSION",
    "REC": "RECOMMENDATION",
    "ADT": "ADDENDUM",
    "CNP": "COMPARISON",
    "59776-5": "FINDINGS",
    "18782-3": "FINDINGS",
    "19005-8": "IMPRESSION",
    "55110-1": "IMPRESSION",
    "18783-1": "RECOMMENDATION",
    "55107-7": "ADDENDUM",
    "18834-2": "COMPARISON",
    "55114-3": "COMPARISON",
    "55111-9": "TECHNIQUE",
    "55108-5": "INDICATION",
    "18785-6": "INDICATION",
    "11329-0": "INDICATION",
}
"""OBX-3 as the heading it means: the suffix of a radiology result (7.2.5), or a LOINC code (DICOM CID 7001)."""

_TEXT_TYPES: Final = ("TX", "FT", "ST", "")
_MEDIA: Final = {
    "PDF": "application/pdf",
    "HTML": "text/html",
    "RTF": "application/rtf",
    "TEXT": "text/plain",
    "PLAIN": "text/plain",
    "TXT": "text/plain",
}
_STUDY_UIDS: Final = frozenset({"113014", "110180"})  # DICOM Study, Study Instance UID (DCM)
ACCESSION_FIELDS: Final = ("OBR-2", "OBR-3", "OBR-18", "OBR-19", "OBR-20", "ORC-2", "ORC-3")


@dataclass(frozen=True, slots=True)
class ReceivedReport:
    """One report of a message, ready to be kept.

    Parameters
    ----------
    report_id : derived from the sending facility and its number of the order.
    sent : when the message was sent (MSH-7), or None.
    resources : what the report refers to, and the DiagnosticReport as the last, without ``meta``.
    content_sha256 : of what the message says, its header aside.
    control_id : MSH-10.
    """

    report_id: str
    sent: datetime | None
    resources: tuple[Fhir, ...]
    content_sha256: str
    control_id: str


@dataclass(slots=True)
class _Order:
    """The segments of one order: ORC if any, OBR, then OBX and what belongs to it."""

    patient: hl7.Segment
    obr: hl7.Segment
    orc: hl7.Segment | None
    obx: list[hl7.Segment] = field(default_factory=list)
    zds: list[hl7.Segment] = field(default_factory=list)


def reports_in(message: Message, *, accession_fields: tuple[str, ...]) -> tuple[ReceivedReport, ...]:
    """The reports of an ORU^R01 message, one for each filler order number, in order.

    Parameters
    ----------
    accession_fields : which of :data:`ACCESSION_FIELDS` hold the accession number at this site.

    Raises
    ------
    MessageError
        If it is another message, of another version, or lacks patient, order or order number.
    """
    _check_kind(message)
    orders: dict[str, list[_Order]] = {}
    for order in _orders(message):
        orders.setdefault(_number_of(message, order), []).append(order)
    if not orders:
        raise MessageError("The message holds no OBR segment.", Code.SEQUENCE, "OBR^1")
    return tuple(_report(message, number, group, accession_fields) for number, group in orders.items())


def _check_kind(message: Message) -> None:
    kind = message.parsed.segment("MSH")
    if message.text(kind, 9) != "ORU":
        raise MessageError("Only ORU^R01 is taken.", Code.MESSAGE_TYPE, "MSH^1^9")
    if message.text(kind, 9, 2) != "R01":
        raise MessageError("Only ORU^R01 is taken.", Code.EVENT, "MSH^1^9")
    if not message.text(kind, 12).startswith("2."):
        raise MessageError("Only HL7 version 2 is taken.", Code.VERSION, "MSH^1^12")
    if not message.text(kind, 10):
        raise MessageError("The message has no control ID.", Code.MISSING, "MSH^1^10")


def _orders(message: Message) -> Iterator[_Order]:
    """The orders in turn; a PID begins another patient's."""
    patient: hl7.Segment | None = None
    orc: hl7.Segment | None = None
    order: _Order | None = None
    for segment in message.parsed:
        name = str(segment[0])
        if name == "PID":
            patient = segment
        elif name == "ORC":
            orc = segment
        elif name == "OBR":
            if patient is None:
                raise MessageError("An order comes before any patient (PID).", Code.SEQUENCE, "PID^1")
            if order is not None:
                yield order
            order, orc = _Order(patient, segment, orc), None
        elif name == "OBX" and order is not None:
            order.obx.append(segment)
        elif name == "ZDS" and order is not None:
            order.zds.append(segment)
    if order is not None:
        yield order


def _number_of(message: Message, order: _Order) -> str:
    """The filler's number of the order, else the placer's, with the authority that it is of."""
    for segment, number in ((order.obr, 3), (order.orc, 3), (order.obr, 2), (order.orc, 2)):
        if segment is not None and message.text(segment, number):
            return "^".join(message.text(segment, number, component) for component in (1, 2, 3, 4)).rstrip("^")
    raise MessageError("The order has no number: neither the filler's nor the placer's.", Code.MISSING, "OBR^1^3")


def _report(message: Message, number: str, group: list[_Order], accession_fields: tuple[str, ...]) -> ReceivedReport:
    facility = message.text(message.parsed.segment("MSH"), 4)
    patient = _patient(message, group[0], facility)
    subject = {"reference": f"Patient/{patient['id']}"}
    order = {
        "resourceType": "ServiceRequest",
        "id": derived_id("HL7 v2 order", facility, number),
        "identifier": list(_accessions(message, group, accession_fields)),
        "status": "active",
        "intent": "order",
        "subject": subject,
    }
    based_on = [{"reference": f"ServiceRequest/{order['id']}"}]
    studies = [
        {
            "resourceType": "ImagingStudy",
            "id": derived_id("HL7 v2 study", uid),
            "identifier": [{"system": DICOM_UID_SYSTEM, "value": f"urn:oid:{uid}"}],
            "status": "available",
            "subject": subject,
            "basedOn": based_on,
        }
        for uid in dict.fromkeys(_study_uids(message, group))
    ]
    report_id = derived_id("HL7 v2 report", facility, number)
    sent = moment(message.text(message.parsed.segment("MSH"), 7))
    obr = group[0].obr
    report = {
        "resourceType": "DiagnosticReport",
        "id": report_id,
        "identifier": [{"type": _coded("0203", "FILL"), "value": number}],
        "basedOn": based_on,
        "status": str(_status(message, group)),
        "category": _category(message, obr),
        "code": _service(message, obr),
        "subject": subject,
        "effectiveDateTime": _instant(moment(message.text(obr, 7))),
        "issued": _instant(moment(message.text(obr, 22)) or sent),
        "imagingStudy": [{"reference": f"ImagingStudy/{study['id']}"} for study in studies],
        "presentedForm": list(_forms(message, group)),
    }
    resources = tuple(_filled(each) for each in (patient, order, *studies, report))
    return ReceivedReport(report_id, sent, resources, message.content_sha256, message.header.control_id)


def _patient(message: Message, order: _Order, facility: str) -> Fhir:
    """PID-3, whose components 4 and 5 are the assigning authority and the type; PID-2 of senders before version 2.3."""
    pid = order.patient
    found = [
        _identified(
            message.text(pid, number, again=again),
            _authority(message, pid, number, 4, again=again),
            kind=message.text(pid, number, 5, again=again),
        )
        for number in (3, 2)
        for again in message.repetitions(pid, number)
        if message.text(pid, number, again=again)
    ]
    if not found:
        raise MessageError("The patient has no identifier.", Code.MISSING, "PID^1^3")
    first = found[0]
    issuer = first.get("system") or first.get("assigner", {}).get("display", "")
    return {
        "resourceType": "Patient",
        "id": derived_id("HL7 v2 patient", facility, first["value"], issuer),
        "identifier": found,
    }


def _authority(message: Message, segment: hl7.Segment, number: int, component: int, *, again: int = 0) -> Fhir:
    """An assigning authority (HD: name, universal id, its type) as the parts of a FHIR Identifier."""
    name, universal, kind = (message.text(segment, number, component, part, again=again) for part in (1, 2, 3))
    return _issuer(name, universal, kind)


def _issuer(name: str, universal: str, kind: str) -> Fhir:
    prefix = {"ISO": "urn:oid:", "UUID": "urn:uuid:", "URI": "", "URL": ""}.get(kind.upper())
    system = {"system": f"{prefix}{universal}"} if universal and prefix is not None else {}
    return system | ({"assigner": {"display": name}} if name else {})


def _identified(value: str, issuer: Fhir, *, kind: str) -> Fhir:
    return ({"type": _coded("0203", kind)} if kind else {}) | issuer | {"value": value}


def _coded(table: str, code: str) -> Fhir:
    return {"coding": [{"system": f"{_V2}{table}", "code": code}]}


def _accessions(message: Message, group: list[_Order], names: tuple[str, ...]) -> Iterator[Fhir]:
    seen = set()
    for order in group:
        for name in names:
            segment = order.orc if name.startswith("ORC") else order.obr
            number = int(name[4:])
            value = message.text(segment, number) if segment is not None else ""
            if segment is not None and value and value not in seen:
                seen.add(value)
                # The name in component 2 is the application's; whoever issues accession numbers may be named otherwise.
                universal, of = message.text(segment, number, 3), message.text(segment, number, 4)
                yield _identified(value, _issuer("", universal, of), kind="ACSN")


def _study_uids(message: Message, group: list[_Order]) -> Iterator[str]:
    """ZDS-1, which many systems send, and observations that name the study (DCM 113014, 110180)."""
    named = [message.text(zds, 1) for order in group for zds in order.zds]
    named += [message.text(obx, 5) for order in group for obx in order.obx if message.text(obx, 3) in _STUDY_UIDS]
    for uid in named:
        try:
            yield StudyRef(uid).study_instance_uid
        except ValueError:
            continue


def _status(message: Message, group: list[_Order]) -> ReportStatus:
    """The least settled of the group's orders; what their observations take back or correct counts above OBR-25."""
    found = {_status_of(message, order) for order in group} - {ReportStatus.UNKNOWN}
    return min(found, key=_LEAST_FIRST.index) if found else ReportStatus.UNKNOWN


def _status_of(message: Message, order: _Order) -> ReportStatus:
    said = RESULT_STATUS.get(message.text(order.obr, 25).upper())
    lines = [message.text(obx, 11).upper() for obx in order.obx if _is_text(message, obx)]
    stated = {OBSERVATION_STATUS[line] for line in lines if line in OBSERVATION_STATUS}
    if stated and stated <= {ReportStatus.ENTERED_IN_ERROR, ReportStatus.CANCELLED}:
        return ReportStatus.ENTERED_IN_ERROR if ReportStatus.ENTERED_IN_ERROR in stated else ReportStatus.CANCELLED
    if said in (None, ReportStatus.FINAL) and ReportStatus.CORRECTED in stated:
        return ReportStatus.CORRECTED
    if said is not None:
        return said
    stated -= {ReportStatus.ENTERED_IN_ERROR, ReportStatus.CANCELLED}
    return min(stated, key=_LEAST_FIRST.index) if stated else ReportStatus.UNKNOWN


def _category(message: Message, obr: hl7.Segment) -> list[Fhir]:
    section = message.text(obr, 24)
    return [_coded("0074", section if re.fullmatch(r"[A-Z]{2,3}", section) else "RAD")]


def _service(message: Message, obr: hl7.Segment) -> Fhir:
    code, name, system = (message.text(obr, 4, component) for component in (1, 2, 3))
    coding = {"system": SYSTEMS["LN"] if system in ("LN", "LOINC") else "", "code": code, "display": name}
    return _filled({"coding": [_filled(coding)] if code else [], "text": name or code or "Imaging report"})


def _is_text(message: Message, obx: hl7.Segment) -> bool:
    return message.text(obx, 2).upper() in (*_TEXT_TYPES, "ED")


def _forms(message: Message, group: list[_Order]) -> Iterator[Fhir]:
    """The report's text, and then documents that stand in the message (ED)."""
    kept = [obx for order in group for obx in order.obx if message.text(obx, 11).upper() not in _TAKEN_BACK]
    text = _text(message, kept)
    if text.strip():
        yield _attachment("text/plain; charset=utf-8", text.encode())
    for obx in kept:
        if message.text(obx, 2).upper() == "ED":
            yield from _document(message, obx)


def _text(message: Message, observations: Iterable[hl7.Segment]) -> str:
    """Lines in their order; a heading where a section begins that does not begin with one itself."""
    lines: list[str] = []
    section = ""
    for obx in observations:
        if message.text(obx, 2).upper() not in _TEXT_TYPES or message.text(obx, 3) in _STUDY_UIDS:
            continue
        said = message.whole(obx, 5)
        heading = _section(message, obx)
        if heading != section and any(said):
            lines += ["", heading + ":"] if heading and not _is_headed(said, heading) else [""]
            section = heading
        lines += said
    return "\n".join(lines[1:] if lines[:1] == [""] else lines)


def _section(message: Message, obx: hl7.Segment) -> str:
    names = (message.text(obx, 3, 1, 2), message.text(obx, 3, 1), message.text(obx, 3, 4))
    return next((SECTIONS[name] for name in names if name in SECTIONS), "")


def _is_headed(said: tuple[str, ...], heading: str) -> bool:
    return next((line for line in said if line.strip()), "").lstrip().upper().startswith(heading)


def _document(message: Message, obx: hl7.Segment) -> Iterator[Fhir]:
    """Encapsulated data (2.A.24): source, type, subtype, encoding, data."""
    kind, subtype, encoding, data = (message.text(obx, 5, component) for component in (2, 3, 4, 5))
    names = (subtype.upper(), kind.upper())
    media = next((_MEDIA[name] for name in names if name in _MEDIA), "application/octet-stream")
    try:
        content = _bytes(data, encoding.upper())
    except (ValueError, binascii.Error):
        raise MessageError(
            "The document of an observation is not encoded as it says.", Code.DATA_TYPE, "OBX^1^5"
        ) from None
    if media.startswith("text/"):
        content, media = _as_utf8(content, message.codec), f"{media}; charset=utf-8"
    if content:
        yield _attachment(media, content)


def _bytes(data: str, encoding: str) -> bytes:
    if encoding == "BASE64":
        return base64.b64decode("".join(data.split()), validate=True)
    return bytes.fromhex(data) if encoding == "HEX" else data.encode()


def _as_utf8(content: bytes, codec: str) -> bytes:
    try:
        content.decode()
    except UnicodeDecodeError:
        return content.decode(codec, errors="replace").encode()
    return content


def _attachment(media: str, content: bytes) -> Fhir:
    return {"contentType": media, "data": base64.b64encode(content).decode()}


def _instant(when: datetime | None) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if when else ""


def _filled(resource: Fhir) -> Fhir:
    """Without what is empty, which FHIR does not allow."""
    return {name: value for name, value in resource.items() if value}
