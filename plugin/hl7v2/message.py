"""One HL7 v2 message: its bytes as text, its fields, and the acknowledgment it gets (HL7 v2.5.1, chapter 2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Final

import hl7

from plugin.errors import InputError
from plugin.identity import sha256_hex

CHARSETS: Final = {
    "ASCII": "",  # what says so and is not, is read as what says nothing
    **{f"8859/{part}": f"iso8859-{part}" for part in (1, 2, 3, 4, 5, 6, 7, 8, 9, 15)},
    "UNICODE": "utf-8",
    "UNICODE UTF-8": "utf-8",
    "UTF-8": "utf-8",
    "GB 18030-2000": "gb18030",
    "BIG-5": "big5",
}
"""MSH-18 (HL7 table 0211) to Python's codecs; some write the last but two without "UNICODE"."""

MOST_PARTS: Final = 200_000
"""Separators in a message. A report has some hundreds; each becomes an object when the message is parsed."""
_NULL: Final = '""'
_SEGMENT = re.compile(r"[A-Z][A-Z0-9]{2}(?:\W|$)")
_STAMP = re.compile(r"(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:\.(\d{1,6})\d*)?([+-]\d{4})?")


class Code(StrEnum):
    """HL7 table 0357, what is used of it."""

    SEQUENCE = "100"
    MISSING = "101"
    DATA_TYPE = "102"
    MESSAGE_TYPE = "200"
    EVENT = "201"
    VERSION = "203"
    INTERNAL = "207"


_MEANINGS: Final = {
    Code.SEQUENCE: "Segment sequence error",
    Code.MISSING: "Required field missing",
    Code.DATA_TYPE: "Data type error",
    Code.MESSAGE_TYPE: "Unsupported message type",
    Code.EVENT: "Unsupported event code",
    Code.VERSION: "Unsupported version id",
    Code.INTERNAL: "Application internal error",
}


class MessageError(InputError):
    """The message is refused for good. *where* is the segment and field ("OBR^1^3"), as ERR-2 has it."""

    def __init__(self, message: str, code: Code, where: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.where = where


@dataclass(frozen=True, slots=True)
class Header:
    """MSH, as far as it is needed before anything else is understood. *fields* begin with MSH-3, in ISO 8859-1."""

    field: str
    encoding: str
    fields: tuple[str, ...]

    def __getitem__(self, number: int) -> str:
        """MSH-*number*, "" when there is none."""
        return self.fields[number - 3] if 3 <= number < len(self.fields) + 3 else ""

    @property
    def control_id(self) -> str:
        return self[10]

    @property
    def codec(self) -> str:
        """What MSH-18 declares, "" when nothing usable; raises MessageError for what is not read."""
        declared = self[18].partition(self.encoding[1:2] or "~")[0].strip().upper()
        if declared and declared not in CHARSETS:
            raise MessageError(
                "The character set of MSH-18 is not read: send UNICODE UTF-8.", Code.DATA_TYPE, "MSH^1^18"
            )
        return CHARSETS.get(declared, "")


def header_of(content: bytes) -> Header:
    """The header of a message, read before its character set is known.

    Raises
    ------
    MessageError
        If it does not begin with a usable MSH segment.
    """
    first = re.split(rb"[\r\n]", content.lstrip(), maxsplit=1)[0].decode("latin-1")
    field = first[3:4]
    parts = first.split(field) if field else []
    if len(parts) < 3 or parts[0] != "MSH" or field.isalnum() or not re.fullmatch(r"[^\w\s]{2,5}", parts[1]):
        raise MessageError("The message does not begin with an MSH segment.", Code.SEQUENCE, "MSH^1")
    return Header(field, parts[1], tuple(parts[2:]))


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message; segments in order. *codec* is how its bytes were read, and how hexadecimal ones are."""

    header: Header
    parsed: hl7.Message
    codec: str
    content_sha256: str

    def text(self, segment: hl7.Segment, number: int, component: int = 1, part: int = 1, *, again: int = 0) -> str:
        """Component, subcomponent *part*, of field *number*'s repetition *again*; "" when absent or null."""
        try:
            value: object = segment[number][again]
            if isinstance(value, hl7.Repetition):
                value = value[component - 1]
            elif component > 1:
                return ""
            if isinstance(value, hl7.Component):
                value = value[part - 1]
            elif part > 1:
                return ""
        except IndexError:
            return ""
        return self._clean(str(value)).strip()

    def whole(self, segment: hl7.Segment, number: int) -> tuple[str, ...]:
        """The repetitions of a field, each with the component separators that it holds: for text, which has none."""
        return tuple(self._clean(str(each)) for each in segment[number]) if len(segment) > number else ()

    def repetitions(self, segment: hl7.Segment, number: int) -> range:
        """Which values :meth:`text` takes as *again*."""
        return range(len(segment[number]) if len(segment) > number else 0)

    def _clean(self, text: str) -> str:
        return "" if text.strip() == _NULL else unescaped(text, self.header, codec=self.codec)


def message_of(content: bytes, *, otherwise: str) -> Message:
    """The message in *content*, which MLLP's block characters no longer surround.

    Parameters
    ----------
    otherwise : the codec of text that declares no character set and is not UTF-8.

    Raises
    ------
    MessageError
        If it is no single HL7 v2 message, or its text cannot be decoded.
    """
    header = header_of(content)
    text, codec = _decoded(content, header.codec, otherwise)
    segments = _segments(text, header)
    separators = (header.field, *header.encoding)
    if sum(text.count(each) for each in separators) > MOST_PARTS:
        raise MessageError(f"The message has more than {MOST_PARTS:,} separators.", Code.DATA_TYPE)
    if sum(segment.startswith("MSH") for segment in segments) != 1:
        raise MessageError("The block holds more than one message; send each in its own.", Code.SEQUENCE)
    try:
        parsed = hl7.parse("\r".join(segments))
    except Exception:  # noqa: BLE001 - the library raises what it happens to meet; its words quote the message
        raise MessageError("The message cannot be parsed as HL7 v2.", Code.SEQUENCE) from None
    said = "\r".join(segment for segment in segments if segment[:3] not in ("MSH", "SFT"))
    return Message(header, parsed, codec, sha256_hex(said.encode()))


def _decoded(content: bytes, codec: str, otherwise: str) -> tuple[str, str]:
    for each in (codec,) if codec else ("utf-8", otherwise):
        try:
            return content.decode(each), each
        except UnicodeDecodeError:
            continue
    declared = "the character set of MSH-18" if codec else "UTF-8, nor the character set of the settings"
    raise MessageError(f"The text is not in {declared}.", Code.DATA_TYPE, "MSH^1^18")


def _segments(text: str, header: Header) -> list[str]:
    """Segments end with a carriage return; some send line feeds too, some have them within text."""
    escape = header.encoding[2:3]
    lines: list[str] = []
    for line in re.split(r"\r\n|\r|\n", text.strip("\r\n\0 ")):
        if _SEGMENT.match(line) and line[3:4] in ("", header.field):
            lines.append(line)
        elif lines and escape:
            lines[-1] += f"{escape}.br{escape}{line}"
        elif line.strip():
            raise MessageError("A line of the message is no segment.", Code.SEQUENCE)
    return lines


def unescaped(text: str, header: Header, *, codec: str) -> str:
    r"""*text* with its escape sequences (2.7) resolved: separators, hexadecimal bytes, line ends and blanks.

    Highlighting is left out. What is no sequence, such as the backslashes of a path, stays as it is.
    """
    escape = header.encoding[2:3]
    if not escape or escape not in text:
        return text
    sequence = re.compile(rf"{re.escape(escape)}([^{re.escape(escape)}\r\n]{{1,400}}){re.escape(escape)}")
    letters = dict(
        zip("FSRET", (header.field, header.encoding[0], header.encoding[1], escape, header.encoding[3:4]), strict=True)
    )
    return sequence.sub(lambda found: _resolved(found[1], letters, codec, whole=found[0]), text)


def _resolved(said: str, letters: dict[str, str], codec: str, *, whole: str) -> str:
    if said in letters:
        return letters[said]
    if said in ("H", "N", ".fi", ".nf"):
        return ""
    if said[0] == "X" and re.fullmatch(r"(?:[0-9A-Fa-f]{2})+", said[1:]):
        return bytes.fromhex(said[1:]).decode(codec, errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if found := re.fullmatch(r"\.(br|sp|ce|sk|in|ti)\s*\+?(\d{0,2})", said):
        times = min(int(found[2] or 1), 20)
        return ("\n" if found[1] in ("br", "sp", "ce") else " ") * times
    return whole


def moment(stamp: str) -> datetime | None:
    """An HL7 time (2.A.77), as of this machine's time zone when it states none; None when it is no time."""
    found = _STAMP.fullmatch(stamp)
    if not found:
        return None
    *parts, fraction, offset = found.groups()
    year, month, day, hour, minute, second = (
        int(part) if part else least for part, least in zip(parts, (0, 1, 1, 0, 0, 0), strict=True)
    )
    try:
        local = datetime(year, month, day, hour, minute, second, int((fraction or "0").ljust(6, "0")))  # noqa: DTZ001
        return local.replace(tzinfo=_zone(offset)) if offset else local.astimezone()
    except (ValueError, OverflowError, OSError):
        return None


def _zone(offset: str) -> timezone:
    minutes = int(offset[1:3]) * 60 + int(offset[3:])
    return timezone(timedelta(minutes=-minutes if offset[0] == "-" else minutes))


def _escaped(text: str, header: Header) -> str:
    """*text* as it stands in a field: a separator within it as its escape sequence (2.7.1)."""
    separators = (header.encoding[2:3], header.field, header.encoding[0], header.encoding[1:2], header.encoding[3:4])
    if not separators[0]:
        return "".join(" " if character in separators else character for character in text)
    letters = dict(zip(separators, "EFSRT", strict=True))
    return "".join(f"{separators[0]}{letters[each]}{separators[0]}" if each in letters else each for each in text)


class Acknowledgment(StrEnum):
    """HL7 table 0008, original mode: stored; could not be stored now; refused for good."""

    ACCEPT = "AA"
    ERROR = "AE"
    REJECT = "AR"


def acknowledgment(
    content: bytes, code: Acknowledgment, *, now: datetime, error: MessageError | None = None, because: str = ""
) -> bytes:
    """The answer to the message *content* (2.9.2), in its own separators and character set.

    Parameters
    ----------
    error : why it is refused; *because* the sentence for what could not be stored.
    """
    try:
        header = header_of(content)
    except MessageError:
        header = Header("|", r"^~\&", ())
    event = header[9].split(header.encoding[0])[1:2] or [""]
    kind = header.encoding[0].join(("ACK", event[0], "ACK")) if event[0] else "ACK"
    stamp = now.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")
    own_id = sha256_hex(content + code.encode())[:20]
    msh = ["MSH", header.encoding, header[5], header[6], header[3], header[4], stamp, "", kind, own_id]
    msh += [header[11] or "P", header[12] or "2.5.1", *[""] * 5, header[18]]
    msa = ["MSA", code, header.control_id]
    lines = [msh, msa]
    if code is not Acknowledgment.ACCEPT:
        said = _escaped(str(error or because), header)
        msa.append(said)
        coded, where = (error.code, error.where) if error else (Code.INTERNAL, "")
        place = where.replace("^", header.encoding[0])
        reason = header.encoding[0].join((coded, _MEANINGS[coded], "HL70357"))
        lines.append(["ERR", "", place, reason, "E", "", "", "", said])
    return "".join(f"{header.field.join(line).rstrip(header.field)}\r" for line in lines).encode("latin-1")
