"""A small file cannot make a large header of itself, wherever its elements stand and however they are encoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from builders import chest, part10
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from plugin.dicom import weight
from plugin.dicom.header import read_part10, refuse_heavy
from plugin.errors import InputError

SIZE = 600_000
ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
PIXELS = b"\xe0\x7f\x10\x00"


def explicit(group: int, element: int, vr: bytes, length: int) -> bytes:
    return struct.pack("<HH2sHI", group, element, vr, 0, length)


BOMBS: dict[str, Callable[[int], bytes]] = {
    "many elements": lambda size: b"".join(
        struct.pack("<HH2sH", 0x0011 + 2 * (n >> 12), 0x1000 + (n & 0xFFF), b"LO", 0) for n in range(size // 8)
    ),
    "many items": lambda size: explicit(0x0040, 0xA730, b"SQ", 0xFFFFFFFF) + ITEM * (size // 8) + END,
    "many items of a sequence with its length": lambda size: (
        explicit(0x0040, 0xA730, b"SQ", size // 8 * 8) + ITEM * (size // 8)
    ),
    "many items of a private sequence": lambda size: (
        explicit(0x0011, 0x1001, b"SQ", size // 8 * 8) + ITEM * (size // 8)
    ),
    "many items said to be unknown": lambda size: explicit(0x0040, 0xA730, b"UN", size // 8 * 8) + ITEM * (size // 8),
    "many elements of one item": lambda size: (
        explicit(0x0040, 0xA730, b"SQ", size // 8 * 8 + 8)
        + struct.pack("<HHI", 0xFFFE, 0xE000, size // 8 * 8)
        + struct.pack("<HH2sH", 0x0011, 0x1000, b"LO", 0) * (size // 8)
    ),
    "many values": lambda size: explicit(0x0008, 0x0119, b"UC", size // 2 * 2) + b"1\\" * (size // 2),
    "many numbers": lambda size: explicit(0x0066, 0x0040, b"OL", 4) + b"1234" + explicit(0x0028, 0x3006, b"US", size)
    + bytes(size),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _a_tenth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the limits, for a tenth of the time."""
    for name in ("MAX_ELEMENTS", "MAX_ITEMS", "MAX_STRUCTURED_BYTES"):
        monkeypatch.setattr(weight, name, getattr(weight, name) // 10)


def with_header(more: bytes) -> bytes:
    """A radiograph with *more* elements before its pixels."""
    content = part10(chest())
    begin = content.index(PIXELS)
    return content[:begin] + more + content[begin:]


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_would_fill_the_memory_is_refused(name: str) -> None:
    content = with_header(BOMBS[name](SIZE))

    with pytest.raises(InputError, match=r"at most|more than"):
        read_part10(content)
    with pytest.raises(InputError, match=r"at most|more than"):
        refuse_heavy(content)


@pytest.mark.parametrize("name", BOMBS)
def test_it_is_refused_behind_the_pixels_too(name: str) -> None:
    with pytest.raises(InputError):
        read_part10(part10(chest()) + BOMBS[name](SIZE))


def test_it_is_refused_when_it_is_deflated() -> None:
    bare = chest()
    bare.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = part10(bare)
    meta = content[: 132 + 12 + int.from_bytes(content[140:144], "little")]
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = squeeze.compress(BOMBS["many elements"](SIZE)) + squeeze.flush()

    with pytest.raises(InputError, match="elements"):
        read_part10(meta + bomb)


def test_what_is_nested_in_parsed_sequences_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight, "MAX_STRUCTURED_BYTES", 1000)
    inner = explicit(0x0040, 0xA730, b"SQ", 1600) + ITEM * 200
    outer = explicit(0x0040, 0xA730, b"SQ", 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner + END

    with pytest.raises(InputError, match="bytes of sequences"):
        read_part10(with_header(outer))


def test_large_values_that_stay_bytes_weigh_nothing() -> None:
    """Pixels, overlays, private data and long text are not split."""
    private = Dataset()
    private.add_new(0x00111001, "UN", b"\x01" * 4_000_000)
    dataset = chest(TextValue="x" * 4_000_000)
    dataset.add_new(0x60003000, "OW", bytes(4_000_000))
    dataset.update(private)

    assert read_part10(part10(dataset)).Rows == 40


def test_implicit_elements_are_weighed_by_what_the_dictionary_says() -> None:
    dataset = chest()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.LongCodeValue = "\\".join(["1"] * 200_000)

    with pytest.raises(InputError, match="bytes of sequences"):
        read_part10(part10(dataset))
