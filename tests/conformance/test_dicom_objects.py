"""Our DICOM objects before other people's validators and printers: dicom3tools, dcmtk, PixelMed.

On every cell of tests/matrix.py; PixelMed, which takes ten seconds of computing for each report, on those in which the
reports themselves differ.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import unescape
from io import BytesIO
from pathlib import Path

import matrix
import numpy as np
import pytest
import servers
from evidence import CARD, CREATED, decided_evidence, make_evidence, make_header, make_radiograph, part10
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.uid import ComprehensiveSRStorage

from plugin.dicom.pixels import radiograph_of
from plugin.dicom.rejection import Reason, rejection
from plugin.dicom.result import read_report, read_segmentation
from plugin.dicom.secondary import heatmaps, pictures
from plugin.dicom.seg import mask_on, segmentations
from plugin.dicom.sr import report
from plugin.dicom.stored import stored_result
from plugin.values import Evidence, ImageRef

pytestmark = pytest.mark.acceptance

PIXELMED = "/usr/share/java/pixelmed.jar"
VALIDATOR = Path(__file__).with_name("pixelmed_validate.py")


@dataclass(frozen=True)
class Written:
    """A cell's files: its sources, and what was written about them."""

    evidence: Evidence
    sources: list[Path]
    segmentations: list[Path]
    reports: list[Path]
    others: list[Path]

    @property
    def results(self) -> list[Path]:
        return [*self.segmentations, *self.reports, *self.others]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[matrix.Cell], Written]:
    """The files of a cell, made once."""

    @cache
    def write(cell: matrix.Cell) -> Written:
        folder = tmp_path_factory.mktemp("cell")
        sources = []
        for number, content in enumerate(matrix.sources_of(cell), start=1):
            sources.append(folder / f"source-{number}.dcm")
            sources[-1].write_bytes(content)
        return _write(matrix.evidence_of(cell), folder, sources=sources)

    return write


def _run(*command: str | Path) -> str:
    done = subprocess.run(
        [str(servers.program(str(command[0]))), *map(str, command[1:])],
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=300,
    )
    return done.stdout + done.stderr


def _write(evidence: Evidence, folder: Path, *, sources: list[Path] | None = None) -> Written:
    """Everything that is written about *evidence*, as the first version and as one that replaces another."""
    segs = segmentations(evidence, follows={image.ref: ("1.2.3",) for image in evidence.images})
    sr = report(evidence, segs, follows=(ImageRef(evidence.study, "1.2.3", "1.2.4", ComprehensiveSRStorage),))
    paths = []
    for instance in (*segs, *([sr] if sr else []), *pictures(evidence), *heatmaps(evidence)):
        paths.append(folder / instance.file_name)
        paths[-1].write_bytes(instance.content)
    reports = paths[len(segs) : len(segs) + (1 if sr else 0)]
    return Written(evidence, sources or [], paths[: len(segs)], reports, paths[len(segs) + len(reports) :])


def _complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(("Error", "Warning"))]


@pytest.mark.parametrize("cell", matrix.CELLS, ids=str)
def test_dciodvfy_has_nothing_to_say(
    cell: matrix.Cell, written: Callable[[matrix.Cell], Written], require: Callable[..., None]
) -> None:
    require("dciodvfy")
    results = written(cell).results

    complaints = {path.name: _complaints(_run("dciodvfy", path)) for path in results}

    assert complaints == {path.name: [] for path in results}


def _in_utf_8(source: Path) -> Path:
    """A copy of *source* with its names in UTF-8, as ours are: dcentvfy compares their bytes."""
    dataset = dcmread(source)
    dataset.decode()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    copy = source.with_suffix(".utf8.dcm")
    dataset.save_as(copy)
    return copy


@pytest.mark.parametrize("cell", matrix.CELLS, ids=str)
def test_dcentvfy_finds_source_and_results_consistent(
    cell: matrix.Cell, written: Callable[[matrix.Cell], Written], require: Callable[..., None]
) -> None:
    require("dcentvfy")
    files = written(cell)

    complaints = _complaints(_run("dcentvfy", *map(_in_utf_8, files.sources), *files.results))

    # Its own tables put the accession number of an SR into another entity than that of an image.
    assert [line for line in complaints if "Different information entities" not in line] == []


@pytest.mark.parametrize("cell", matrix.CELLS, ids=str)
def test_highdicom_reads_back_what_was_written(cell: matrix.Cell, written: Callable[[matrix.Cell], Written]) -> None:
    files = written(cell)
    expected = {
        (image.ref.sop_instance_uid, phrase.tracking_uid): mask
        for image in files.evidence.images
        for phrase in files.evidence.phrases
        if (mask := mask_on(phrase, image.ref, rows=image.pixels.shape[0], columns=image.pixels.shape[1])).any()
    }

    segments = [segment for path in files.segmentations for segment in read_segmentation(path.read_bytes())]
    phrases = [phrase for path in files.reports for phrase in read_report(path.read_bytes())]

    assert {(segment.image_uid, segment.tracking_uid) for segment in segments} == expected.keys()
    for segment in segments:
        np.testing.assert_array_equal(segment.mask, expected[segment.image_uid, segment.tracking_uid])
    assert {phrase.tracking_uid for phrase in phrases} == {it.tracking_uid for it in files.evidence.phrases}
    assert type(srread(files.reports[0])).__name__ == "ComprehensiveSR"


def _note(evidence: Evidence, reason: Reason) -> bytes:
    """The rejection note of everything that was written about *evidence*."""
    segs = segmentations(evidence)
    sr = report(evidence, segs)
    instances = (*segs, *([sr] if sr else []), *pictures(evidence))
    stored = tuple(stored_result(dcmread(BytesIO(instance.content))) for instance in instances)
    return rejection(stored, reason, model=CARD, software_version="1", created=CREATED).content


@pytest.mark.parametrize("reason", Reason)
def test_dciodvfy_accepts_a_rejection_note(reason: Reason, tmp_path: Path, require: Callable[..., None]) -> None:
    require("dciodvfy")
    note = tmp_path / "note.dcm"
    note.write_bytes(_note(make_evidence(), reason))

    assert _complaints(_run("dciodvfy", note)) == []
    assert dcmread(note).ConceptNameCodeSequence[0].CodeValue == reason.value[0].value


def test_dciodvfy_accepts_what_a_radiologist_decided(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dciodvfy")

    files = _write(decided_evidence(make_radiograph(), make_radiograph(make_header(number=2))), tmp_path)

    assert {path.name: _complaints(_run("dciodvfy", path)) for path in files.results} == {
        path.name: [] for path in files.results
    }


def test_what_is_written_about_a_lossy_image_says_so(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dciodvfy")
    header = make_header()
    header.LossyImageCompression = "01"
    header.LossyImageCompressionRatio, header.LossyImageCompressionMethod = "12.5", "ISO_10918_1"

    files = _write(make_evidence(make_radiograph(header)), tmp_path)

    images = [dcmread(path) for path in (*files.segmentations, *files.others)]
    assert {image.LossyImageCompression for image in images} == {"01"}
    assert {image.LossyImageCompressionMethod for image in images} == {"ISO_10918_1"}
    assert [line for path in files.results for line in _complaints(_run("dciodvfy", path))] == []


def test_dciodvfy_would_find_an_error(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dciodvfy")
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(part10(make_header()))  # a DX without pixels

    assert any(line.startswith("Error") for line in _complaints(_run("dciodvfy", broken)))


def test_dsrdump_prints_every_phrase(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dsrdump")
    evidence = make_evidence()
    (sr,) = _write(evidence, tmp_path).reports

    printed = _run("dsrdump", "+Pl", sr)

    assert all(f'"{phrase.phrase.text}"' in printed for phrase in evidence.phrases)


def test_dsr2html_shows_what_became_of_every_phrase_key_finding_first(
    tmp_path: Path, require: Callable[..., None]
) -> None:
    require("dsr2html")
    evidence = make_evidence()
    (sr,) = _write(evidence, tmp_path).reports

    shown = " ".join(unescape(re.sub(r"<[^>]+>", " ", _run("dsr2html", "+U8", sr))).split())

    assert all(" ".join(phrase.phrase.text.split()) in shown for phrase in evidence.phrases)
    statements = shown[shown.index("Qualitative Evaluations") :]
    order = [statements.index(text) for text in ("Cardiac pacemaker", "Moderate left pleural effusion", "fracture")]
    assert order == sorted(order)
    for words in (
        "Not looked for in the image. The report denies it.",
        "Known present",
        "Moderate Increased Findings Moderate left pleural effusion",  # severity, change, section, phrase
        "Indications for Procedure pneumonia",
        "Language of Content Item and Descendants = English",
        "Imaging procedure",
        'Device Observer Name = "Sightline"',
        f"id report-1; version 2; SHA-256 {evidence.provenance.report_sha256}",
    ):
        assert words in shown


# The reports themselves differ by phrases, images and names; the image's bits and transfer syntax are not in them.
REPORTS = tuple({(cell.phrases, cell.images): cell for cell in reversed(matrix.CELLS) if cell.images == 2}.values())


@pytest.mark.slow
def test_pixelmed_finds_no_error_in_reports_and_notes(
    tmp_path: Path, written: Callable[[matrix.Cell], Written], require: Callable[..., None]
) -> None:
    require("java", PIXELMED)
    files = [path for cell in REPORTS for path in written(cell).reports]
    for reason in Reason:
        files.append(tmp_path / f"{reason.name}.dcm")
        files[-1].write_bytes(_note(make_evidence(), reason))

    files += _write(decided_evidence(), tmp_path).reports

    done = subprocess.run(
        [sys.executable, VALIDATOR, PIXELMED, *files], capture_output=True, text=True, check=True, timeout=550
    )

    answers = json.loads(done.stdout)
    assert len(answers) == len(files)
    for path, answer in answers.items():
        assert "Root Template Validation Complete" in answer, path
        assert [line for line in answer.splitlines() if line.startswith("Error")] == [], path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dx_image.dcm", "RG1_J2KI.dcm", "RG3_J2KR.dcm", "Fake_MONOHR1.dcm", "chrH31.dcm"])
def test_what_is_written_about_a_real_image_has_no_error(
    name: str, shared: Path, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("dciodvfy")
    (path,) = (shared / "data" / "dicom" / "files").rglob(name)

    files = _write(make_evidence(radiograph_of(path.read_bytes())), tmp_path)

    # Warnings are the source's own: a name in its retired form, an attribute that a DICOMDIR would need.
    complaints = [line for file in files.results for line in _complaints(_run("dciodvfy", file))]
    assert [line for line in complaints if line.startswith("Error")] == []
