"""Hostile input by the thousand: the same for the same number, measured, and mutated with an eye for its structure.

CI runs a few hundred cases of each kind; ``make fuzz`` runs 10,000 (``SIGHTLINE_FUZZ``). A case that fails is named by
its number, which makes it again.
"""

from __future__ import annotations

import json
import os
import random
import string
import struct
import time
import zlib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

#: What no case may exceed. Time is that of the processor, so that a busy machine fails nothing; the wall has room.
MOST_CPU_S: Final = 10.0
MOST_WALL_S: Final = 60.0
MOST_MEMORY_BYTES: Final = 1024**3

Random = random.Random


@dataclass
class Figures:
    """The worst of all cases."""

    cases: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    memory_bytes: int = 0
    accepted: int = 0

    def __str__(self) -> str:
        return (
            f"{self.cases} cases, {self.accepted} of them accepted; worst: {self.cpu_s:.2f} s of CPU, "
            f"{self.wall_s:.2f} s, {self.memory_bytes / 2**20:.0f} MiB more"
        )


def cases(fewer: int) -> int:
    """How many cases to run: *fewer*, unless ``SIGHTLINE_FUZZ`` says how many."""
    return int(os.environ.get("SIGHTLINE_FUZZ", fewer))


def fuzz(kind: str, count: int, case: Callable[[Random], object]) -> Figures:
    """Run *case* that often, with randomness of its own; it raises what is wrong, and says whether input was taken."""
    worst = Figures()
    for number in range(count):
        before = _memory_bytes(again=True)
        cpu, wall = time.process_time(), time.monotonic()
        try:
            worst.accepted += bool(case(Random(f"{kind} {number}")))
        except BaseException as error:
            error.add_note(f"case {number} of {kind}")
            raise
        worst.cases += 1
        spent = time.process_time() - cpu, time.monotonic() - wall, _memory_bytes() - before
        worst.cpu_s, worst.wall_s = max(worst.cpu_s, spent[0]), max(worst.wall_s, spent[1])
        worst.memory_bytes = max(worst.memory_bytes, spent[2])
        within = spent[0] <= MOST_CPU_S and spent[1] <= MOST_WALL_S and spent[2] <= MOST_MEMORY_BYTES
        assert within, f"case {number} of {kind} took {spent[0]:.1f} s of CPU, {spent[1]:.1f} s, {spent[2]} bytes"
    print(f"\n{kind}: {worst}")
    return worst


def _memory_bytes(*, again: bool = False) -> int:
    """The most memory that this process had, counted anew when *again*."""
    process = Path("/proc/self")
    if not (process / "status").is_file():
        return 0
    if again:
        (process / "clear_refs").write_text("5")
    told = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(told.split()[1]) * 1024


# Values


NASTY_TEXT: Final = (
    "",
    " ",
    "\0",
    "\r\nInjected: 1",
    "\x1b[31m",
    "../../../etc/passwd",
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "${jndi:ldap://x}",
    "%s%n{0}",
    "\u202etxet",
    "\ud7ff\uffff",
    "🩻" * 50,
    "é" * 300,
    "1" * 5000,
    "-1",
    "1e400",
    "NaN",
    "١٢٣",
    "a" * 70_000,
    "\\".join("1" * 400),
    "^".join("x" * 200),
)


def nasty_text(random: Random) -> str:
    """Text that parsers, pages, logs and file systems may stumble over."""
    if random.random() < 0.5:
        return random.choice(NASTY_TEXT)
    return "".join(chr(random.choice((random.randrange(32, 127), random.randrange(0xD800)))) for _ in range(8))


def flipped(content: bytes, random: Random, *, most: int = 12) -> bytes:
    """*content* with bytes changed, put in, taken out, repeated, or cut off."""
    changed = bytearray(content)
    for _ in range(random.randint(1, most)):
        at = random.randrange(len(changed) + 1)
        match random.randrange(6):
            case 0 | 1:
                changed[at : at + 1] = bytes([random.randrange(256)])
            case 2:
                changed[at:at] = random.randbytes(random.randint(1, 16))
            case 3:
                del changed[at : at + random.randint(1, 64)]
            case 4:
                changed[at:at] = changed[at : at + random.randint(1, 256)] * random.randint(1, 20)
            case 5:
                changed[at : at + 4] = random.choice(
                    (b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", struct.pack("<I", at))
                )
    return bytes(changed[: random.randrange(len(changed) + 1)] if random.random() < 0.1 else changed)


# JSON


_NASTY_LEAVES: Final = (0, -1, 2**63, 10**400, 1e308, -0.0, 0.1, None, True, False, [], {}, [[]], [None], [{}])


def nasty_json(random: Random, depth: int = 0) -> Any:
    """Any JSON value, often one that nobody expects."""
    inner = depth + 1
    plain = (nasty_text(random), nasty_text(random), deepcopy(random.choice(_NASTY_LEAVES)), _nest(random))
    if depth > 2:
        return random.choice(plain)
    several = [nasty_json(random, inner) for _ in range(random.randrange(3))]
    return random.choice((*plain, several, {nasty_text(random): part for part in several}))


def _nest(random: Random) -> Any:
    nest: Any = 1
    for _ in range(random.choice((5, 99, 101, 500))):
        nest = [nest] if random.random() < 0.5 else {"extension": nest}
    return nest


def mutated_json(document: Any, random: Random, *, most: int = 4) -> Any:
    """*document* with values replaced, taken out, doubled, moved to other names or wrapped."""
    document = json.loads(json.dumps(document))
    for _ in range(random.randint(1, most)):
        places = list(_places(document))
        container, key = random.choice(places)
        match random.randrange(6):
            case 0 | 1 | 2:
                container[key] = nasty_json(random)
            case 3:
                del container[key]
                if not document:
                    return nasty_json(random)
            case 4:
                other, elsewhere = random.choice(places)
                if not isinstance(elsewhere, int) or elsewhere < len(other):
                    container[key] = json.loads(json.dumps(other.get(elsewhere) if isinstance(other, dict) else None))
            case 5:
                container[key] = [container[key]] * (random.choice((1, 2, 300)) if len(places) < 500 else 1)
    return document


def _places(document: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict | list):
            continue
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))
        found += [(part, key) for key in keys]
        waiting += [part[key] for key in keys]
    return found


# DICOM


Piece = tuple[int, bytes, bytes, int | None]
"""Tag, VR, value, and the length that is told when it is not that of the value."""
_LONG: Final = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
_VRS: Final = (*_LONG, *b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split(), b"??")
#: What the reader looks at, and so what is worth being wrong.
_LOOKED_AT: Final = (
    *(0x00020010, 0x00080005, 0x00080008, 0x00080016, 0x00080018, 0x00080060, 0x00080090, 0x00082218, 0x00100020),
    *(0x00180015, 0x00181164, 0x00181600, 0x00181602, 0x00181604, 0x00181606, 0x00181608, 0x00185101, 0x0020000D),
    *(0x0020000E, 0x00200020, 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011, 0x00280030, 0x00280034),
    *(0x00280100, 0x00280101, 0x00280102, 0x00280103, 0x00280106, 0x00280120, 0x00281040, 0x00281041, 0x00281050),
    *(0x00281051, 0x00281052, 0x00281053, 0x00281055, 0x00281056, 0x00283000, 0x00283010, 0x20500020, 0x7FE00010),
)
_NUMBERS: Final = (0, 1, 7, 8, 12, 15, 16, 17, 32, 64, 255, 10_000, 32_767, 65_535)


def pieces_of(content: bytes) -> tuple[bytes, list[Piece]]:
    """The file up to its data set, and the elements of it, for files in a transfer syntax with explicit VR."""
    dataset = dcmread(BytesIO(content), force=True)
    length = 144 + int.from_bytes(content[140:144], "little")
    pieces: list[Piece] = []
    for element in dataset.values():
        if isinstance(element, RawDataElement):
            told = 0xFFFFFFFF if element.length == 0xFFFFFFFF else None
            value = (element.value or b"") + (b"\xfe\xff\xdd\xe0\0\0\0\0" if told else b"")
            pieces.append((int(element.tag), str(element.VR).encode(), value, told))
        else:
            stream = DicomBytesIO()
            stream.is_little_endian, stream.is_implicit_VR = True, False
            write_data_element(stream, element)
            pieces.append(
                (int(element.tag), b"SQ", stream.getvalue()[12:], 0xFFFFFFFF if element.is_undefined_length else None)
            )
    return content[:length], pieces


def written(head: bytes, pieces: list[Piece]) -> bytes:
    """The file of these elements, explicit VR little-endian."""
    parts = [head]
    for tag, vr, value, told in pieces:
        length = len(value) if told is None else told
        parts.append(struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr))
        parts.append(struct.pack("<HI", 0, length) if vr in _LONG else struct.pack("<H", min(length, 0xFFFF)))
        parts.append(value)
    return b"".join(parts)


def mutated_dicom(content: bytes, random: Random) -> bytes:
    """A DICOM file with elements changed, or bytes, or both; now and then deflated."""
    syntax = dcmread(BytesIO(content), stop_before_pixels=True, force=True).file_meta.get("TransferSyntaxUID")
    plain = syntax not in (None, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    if not plain or random.random() < 0.3:
        return flipped(content, random)
    head, pieces = pieces_of(content)
    for _ in range(random.randint(1, 4)):
        _mutate(pieces, random)
    if random.random() < 0.05:
        squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return head.replace(str(syntax).encode(), b"1.2.840.10008.1.2.1.99", 1) + (
            squeeze.compress(written(b"", pieces)) + squeeze.flush()
        )
    changed = written(head, pieces)
    return flipped(changed, random, most=2) if random.random() < 0.1 else changed


def _mutate(pieces: list[Piece], random: Random) -> None:
    looked_at = [index for index, piece in enumerate(pieces) if piece[0] in _LOOKED_AT]
    at = random.choice(looked_at) if looked_at and random.random() < 0.7 else random.randrange(len(pieces))
    tag, vr, value, told = pieces[at]
    match random.randrange(9):
        case 0:
            del pieces[at]
            if not pieces:
                pieces.append((tag, vr, value, told))
        case 1:
            pieces.insert(random.randrange(len(pieces)), pieces[at])
        case 2:
            pieces[at] = tag, random.choice(_VRS), value, told
        case 3:
            pieces[at] = tag, vr, value, random.choice((0, 1, len(value) + 2, 0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF))
        case 4:
            inner = written(b"", [pieces[at]])
            for _ in range(random.choice((1, 3, 300))):
                inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
                inner = struct.pack("<HH2sHI", 0x0008, 0x2218, b"SQ", 0, len(inner)) + inner
            pieces.append((0x00082218, b"SQ", inner, None))
        case 5 if value:
            pieces[at] = tag, vr, flipped(value, random), told
        case 6:
            pieces.insert(at, (random.choice(_LOOKED_AT), random.choice(_VRS), _value(random, vr), None))
        case _:
            pieces[at] = tag, vr, _value(random, vr), None


def _value(random: Random, vr: bytes) -> bytes:
    if vr in (b"US", b"SS") and random.random() < 0.8:
        return struct.pack("<H", random.choice(_NUMBERS)) * random.choice((1, 1, 1, 2, 0))
    if vr in (b"DS", b"IS") and random.random() < 0.8:
        return random.choice(
            (b"0", b"-1 ", b"1e308 ", b"1e-300", b"NaN ", b"inf ", b"1\\2\\3 ", b"99999999999999999999")
        )
    if vr == b"UI" and random.random() < 0.5:
        return random.choice((b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.5", b"1..2", b"0" * 80, b"1.2.3\r\n"))
    if vr == b"SQ" and random.random() < 0.5:
        return struct.pack("<HHI", 0xFFFE, 0xE000, 0) * random.choice((1, 10, 1000))
    return random.choice(
        (nasty_text(random).encode("utf-8", "replace"), random.randbytes(random.choice((0, 1, 2, 7, 64))))
    )


# Text


def mutated_text(text: str, random: Random) -> str:
    """A report with words taken out, repeated, moved, put together, or with anything between them."""
    for _ in range(random.randint(1, 6)):
        words = text.split(" ")
        at = random.randrange(len(words))
        match random.randrange(8):
            case 0:
                words[at:at] = [nasty_text(random)]
            case 1:
                del words[at : at + random.randint(1, 5)]
            case 2:
                words[at:at] = words[at : at + random.randint(1, 30)] * random.choice((2, 2, 2, 50))
            case 3:
                other = random.randrange(len(words))
                words[at], words[other] = words[other], words[at]
            case 4:
                words[at] = words[at].swapcase() + random.choice(string.punctuation) * random.choice((1, 1, 200))
            case 5:
                words[at : at + 2] = ["".join(words[at : at + 2])]
            case 6:
                words[at] = "".join(random.sample(words[at], len(words[at])))
            case 7:
                words[at:at] = [
                    random.choice(("no", "not", "without", "left", "right", "but", ",", "\n\n", "FINDINGS:"))
                ]
        text = " ".join(words)
    return text
