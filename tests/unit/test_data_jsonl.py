"""The JSONL form of a data set: what a line may hold, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.data.jsonl import line_of, samples_of
from model.data.opening import open_dataset
from model.data.sample import Box, Sample
from model.data.store import DataError

ROW = {
    "image": "images/a.png",
    "patient": "7",
    "view": "AP",
    "source": "somebody",
    "finding": "Lung Opacity",
    "phrase": "opacity in the right lung",
    "boxes": [[2, 1, 3, 2.4]],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    pixels = np.arange(80, dtype=np.uint8).reshape(8, 10)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), pixels)
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(ROW) + "\n\n" + json.dumps(ROW | {"boxes": [], "finding": "Normal"}) + "\n")
    return path


def test_a_line_becomes_a_sample(file: Path) -> None:
    first, second = open_dataset(str(file)).samples()

    assert first == Sample(
        "images/a.png",
        "7",
        "opacity in the right lung",
        (Box(2, 1, 3, 2.4),),
        finding="Lung Opacity",
        view="AP",
        source="somebody",
    )
    assert (first.present, second.present) == (True, False)


def test_pixels_are_the_stored_ones_between_0_and_1(file: Path) -> None:
    pixels = open_dataset(str(file)).pixels("images/a.png")

    assert pixels.dtype == np.float32
    np.testing.assert_allclose(pixels * 255, np.arange(80).reshape(8, 10), atol=1e-4)


def test_a_box_becomes_a_mask_whose_edges_go_to_the_nearest_pixel(file: Path) -> None:
    data = open_dataset(str(file))

    mask = data.mask(data.samples()[0])

    assert mask.shape == (8, 10)
    assert np.argwhere(mask).tolist() == [[row, column] for row in (1, 2) for column in (2, 3, 4)]


def test_what_lies_outside_the_image_is_cut(file: Path) -> None:
    data = open_dataset(str(file))

    mask = data.mask(Sample("images/a.png", "7", "x", (Box(-5, -4, 7, 5), Box(9, 7, 20, 20), Box(-9, -9, 2, 2))))

    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1], [7, 9]]


def test_a_drawn_mask_says_where_instead_of_boxes(file: Path) -> None:
    drawn = np.zeros((8, 10), np.uint8)
    drawn[3, 4] = 1
    cv2.imwrite(str(file.parent / "m.png"), drawn)
    file.write_text(json.dumps(ROW | {"boxes": [], "mask": "m.png"}))
    data = open_dataset(str(file))

    mask = data.mask(data.samples()[0])

    assert data.samples()[0].present
    assert np.argwhere(mask).tolist() == [[3, 4]]


def test_a_mask_of_another_size_is_refused(file: Path) -> None:
    cv2.imwrite(str(file.parent / "m.png"), np.zeros((8, 11), np.uint8))
    file.write_text(json.dumps(ROW | {"mask": "m.png"}))
    data = open_dataset(str(file))

    with pytest.raises(DataError, match=r"\(8, 11\), its image \(8, 10\)"):
        data.mask(data.samples()[0])


def test_a_sample_survives_being_written_and_read() -> None:
    samples = (
        Sample("ä.png", "7", "Erguß", (Box(1, 2, 3.5, 4),), "m.png", finding="f", view="PA", source="s"),
        Sample("b.png", "8", "none"),
    )

    assert samples_of("".join(map(line_of, samples)).encode(), "x.jsonl") == samples


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON"),
        ("[1]", "not a JSON object"),
        (json.dumps({key: ROW[key] for key in ROW if key != "phrase"}), "'phrase' is missing"),
        (json.dumps(ROW | {"phrase": " "}), "'phrase' must be text that is not empty"),
        (json.dumps(ROW | {"image": None}), "'image' must be text that is not empty"),
        (json.dumps(ROW | {"boxes": [[1, 2, 3]]}), r"a box is \[left, top, width, height\] in pixels"),
        (json.dumps(ROW | {"boxes": [[1, 2, 0, 4]]}), "width and height above 0"),
        (json.dumps(ROW | {"boxes": [[1, float("nan"), 1, 4]]}), "four finite numbers"),
    ],
)
def test_a_line_that_is_not_of_the_form_is_named_by_its_number(line: str, reason: str) -> None:
    with pytest.raises(DataError, match=rf"data.jsonl, line 2: .*{reason}"):
        samples_of(f"\n{line}\n".encode(), "data.jsonl")


def test_an_error_never_names_the_patient() -> None:
    with pytest.raises(DataError) as caught:
        samples_of(json.dumps(ROW | {"patient": "Jane Doe", "boxes": [["Jane Doe", 1, 2, 3]]}).encode(), "data.jsonl")

    assert "Jane" not in str(caught.value)


def test_the_version_changes_with_any_byte_of_labels_or_images(file: Path) -> None:
    before = open_dataset(str(file)).version

    assert open_dataset(str(file)).version == before
    file.write_text(file.read_text() + "\n")
    after_labels = open_dataset(str(file)).version
    image = file.parent / "images" / "a.png"
    image.write_bytes(image.read_bytes() + b"\0")
    assert len({before, after_labels, open_dataset(str(file)).version}) == 3
