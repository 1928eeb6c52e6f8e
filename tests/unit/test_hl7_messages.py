"""HL7 v2 messages as text and fields, and what is answered to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import hl7
import pytest
from hl7_input import MSH, OBR, field, obx, oru

from plugin.hl7v2.message import (
    CHARSETS,
    MOST_PARTS,
    Acknowledgment,
    Code,
    MessageError,
    acknowledgment,
    header_of,
    message_of,
    moment,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def text_of(content: bytes, *, otherwise: str = "windows-1252") -> str:
    """OBX-5 of the message's first observation."""
    message = message_of(content, otherwise=otherwise)
    return "\n".join(message.whole(message.parsed.segment("OBX"), 5))


def declaring(charset: str, text: str, encoding: str) -> bytes:
    return oru(OBR, obx(text), msh=field(MSH, 18, charset), encoding=encoding)


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        ("UNICODE UTF-8", "utf-8"),
        ("UTF-8", "utf-8"),
        ("UNICODE", "utf-8"),
        ("8859/1", "iso8859-1"),
        ("8859/15", "iso8859-15"),
        ("8859/1~ASCII", "iso8859-1"),
        ("ASCII", "utf-8"),
        ("ASCII", "windows-1252"),
        ("", "utf-8"),
        ("", "windows-1252"),
    ],
)
def test_the_character_set_is_the_declared_one_else_utf8_else_the_sites(charset: str, encoding: str) -> None:
    assert text_of(declaring(charset, "Größe 5 mm", encoding)) == "Größe 5 mm"


def test_every_declared_character_set_is_one_that_is_read() -> None:
    for charset, codec in CHARSETS.items():
        assert text_of(declaring(charset, "Effusion", codec or "ascii")) == "Effusion"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (declaring("UNICODE UTF-8", "Größe", "windows-1252"), Code.DATA_TYPE),
        (declaring("UNICODE UTF-16", "Size", "ascii"), Code.DATA_TYPE),
        (declaring("ISO IR87", "Size", "ascii"), Code.DATA_TYPE),
        (
            oru().replace(b"Gr", b"\x81\x8d").replace("ö".encode(), b"\xff").replace(b"UNICODE UTF-8", b""),
            Code.DATA_TYPE,
        ),
        (b"", Code.SEQUENCE),
        (b"MSH", Code.SEQUENCE),
        (b"MSH|", Code.SEQUENCE),
        (b"PID|1||x\rMSH|^~\\&|", Code.SEQUENCE),
        (b"FHS|^~\\&|a\r" + oru(), Code.SEQUENCE),
        (oru() + oru(), Code.SEQUENCE),
        (b"MSH|^~\\&|" + b"~" * (MOST_PARTS + 1), Code.DATA_TYPE),
        (b"<html>", Code.SEQUENCE),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_code_and_without_its_content(content: bytes, code: Code) -> None:
    with pytest.raises(MessageError) as refused:
        message_of(content, otherwise="windows-1252")

    assert refused.value.code is code
    assert "Geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (r"a\.br\b", "a\nb"),
        (r"a\.sp2\b", "a\n\nb"),
        (r"a\.sp+2\b", "a\n\nb"),
        (r"a\.sk3\b", "a   b"),
        (r"\.in+4\\.ti-2\b", "    \\.ti-2\\b"),
        (r"\.ce\Title", "\nTitle"),
        (r"\.fi\a\.nf\b", "ab"),
        (r"5 \T\ 6 \F\ \S\ \R\ \E\ end", "5 & 6 | ^ ~ \\ end"),
        (r"\H\Effusion\N\ left", "Effusion left"),
        (r"Gr\XC3B6\\XC39F\e", "Größe"),
        (r"a\X0D0A\b\X0D\c", "a\nb\nc"),
        (r"C:\temp\file and a single \ mark", r"C:\temp\file and a single \ mark"),
        (r"\Zlocal\ \XG\ \\", r"\Zlocal\ \XG\ \\"),
        (r"\.sp9999\x", r"\.sp9999\x"),
        ('""', ""),
        ("heart & lungs ^ 5", "heart & lungs ^ 5"),
        ("a~b", "a\nb"),
    ],
)
def test_escape_sequences_become_what_they_stand_for(sent: str, read: str) -> None:
    assert text_of(oru(OBR, obx(sent))) == read


def test_other_separators_than_the_usual_ones_are_those_of_the_message() -> None:
    usual = {"|": "#", "^": ":", "~": "*", "&": "%"}
    content = oru(OBR, obx(r"a\F\b~c & d")).decode().translate(str.maketrans(usual)).encode()

    message = message_of(content, otherwise="utf-8")

    assert message.text(message.parsed.segment("PID"), 3, 4, 2) == "1.2.826.0.1.3680043.9"
    assert text_of(content) == "a#b\nc % d"


def test_a_message_without_an_escape_character_is_read_as_it_stands() -> None:
    assert text_of(oru(OBR, obx(r"a\.br\b"), msh=MSH.replace("^~\\&", "^~"))) == r"a\.br\b"


def test_line_feeds_between_segments_and_within_text_are_understood() -> None:
    content = oru(OBR, obx("first\nsecond")).replace(b"\r", b"\r\n")

    assert text_of(content) == "first\nsecond"


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        ("20260301100000+0100", datetime(2026, 3, 1, 10, tzinfo=timezone(timedelta(hours=1)))),
        ("20260301100000.1234-0530", datetime(2026, 3, 1, 10, 0, 0, 123400, timezone(-timedelta(hours=5, minutes=30)))),
        ("202603011000", datetime(2026, 3, 1, 10).astimezone()),
        ("20260301", datetime(2026, 3, 1).astimezone()),
        ("20261301", None),
        ("", None),
        ("yesterday", None),
        ("00000000", None),
    ],
)
def test_a_time_is_read_with_its_zone_or_as_of_this_machine(stamp: str, when: datetime | None) -> None:
    assert moment(stamp) == when


# Acknowledgments


def answer_to(content: bytes, code: Acknowledgment, **why: object) -> hl7.Message:
    answer = acknowledgment(content, code, now=NOW, **why)  # type: ignore[arg-type]
    return hl7.parse(answer.decode("latin-1"))


def test_an_accepted_message_is_answered_to_its_sender_with_its_control_id() -> None:
    answer = answer_to(oru(), Acknowledgment.ACCEPT)

    assert str(answer.segment("MSH")).startswith(
        "MSH|^~\\&|SIGHTLINE|RESEARCH|RIS|HOSPITAL|20260301120000+0000||ACK^R01^ACK|"
    )
    assert str(answer.segment("MSH")).split("|")[10:12] == ["P", "2.5.1"]
    assert str(answer.segment("MSA")) == "MSA|AA|MSG-1"
    assert len(answer) == 2


def test_a_refusal_says_where_and_why() -> None:
    error = MessageError("Only ORU^R01 is taken.", Code.MESSAGE_TYPE, "MSH^1^9")

    answer = answer_to(oru(), Acknowledgment.REJECT, error=error)

    assert str(answer.segment("MSA")) == "MSA|AR|MSG-1|Only ORU\\S\\R01 is taken."
    assert str(answer.segment("ERR")) == (
        "ERR||MSH^1^9|200^Unsupported message type^HL70357|E||||Only ORU\\S\\R01 is taken."
    )


def test_what_may_be_sent_again_is_an_error_and_not_a_refusal() -> None:
    answer = answer_to(oru(), Acknowledgment.ERROR, because="The disk is full.")

    assert str(answer.segment("MSA")) == "MSA|AE|MSG-1|The disk is full."
    assert str(answer.segment("ERR")).startswith("ERR|||207^Application internal error^HL70357|E")


def test_an_answer_uses_the_senders_separators_and_bytes() -> None:
    content = "MSH#:*\\%#Größe#H#S#R#2026##ORU:R01#1#P#2.3######8859/1".encode("latin-1")

    answer = acknowledgment(content, Acknowledgment.ACCEPT, now=NOW)

    assert answer.startswith("MSH#:*\\%#S#R#Größe#H#".encode("latin-1"))
    assert b"ACK:R01:ACK" in answer


def test_what_is_no_message_is_answered_all_the_same() -> None:
    answer = answer_to(b"garbage", Acknowledgment.REJECT, error=MessageError("No MSH.", Code.SEQUENCE, "MSH^1"))

    assert str(answer.segment("MSA")) == "MSA|AR||No MSH."


def test_the_header_is_read_before_anything_else() -> None:
    header = header_of(oru())

    assert (header[3], header[4], header.control_id, header.codec) == ("RIS", "HOSPITAL", "MSG-1", "utf-8")
    assert header[99] == ""


def test_a_reason_is_written_so_that_no_separator_splits_it() -> None:
    because = r"a|b^c~d&e\f"
    answer = acknowledgment(oru(), Acknowledgment.ERROR, now=NOW, because=because)

    message = message_of(answer, otherwise="utf-8")

    assert message.text(message.parsed.segment("MSA"), 3) == because
    assert message.text(message.parsed.segment("ERR"), 8) == because
    assert b"a b c d e f" in acknowledgment(b"MSH|^~|", Acknowledgment.ERROR, now=NOW, because=r"a|b^c~d e f")
