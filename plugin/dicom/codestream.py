"""The size that a compressed frame states itself, read before a decoder allocates by it.

JPEG family: ISO/IEC 10918-1 B.2.2 (SOF), 14495-1 (SOF55). JPEG 2000: ISO/IEC 15444-1 A.5.1 (SIZ).
"""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import UID, RLELossless

from plugin.dicom.header import UNREADABLE
from plugin.errors import InputError

Shape = tuple[int, int, int]

# SOF0-15 without DHT (C4), JPG (C8) and DAC (CC); SOF55 is JPEG-LS.
_FRAME_HEADERS: Final = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})


def frames_of(dataset: Dataset) -> tuple[bytes, ...]:
    """The compressed frames of a single-frame instance.

    Raises
    ------
    InputError
        If the encapsulation (PS3.5 A.4) is broken.
    """
    try:
        return tuple(generate_frames(dataset.PixelData, number_of_frames=1))
    except UNREADABLE as error:
        raise InputError("The pixel data are not encapsulated properly (PS3.5 A.4); is the file complete?") from error


def frame_shape(frame: bytes, transfer_syntax: UID) -> Shape | None:
    """(rows, columns, samples) as the frame states them; None for RLE, whose segments state no size.

    Raises
    ------
    InputError
        If no such statement is found.
    """
    if transfer_syntax == RLELossless:
        return None
    shape = _jpeg_2000(frame) or _jpeg(frame)
    if shape is None:
        raise InputError(f"The compressed image is not what its transfer syntax ({transfer_syntax.name}) promises.")
    return shape


def _jpeg_2000(frame: bytes) -> Shape | None:
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(frame) < start + 42:
        return None
    width, height, left, top = (int.from_bytes(frame[start + at : start + at + 4], "big") for at in (8, 12, 16, 20))
    return height - top, width - left, int.from_bytes(frame[start + 40 : start + 42], "big")


def _jpeg(frame: bytes) -> Shape | None:
    at = 2 if frame[:2] == b"\xff\xd8" else len(frame)
    while at + 9 < len(frame) and frame[at] == 0xFF:
        if frame[at + 1] == 0xFF:  # fill byte
            at += 1
        elif frame[at + 1] in _FRAME_HEADERS:
            height, width = (int.from_bytes(frame[at + offset : at + offset + 2], "big") for offset in (5, 7))
            return height, width, frame[at + 9]
        else:
            at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None
