"""Synthetic studies as files: read back by what reads real ones."""

import dataclasses
import json
import subprocess
from io import BytesIO

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from model.twin.study import study
from plugin.archive import folder_archive, sole_study_in
from plugin.cli import main
from plugin.commands.synth import files_of
from plugin.dicom.pixels import radiograph_of
from plugin.dicom.twin import Storage, instances_of, storage_of
from plugin.errors import InputError
from plugin.fhir.reading import report_from_file
from plugin.flow import identity_of
from plugin.matching import MatchedBy, match
from plugin.twin import record_of

SIZE = 160
VARIANTS = [
    Storage(),
    Storage(inverse=True, bits=16, transfer_syntax=JPEG2000Lossless),
    Storage(bits=10, transfer_syntax=RLELossless, grey="lut", spacing="detector"),
    Storage(modality="CR", spacing="none", grey="rescale", silent=True),
    Storage(modality="CR", inverse=True, grey="lut", transfer_syntax=ImplicitVRLittleEndian),
    Storage(modality="CR", bits=15, transfer_syntax=ExplicitVRLittleEndian, spacing="patient"),
]


@pytest.fixture(scope="module")
def made():
    return study(3, size=SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("synth")
    from plugin.commands.synth import run

    run(out=out, seed=3, count=2, size=SIZE)
    return out


@pytest.mark.parametrize("storage", VARIANTS, ids=lambda storage: f"{storage.modality}-{storage.bits}-{storage.grey}")
def test_every_way_of_storing_shows_the_same_picture(made, storage):
    (first, *_) = instances_of(made, record_of(3), storage)

    read = radiograph_of(first.content)

    drawn = made.images[0].pixels
    assert read.pixels.shape == drawn.shape
    assert np.corrcoef(read.pixels.ravel(), drawn.ravel())[0, 1] > 0.98


@pytest.mark.parametrize("storage", VARIANTS, ids=lambda storage: f"{storage.modality}-{storage.bits}-{storage.grey}")
def test_dciodvfy_finds_no_error_in_a_synthetic_radiograph(made, storage, tmp_path, require):
    require("dciodvfy")
    for instance in instances_of(made, record_of(3), storage):
        (tmp_path / instance.file_name).write_bytes(instance.content)
        said = subprocess.run(["dciodvfy", tmp_path / instance.file_name], capture_output=True, text=True, check=False)
        assert "Error" not in said.stderr + said.stdout


def test_every_way_of_storing_occurs():
    seen = [storage_of(seed) for seed in range(200)]

    for field in dataclasses.fields(Storage):
        wanted = {getattr(variant, field.name) for variant in VARIANTS}
        if field.name in ("modality", "inverse", "spacing", "grey", "silent"):
            assert {getattr(storage, field.name) for storage in seen} == wanted
    assert {storage.bits for storage in seen} == set(range(10, 17))
    assert {JPEG2000Lossless, RLELossless, ExplicitVRLittleEndian} < {storage.transfer_syntax for storage in seen}


def test_the_same_seed_makes_the_same_bytes():
    assert files_of(3, size=SIZE) == files_of(3, size=SIZE)


def test_a_study_is_one_study_with_its_report(folder):
    here = folder / "study-3"

    sole = sole_study_in((here,))
    (report,) = report_from_file(here / "report.json")

    found = match(report, identity_of(sole, folder_archive((here,)).describe(sole)))
    assert found.by is MatchedBy.STUDY_UID
    assert not found.notes


def test_the_truth_speaks_of_the_report_and_the_images(folder):
    here = folder / "study-4"
    truth = json.loads((here / "truth" / "truth.json").read_text())
    (report,) = report_from_file(here / "report.json")
    sizes = {}
    for path in here.glob("*.dcm"):
        image = dcmread(path, stop_before_pixels=True)
        sizes[image.SOPInstanceUID] = (image.Rows, image.Columns)

    assert truth["phrases"]
    for phrase in truth["phrases"]:
        assert report.text[phrase["start"] : phrase["end"]] == phrase["text"]
        for uid, name in phrase["masks"].items():
            assert cv2.imread(str(here / "truth" / name), cv2.IMREAD_GRAYSCALE).shape == sizes[uid]


def test_writing_again_changes_nothing(folder):
    from plugin.commands.synth import run

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    run(out=folder, seed=3, count=2, size=SIZE)

    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("seed", "count"), [("-1", "1"), ("0", "0"), ("9999", "2")])
def test_a_seed_that_is_none_is_refused(tmp_path, seed, count, capsys):
    assert main(["synth", "--out", str(tmp_path), "--seed", seed, "--count", count]) == 65
    assert "seeds" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    from plugin.commands.synth import run

    (tmp_path / "file").write_text("in the way")

    with pytest.raises(InputError, match="--out"):
        run(out=tmp_path / "file", seed=3, count=1, size=SIZE)


def test_nobody_in_a_synthetic_study_is_real(made):
    (first, *_) = instances_of(made, record_of(3), Storage())

    assert str(dcmread(BytesIO(first.content)).PatientID).startswith("TWIN-")
