"""The command that makes the judge's weights, on a handful of pictures."""

import csv
import json

import cv2
import numpy as np
import pytest

from model.geometry import UPRIGHT
from model.suitability import train
from model.suitability.judge import load_judge
from model.suitability.pictures import films
from model.twin.sample import sample


@pytest.fixture
def folder(tmp_path):
    """Eight films of eight patients, two of them said to be turned, in the form of the collections."""
    for name, column in (("nih", "rotated90"), ("hannover", "projection")):
        (tmp_path / name / "images").mkdir(parents=True)
        rows = []
        for number in range(12):
            pixels = np.round(sample(number, size=64).pixels * 255).astype(np.uint8)
            cv2.imwrite(str(tmp_path / name / "images" / f"{number}.png.jpg"), pixels)
            said = "yes" if name == "nih" and number < 2 else ""
            rows.append({"file": f"images/{number}.png", "patient": f"{name}{number}", column: said})
        rows.append({"file": "data.csv", "patient": "", column: ""})
        with (tmp_path / name / "manifest.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    return tmp_path


def run(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["train", *map(str, arguments)])
    train.main()


def test_films_are_read_with_their_patient_and_what_their_source_says(folder):
    read = list(films(folder))

    assert len(read) == 24
    assert sum(each.turned for each in read) == 2
    assert {each.patient for each in read} >= {"nih0", "hannover11"}


def test_patients_are_parted_the_same_way_each_time_and_most_are_learnt_from():
    parts = [train.part_of(str(number)) for number in range(1000)]

    assert {part: parts.count(part) > 50 for part in train.PARTS} == dict.fromkeys(train.PARTS, True)
    assert parts.count("learnt") > 600
    assert parts == [train.part_of(str(number)) for number in range(1000)]


def test_training_writes_a_judge_with_its_figures(folder, tmp_path, monkeypatch):
    out = tmp_path / "out"

    run(monkeypatch, "--films", folder, "--out", out, "--steps", "2", "--drawn", "30")

    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["kept"]["mirrored"]["pictures"] == manifest["kept"]["upright"]["pictures"]
    assert manifest["data"]["twin"] == [train.FIRST_TWIN, train.FIRST_TWIN + 30]
    assert load_judge(out).look(np.zeros((64, 64), np.float32), UPRIGHT).reason


def test_training_needs_no_real_film(tmp_path, monkeypatch):
    run(monkeypatch, "--out", tmp_path, "--steps", "1", "--drawn", "30")

    assert json.loads((tmp_path / "manifest.json").read_text())["data"]["films"] == 0
