"""The audit trail: what is recorded, that nothing of it is lost, moved or changed unseen, and its copies elsewhere."""

from __future__ import annotations

import json
import logging
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from fhir_check import checker
from lxml import etree

from plugin.access.caller import Caller, Proof, Role
from plugin.access.events import AccessEvent, Decision
from plugin.access.rules import RULES
from plugin.audit.access import NOTHING_OF_PATIENTS, record_of
from plugin.audit.fhir import FhirSink
from plugin.audit.forwarding import Cursor, Forwarder, forward
from plugin.audit.message import framed, message_of
from plugin.audit.record import AuditRecord, Kind, Link, chained, problems
from plugin.audit.syslog import SyslogSink
from plugin.audit.trail import Trail
from plugin.audit.writing import AuditWriter
from plugin.cli import main
from plugin.errors import TransientError
from plugin.fhir.capability import Release
from plugin.fhir.trail import events_of
from plugin.reports.folder import FolderReportStore

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA = Caller("https://issuer#ada", frozenset({Role.RADIOLOGIST}), Proof.TOKEN)
EVERY_KIND = tuple(
    AuditRecord(
        AT + timedelta(seconds=number),
        kind,
        f"route {number}",
        ok=kind is not Kind.REFUSED,
        why="Your roles do not allow this." if kind is Kind.REFUSED else "",
        who="" if kind is Kind.REFUSED else ADA.id,
        roles=("radiologist",),
        address="192.0.2.7",
        patients=("Patient/p1", "Patient/p2"),
        studies=("1.2.3",),
        report="report-1",
    )
    for number, kind in enumerate(Kind)
)


def _records(number: int) -> list[AuditRecord]:
    return [AuditRecord(AT + timedelta(seconds=at), Kind.READ, f"page {at}", who="ä") for at in range(number)]


def _event(**values: object) -> AccessEvent:
    told = {"at": AT, "caller": ADA, "route": "page", "method": "GET", "decision": Decision.ANSWERED, "status": 200}
    return AccessEvent(**(told | values))  # type: ignore[arg-type]


# What is recorded


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({}, Kind.READ),
        ({"route": "fhir-reports-form", "method": "POST"}, Kind.READ),
        ({"route": "decision", "method": "POST"}, Kind.CHANGE),
        ({"decision": Decision.FORBIDDEN, "status": 403}, Kind.REFUSED),
        ({"route": "viewer-files", "decision": Decision.UNKNOWN, "status": 401, "caller": None}, Kind.REFUSED),
        ({"route": "", "decision": Decision.TOO_MANY, "status": 429}, Kind.REFUSED),
        ({"route": "callback", "decision": Decision.LOGIN}, Kind.LOGIN),
        ({"route": "logout", "decision": Decision.LOGOUT}, Kind.LOGOUT),
        ({"decision": Decision.MISSING, "status": 404}, Kind.READ),
    ],
)
def test_reads_decisions_logins_and_refusals_are_recorded(event: dict[str, object], kind: Kind) -> None:
    record = record_of(_event(**event))

    assert record is not None
    assert record.kind is kind
    assert record.ok is (event.get("decision", Decision.ANSWERED) in ("answered", "login", "logout"))


def test_a_route_is_recorded_unless_it_is_known_to_tell_nothing_of_patients() -> None:
    known = {rule.name for rule in RULES}

    assert known >= NOTHING_OF_PATIENTS
    assert not {rule.name for rule in RULES if rule.reads or rule.writes} & NOTHING_OF_PATIENTS
    assert record_of(_event(route="a route of tomorrow")) is not None
    assert record_of(_event(route="viewer-files")) is None


@pytest.mark.parametrize("name", ["page-parts", "worklist-parts", "hub-configuration", "hub-own-configuration"])
def test_files_that_are_the_same_for_everybody_are_no_reads_of_patients(name: str) -> None:
    assert record_of(_event(route=name)) is None
    assert record_of(_event(route=name, decision=Decision.FORBIDDEN, status=403)) is not None


# The chain


def _lines(folder: Path) -> list[str]:
    return [line for _, line in Trail(folder).lines()]


def _rehashed(lines: list[str], at: int, change: Callable[[AuditRecord], AuditRecord]) -> None:
    """A change by somebody who computes the hash of that record anew."""
    from plugin.audit.record import link_of

    link = link_of(lines[at])
    lines[at] = next(chained([change(link.record)], after=(link.number - 1, link.previous))).line


TAMPERING: dict[str, Callable[[list[str]], object]] = {
    "a record changed": lambda lines: lines.__setitem__(3, lines[3].replace("page 3", "page 4")),
    "a record changed with its hash": lambda lines: _rehashed(lines, 3, lambda record: replace(record, who="else")),
    "a record removed": lambda lines: lines.pop(3),
    "the first removed": lambda lines: lines.pop(0),
    "a record repeated": lambda lines: lines.insert(3, lines[3]),
    "two records swapped": lambda lines: lines.insert(3, lines.pop(4)),
    "a foreign line": lambda lines: lines.insert(3, '{"number": 4}'),
    "another order of keys": lambda lines: lines.__setitem__(
        3, json.dumps(dict(reversed(json.loads(lines[3]).items())))
    ),
    "the end cut off": lambda lines: lines.__delitem__(slice(7, None)),
    "everything begun anew": lambda lines: lines.__setitem__(slice(None), [each.line for each in chained(_records(8))]),
}


@pytest.mark.parametrize("tampering", TAMPERING)
def test_whatever_is_done_to_the_trail_is_seen(tampering: str, tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    trail.append(_records(9))
    head = trail.append([AuditRecord(AT, Kind.LOGIN, "the known one")])[-1].hash
    lines = _lines(tmp_path)
    assert main(["verify-audit", str(tmp_path), "--head", head]) == 0

    TAMPERING[tampering](lines)
    trail.files[-1].write_text("".join(f"{line}\n" for line in lines))

    assert main(["verify-audit", str(tmp_path), "--head", head]) == 1


def test_records_go_on_in_the_file_of_their_month_and_never_back(tmp_path: Path) -> None:
    trail = Trail(tmp_path)
    for moment in (AT, AT + timedelta(days=40), AT):
        trail.append([AuditRecord(moment, Kind.READ, "page")])

    assert [file.stem for file in trail.files] == ["2026-03", "2026-04"]
    assert [link.number for link in trail.after(1)] == [2, 3]
    assert not list(problems(trail.lines()))


_WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from plugin.audit.record import AuditRecord, Kind
from plugin.audit.trail import Trail
trail, name = Trail(Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3])):
    (link,) = trail.append([AuditRecord(datetime.now(UTC), Kind.READ, f"{name} {number}")])
    print(link.number, flush=True)
"""


def _writer(folder: Path, name: str, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, str(folder), name, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_that_write_at_once_make_one_chain(tmp_path: Path) -> None:
    writers = [_writer(tmp_path, name, 25) for name in "abc"]
    told = [int(line) for writer in writers for line in writer.communicate()[0].split()]

    assert sorted(told) == list(range(1, 76))
    assert not list(problems(Trail(tmp_path).lines()))


def test_a_record_that_was_acknowledged_survives_kill_9_and_a_half_line_is_cut_off(tmp_path: Path) -> None:
    writer = _writer(tmp_path, "killed", 100_000)
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    told += [int(line) for line in writer.communicate()[0].split()]
    trail = Trail(tmp_path)
    with trail.files[-1].open("ab") as file:
        file.write(b'{"hash":"half a lin')

    trail.append([AuditRecord(AT, Kind.READ, "after the crash")])

    links = list(trail.after(0))
    assert [link.number for link in links] == list(range(1, len(links) + 1))
    assert len(links) >= len(told) + 1
    assert not list(problems(trail.lines()))


# From the entrance to the disk


def _until(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    ends = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.01)


def test_taking_a_record_waits_for_no_disk(tmp_path: Path) -> None:
    class Slow(Trail):
        def append(self, records: Sequence[AuditRecord]) -> tuple[Link, ...]:
            opened.wait(60)
            return super().append(records)

    opened, writer = threading.Event(), AuditWriter(Slow(tmp_path))
    writer.start()
    begun = time.thread_time()

    for record in _records(1000):
        writer.note(record)

    assert time.thread_time() - begun < 1  # of computing; the disk has not moved yet
    assert not Trail(tmp_path).files
    opened.set()
    writer.stop(60)
    assert [link.record.what for link in Trail(tmp_path).after(0)] == [f"page {at}" for at in range(1000)]


def test_while_the_disk_refuses_readiness_fails_and_what_is_lost_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "audit"
    folder.write_text("a file is in the way")
    writer = AuditWriter(Trail(folder), most_waiting=5, again_s=0.01)
    writer.start()
    with caplog.at_level(logging.ERROR):
        writer.note(_records(1)[0])
        _until(lambda: _refused(writer.check))
        for record in _records(8):
            writer.note(record)

    folder.unlink()
    _until(lambda: not _refused(writer.check))
    writer.stop()

    kept = [link.record for link in Trail(folder).after(0)]
    assert len([record for record in kept if record.kind is Kind.READ]) == 6
    assert [record.why for record in kept if record.kind is Kind.TRAIL] == ["3 records were lost"]
    assert len(caplog.records) == 1


def _refused(check: Callable[[], object]) -> bool:
    try:
        check()
    except TransientError:
        return True
    return False


# Copies


@dataclass
class Sink:
    """Takes records unless it is down; may fail after it took them."""

    name: str = "memory"
    down: bool = False
    forgetful: bool = False
    taken: list[int] = field(default_factory=list)

    def send(self, links: Sequence[Link]) -> None:
        if self.down:
            raise TransientError("down")
        self.taken += [link.number for link in links]
        if self.forgetful:
            raise TransientError("it took them, and did not say so")


def test_a_sink_that_was_down_gets_everything_in_order(tmp_path: Path) -> None:
    trail, sink = Trail(tmp_path), Sink(down=True)
    trail.append(_records(5))
    forwarder = Forwarder(trail, sink, wait=lambda _: 0.01)
    forwarder.start()
    trail.append(_records(5))
    assert sink.taken == []

    sink.down = False
    _until(lambda: len(sink.taken) == 10)
    forwarder.stop()

    assert sink.taken == list(range(1, 11))
    assert Cursor(tmp_path, "memory").number == 10


def test_what_may_have_been_taken_is_sent_again_and_nothing_is_skipped(tmp_path: Path) -> None:
    trail, sink = Trail(tmp_path), Sink(forgetful=True)
    trail.append(_records(3))

    with pytest.raises(TransientError):
        forward(trail, sink)
    sink.forgetful = False
    assert forward(trail, sink, most=2) == 2
    assert forward(trail, sink) == 1
    assert forward(trail, sink) == 0

    assert sink.taken == [1, 2, 3, 1, 2, 3]


_FORWARDED = """
import sys, time
from pathlib import Path
from plugin.audit.forwarding import Forwarder
from plugin.audit.trail import Trail
class Sink:
    name = "file"
    def send(self, links):
        with open(sys.argv[2], "a") as file:
            for link in links:
                print(link.number, file=file, flush=True)
                time.sleep(0.002)
Forwarder(Trail(Path(sys.argv[1])), Sink()).start()
time.sleep(60)
"""


def test_kill_9_in_the_middle_of_sending_loses_nothing(tmp_path: Path) -> None:
    trail, out = Trail(tmp_path / "audit"), tmp_path / "out"
    trail.append(_records(600))
    out.touch()
    for most in (50, 350):
        process = subprocess.Popen([sys.executable, "-c", _FORWARDED, str(trail.folder), str(out)])
        _until(lambda most=most: len(out.read_text().split()) > most)
        process.kill()
        process.wait()
    sink = Sink(name="file")
    while forward(trail, sink):
        pass

    taken = [int(number) for number in out.read_text().split()] + sink.taken
    assert list(dict.fromkeys(taken)) == list(range(1, 601))  # the first of each, in order


@pytest.mark.parametrize("release", Release)
def test_every_kind_of_record_is_a_valid_audit_event(release: Release) -> None:
    links = list(chained(EVERY_KIND))

    bundle = json.loads(events_of(links, release))

    for entry, link in zip(bundle["entry"], links, strict=True):
        event = entry["resource"]
        assert checker(release.value).check(event) == []
        assert {"reference": "Patient/p1"} in [each["what"] for each in event["entity"]] or event["patient"]
        assert event["recorded"].startswith(link.record.at.isoformat()[:19])
    assert len({entry["resource"]["id"] for entry in bundle["entry"]}) == len(Kind)


def test_a_record_that_is_sent_twice_is_at_the_fhir_server_once(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    sink = FhirSink(FolderReportStore(tmp_path / "reports", tmp_path / "fhir"))
    links = list(chained(EVERY_KIND))

    sink.send(links)
    sink.send(links)

    assert len(list((tmp_path / "fhir").glob("AuditEvent-*.json"))) == len(links)


def test_a_dicom_audit_message_says_what_the_record_says_whatever_is_in_it() -> None:
    hostile = replace(EVERY_KIND[0], who="<a&b>\x00\ud800 ]]>", report="../\x07")
    for link in chained([*EVERY_KIND, hostile]):
        message = etree.fromstring(message_of(link))

        told = message.find("EventIdentification")
        assert told.find("EventID").get("codeSystemName") == "DCM"
        assert told.get("EventOutcomeIndicator") in ("0", "8")
        assert [each.get("ParticipantObjectID") for each in message.findall("ParticipantObjectIdentification")][:3] == [
            "Patient/p1",
            "Patient/p2",
            "1.2.3",
        ]
        assert message.find("ActiveParticipant").get("NetworkAccessPointID") == "192.0.2.7"


@contextmanager
def _syslog(authority: trustme.CA, port: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """A syslog server over TLS: its port, and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    received: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        while True:
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            try:
                with plain, context.wrap_socket(plain, server_side=True) as stream:
                    content = b""
                    while part := stream.recv(65536):
                        content += part
                    received.append(content)
                    stream.unwrap()
            except (OSError, ssl.SSLError):
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1], received
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(10)


def _messages(stream: bytes) -> list[bytes]:
    """The frames of RFC 5425 4.3."""
    found = []
    while stream:
        length, _, stream = stream.partition(b" ")
        found.append(stream[: int(length)])
        stream = stream[int(length) :]
    return found


def test_a_syslog_server_gets_every_record_over_tls_also_after_it_was_down(tmp_path: Path) -> None:
    authority, trail = trustme.CA(), Trail(tmp_path / "audit")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    links = trail.append(_records(3))
    with _syslog(authority) as (port, received):
        sink = SyslogSink("localhost", port, tmp_path / "ca.pem")
        assert forward(trail, sink) == 3
        _until(lambda: received)
    links += trail.append(_records(2))
    with pytest.raises(TransientError):
        forward(trail, sink)
    with _syslog(authority, port) as (_, later):
        assert forward(trail, sink) == 2
        _until(lambda: later)

    messages = [message for content in (*received, *later) for message in _messages(content)]
    assert len(messages) == len(links)
    for message, link in zip(messages, links, strict=True):
        header, _, body = message.partition("\ufeff".encode())
        assert header.startswith(b"<85>1 2026-03-01T12:00:0")
        assert header.split()[3] == b"sightline"
        assert etree.fromstring(body).tag == "AuditMessage"
        assert framed(link, host="h", process=1).partition(b"\xef\xbb\xbf")[2] == body


def test_a_syslog_server_of_another_authority_gets_nothing(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "audit")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trail.append(_records(1))
    with _syslog(trustme.CA()) as (port, received), pytest.raises(TransientError):
        forward(trail, SyslogSink("localhost", port, tmp_path / "ca.pem"))

    assert received == []
    assert Cursor(trail.folder, "syslog").number == 0


def test_the_trail_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    trail = Trail(tmp_path / "audit")
    trail.append(_records(1))

    assert trail.folder.stat().st_mode & 0o077 == 0
    assert trail.files[0].stat().st_mode & 0o077 == 0
