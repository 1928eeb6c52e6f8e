"""Every DICOM file of other projects' test suites: a radiograph comes out, or one clear error; never anything else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from evidence import make_evidence
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from model.values import View
from plugin.archive import folder_archive, index_of, studies_in
from plugin.dicom.pixels import radiograph_of
from plugin.dicom.result import read_report, read_segmentation
from plugin.dicom.seg import mask_on, segmentations
from plugin.dicom.sr import report
from plugin.errors import InputError

DATA = "pydicom+pydicom-data/data_store/data"


@pytest.fixture(scope="module")
def files(shared: Path) -> Path:
    return shared / "data" / "dicom" / "files"


def test_no_file_does_anything_but_answer_or_refuse(files: Path) -> None:
    with (files.parent / "manifest.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    outcomes = {}

    for row in rows:
        try:
            outcomes[row["file"]] = radiograph_of((files.parent / row["file"]).read_bytes())
        except InputError as error:
            outcomes[row["file"]] = str(error)

    assert len(outcomes) == 211
    # What other readers decode as CR or DX, we decode.
    decodable = {
        row["file"] for row in rows if "projection-xray" in row["tags"] and row["pydicom_decode"].startswith("ok")
    }
    assert len(decodable) >= 8
    assert not {name: outcomes[name] for name in decodable if isinstance(outcomes[name], str)}


@pytest.mark.slow
def test_every_radiograph_is_written_about_or_refused_as_its_record_says(files: Path) -> None:
    """Each CR and DX of the manifest: decoded to the recorded size, then SEG and SR give the regions back."""
    with (files.parent / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if "projection-xray" in row["tags"]]
    refused = {}

    for row in rows:
        try:
            radiograph = radiograph_of((files.parent / row["file"]).read_bytes())
        except InputError as error:
            refused[row["file"]] = str(error)
            continue
        assert radiograph.pixels.shape == (int(row["rows"]), int(row["cols"])), row["file"]
        evidence = make_evidence(radiograph)
        (segmentation,) = segmentations(evidence)
        shown = {segment.tracking_uid: segment.mask for segment in read_segmentation(segmentation.content)}
        for phrase in (phrase for phrase in evidence.phrases if phrase.lit):
            expected = mask_on(
                phrase, radiograph.ref, rows=radiograph.pixels.shape[0], columns=radiograph.pixels.shape[1]
            )
            np.testing.assert_array_equal(shown[phrase.tracking_uid], expected, err_msg=row["file"])
        written = report(evidence, (segmentation,))
        assert written is not None
        assert len(read_report(written.content)) == len(evidence.phrases), row["file"]

    assert len(rows) > len(refused)
    wrongly = {row["file"] for row in rows if row["pydicom_decode"].startswith("ok")} & refused.keys()
    assert not wrongly, refused


@pytest.mark.parametrize(
    ("name", "view", "shape"),
    [
        (f"{DATA}/RG1_J2KI.dcm", View.FRONTAL, (1955, 1841)),
        (f"{DATA}/RG3_J2KI.dcm", View.OTHER, (1760, 1760)),
        ("ImagingDataCommons+highdicom/data/test_files/dx_image.dcm", View.LATERAL, (169, 211)),
        ("mlmed+torchxrayvision/tests/Fake_MONOHR1.dcm", View.FRONTAL, (1024, 1024)),
    ],
)
def test_real_radiographs_are_understood(files: Path, name: str, view: View, shape: tuple[int, int]) -> None:
    radiograph = radiograph_of((files / name).read_bytes())

    assert radiograph.description.view is view
    assert radiograph.pixels.shape == shape
    header = dcmread(DicomBytesIO(radiograph.header))
    assert header.SOPInstanceUID == radiograph.ref.sop_instance_uid


def test_lungs_are_darker_than_what_surrounds_them(files: Path) -> None:
    """RG1 is MONOCHROME1 with 15 bits: after reading, bright is dense."""
    pixels = radiograph_of((files / DATA / "RG1_J2KI.dcm").read_bytes()).pixels
    rows, columns = pixels.shape

    lungs = np.r_[
        pixels[rows // 4 : rows // 2, columns // 5 : 2 * columns // 5].ravel(),
        pixels[rows // 4 : rows // 2, 3 * columns // 5 : 4 * columns // 5].ravel(),
    ]
    mediastinum = pixels[rows // 2 : 3 * rows // 4, 9 * columns // 20 : 11 * columns // 20]
    assert np.median(lungs) < np.median(mediastinum) - 0.1


def test_an_inverted_copy_of_an_image_is_its_negative(files: Path) -> None:
    folder = files / "mlmed+torchxrayvision" / "tests"
    original = radiograph_of((folder / "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm").read_bytes())

    inverted = radiograph_of((folder / "Fake_MONOHR1.dcm").read_bytes())

    assert np.allclose(inverted.pixels, 1 - original.pixels, atol=1e-6)


def test_a_folder_of_everything_is_indexed_and_described(files: Path) -> None:
    index = index_of((files,))
    archive = folder_archive((files,))

    assert len(index.files) > 100
    assert len(index.unusable) > 20
    studies = studies_in((files,))
    assert len(studies) > 20
    assert all(archive.describe(study) for study in studies)
