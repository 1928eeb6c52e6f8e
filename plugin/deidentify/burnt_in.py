"""Whether text may be burnt into a radiograph's pixels: what the header says, and what the pixels look like. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from plugin.dicom.header import text

SIDES = (512, 1024, 2048)
"""Longer sides at which writing is looked for: it may be small or large."""
LETTERS = 5
"""So many signs in a row look like writing; a marker of the side has one or two."""
_SHORTEST, _TALLEST = 7, 80
_Box = tuple[int, int, int, int]


def suspicions(header: Dataset, pixels: npt.NDArray[np.float32]) -> Iterator[str]:
    """Why text may be burnt in, in words.

    Parameters
    ----------
    pixels : (rows, columns) in [0, 1], as they are shown.
    """
    said = text(header, "BurnedInAnnotation")
    if said == "YES":
        yield "its header says that text is burnt in"
    if said != "NO" and text(header, "Modality") not in ("CR", "DX"):
        yield "it is of a kind that often has text burnt in, and its header does not deny it"
    if rows := lines_of_signs(pixels):
        yield f"its pixels hold what looks like {rows} line{'s' if rows > 1 else ''} of writing"


def lines_of_signs(pixels: npt.NDArray[np.float32]) -> int:
    """How many rows of at least :data:`LETTERS` small, even signs there are, nearly white or nearly black."""
    return max(_lines_at(pixels, min(1.0, side / max(pixels.shape))) for side in SIDES)


def _lines_at(pixels: npt.NDArray[np.float32], scale: float) -> int:
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    grey = np.rint(small * 255).astype(np.uint8)
    # Signs differ from what is around them; anatomy that is as small does not stand out as sharply.
    size = cv2.getStructuringElement(cv2.MORPH_RECT, (15, 15))
    bright = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, size) > 90
    dark = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, size) > 90
    return sum(_lines(_signs(marks)) for marks in (bright, dark))


def _signs(marks: npt.NDArray[np.bool_]) -> list[_Box]:
    """(left, top, width, height) of connected marks that could be letters or digits."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(marks.astype(np.uint8), connectivity=8)
    boxes = []
    for left, top, width, height, area in stats[1:].tolist():
        if _SHORTEST <= height <= _TALLEST and 0.1 <= width / height <= 1.6 and area >= 0.12 * width * height:
            boxes.append((left, top, width, height))
    return boxes


def _lines(boxes: list[_Box]) -> int:
    """Rows of signs of one height, one beside the other."""
    found, rest = 0, sorted(boxes)
    while rest:
        row = [rest.pop(0)]
        for box in list(rest):
            last = row[-1]
            gap = box[0] - (last[0] + last[2])
            even = abs(box[3] - last[3]) <= 0.35 * max(box[3], last[3])
            beside = abs((box[1] + box[3]) - (last[1] + last[3])) <= 0.3 * last[3]
            if even and beside and -1 <= gap <= 1.6 * last[3]:
                row.append(box)
                rest.remove(box)
        found += len(row) >= LETTERS
    return found
