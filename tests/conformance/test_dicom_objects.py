"""Our DICOM objects before other people's validators and printers: dicom3tools, dcmtk, PixelMed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
import servers
from evidence import make_evidence, make_header, make_lateral, make_radiograph, part10

from plugin.dicom.pixels import radiograph_of
from plugin.dicom.seg import segmentations
from plugin.dicom.sr import report
from plugin.values import Evidence, Radiograph

pytestmark = pytest.mark.acceptance

SOURCES = {
    "DX": {},
    "DX, MONOCHROME1": {"photometric": "MONOCHROME1"},
    "DX, no spacing": {"spacing": None},
    "DX, no frame of reference": {"frame_of_reference": False},
    "DX, landscape, non-square pixels": {"rows": 60, "columns": 90, "spacing": (0.1, 0.3)},
    "DX, rotated": {"patient_orientation": ("F", "R")},
    "DX, Japanese name": {
        "patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "character_set": ["", "ISO 2022 IR 87"],
    },
    "CR": {"modality": "CR"},
    "CR, MONOCHROME1": {"modality": "CR", "photometric": "MONOCHROME1"},
    "CR, no spacing, no frame of reference": {"modality": "CR", "spacing": None, "frame_of_reference": False},
}
PIXELMED = "/usr/share/java/pixelmed.jar"
# XPath limits of JDK 17 that the validator's stylesheets exceed.
JAVA = ("java", "-Djdk.xml.xpathExprOpLimit=0", "-Djdk.xml.xpathTotalOpLimit=0", "-Djdk.xml.xpathExprGrpLimit=0")


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


def _write(evidence: Evidence, folder: Path) -> tuple[list[Path], list[Path]]:
    """The Segmentations and the reports (none or one) of *evidence* as files."""
    segs = segmentations(evidence)
    sr = report(evidence, segs)
    paths = []
    for written in (*segs, *([sr] if sr else [])):
        path = folder / written.file_name
        path.write_bytes(written.content)
        paths.append(path)
    return paths[: len(segs)], paths[len(segs) :]


def _complaints(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(("Error", "Warning"))]


def _variants() -> dict[str, Evidence]:
    two = make_evidence(
        make_radiograph(), make_radiograph(make_header(number=2, modality="CR")), references=(make_lateral(),)
    )
    dark = replace(two, phrases=tuple(phrase for phrase in two.phrases if not phrase.lit))
    lit = replace(two, phrases=tuple(phrase for phrase in two.phrases if phrase.lit))
    sources = {name: make_evidence(make_radiograph(make_header(**source))) for name, source in SOURCES.items()}
    return sources | {"two images and a lateral": two, "nothing lit": dark, "everything lit": lit}


@pytest.mark.parametrize("evidence", _variants().values(), ids=_variants())
def test_dciodvfy_has_nothing_to_say(evidence: Evidence, tmp_path: Path, require: Callable[..., None]) -> None:
    require("dciodvfy")
    segs, reports = _write(evidence, tmp_path)

    complaints = {path.name: _complaints(_run("dciodvfy", path)) for path in (*segs, *reports)}

    assert complaints == {path.name: [] for path in (*segs, *reports)}


def test_dciodvfy_would_find_an_error(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dciodvfy")
    broken = tmp_path / "broken.dcm"
    broken.write_bytes(part10(make_header()))  # a DX without pixels

    assert any(line.startswith("Error") for line in _complaints(_run("dciodvfy", broken)))


def test_dcentvfy_finds_source_and_results_consistent(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dcentvfy")
    header = make_header()
    header.PixelData = bytes(2 * header.Rows * header.Columns)
    source = tmp_path / "source.dcm"
    source.write_bytes(part10(header))
    segs, reports = _write(make_evidence(make_radiograph(make_header())), tmp_path)

    # Its own tables put the accession number of an SR into another entity than that of an image.
    complaints = _complaints(_run("dcentvfy", source, *segs, *reports))
    assert [line for line in complaints if "Different information entities" not in line] == []


def test_dsrdump_prints_every_phrase(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dsrdump")
    evidence = make_evidence()
    _, (sr,) = _write(evidence, tmp_path)

    printed = _run("dsrdump", "+Pl", sr)

    assert all(f'"{phrase.phrase.text}"' in printed for phrase in evidence.phrases)


def test_dsr2html_shows_every_phrase_with_its_reason(tmp_path: Path, require: Callable[..., None]) -> None:
    require("dsr2html")
    evidence = make_evidence()
    _, (sr,) = _write(evidence, tmp_path)

    shown = unescape(re.sub(r"<[^>]+>", " ", _run("dsr2html", "+U8", sr)))

    assert all(phrase.phrase.text in shown for phrase in evidence.phrases)
    assert "Not looked for in the image. The report denies it." in shown


def _pixelmed(radiograph: Radiograph, folder: Path) -> str:
    _, (sr,) = _write(make_evidence(radiograph, references=(make_lateral(),)), folder)
    jars = ":".join([PIXELMED, *map(str, sorted(Path(PIXELMED).parent.glob("*.jar")))])
    return _run(*JAVA, "-Xss64m", "-cp", jars, "com.pixelmed.validate.DicomSRValidator", sr)


@pytest.mark.slow
def test_pixelmed_finds_no_error_in_the_report(tmp_path: Path, require: Callable[..., None]) -> None:
    require("java", PIXELMED)

    output = _pixelmed(make_radiograph(), tmp_path)

    assert "Found Root Template TID_1500" in output
    assert "Root Template Validation Complete" in output
    assert [line for line in output.splitlines() if line.startswith("Error")] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dx_image.dcm", "RG1_J2KI.dcm", "RG3_J2KR.dcm", "Fake_MONOHR1.dcm", "chrH31.dcm"])
def test_what_is_written_about_a_real_image_has_no_error(
    name: str, shared: Path, tmp_path: Path, require: Callable[..., None]
) -> None:
    require("dciodvfy")
    (path,) = (shared / "data" / "dicom" / "files").rglob(name)

    segs, reports = _write(make_evidence(radiograph_of(path.read_bytes())), tmp_path)

    # Warnings are the source's own: a name in its retired form, an attribute that a DICOMDIR would need.
    complaints = [line for file in (*segs, *reports) for line in _complaints(_run("dciodvfy", file))]
    assert [line for line in complaints if line.startswith("Error")] == []
