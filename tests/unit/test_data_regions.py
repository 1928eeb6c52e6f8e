"""Decisions of people on regions become samples: accepted and redrawn say where, "not there" says absent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from model.data.opening import open_dataset
from model.data.pins import DataError
from model.data.prepare import Settings, prepare
from model.data.sample import Box

LINE = {"image": "a.png", "patient": "7", "phrase": "left effusion", "finding": "pleural effusion", "view": "AP"}
SQUARE = [[2, 3], [8, 3], [8, 9], [2, 9]]


def _open(folder: Path, *lines: dict[str, Any]) -> Any:
    cv2.imwrite(str(folder / "a.png"), np.tile(np.arange(0, 240, 12, dtype=np.uint8), (20, 1)))
    (folder / "decisions.jsonl").write_text("\n".join(json.dumps(LINE | line) for line in lines))
    return open_dataset(str(folder / "decisions.jsonl"))


def _square(rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[rows, columns] = True
    return mask


@pytest.mark.parametrize("decision", ["accepted", "redrawn"])
def test_what_was_accepted_or_redrawn_says_where(tmp_path: Path, decision: str) -> None:
    data = _open(tmp_path, {"decision": decision, "polygons": [SQUARE]})

    (sample,) = data.samples()

    assert (sample.phrase, sample.patient, sample.present) == ("left effusion", "7", True)
    np.testing.assert_array_equal(data.mask(sample), _square(slice(3, 9), slice(2, 8)))


def test_boxes_stay_boxes_and_one_mask_stays_a_mask(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), _square(slice(0, 2), slice(0, 2)).astype(np.uint8))

    boxed, masked = _open(
        tmp_path,
        {"decision": "accepted", "boxes": [[1, 2, 3, 4]]},
        {"decision": "redrawn", "mask": "m.png", "phrase": "mass"},
    ).samples()

    assert (boxed.boxes, boxed.mask) == ((Box(1, 2, 3, 4),), None)
    assert (masked.boxes, masked.mask) == ((), "m.png")


def test_several_decisions_on_one_phrase_are_one_sample_of_all_their_regions(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "m.png"), _square(slice(15, 18), slice(0, 2)).astype(np.uint8))
    data = _open(
        tmp_path,
        {"decision": "accepted", "polygons": [SQUARE]},
        {"decision": "rejected", "reason": "not there", "polygons": [[[10, 10], [12, 10], [12, 12]]]},
        {"decision": "redrawn", "boxes": [[15, 15, 3, 3]], "mask": "m.png"},
    )

    (sample,) = data.samples()

    expected = _square(slice(3, 9), slice(2, 8)) | _square(slice(15, 18), slice(15, 18))
    np.testing.assert_array_equal(data.mask(sample), expected | _square(slice(15, 18), slice(0, 2)))


def test_what_was_rejected_as_not_there_is_absent(tmp_path: Path) -> None:
    data = _open(tmp_path, {"decision": "rejected", "reason": "not there", "polygons": [SQUARE]})

    (sample,) = data.samples()

    assert not sample.present
    assert not data.mask(sample).any()


def test_what_was_rejected_for_another_reason_says_nothing(tmp_path: Path) -> None:
    assert _open(tmp_path, {"decision": "rejected", "reason": "wrong place"}, {"decision": "rejected"}).samples() == ()


def test_the_version_changes_with_a_redrawn_vertex(tmp_path: Path) -> None:
    first = _open(tmp_path, {"decision": "redrawn", "polygons": [SQUARE]}).version

    assert _open(tmp_path, {"decision": "redrawn", "polygons": [[*SQUARE[:3], [2, 10]]]}).version != first


def test_decisions_can_be_prepared(tmp_path: Path) -> None:
    big = [[x * 8, y * 8] for x, y in SQUARE]
    data = _open(tmp_path, {"decision": "redrawn", "polygons": [big]})
    cv2.imwrite(str(tmp_path / "a.png"), np.tile(np.arange(160, dtype=np.uint8), (160, 1)))

    prepare(data, tmp_path / "out", Settings(size=80))

    made = open_dataset(str(tmp_path / "out"))
    expected = np.zeros((80, 80), bool)
    expected[12:36, 8:32] = True
    np.testing.assert_array_equal(made.mask(made.samples()[0]), expected)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"decision": "maybe"}, "a decision is one of accepted, redrawn, rejected"),
        ({"decision": "accepted"}, "what was accepted has polygons, boxes or a mask"),
        ({"decision": "redrawn", "polygons": [[[1, 2], [3, 4]]]}, "at least three"),
        ({"decision": "redrawn", "polygons": [[[1, 2], [3, 4], [5]]]}, "a vertex is"),
        ({"decision": "redrawn", "polygons": [[[1, 2], [3, 4], [5, "x"]]]}, "two finite numbers"),
        ({"decision": "redrawn", "boxes": [[1, 2, 3]]}, "a box is"),
        ({"decision": "redrawn", "boxes": [[1, 2, 3, 4]], "phrase": ""}, "'phrase' must be text"),
    ],
)
def test_a_decision_that_is_not_of_the_form_is_named_by_its_line(
    tmp_path: Path, line: dict[str, Any], reason: str
) -> None:
    with pytest.raises(DataError, match=rf"decisions.jsonl, line 2: .*{reason}"):
        _open(tmp_path, {"decision": "rejected"}, line)
