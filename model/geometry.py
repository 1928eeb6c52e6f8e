"""From source pixels to the network's square and back: turned upright, letterboxed, never cropped, never stretched.

Coordinates are continuous, (x, y) = (column, row), with (0, 0) at the top-left *corner* of the first pixel
(as DICOM SCOORD, PS3.3 C.18.6.1.1). *Source* coordinates run over [0, columns] x [0, rows]. *Unit* coordinates run
over [0, 1] x [0, 1] of the padded square, so that a heatmap of any size shares one geometry.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Orientation:
    """How stored pixels become an upright frontal view (head up, patient's right on the viewer's left).

    Applied in this order: transpose, then reverse rows, then reverse columns: the eight turns and
    mirrorings of a rectangle. The identity for a normally stored PA or AP image (PatientOrientation ``L\\F``).
    """

    transpose: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def apply(self, pixels: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Upright view of *pixels*; shape (rows, columns), swapped when transposed. No copy."""
        upright = pixels.T if self.transpose else pixels
        return upright[:: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]

    def then(self, other: Orientation) -> Orientation:
        """This and *other* after it, as one: ``then(other).apply(p)`` is ``other.apply(self.apply(p))``."""
        rows, columns = self.reverse_rows, self.reverse_columns
        if other.transpose:
            rows, columns = columns, rows
        return Orientation(
            self.transpose != other.transpose, rows != other.reverse_rows, columns != other.reverse_columns
        )


UPRIGHT = Orientation()


@dataclass(frozen=True, slots=True)
class Letterbox:
    """The invertible map between a source image and the padded upright square the network sees.

    Parameters
    ----------
    rows, columns : of the source pixel matrix.
    orientation : how the source is turned upright.

    Raises
    ------
    ValueError
        If *rows* or *columns* is not positive.
    """

    rows: int
    columns: int
    orientation: Orientation = UPRIGHT

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"an image needs at least one row and column, got {self.rows} x {self.columns}")

    @property
    def side(self) -> int:
        """Side of the padded square in source pixels."""
        return max(self.rows, self.columns)

    @property
    def upright_shape(self) -> tuple[int, int]:
        """(rows, columns) after turning upright."""
        return (self.columns, self.rows) if self.orientation.transpose else (self.rows, self.columns)

    @property
    def padding(self) -> tuple[int, int]:
        """(left, top) padding of the upright image in source pixels; the rest of the padding is right and bottom."""
        rows, columns = self.upright_shape
        return (self.side - columns) // 2, (self.side - rows) // 2

    def image(self, pixels: npt.NDArray[np.float32], size: int) -> npt.NDArray[np.float32]:
        """*pixels* (rows, columns) as the network's square, float32 (size, size); padding is 0."""
        if pixels.shape != (self.rows, self.columns):
            raise ValueError(f"expected pixels of shape {(self.rows, self.columns)}, got {pixels.shape}")
        upright, side = self.orientation.apply(pixels), self.side
        rows, columns = upright.shape
        left, top = self.padding
        method = cv2.INTER_AREA if size <= side else cv2.INTER_LINEAR
        # Along the longer side first, so that only the little that is left of the image is padded.
        first = (columns, size) if rows == side else (size, rows)
        narrow = cv2.resize(np.ascontiguousarray(upright, np.float32), first, interpolation=method)
        beside = (0, 0, left, side - columns - left) if rows == side else (top, side - rows - top, 0, 0)
        padded = cv2.copyMakeBorder(narrow, *beside, cv2.BORDER_CONSTANT, value=(0.0,))
        return np.asarray(cv2.resize(padded, (size, size), interpolation=method), np.float32)

    def to_unit(self, points: Points) -> Points:
        """Source (x, y) points, shape (n, 2), as unit coordinates."""
        x, y = np.asarray(points, np.float64).T
        if self.orientation.transpose:
            x, y = y, x
        rows, columns = self.upright_shape
        if self.orientation.reverse_rows:
            y = rows - y
        if self.orientation.reverse_columns:
            x = columns - x
        left, top = self.padding
        return np.stack([(x + left) / self.side, (y + top) / self.side], axis=1)

    def to_source(self, points: Points) -> Points:
        """Unit (x, y) points, shape (n, 2), as source coordinates; inverse of :meth:`to_unit`."""
        left, top = self.padding
        x, y = np.asarray(points, np.float64).T * self.side
        x, y = x - left, y - top
        rows, columns = self.upright_shape
        if self.orientation.reverse_columns:
            x = columns - x
        if self.orientation.reverse_rows:
            y = rows - y
        if self.orientation.transpose:
            x, y = y, x
        return np.stack([x, y], axis=1)

    @lru_cache(maxsize=16)  # noqa: B019 (a few numbers are kept alive, since every phrase on an image asks)
    def inside(self, size: int) -> npt.NDArray[np.bool_]:
        """Cells of a (size, size) grid whose centre lies in the image and not in the padding; read-only."""
        centres = (np.arange(size) + 0.5) / size * self.side
        rows, columns = self.upright_shape
        left, top = self.padding
        in_rows = (centres >= top) & (centres < top + rows)
        in_columns = (centres >= left) & (centres < left + columns)
        cells = np.asarray(in_rows[:, None] & in_columns[None, :])
        cells.setflags(write=False)
        return cells


def letterbox_of(pixels: npt.NDArray[np.float32], orientation: Orientation = UPRIGHT) -> Letterbox:
    """The letterbox of an image (rows, columns)."""
    rows, columns = pixels.shape
    return Letterbox(rows, columns, orientation)
