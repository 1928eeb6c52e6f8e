"""Source pixels, upright square and back: for every shape and all eight orientations."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.geometry import UPRIGHT, Letterbox, Orientation

orientations = st.builds(Orientation, st.booleans(), st.booleans(), st.booleans())
letterboxes = st.builds(Letterbox, st.integers(1, 5000), st.integers(1, 5000), orientations)
fractions = st.floats(0, 1)


@given(letterboxes, fractions, fractions)
def test_a_point_goes_to_the_square_and_comes_back(box: Letterbox, across: float, down: float) -> None:
    point = np.array([[across * box.columns, down * box.rows]])

    unit = box.to_unit(point)

    assert ((unit >= 0) & (unit <= 1)).all()
    assert box.to_source(unit) == pytest.approx(point, abs=1e-6)


@given(letterboxes)
def test_nothing_is_stretched(box: Letterbox) -> None:
    source = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])

    corner, right, down = box.to_unit(source)

    assert np.linalg.norm(right - corner) == pytest.approx(1 / box.side)
    assert np.linalg.norm(down - corner) == pytest.approx(1 / box.side)


@given(letterboxes)
def test_the_image_lies_in_the_middle_of_the_square(box: Letterbox) -> None:
    corners = box.to_unit(np.array([[0.0, 0.0], [box.columns, box.rows]], np.float64))

    margins_before, margins_after = corners.min(axis=0), 1 - corners.max(axis=0)
    assert margins_before == pytest.approx(margins_after, abs=1.5 / box.side)


@given(st.integers(1, 40), st.integers(1, 40), orientations)
def test_every_pixel_lands_where_the_point_map_says(rows: int, columns: int, orientation: Orientation) -> None:
    pixels = np.arange(1, rows * columns + 1, dtype=np.float32).reshape(rows, columns)
    box = Letterbox(rows, columns, orientation)

    square = box.image(pixels, box.side)

    y, x = np.mgrid[:rows, :columns]
    at = box.to_unit(np.stack([x.ravel() + 0.5, y.ravel() + 0.5], axis=1)) * box.side
    column, row = np.floor(at).astype(int).T
    assert (square[row, column] == pixels.ravel()).all()
    assert np.count_nonzero(square) == pixels.size


@given(st.integers(1, 90), st.integers(1, 90), orientations, st.integers(1, 64))
def test_shrinking_an_image_before_it_is_padded_changes_nothing(
    rows: int, columns: int, orientation: Orientation, size: int
) -> None:
    pixels = np.random.default_rng(rows * 100 + columns).random((rows, columns), dtype=np.float32)
    box = Letterbox(rows, columns, orientation)
    square = np.zeros((box.side, box.side), np.float32)
    left, top = box.padding
    square[top : top + box.upright_shape[0], left : left + box.upright_shape[1]] = orientation.apply(pixels)
    method = cv2.INTER_AREA if size <= box.side else cv2.INTER_LINEAR

    whole = cv2.resize(square, (size, size), interpolation=method)

    assert box.image(pixels, size) == pytest.approx(whole, abs=1e-4)


@given(st.integers(1, 60), st.integers(1, 60), orientations, st.integers(1, 32))
def test_inside_marks_the_cells_whose_centre_is_image(
    rows: int, columns: int, orientation: Orientation, size: int
) -> None:
    box = Letterbox(rows, columns, orientation)

    inside = box.inside(size)

    y, x = np.mgrid[:size, :size]
    source = box.to_source((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / size)
    margin = 1e-9 * box.side
    clearly_in = ((source > margin) & (source < np.array([columns, rows]) - margin)).all(axis=1)
    clearly_out = ((source < -margin) | (source > np.array([columns, rows]) + margin)).any(axis=1)
    assert inside.ravel()[clearly_in].all()
    assert not inside.ravel()[clearly_out].any()


def test_the_eight_orientations_differ() -> None:
    pixels = np.array([[1, 2, 3], [4, 5, 6]], np.float32)

    turned = {
        Orientation(transpose, rows, columns).apply(pixels).tobytes()
        for transpose in (False, True)
        for rows in (False, True)
        for columns in (False, True)
    }

    assert len(turned) == 8
    assert (UPRIGHT.apply(pixels) == pixels).all()


def test_a_larger_network_grid_keeps_values_in_range() -> None:
    pixels = np.array([[0, 1], [1, 0]], np.float32)

    square = Letterbox(2, 2).image(pixels, 64)

    assert square.shape == (64, 64)
    assert square.min() >= 0
    assert square.max() <= 1


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (5, 0), (-1, 5)])
def test_an_empty_image_has_no_letterbox(rows: int, columns: int) -> None:
    with pytest.raises(ValueError, match="at least one row and column"):
        Letterbox(rows, columns)


def test_pixels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected pixels of shape"):
        Letterbox(4, 4).image(np.zeros((4, 5), np.float32), 8)
