"""Real lung outlines for training the anatomy: the Hannover radiographs (CC BY 3.0) with V7's masks (CC BY 4.0).

V7's masks are squares of 2,000 pixels, of the square in the middle of each film; of a few films, that had been cut to
another square before. A collection that stretched these squares to the shape of their images has outlines that run
centimetres beside the lungs; :func:`on_image` puts them back, by the image alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt

from model.geometry import letterbox_of

#: Greys of 256 by which air is darker than what lies beside it; 17 at the least where a mask fits, -23 where not.
_DARKER = 5
_SOUGHT_AT = 256  # pixels along the longer side
#: "(2000, 2000)/...": the size of the mask as it was drawn.
_SQUARE = re.compile(r"\((\d+), \1\)")
Greys = npt.NDArray[np.uint8]
Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def is_measured(patient: str) -> bool:
    """Whether the outlines of *patient* are kept for measuring: one in five, by a hash."""
    return crc32(patient.encode()) % 5 == 0


def read_lungs(
    folder: Path, *, size: int, cells: int, wanted: Callable[[str], bool]
) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Every radiograph with a mask: pixels (size, size) in [0, 1] and lungs (2, cells, cells), right first.

    Parameters
    ----------
    folder : with ``manifest.csv``, ``images`` and ``v7_lung_masks``. Where the manifest has a column ``v7_mask_sizes``
        that begins with a square, the masks were drawn on squares.
    wanted : which patients.

    Returns
    -------
    The pairs, and the patient of each.
    """
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"].startswith("images/")]
    pairs, patients = [], []
    for row in rows:
        name = Path(row["file"]).name
        mask_file = folder / "v7_lung_masks" / name
        if mask_file.exists() and wanted(row["patient"]):
            image, mask = (_greys(file) for file in (folder / "images" / f"{name}.jpg", mask_file))
            squared = bool(_SQUARE.match(row.get("v7_mask_sizes") or ""))
            pairs.append(_pair(image, on_image(mask, image, squared=squared), size=size, cells=cells))
            patients.append(row["patient"])
    return tuple(pairs), tuple(patients)


def whole_lungs(lungs: npt.NDArray[np.float32], heart: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Lungs (2, h, w), right first, with what lies before and behind the *heart* (h, w), as V7 outlines them.

    At the heart a lung reaches as far to the middle as it does anywhere above.
    """
    whole = lungs.copy()
    for number, lung in enumerate(lungs > 0.5):
        if lung.any():
            rows, columns = np.nonzero(lung)
            across, down = np.arange(lung.shape[1])[None, :], np.arange(lung.shape[0])[:, None]
            lateral = across >= columns.min() if number else across <= columns.max()
            whole[number] = np.maximum(whole[number], (heart > 0.5) & lateral & (down <= rows.max()))
    return whole


def _greys(file: Path) -> Greys:
    return np.asarray(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), np.uint8)


@dataclass(frozen=True, slots=True)
class Square:
    """A square of an image: its side and its upper left corner, in pixels."""

    side: float
    left: float
    top: float

    def shrunk(self, by: float) -> Square:
        """The same in an image that is *by* times as large."""
        return Square(self.side * by, self.left * by, self.top * by)


def on_image(mask: Greys, image: Greys, *, squared: bool) -> npt.NDArray[np.bool_]:
    """A stored *mask*, of any size, where it belongs in *image*: bool (rows, columns).

    Parameters
    ----------
    squared : the mask shows a square of the image, else the whole. That is the square in its middle; where the mask
        there does not lie on the lungs, it is the one where the outer border of each lung stands out the most.
    """
    if not squared:
        return np.asarray(cv2.resize(mask, image.shape[::-1], interpolation=cv2.INTER_NEAREST) > 127)
    rows, columns = image.shape
    side = min(rows, columns)
    square = Square(side, (columns - side) / 2, (rows - side) / 2)
    shrink = _SOUGHT_AT / max(rows, columns)
    small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    even = np.asarray(cv2.createCLAHE(3.0, (4, 4)).apply(small), np.uint8)

    def fit(other: Square) -> float:
        return contrast(even, _laid(mask, other.shrunk(shrink), even.shape))

    if fit(square) < _DARKER:
        square = max(_squares(rows, columns), key=fit)
    return _laid(mask, square, image.shape)


def contrast(even: Greys, lungs: npt.NDArray[np.bool_]) -> float:
    """By how many greys the chest wall is brighter than the lung, where its outer border is outlined; the worse side.

    Parameters
    ----------
    even : an image whose contrast is alike everywhere.
    lungs : both of them, of the same shape.
    """
    size, both = max(even.shape), lungs.astype(np.uint8)
    columns = np.flatnonzero(both.any(axis=0))
    if not len(columns):
        return -255.0
    thin, wide = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (size // 73, size // 20 | 1))
    without = (cv2.dilate(both, wide) > 0) & (cv2.dilate(both, thin) == 0)
    within = (cv2.erode(both, thin) > 0) & (cv2.erode(both, wide) == 0)
    quarter = len(columns) // 4
    sides = (np.s_[:, : columns[0] + quarter], np.s_[:, columns[-1] - quarter :])
    pairs = [(even[each][without[each]], even[each][within[each]]) for each in sides]
    return min(float(a.mean() - b.mean()) if len(a) and len(b) else -255.0 for a, b in pairs)


def _squares(rows: int, columns: int) -> Iterator[Square]:
    """Squares that a film may have been cut to, in steps of a few millimetres."""
    step = max(rows, columns) / 64
    for share in (1.0, 0.93, 0.86):
        side = share * min(rows, columns)
        for top in np.arange((rows - side) % step / 2, rows - side + 1e-3, step):
            for left in np.arange((columns - side) % step / 2, columns - side + 1e-3, step):
                yield Square(side, float(left), float(top))


def _laid(mask: Greys, square: Square, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """*mask* stretched over *square* of an image of *shape* (rows, columns)."""
    across, down = square.side / mask.shape[1], square.side / mask.shape[0]
    matrix = np.array([[across, 0, square.left + (across - 1) / 2], [0, down, square.top + (down - 1) / 2]])
    return np.asarray(cv2.warpAffine(mask, matrix, shape[::-1], flags=cv2.INTER_LINEAR) > 127)


def _pair(image: Greys, mask: npt.NDArray[np.bool_], *, size: int, cells: int) -> Pair:
    pixels = image.astype(np.float32) / 255
    box = letterbox_of(pixels)
    halves = np.stack([box.image(half.astype(np.float32), cells) for half in _halves(mask)])
    return box.image(pixels, size), (halves > 0.5).astype(np.float32)


def _halves(lungs: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The patient's right and left lung: the components left and right of the middle of all of them."""
    count, labels, _, centres = cv2.connectedComponentsWithStats(lungs.astype(np.uint8))
    middle = np.argwhere(lungs)[:, 1].mean()
    right = np.isin(labels, [number for number in range(1, count) if centres[number][0] < middle])
    return right, lungs & ~right
