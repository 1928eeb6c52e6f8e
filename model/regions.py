"""From a heatmap to regions: iso-lines at the threshold, in source coordinates. Pure."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from contourpy import FillType, LineType, SerialContourGenerator, ZInterp

from model.values import Heatmap, Region

SMALLEST_SHARE = 0.0003  # of the square: about a 6 mm spot on a 40 cm field
MOST_REGIONS = 8


def regions_of(heatmap: Heatmap, threshold: float) -> tuple[Region, ...]:
    """Areas at least as probable as *threshold*, the largest first; at most :data:`MOST_REGIONS`.

    The border is found between cells by linear interpolation; areas below :data:`SMALLEST_SHARE` of the square are
    dropped, holes are filled, and nothing reaches into the padding.

    Raises
    ------
    ValueError
        If *threshold* is outside (0, 1).
    """
    if not 0 < threshold < 1:
        raise ValueError("threshold lies in (0, 1)")
    lit = heatmap.values >= threshold
    if not lit.any():
        return ()
    size = len(heatmap.values)
    # Cell centres in unit coordinates; the frame of zeros closes every line.
    centres = (np.arange(-1, size + 1) + 0.5) / size
    rows, columns = (_around(lit.any(axis=axis)) for axis in (1, 0))
    bordered = np.pad(heatmap.values, 1)[rows, columns]
    lines = _lines(centres[columns], centres[rows], bordered, threshold)
    outlines = [np.asarray(line, np.float64)[:-1] for line in lines if len(line) > 3]
    areas = [_signed_area(outline) for outline in outlines]
    sign = np.sign(max(areas, key=abs)) if areas else 1.0  # holes run the other way round
    kept = [
        (abs(area), outline) for outline, area in zip(outlines, areas, strict=True) if area * sign >= SMALLEST_SHARE
    ]
    kept.sort(key=lambda each: (-each[0], each[1][0].tolist()))
    return tuple(_region(heatmap, outline) for _, outline in kept[:MOST_REGIONS])


def _lines(
    x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], z: npt.NDArray[np.float32], level: float
) -> list[npt.NDArray[np.float64]]:
    """As contourpy's ``contour_generator``, which first looks for masked values: that takes as long as the lines."""
    across, down = np.meshgrid(x, y)
    made = SerialContourGenerator(
        across,
        down,
        z.astype(np.float64),
        None,  # type: ignore[arg-type]  # nothing is masked; its own factory passes this, too
        corner_mask=False,
        line_type=LineType.Separate,
        fill_type=FillType.OuterOffset,
        quad_as_tri=False,
        z_interp=ZInterp.Linear,
    )
    return [np.asarray(line, np.float64) for line in made.lines(level)]


def _around(lit: npt.NDArray[np.bool_]) -> slice:
    """The part of a bordered axis that holds what is lit, and one cell around it: lines are sought nowhere else."""
    where = np.flatnonzero(lit)
    return slice(int(where[0]), int(where[-1]) + 3)


def _signed_area(outline: npt.NDArray[np.float64]) -> float:
    x, y = outline.T
    around = x[-1] * y[0] - x[0] * y[-1]
    return float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]) + around) / 2


def _region(heatmap: Heatmap, outline: npt.NDArray[np.float64]) -> Region:
    box = heatmap.letterbox
    source = box.to_source(outline)
    source[:, 0] = np.clip(source[:, 0], 0, box.columns)
    source[:, 1] = np.clip(source[:, 1], 0, box.rows)
    tolerance = 0.1 * box.side / len(heatmap.values)  # a tenth of a cell
    simple = cv2.approxPolyDP(source.astype(np.float32), tolerance, True)[:, 0].astype(np.float64)
    vertices = np.round(simple if len(simple) >= 3 else source, 2)
    return Region(tuple((float(x), float(y)) for x, y in vertices), round(_peak(heatmap, outline), 4))


def _peak(heatmap: Heatmap, outline: npt.NDArray[np.float64]) -> float:
    cells = np.round(outline * len(heatmap.values) - 0.5).astype(np.int32)
    left, top, width, height = cv2.boundingRect(cells)
    left, top = max(left, 0), max(top, 0)
    values = heatmap.values[top : top + height, left : left + width]
    inside = np.zeros(values.shape, np.uint8)
    cv2.fillPoly(inside, [cells - np.array([left, top], np.int32)], (1,))
    return float(values[inside.astype(bool)].max(initial=0.0))
