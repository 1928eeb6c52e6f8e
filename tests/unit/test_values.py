"""The values of the model: what cannot be is refused, and a region has one rasterisation."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.geometry import Letterbox, Orientation
from model.values import Grounding, Heatmap, ModelCard, Query, Region, State

coordinates = st.floats(-20, 60, allow_nan=False)
outlines = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12).map(tuple)


def crossing_number(outline: tuple[tuple[float, float], ...], *, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The definition, pixel by pixel: an odd number of edges lies to the left of the centre."""
    y, x = np.mgrid[:rows, :columns] + 0.5
    inside = np.zeros((rows, columns), np.bool_)
    for (x0, y0), (x1, y1) in zip(outline, outline[1:] + outline[:1], strict=True):
        low, high = sorted((y0, y1))
        crossed = (y >= low) & (y < high)
        at = x0 + (y - y0) * (x1 - x0) / (y1 - y0) if y1 != y0 else np.inf
        inside ^= crossed & (x >= at)
    return inside


@given(outlines)
def test_a_mask_holds_the_pixels_whose_centre_lies_inside(outline: tuple[tuple[float, float], ...]) -> None:
    mask = Region(outline, 0.5).mask(30, 40)

    assert (mask == crossing_number(outline, rows=30, columns=40)).all()


def test_neighbouring_regions_share_no_pixel_and_leave_no_gap() -> None:
    left = Region(((0, 0), (10, 0), (12, 20), (0, 20)), 0.5).mask(20, 30)
    right = Region(((10, 0), (30, 0), (30, 20), (12, 20)), 0.5).mask(20, 30)

    assert (left ^ right).all()


def test_a_mask_agrees_with_opencv_but_for_the_rim() -> None:
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = tuple(zip(100 + 80 * np.cos(angle), 70 + 50 * np.sin(angle), strict=True))
    drawn = np.zeros((140, 200), np.uint8)
    cv2.fillPoly(drawn, [np.round(np.array(outline)).astype(np.int32)], 1)

    mask = Region(outline, 0.5).mask(140, 200)

    rim = cv2.dilate(drawn, np.ones((5, 5))) - cv2.erode(drawn, np.ones((5, 5)))
    assert (mask == drawn.astype(bool))[rim == 0].all()
    assert mask.sum() == pytest.approx(np.pi * 80 * 50, rel=0.01)


@pytest.mark.parametrize("shift", [(-500, 0), (0, -500), (500, 0), (0, 500)])
def test_a_region_outside_the_image_marks_nothing(shift: tuple[int, int]) -> None:
    outline = tuple((x + shift[0], y + shift[1]) for x, y in ((2.0, 2.0), (20.0, 2.0), (20.0, 20.0)))

    assert not Region(outline, 0.5).mask(30, 30).any()


def test_a_region_knows_its_box() -> None:
    assert Region(((1, 5), (7, 2), (4, 9)), 0.5).box == (1, 2, 7, 9)


@pytest.mark.parametrize("orientation", [Orientation(), Orientation(True, False, True), Orientation(False, True, True)])
def test_a_heatmap_lies_on_the_source_where_its_geometry_says(orientation: Orientation) -> None:
    box = Letterbox(60, 40, orientation)
    values = np.zeros((15, 15), np.float32)
    values[6, 9] = 1
    heatmap = Heatmap(values, box)

    on_source = heatmap.on_source()

    expected = box.to_source(np.array([[9.5 / 15, 6.5 / 15]]))[0]
    row, column = np.unravel_index(on_source.argmax(), on_source.shape)
    assert on_source.shape == (60, 40)
    assert abs(column + 0.5 - expected[0]) <= 1
    assert abs(row + 0.5 - expected[1]) <= 1


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Region(((0, 0), (1, 1)), 0.5), "three vertices"),
        (lambda: Region(((0, 0), (1, 1), (1, 0)), 1.5), r"\[0, 1\]"),
        (lambda: Heatmap(np.zeros((2, 3), np.float32), Letterbox(4, 4)), "square"),
        (lambda: Heatmap(np.full((2, 2), np.nan, np.float32), Letterbox(4, 4)), "probabilities"),
        (lambda: Heatmap(np.full((2, 2), 2, np.float32), Letterbox(4, 4)), "probabilities"),
        (lambda: Query(" ", "effusion"), "needs text"),
        (lambda: Query("effusion", "effusion", side="up"), "side is"),
        (lambda: Grounding(Query("a", "a"), State.FOUND, 0.5), "exactly for the states"),
        (lambda: Grounding(Query("a", "a"), State.NOT_FOUND, 1.5), r"\[0, 1\]"),
        (lambda: ModelCard("m", "1", "0" * 64, 1.0), r"\(0, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_a_heatmap_cannot_be_changed() -> None:
    heatmap = Heatmap(np.zeros((2, 2), np.float32), Letterbox(4, 4))

    with pytest.raises(ValueError, match="read-only"):
        heatmap.values[0, 0] = 1
