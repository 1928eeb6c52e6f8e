"""A record as a DICOM audit message (PS3.15 A.5.1), and that in syslog's frame (RFC 5424, RFC 5425). Pure."""

from __future__ import annotations

from datetime import UTC
from typing import Final

from lxml import etree

from plugin.audit.codes import EVENTS, NOBODY, SOURCE, Code, outcome_of
from plugin.audit.record import Link
from plugin.fhir.parts import clean, hash_uri

PRIORITY: Final = 10 * 8 + 5  # facility security, severity notice
_BOM: Final = "\ufeff"
_PATIENT, _STUDY, _URI = ("2", "Patient Number"), ("110180", "Study Instance UID"), ("12", "URI")


def message_of(link: Link) -> bytes:
    """The AuditMessage of *link*, UTF-8 XML. Its last object is the record itself, by hash: a copy that anchors it."""
    record = link.record
    event = EVENTS[record.kind]
    root = etree.Element("AuditMessage")
    told = etree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=event.action,
        EventDateTime=record.at.astimezone(UTC).isoformat(timespec="milliseconds"),
        EventOutcomeIndicator=outcome_of(record),
    )
    _code(told, "EventID", event.id)
    if event.type:
        _code(told, "EventTypeCode", event.type)
    etree.SubElement(told, "EventOutcomeDescription").text = _text(f"{record.what}: {record.why or 'done'}")
    person = etree.SubElement(root, "ActiveParticipant", UserID=_text(record.who or NOBODY), UserIsRequestor="true")
    if record.address:
        person.set("NetworkAccessPointID", _text(record.address))
        person.set("NetworkAccessPointTypeCode", "2")  # an IP address
    for role in record.roles:
        _code(person, "RoleIDCode", (role, role), system="SIGHTLINE")
    source = etree.SubElement(root, "AuditSourceIdentification", AuditSourceID=SOURCE)
    _code(source, "AuditSourceTypeCode", ("4", "Application Server"), system="RFC-3881")
    for patient in record.patients:
        _object(root, patient, kind="1", role="1", id_type=_PATIENT, system="RFC-3881")
    for study in record.studies:
        _object(root, study, kind="2", role="3", id_type=_STUDY)
    if record.report:
        _object(root, f"DiagnosticReport/{record.report}", kind="2", role="3", id_type=_URI, system="RFC-3881")
    _object(root, hash_uri(link.hash), kind="2", role="13", id_type=_URI, system="RFC-3881")
    content: bytes = etree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def framed(link: Link, *, host: str, process: int) -> bytes:
    """*link* as one syslog message for a stream (RFC 5425 4.3): its length, a space, the message."""
    moment = link.record.at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    header = f"<{PRIORITY}>1 {moment} {_name(host)} {SOURCE} {process} DICOM+RFC3881 - "
    message = header.encode("ascii") + _BOM.encode() + message_of(link)
    return f"{len(message)} ".encode("ascii") + message


def _code(parent: etree._Element, name: str, code: Code, *, system: str = "DCM") -> None:
    told = {"csd-code": code[0], "codeSystemName": system, "originalText": code[1]}
    etree.SubElement(parent, name, told)


def _object(root: etree._Element, value: str, *, kind: str, role: str, id_type: Code, system: str = "DCM") -> None:
    told = etree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(value),
        ParticipantObjectTypeCode=kind,
        ParticipantObjectTypeCodeRole=role,
    )
    _code(told, "ParticipantObjectIDTypeCode", id_type, system=system)


def _text(value: str) -> str:
    """Without what XML cannot hold: it came from a request."""
    return clean(value.encode("utf-8", "replace").decode())


def _name(host: str) -> str:
    return "".join(letter if "!" <= letter <= "~" else "-" for letter in host)[:255] or "-"
