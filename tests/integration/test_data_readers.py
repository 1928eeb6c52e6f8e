"""Readers of published data sets, held to the development data, to the miniature of MS-CXR and to the twin."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from mscxr import COCO_NAME, COLUMNS, CSV_NAME, write_miniature

from model.data.jsonl import line_of
from model.data.opening import open_dataset
from model.data.pins import DataError, write_pins
from model.data.sample import Box
from model.twin.sample import sample


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ms-cxr")
    write_miniature(folder, 6, 3, size=128)
    return folder


def test_nih_and_rsna_boxes_become_the_rows_of_the_development_data(shared: Path) -> None:
    folder = shared / "data/cxr/nih"
    expected = [json.loads(line) for line in (folder / "grounding.jsonl").read_text().splitlines()]

    data = open_dataset(str(folder))

    assert [json.loads(line_of(row)) for row in data.samples()] == expected
    assert data.mask(data.samples()[0]).shape == (512, 512)


def _nih(folder: Path, boxes: str, *, size: int = 256) -> Path:
    """NIH's own release with two images, the second without a box."""
    (folder / "images").mkdir()
    for name in ("00000001_000.png", "00000001_001.png"):
        cv2.imwrite(str(folder / "images" / name), np.full((size, size), 90, np.uint8))
    (folder / "Data_Entry_2017_v2020.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Sex,View Position\n"
        "00000001_000.png,Effusion,0,1,57,M,PA\n"
        "00000001_001.png,No Finding,1,1,58,M,AP\n"
        "00000002_000.png,,0,2,80,M,PA\n"
    )
    (folder / "BBox_List_2017.csv").write_text(f"Image Index,Finding Label,Bbox [x,y,w,h],,,\n{boxes}")
    return folder


def test_nihs_own_tables_are_read_with_their_odd_header(tmp_path: Path) -> None:
    folder = _nih(tmp_path, "00000001_000.png,Effusion,100.0,200.0,300.0,400.0,,,\n")

    rows = open_dataset(str(folder)).samples()

    assert [(row.phrase, row.patient, row.view) for row in rows] == [
        ("effusion", "1", "PA"),
        ("right effusion", "1", "PA"),
    ]
    assert rows[0].boxes == (Box(25, 50, 75, 100),)


def test_a_box_of_a_finding_in_the_midline_has_no_side(tmp_path: Path) -> None:
    folder = _nih(
        tmp_path, "00000001_000.png,Cardiomegaly,300,400,300,300,,,\n00000001_001.png,Mass,480,400,90,90,,,\n"
    )

    assert [row.phrase for row in open_dataset(str(folder)).samples()] == ["cardiomegaly", "mass"]


def test_an_image_of_another_size_than_the_rest_is_refused_since_boxes_would_miss(tmp_path: Path) -> None:
    folder = _nih(tmp_path, "00000001_000.png,Mass,80,40,90,90,,,\n00000001_001.png,Mass,480,400,90,90,,,\n")
    cv2.imwrite(str(folder / "images/00000001_001.png"), np.zeros((512, 512), np.uint8))
    data = open_dataset(str(folder))

    with pytest.raises(DataError, match=r"\(512, 512\) and the labels say \(256, 256\)"):
        data.pixels("images/00000001_001.png")


def test_a_number_that_is_none_is_named_by_its_line(tmp_path: Path) -> None:
    folder = _nih(tmp_path, "00000001_000.png,Mass,80,40,90,90,,,\n00000001_001.png,Mass,nan,400,90,90,,,\n")

    with pytest.raises(DataError, match=r"BBox_List_2017.csv, line 3: no number in column Bbox \[x"):
        open_dataset(str(folder))


def test_the_miniature_has_exactly_the_published_form(miniature: Path) -> None:
    with (miniature / CSV_NAME).open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert tuple(rows[0]) == COLUMNS
    assert all((miniature / row["path"]).is_file() for row in rows)
    assert len({row["path"] for row in rows}) == 6
    assert len({row["path"].split("/")[2] for row in rows}) == 5


def test_several_boxes_of_one_phrase_on_one_image_are_one_sample(miniature: Path) -> None:
    with (miniature / CSV_NAME).open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    samples = open_dataset(str(miniature)).samples()

    assert len(samples) == len({(row["path"], row["category_name"], row["label_text"]) for row in rows}) < len(rows)
    assert sum(len(each.boxes) for each in samples) == len(rows)
    assert {each.patient for each in samples} == {row["path"].split("/")[2] for row in rows}


def test_ms_cxrs_table_and_its_coco_file_give_the_same_samples(miniature: Path) -> None:
    table = open_dataset(str(miniature / CSV_NAME))
    coco = open_dataset(str(miniature / COCO_NAME))

    assert table.samples() == coco.samples()
    assert table.version != coco.version


def test_the_boxes_of_the_miniature_lie_on_its_images(miniature: Path) -> None:
    data = open_dataset(str(miniature))

    for each in data.samples():
        mask = data.mask(each)
        assert mask.shape == data.pixels(each.image).shape
        assert mask.any()


def test_the_published_split_is_taken_by_its_name(miniature: Path) -> None:
    whole, part = open_dataset(str(miniature)), open_dataset(f"{miniature}#train")

    assert 0 < len(part.samples()) <= len(whole.samples())
    with pytest.raises(DataError, match=r"no row of the split 'dev'; its splits: train"):
        open_dataset(f"{miniature}#dev")


def test_images_that_were_made_smaller_are_refused_since_boxes_would_miss(miniature: Path, tmp_path: Path) -> None:
    folder = tmp_path / "smaller"
    shutil.copytree(miniature, folder)
    for path in folder.rglob("*.jpg"):
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (64, 64)))
    data = open_dataset(str(folder))

    with pytest.raises(DataError, match=r"\(64, 64\) and the labels say"):
        data.mask(data.samples()[0])


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (CSV_NAME, "dicom_id,path\n", "has no column category_name, label_text"),
        (CSV_NAME, ",".join(COLUMNS) + "\nEdema,edema,a,files/p10/x.jpg,1,1,1,1,9,9,train\n", "line 2: the path of an"),
        (CSV_NAME, ",".join(COLUMNS) + "\nEdema,edema,a,/p/p/s/x.jpg,1,1,1,1,9,9,train\n", "line 2: the path of an"),
        (COCO_NAME, "[]", "expected images, categories and annotations"),
        (COCO_NAME, "{", "expected images, categories and annotations"),
    ],
)
def test_what_is_not_ms_cxr_is_refused(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(DataError, match=reason):
        open_dataset(str(tmp_path))


def test_the_twin_gives_its_exact_masks_and_one_phrase_for_what_is_not_there(tmp_path: Path) -> None:
    data = open_dataset("twin:40-42@96", cache=tmp_path)
    made = sample(40, size=96)

    rows = [row for row in data.samples() if row.patient == "twin-40"]

    assert [row.finding for row in rows if row.present] == [each.concept for each in made.findings]
    assert sum(not row.present for row in rows) == 1
    for row, finding in zip(rows, made.findings, strict=False):
        np.testing.assert_array_equal(data.mask(row), finding.mask)
    np.testing.assert_allclose(data.pixels(rows[0].image), made.pixels, atol=0.5 / 255 + 1e-6)


def test_the_twin_is_rendered_once(tmp_path: Path) -> None:
    first = open_dataset("twin:40-42@96", cache=tmp_path)
    (image,) = tmp_path.glob("*/images/40.png")
    before = image.stat().st_mtime_ns

    again = open_dataset("twin:40-42@96", cache=tmp_path)

    assert image.stat().st_mtime_ns == before
    assert again.version == first.version
    assert open_dataset("twin:40-41@96", cache=tmp_path).version != first.version


def test_many_samples_of_the_twin_are_rendered_by_several_processes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = open_dataset("twin:40-42@64", cache=tmp_path / "here")
    monkeypatch.setattr("model.data.twin._ALONE", 1)

    assert open_dataset("twin:40-42@64", cache=tmp_path / "there").version == here.version


@pytest.mark.parametrize("where", ["twin:5-5", "twin:0-1@8"])
def test_a_twin_that_cannot_be_is_refused(tmp_path: Path, where: str) -> None:
    with pytest.raises(DataError, match="twin:0-100"):
        open_dataset(where, cache=tmp_path)


def test_what_is_no_data_set_is_refused_with_what_was_looked_for(tmp_path: Path) -> None:
    for where in (tmp_path, tmp_path / "missing", tmp_path / "x.jsonl"):
        with pytest.raises(DataError, match=r"looked for a .jsonl file; a folder from `sightline prepare`"):
            open_dataset(str(where))


def test_a_folder_of_another_version_is_refused(miniature: Path) -> None:
    version = open_dataset(str(miniature)).version

    assert open_dataset(str(miniature), version=version).version == version
    with pytest.raises(DataError, match="these are other data"):
        open_dataset(str(miniature), version="0" * 64)


def test_a_pinned_folder_refuses_a_byte_that_differs(miniature: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pinned"
    shutil.copytree(miniature, folder)
    unpinned = open_dataset(str(folder)).version
    write_pins(folder)
    image = open_dataset(str(folder)).samples()[0].image

    assert open_dataset(str(folder)).version == unpinned
    (folder / image).write_bytes((folder / image).read_bytes() + b"\0")
    with pytest.raises(DataError, match="is not the file of the pinned version"):
        open_dataset(str(folder)).pixels(image)
