"""The command line on real files, with the real reader and the shipped model."""

import json
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime

import numpy as np
import pytest
from builders import STUDY, chest, part10
from pydicom import dcmread

from model.twin.sample import sample
from plugin.cli import main
from plugin.dicom.result import read_segmentation
from plugin.page.document import read_evidence

REPORT = "FINDINGS: Opacity in the right lung base. No pneumothorax. Small left pleural effusion may be present."


def film(seed=3, **attributes):
    return chest(np.round(sample(seed, size=384).pixels * 4095).astype(np.uint16), **attributes)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    (folder / "1.dcm").write_bytes(part10(film()))
    (folder / "report.txt").write_text(REPORT)
    return folder


def ground(study, report, out, *more):
    return main(["ground", "--study", str(study), "--report", str(report), "--out", str(out), *more])


@pytest.fixture(scope="module")
def results(study, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "results"
    assert ground(study, study / "report.txt", out) == 0
    return out


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_ground_writes_seg_sr_fhir_evidence_and_page(results):
    names = sorted(contents(results))

    assert {"evidence.html", "evidence.json", "fhir.json"} < set(names)
    classes = {dcmread(path).SOPClassUID.name for path in results.glob("*.dcm")}
    assert classes == {"Segmentation Storage", "Comprehensive SR Storage"}


def test_ground_says_what_it_found_and_wrote(study, tmp_path, capsys):
    assert ground(study, study / "report.txt", tmp_path / "out") == 0

    said = capsys.readouterr().out
    assert "Opacity in the" in said
    assert "negated" in said
    assert "fhir.json" in said.replace("\n", "")


def test_what_is_denied_is_never_lit(results):
    evidence = read_evidence((results / "evidence.json").read_bytes())

    lit = {phrase.text: any(place.regions for place in phrase.placements) for phrase in evidence.phrases}
    assert lit["pneumothorax"] is False
    assert any(lit.values())


def test_the_segmentation_holds_the_regions_of_the_evidence_pixel_for_pixel(results):
    evidence = read_evidence((results / "evidence.json").read_bytes())
    (seg,) = (path for path in results.glob("*.dcm") if dcmread(path).Modality == "SEG")
    segments = {segment.tracking_uid: segment.mask for segment in read_segmentation(seg.read_bytes())}

    lit = [phrase for phrase in evidence.phrases if any(place.regions for place in phrase.placements)]
    assert set(segments) == {phrase.tracking_uid for phrase in lit}
    for phrase in lit:
        assert sum(region.area_px for region in phrase.placements[0].regions) == segments[phrase.tracking_uid].sum()


def test_the_same_input_writes_the_same_bytes(study, results, tmp_path):
    assert ground(study, study / "report.txt", tmp_path / "again") == 0

    assert contents(tmp_path / "again") == contents(results)


def test_results_carry_the_time_of_the_image_or_the_one_that_was_given(study, results, tmp_path):
    assert ground(study, study / "report.txt", tmp_path / "out", "--now", "2026-03-04T05:06:07+00:00") == 0

    created = [
        read_evidence((folder / "evidence.json").read_bytes()).provenance.created
        for folder in (results, tmp_path / "out")
    ]
    assert created[0].date().isoformat() == "2024-01-02"
    assert created[1] == datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


def refused(capsys, *arguments):
    status = main(list(map(str, arguments)))
    return status, capsys.readouterr().err


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"not dicom at all", "No chest radiograph study"),
        (b"", "No chest radiograph study"),
        (part10(film(PixelData=None)), "pixel"),
        (part10(film(PixelData=b"\0" * 100)), "pixel data"),
        (part10(film(Rows=65000, Columns=65000)), "65000"),
        (part10(chest(np.zeros((1, 1), np.uint16))), "1"),
        (part10(chest(np.full((64, 64), 7, np.uint16))), "one value"),
        (part10(film(BodyPartExamined="HAND", ViewPosition=None)), "frontal"),
        (part10(film(ViewPosition="LL")), "lateral"),
        (part10(film(NumberOfFrames=2)), "frame"),
        (part10(film(SamplesPerPixel=3)), "colour"),
    ],
    ids=[
        "not DICOM",
        "zero bytes",
        "no pixels",
        "truncated pixels",
        "absurd size",
        "1x1",
        "flat",
        "a hand",
        "only a lateral",
        "multi-frame",
        "colour",
    ],
)
def test_an_image_that_cannot_be_used_is_refused_and_nothing_is_written(study, tmp_path, capsys, content, says):
    bad = write(tmp_path / "bad", "1.dcm", content)

    status, error = refused(
        capsys, "ground", "--study", bad, "--report", study / "report.txt", "--out", tmp_path / "out"
    )

    assert status == 65
    assert says.lower() in error.lower()
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("r.txt", "  \n", "empty"),
        ("r.json", "{", "JSON"),
        ("r.json", '{"hello": 1}', "FHIR"),
        ("r.json", '{"resourceType": "Bundle", "type": "collection"}', "report"),
        ("r.txt", "%PDF-1.7 ...", "PDF"),
        ("r.txt", r"{\rtf1 hello}", "RTF"),
        ("r.txt", "no effusion " * 500_000, "character"),
    ],
    ids=["empty", "broken JSON", "not FHIR", "no report", "PDF", "RTF", "5 MB"],
)
def test_a_report_that_cannot_be_used_is_refused_and_nothing_is_written(study, tmp_path, capsys, name, content, says):
    bad = write(tmp_path / "bad", name, content)

    status, error = refused(capsys, "ground", "--study", study, "--report", bad / name, "--out", tmp_path / "out")

    assert status == 65
    assert says.lower() in error.lower()
    assert not (tmp_path / "out").exists()


def test_the_report_of_another_patient_is_refused_without_naming_anyone(study, tmp_path, capsys):
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "Chest"},
        "conclusion": "Left pleural effusion.",
        "subject": {"identifier": {"value": "OTHER-PATIENT-77"}},
    }
    bad = write(tmp_path / "bad", "r.json", json.dumps(report))

    status, error = refused(capsys, "ground", "--study", study, "--report", bad / "r.json", "--out", tmp_path / "out")

    assert status == 65
    assert "another patient" in error
    assert "OTHER-PATIENT-77" not in error
    assert "P1" not in error


def test_two_studies_at_once_are_refused(study, tmp_path, capsys):
    both = write(tmp_path / "both", "1.dcm", part10(film()))
    write(both, "2.dcm", part10(film(StudyInstanceUID=f"{STUDY}.2", name="b")))

    status, error = refused(
        capsys, "ground", "--study", both, "--report", study / "report.txt", "--out", tmp_path / "out"
    )

    assert (status, "2 studies" in error) == (65, True)


def test_help_answers_within_half_a_second():
    def seconds():
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "plugin.cli", "--help"], check=True, capture_output=True)
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.5


def test_a_moment_without_its_offset_is_wrong_usage(study, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        ground(study, study / "report.txt", tmp_path / "out", "--now", "2026-03-04T05:06:07")

    assert ended.value.code == 2
    assert "offset" in capsys.readouterr().err


def test_doctor_finds_nothing_to_mend_where_all_is_there(tmp_path, monkeypatch, capsys):
    for name in ("ARCHIVE_DIR", "REPORTS_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"SIGHTLINE_{name}", str(tmp_path))
    monkeypatch.setenv("SIGHTLINE_PORT", "0")

    assert main(["doctor"]) == 0
    assert "Nothing to mend" in capsys.readouterr().out


def test_doctor_names_what_is_wrong_and_how_to_mend_it(tmp_path, monkeypatch, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setenv("SIGHTLINE_PORT", str(port))
        monkeypatch.setenv("SIGHTLINE_MODEL_DIR", str(tmp_path))
        monkeypatch.setenv("SIGHTLINE_REPORTS_DIR", str(tmp_path / "none"))
        monkeypatch.setenv("SIGHTLINE_ARCHIVE_URL", "http://127.0.0.1:1/dicom-web")
        monkeypatch.setenv("SIGHTLINE_TIMEOUT_S", "2")

        status = main(["doctor"])

    said = capsys.readouterr().out
    assert status == 1
    for named in ("SIGHTLINE_PORT", "SIGHTLINE_MODEL_DIR", "make the folder", "SIGHTLINE_ARCHIVE_URL", "4 to mend"):
        assert named in said


def test_the_structured_report_says_the_phrases(results):
    (content,) = (path.read_bytes() for path in results.glob("*.dcm") if dcmread(path).Modality == "SR")

    assert b"Opacity in the right lung base" in content
