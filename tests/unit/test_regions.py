import numpy as np
import pytest

from model.geometry import Letterbox, Orientation
from model.regions import MOST_REGIONS, regions_of
from model.values import Heatmap


def heatmap(values, rows=256, columns=256, orientation=None):
    return Heatmap(np.asarray(values, np.float32), Letterbox(rows, columns, orientation or Orientation()))


def square(size=64, rows=slice(16, 32), columns=slice(8, 24), value=0.9):
    values = np.zeros((size, size), np.float32)
    values[rows, columns] = value
    return values


def test_a_square_of_cells_becomes_a_region_over_its_pixels():
    (region,) = regions_of(heatmap(square()), 0.45)

    left, top, right, bottom = region.box
    assert (left, top, right, bottom) == pytest.approx((32, 64, 96, 128), abs=1)
    assert region.probability == pytest.approx(0.9)
    assert region.mask(256, 256).sum() == pytest.approx(64 * 64, rel=0.03)


def test_nothing_above_the_threshold_is_no_region():
    assert regions_of(heatmap(square(value=0.4)), 0.5) == ()


def test_a_region_at_the_border_is_closed_and_stays_inside_the_image():
    (region,) = regions_of(heatmap(square(rows=slice(0, 16), columns=slice(0, 16))), 0.45)

    left, top, _, _ = region.box
    assert min(left, top) >= 0
    assert region.mask(256, 256)[:60, :60].mean() > 0.99


def test_a_region_never_reaches_into_the_padding():
    (region,) = regions_of(heatmap(np.ones((64, 64)), rows=256, columns=128), 0.5)

    assert region.box[0] >= 0
    assert region.box[2] <= 128
    assert region.mask(256, 128).mean() > 0.97


def test_a_turned_image_gets_its_region_in_its_own_pixels():
    turned = Orientation(transpose=True, reverse_rows=True, reverse_columns=False)
    box = Letterbox(200, 300, turned)

    (region,) = regions_of(heatmap(square(columns=slice(20, 36)), 200, 300, turned), 0.45)

    corners = box.to_source(np.array([[20, 16], [36, 32]]) / 64)
    assert region.box == pytest.approx((*corners.min(axis=0), *corners.max(axis=0)), abs=3)


def test_a_hole_is_filled():
    ring = square(rows=slice(8, 56), columns=slice(8, 56))
    ring[24:40, 24:40] = 0

    (region,) = regions_of(heatmap(ring), 0.45)

    assert region.mask(256, 256)[128, 128]


def test_specks_are_dropped_and_the_largest_comes_first():
    values = square() + square(rows=slice(40, 60), columns=slice(30, 60))
    values[2, 60] = 0.95

    regions = regions_of(heatmap(values), 0.45)

    areas = [region.mask(256, 256).sum() for region in regions]
    assert len(regions) == 2
    assert areas == sorted(areas, reverse=True)


def test_at_most_a_handful_of_regions_is_kept():
    values = np.zeros((64, 64))
    values[::6, ::6] = values[1::6, ::6] = values[::6, 1::6] = values[1::6, 1::6] = 0.9

    assert len(regions_of(heatmap(values), 0.45)) == MOST_REGIONS


@pytest.mark.parametrize("threshold", [0, 1, -1])
def test_a_threshold_that_is_no_probability_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        regions_of(heatmap(square()), threshold)
