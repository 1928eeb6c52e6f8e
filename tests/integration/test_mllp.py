"""HL7 v2 over MLLP on real sockets; the sender is python-hl7's, which is not ours."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import hl7
import hl7.client
import hl7.mllp
import pytest
from fhir_input import IDENTITY
from hl7_input import MSH, OBR, OBX, ORC, TEXT, ZDS, field, obx, oru

from plugin.errors import InputError
from plugin.hl7v2.inbox import Inbox
from plugin.hl7v2.mllp import END, START, Blocks, Limits, MllpListener, TooLongError
from plugin.hl7v2.receiver import Receiver
from plugin.reports.feeds import FolderReportFeed
from plugin.reports.folder import FolderReportStore
from plugin.values import ReportStatus

RETURN = b"\r"


class Site:
    """A listener over a folder of reports, and the embedded report store that reads it."""

    def __init__(self, folder: Path, limits: Limits, senders: str = "") -> None:
        self.folder = folder
        self.woken = threading.Event()
        receiver = Receiver(Inbox(folder / "hl7"), "windows-1252", ("OBR-3", "OBR-18"), wake=self.woken.set)
        networks = tuple(ipaddress.ip_network(each) for each in senders.split(",") if each)
        self.listener = MllpListener(
            "127.0.0.1", 0, answer=receiver, refuse=receiver.refused, senders=networks, limits=limits
        )
        self.store = FolderReportStore(folder, folder / "results")
        self.feed = FolderReportFeed(folder, folder / "results")

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.rglob("*.json"))

    def send(self, *messages: bytes) -> list[str]:
        """MSA-1 of the answers that python-hl7's client gets, on one connection."""
        with hl7.client.MLLPClient(*self.listener.address) as client:
            return [code_of(client.send_message(message)) for message in messages]

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.listener.address, timeout=10) as connection:
            yield connection


def code_of(answer: bytes) -> str:
    assert answer.startswith(START)
    assert answer.endswith(END + RETURN)
    return str(hl7.parse(answer[1:-2].decode("latin-1")).segment("MSA")[1])


def answers(connection: socket.socket, count: int) -> list[str]:
    """The next *count* answers on a connection."""
    held = b""
    while held.count(END + RETURN) < count:
        data = connection.recv(65536)
        assert data, "the connection was closed"
        held += data
    return [code_of(each + END + RETURN) for each in held.split(END + RETURN)[:-1]]


def is_closed(connection: socket.socket) -> bool:
    with suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(senders: str = "", **limits: float) -> Site:
        site = Site(tmp_path, Limits(**limits), senders)  # type: ignore[arg-type]
        site.listener.start()
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.listener.stop()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


def test_a_result_is_on_disk_when_it_is_acknowledged_and_read_as_any_report(site: Site) -> None:
    assert site.send(oru()) == ["AA"]

    (ref,) = site.store.find(IDENTITY)
    report = site.store.read(ref)
    assert (report.text, report.status) == (TEXT, ReportStatus.FINAL)
    assert [each for page in site.feed.look("") for each in page.reports] == [ref]
    assert site.woken.is_set()


def test_the_asyncio_sender_of_the_library_is_answered_too(site: Site) -> None:
    async def conversation() -> str:
        reader, writer = await hl7.mllp.open_hl7_connection(*site.listener.address, encoding="utf-8")
        writer.writemessage(hl7.parse(oru().decode()))
        await writer.drain()
        answer = await reader.readmessage()
        writer.close()
        await writer.wait_closed()
        return str(answer.segment("MSA")[1])

    assert asyncio.run(conversation()) == "AA"


def test_several_messages_on_one_connection_are_answered_in_order(site: Site) -> None:
    messages = [oru(field(OBR, 3, f"A{n}"), *OBX, msh=field(MSH, 10, f"M{n}")) for n in range(5)]
    messages[3] = b"no message"

    assert site.send(*messages) == ["AA", "AA", "AA", "AR", "AA"]
    assert len(site.files) == 4


def test_messages_that_come_at_once_are_each_answered(site: Site) -> None:
    block = START + oru() + END + RETURN

    with site.connected() as connection:
        connection.sendall(block * 3)
        assert answers(connection, 3) == ["AA"] * 3
    assert len(site.files) == 1


def test_a_message_in_fragments_is_put_together(site: Site) -> None:
    block = START + oru() + END + RETURN

    with site.connected() as connection:
        for at in range(0, len(block), 97):
            connection.sendall(block[at : at + 97])
            time.sleep(0.001)
        assert answers(connection, 1) == ["AA"]
    assert site.store.read(site.store.find(IDENTITY)[0]).text == TEXT


def test_garbage_before_between_and_after_messages_is_dropped(site: Site) -> None:
    block = START + oru() + END

    with site.connected() as connection:
        connection.sendall(b"\r\nGET / HTTP/1.1\r\n\r\n" + block + b"\r\r\n\0\x1c\r" + block + b"junk" + block + RETURN)
        assert answers(connection, 3) == ["AA"] * 3


def test_a_message_that_never_ends_is_dropped_when_the_next_begins(site: Site) -> None:
    with site.connected() as connection:
        connection.sendall(START + oru(OBR, obx("Half a rep"))[:-20])
        connection.sendall(START + oru() + END + RETURN)
        assert answers(connection, 1) == ["AA"]
    assert site.store.read(site.store.find(IDENTITY)[0]).text == TEXT
    assert len(site.files) == 1


def test_a_message_whose_sender_hangs_up_before_its_end_is_not_kept(site: Site) -> None:
    with site.connected() as connection:
        connection.sendall(START + oru())
    assert site.send(oru(field(OBR, 3, "NEXT"), *OBX)) == ["AA"]
    assert len(site.files) == 1


def test_a_sender_that_is_too_slow_is_hung_up_on(make_site: Callable[..., Site]) -> None:
    site = make_site(message_s=0.3)

    with site.connected() as connection:
        connection.sendall(START + b"MSH|")
        for _ in range(10):
            time.sleep(0.1)
            with suppress(OSError):
                connection.sendall(b"x")
        assert is_closed(connection)
    assert site.send(oru()) == ["AA"]


def test_a_slow_sender_within_the_limit_is_waited_for(make_site: Callable[..., Site]) -> None:
    site = make_site(idle_s=0.2, message_s=10)

    with site.connected() as connection:
        connection.sendall(START + oru()[:100])
        time.sleep(0.5)
        connection.sendall(oru()[100:] + END + RETURN)
        assert answers(connection, 1) == ["AA"]


def test_a_connection_that_is_silent_for_too_long_is_closed(make_site: Callable[..., Site]) -> None:
    with make_site(idle_s=0.2).connected() as connection:
        assert is_closed(connection)


def test_a_message_that_is_too_long_is_refused_and_the_connection_closed(make_site: Callable[..., Site]) -> None:
    site = make_site(message_bytes=10_000)

    with site.connected() as connection:
        connection.sendall(START + oru(OBR, obx("x" * 20_000)) + END + RETURN)
        assert answers(connection, 1) == ["AR"]
        assert is_closed(connection)
    assert site.files == []


def test_one_connection_too_many_is_refused_and_the_others_go_on(make_site: Callable[..., Site]) -> None:
    site = make_site(connections=2)

    with site.connected() as first, site.connected() as second:
        for connection in (first, second):
            connection.sendall(START + oru() + END + RETURN)
            assert answers(connection, 1) == ["AA"]
        with site.connected() as third:
            assert is_closed(third)
        first.sendall(START + oru() + END + RETURN)
        assert answers(first, 1) == ["AA"]


def test_only_the_sites_senders_may_connect(make_site: Callable[..., Site]) -> None:
    assert make_site("10.0.0.0/8,127.0.0.0/8").send(oru()) == ["AA"]
    with make_site("10.0.0.0/8").connected() as connection:
        assert is_closed(connection)


def test_a_connection_that_is_reset_harms_no_other(site: Site) -> None:
    with site.connected() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(START + oru()[:50])
    assert site.send(oru()) == ["AA"]


def test_a_disk_that_takes_nothing_is_an_error_and_the_message_may_be_sent_again(site: Site) -> None:
    blocked = site.folder / "hl7"
    blocked.write_text("a file where the folder should be")
    assert site.send(oru()) == ["AE"]

    blocked.unlink()

    assert site.send(oru()) == ["AA"]
    assert len(site.files) == 1


def test_another_kind_of_message_is_refused(site: Site) -> None:
    assert site.send(oru(msh=field(MSH, 9, "ADT^A01"))) == ["AR"]
    assert site.files == []


def test_a_port_that_is_taken_is_told(site: Site) -> None:
    host, port = site.listener.address
    other = MllpListener(host, port, answer=lambda _: b"", refuse=lambda _, __: b"")

    with pytest.raises(InputError, match="SIGHTLINE_MLLP_PORT"):
        other.start()


def test_connections_end_with_the_listener(make_site: Callable[..., Site]) -> None:
    site = make_site()
    with site.connected() as connection:
        connection.sendall(START + oru() + END + RETURN)
        assert answers(connection, 1) == ["AA"]
        site.listener.stop()
        assert is_closed(connection)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(site.listener.address, timeout=1).close()


def test_nothing_of_the_patient_is_logged(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    site.send(oru(), oru(OBR, obx(r"Geheim \Q\ \XZZ\ text")), b"MSH|Geheim", oru(pid="PID|1||||Geheim"))

    assert caplog.records
    assert not [each for each in caplog.messages if "Geheim" in each or "MRN-42" in each or "effusion" in each]


# A report's life


def amended(text: str, *, at: str, control: str, status: str = "F") -> bytes:
    msh = field(field(MSH, 7, at), 10, control)
    return oru(ORC, field(OBR, 25, status), obx(text), ZDS, msh=msh)


def current(site: Site) -> tuple[str, ReportStatus]:
    report = site.store.read(site.store.find(IDENTITY)[0])
    return report.text, report.status


def test_a_message_that_comes_twice_changes_nothing(site: Site) -> None:
    site.send(oru())
    before = [(path, path.stat().st_mtime_ns) for path in site.files]
    site.woken.clear()

    assert site.send(oru(), oru(msh=field(MSH, 10, "MSG-2"))) == ["AA", "AA"]

    assert [(path, path.stat().st_mtime_ns) for path in site.files] == before
    assert not site.woken.is_set()


def test_preliminary_final_and_corrected_are_versions_of_one_report(site: Site) -> None:
    site.send(
        amended("Effusion?", at="20260301100000+0100", control="1", status="P"),
        amended("Effusion.", at="20260301110000+0100", control="2"),
        amended("No effusion.", at="20260301120000+0100", control="3", status="C"),
    )

    assert len({ref.report_id for page in site.feed.look("") for ref in page.reports}) == 1
    assert len(site.files) == 3
    assert current(site) == ("No effusion.", ReportStatus.CORRECTED)


def test_a_message_that_arrives_late_does_not_replace_a_later_one(site: Site) -> None:
    site.send(amended("Later.", at="20260301110000+0100", control="2"))
    site.send(amended("Earlier.", at="20260301100000+0100", control="1", status="P"))

    assert current(site) == ("Later.", ReportStatus.FINAL)
    assert len(site.files) == 2


def test_of_two_messages_of_one_second_the_later_one_counts(site: Site) -> None:
    at = "20260301110000+0100"

    for number in range(5):
        site.send(amended(f"Version {number}.", at=at, control=str(number)))

    assert current(site)[0] == "Version 4."


def test_a_report_that_is_changed_back_is_changed_back(site: Site) -> None:
    site.send(amended("A.", at="20260301100000+0100", control="1"))
    site.send(amended("B.", at="20260301110000+0100", control="2"))
    site.send(amended("A.", at="20260301120000+0100", control="3"))

    assert current(site)[0] == "A."


def test_a_control_id_that_comes_again_with_another_report_loses_nothing(site: Site) -> None:
    site.send(amended("A.", at="20260301100000+0100", control="1"))
    site.send(amended("B.", at="20260301110000+0100", control="1"))

    assert current(site)[0] == "B."


def test_a_change_of_status_alone_keeps_the_text(site: Site) -> None:
    site.send(amended("Effusion.", at="20260301100000+0100", control="1", status="P"))
    final = oru(ORC, OBR, obx("", status="U"), ZDS, msh=field(field(MSH, 7, "20260301110000+0100"), 10, "2"))
    site.send(final)

    assert current(site) == ("Effusion.", ReportStatus.FINAL)


def test_a_cancelled_report_is_withdrawn(site: Site) -> None:
    site.send(amended("Effusion.", at="20260301100000+0100", control="1"))
    site.send(amended("", at="20260301110000+0100", control="2", status="X"))
    ref = site.store.find(IDENTITY)[0]

    with pytest.raises(InputError, match="withdrawn"):
        site.store.read(ref)
    assert "presentedForm" not in json.loads(site.files[-1].read_text())["entry"][-1]["resource"]


def test_versions_from_many_connections_are_all_kept(site: Site) -> None:
    def send(number: int) -> None:
        site.send(amended(f"Version {number}.", at="20260301100000+0100", control=str(number)))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(site.files) == 8


def test_a_file_is_complete_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    receiver = Receiver(Inbox(tmp_path), "utf-8", ("OBR-3",), clock=lambda: datetime(2026, 3, 1, tzinfo=UTC))

    assert b"MSA|AE|MSG-1|The report cannot be written to disk (No space left on device)." in receiver(oru())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_new_report_does_not_make_the_feed_show_all_others_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin.reports.feeds.OVERLAP_S", 0)
    site.send(*(oru(field(OBR, 3, f"A{number}"), *OBX) for number in range(20)))
    pages = list(site.feed.look(""))
    time.sleep(0.02)
    site.send(oru(field(OBR, 3, "NEW"), *OBX))

    (page,) = site.feed.look(pages[-1].cursor)

    assert len([ref for each in pages for ref in each.reports]) == 20
    assert 1 <= len(page.reports) <= 2


# Blocks, without a socket


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_blocks_are_cut_alike_whatever_the_pieces(size: int) -> None:
    stream = b"x\x0bone\x1c\r\x0btwo\x1c\x0bthree never ends\x0bfour\x1c\r\n\x1c\x0b"
    blocks = Blocks(100)

    found = [each for at in range(0, len(stream), size) for each in blocks.feed(stream[at : at + size])]

    assert found == [b"one", b"two", b"four"]
    assert blocks.inside


def test_a_block_is_held_to_its_length_and_garbage_is_not_held_at_all() -> None:
    blocks = Blocks(10)

    assert blocks.feed(b"garbage that is longer than ten") == []
    with pytest.raises(TooLongError) as refused:
        blocks.feed(START + b"twelve bytes")
    assert refused.value.beginning == b"twelve bytes"
