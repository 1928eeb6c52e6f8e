import cv2
import numpy as np
import pytest

from model.lungs import contrast, is_measured, on_image, read_lungs, whole_lungs


def film(*, rows, columns, shift=0):
    """Two dark lungs in the square in the middle of a grey film, and their mask as V7 drew it: that square alone."""
    side = min(rows, columns)
    drawn = np.zeros((side, side), np.uint8)
    drawn[side // 5 : side * 4 // 5, side // 8 : side * 2 // 5] = 255
    drawn[side // 5 : side * 4 // 5, side * 3 // 5 : side * 7 // 8] = 255
    pixels = np.full((rows, columns), 180, np.uint8)
    top, left = (rows - side) // 2, (columns - side) // 2 + shift
    pixels[top : top + side, left : left + side][drawn > 0] = 40
    return pixels, cv2.resize(drawn, (2000, 2000), interpolation=cv2.INTER_NEAREST)


@pytest.mark.parametrize(
    ("rows", "columns", "shift"), [(200, 250, 0), (250, 200, 0), (200, 200, 0), (200, 260, 30), (200, 260, -28)]
)
def test_a_mask_of_a_square_lies_where_the_lungs_are(rows, columns, shift):
    pixels, square = film(rows=rows, columns=columns, shift=shift)
    stretched = cv2.resize(square, (columns, rows), interpolation=cv2.INTER_NEAREST)  # as a collection stores it

    placed = on_image(stretched, pixels, squared=True)

    assert (placed == (pixels < 100)).mean() > 0.97


def test_a_mask_of_the_whole_image_stays_as_it_is():
    mask = np.zeros((30, 40), np.uint8)
    mask[5:9, 6:20] = 255

    assert np.array_equal(on_image(mask, np.zeros((30, 40), np.uint8), squared=False), mask > 0)


@pytest.mark.parametrize(("said", "squared"), [("(2000, 2000)/(200, 250)", True), ("", False), ("(250, 200)", False)])
def test_the_manifest_says_which_masks_are_squares(tmp_path, said, squared):
    pixels, square = film(rows=200, columns=250)
    for name in ("images", "v7_lung_masks"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "images" / "1.png.jpg"), pixels)
    cv2.imwrite(str(tmp_path / "v7_lung_masks" / "1.png"), cv2.resize(square, (250, 200)))
    (tmp_path / "manifest.csv").write_text(f'file,patient,v7_mask_sizes\nimages/1.png,one,"{said}"\n')

    ((pair,), _) = read_lungs(tmp_path, size=128, cells=64, wanted=lambda _: True)

    columns = np.flatnonzero(pair[1].any(axis=(0, 1)))
    assert bool(columns[-1] - columns[0] < 43) is squared  # 38 of 64 cells, and 48 when stretched


def test_the_worse_side_says_how_well_a_mask_fits():
    pixels, _ = film(rows=200, columns=200)
    lungs = pixels < 100
    beside = lungs.copy()
    beside[:, :100] = np.roll(lungs[:, :100], 15, axis=1)

    assert contrast(pixels, lungs) > 130
    assert contrast(pixels, beside) < 100
    assert contrast(pixels, np.zeros_like(lungs)) < 0


def test_the_outlines_of_the_development_data_follow_the_lungs(shared):
    folder = shared / "data" / "cxr" / "hannover"
    pairs, _ = read_lungs(folder, size=256, cells=128, wanted=lambda patient: not is_measured(patient))

    for pixels, lungs in pairs:
        even = cv2.createCLAHE(3.0, (4, 4)).apply(np.round(pixels * 255).astype(np.uint8))
        assert contrast(even, cv2.resize(lungs.max(axis=0), (256, 256)) > 0.5) > 10


def test_a_lung_reaches_behind_the_heart_as_far_as_above_it():
    lungs = np.zeros((2, 12, 20), np.float32)
    lungs[0, 2:10, 2:8] = 1
    lungs[1, 2:10, 12:18] = 1
    lungs[1, 6:10, 12:15] = 0
    heart = np.zeros((12, 20), np.float32)
    heart[6:11, 6:15] = 1

    right, left = whole_lungs(lungs, heart)

    assert (left[6:10, 12:18] == 1).all()
    assert not left[:, :12].any()
    assert not left[10:].any()
    assert (right == lungs[0]).all()


def test_without_a_lung_nothing_is_added():
    assert not whole_lungs(np.zeros((2, 4, 4), np.float32), np.ones((4, 4), np.float32)).any()
