"""``sightline verify``: what belongs together holds, and every single change to it is found and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import matrix
import numpy as np
import pytest
from evidence import CARD, REPORT_TEXT, decided_evidence, make_evidence, make_lateral
from pydicom import Dataset, dcmread, dcmwrite

from model.weights import FILE_NAME, SHIPPED, digests_of
from plugin.chain.checks import Verdict
from plugin.chain.material import material_of
from plugin.cli import main
from plugin.commands.verify import Given, examine
from plugin.dicom.pixels import radiograph_of
from plugin.errors import InputError
from plugin.fhir.capability import Release
from plugin.flow import outputs_of
from plugin.identity import derived_uid
from plugin.values import Evidence, ReportRef

Files = dict[str, bytes]
GIVEN = Given((REPORT_TEXT,), frozenset({CARD.weights_sha256}), "cd" * 32)
CELL = next(cell for cell in matrix.CELLS if cell.images == 2)


@cache
def _sources() -> tuple[bytes, ...]:
    return matrix.sources_of(CELL)


@cache
def _evidence() -> Evidence:
    made = make_evidence(*map(radiograph_of, _sources()), references=(make_lateral(),))
    return replace(made, phrases=(*made.phrases[:3], *made.phrases[-3:]))


@cache
def _written(release: Release = Release.R4, url: str | None = "https://sightline.example/page") -> Files:
    outputs = outputs_of(_evidence(), page_url=url, release=release)
    sources = {f"source-{number}.dcm": content for number, content in enumerate(_sources(), start=1)}
    return sources | {file.name: file.content for file in outputs.files}


def _failures(files: Files, given: Given = GIVEN) -> list[str]:
    checks = examine(material_of(files.items()), given)
    return [f"{check.item}: {check.words}" for check in checks if check.verdict is Verdict.FAILS]


@pytest.mark.parametrize("release", Release)
@pytest.mark.parametrize("url", [None, "https://sightline.example/page"])
def test_what_was_written_holds_in_every_comparison(release: Release, url: str | None) -> None:
    checks = tuple(examine(material_of(_written(release, url).items()), GIVEN))

    assert [check for check in checks if check.verdict is not Verdict.HOLDS] == []
    assert len({check.item for check in checks}) >= 12


def test_results_that_a_radiologist_decided_about_hold_too() -> None:
    evidence = decided_evidence(radiograph_of(_sources()[0]))
    files = {file.name: file.content for file in outputs_of(evidence).files} | {"source.dcm": _sources()[0]}

    assert evidence.decisions
    assert _failures(files) == []


def test_what_was_not_given_is_told_and_is_no_failure() -> None:
    results = {name: content for name, content in _written().items() if not name.startswith("source")}
    del results["evidence.html"]

    checks = tuple(examine(material_of(results.items()), Given()))

    left_open = {check.item for check in checks if check.verdict is Verdict.OPEN}
    images = {f"image {image.ref.sop_instance_uid}" for image in _evidence().images}
    assert left_open == {"report text", "model weights", "settings", "evidence.html", *images}
    assert not any(check.verdict is Verdict.FAILS for check in checks)


@cache
def _long_words() -> frozenset[str]:
    """Words of the report, none of which a failure may quote."""
    return frozenset(word for phrase in _evidence().phrases for word in phrase.phrase.text.split() if len(word) > 6)


# One change each


def _in_evidence(change: Callable[[dict[str, Any]], object]) -> Callable[[Files], None]:
    def tamper(files: Files) -> None:
        document = json.loads(files["evidence.json"])
        change(document)
        files["evidence.json"] = json.dumps(document).encode()

    return tamper


def _in_fhir(change: Callable[[dict[str, dict[str, Any]]], object]) -> Callable[[Files], None]:
    def tamper(files: Files) -> None:
        bundle = json.loads(files["fhir.json"])
        named: dict[str, dict[str, Any]] = {}
        for number, entry in enumerate(bundle["entry"]):
            kind = entry["resource"]["resourceType"]
            named[kind if kind != "Observation" else f"Observation {number}"] = entry["resource"]
        change(named)
        kept = list(map(id, named.values()))
        bundle["entry"] = [entry for entry in bundle["entry"] if id(entry["resource"]) in kept]
        files["fhir.json"] = json.dumps(bundle).encode()

    return tamper


def _in_dicom(name: str, change: Callable[[Dataset], object]) -> Callable[[Files], None]:
    def tamper(files: Files) -> None:
        dataset = dcmread(BytesIO(files[name]))
        change(dataset)
        stream = BytesIO()
        dcmwrite(stream, dataset, enforce_file_format=True)
        files[name] = stream.getvalue()

    return tamper


def _set(part: dict[str, Any], **values: object) -> None:
    part.update(values)


def _lit(document: dict[str, Any]) -> dict[str, Any]:
    return next(phrase for phrase in document["phrases"] if phrase["placements"] and phrase["placements"][0]["regions"])


def _move(document: dict[str, Any]) -> None:
    """A region, its box and its area, consistently."""
    region = _lit(document)["placements"][0]["regions"][0]
    region["outline"] = [[x - 3, y] for x, y in region["outline"]]
    left, top, right, bottom = region["box"]
    region["box"] = [left - 3, top, right - 3, bottom]


def _shift_frame(dataset: Dataset) -> None:
    packed = np.frombuffer(dataset.PixelData, np.uint8)
    dataset.PixelData = np.roll(packed, 1).tobytes()


def _flip(dataset: Dataset) -> None:
    pixels = bytearray(dataset.PixelData)
    pixels[len(pixels) // 2] ^= 1
    dataset.PixelData = bytes(pixels)


def _groups(dataset: Dataset) -> Iterator[Dataset]:
    for item in dataset.get("ContentSequence", ()):
        yield item
        yield from _groups(item)


def _of_value(kind: str) -> Callable[[Dataset], Dataset]:
    return lambda dataset: next(item for item in _groups(dataset) if item.ValueType == kind)


def _swap(files: Files) -> None:
    files["seg-1.dcm"], files["seg-2.dcm"] = files["seg-2.dcm"], files["seg-1.dcm"]


def _other_seg(files: Files) -> None:
    """A Segmentation of the same image and UIDs that was made of other evidence."""
    other = replace(_evidence(), phrases=tuple(reversed(_evidence().phrases)))
    files["seg-1.dcm"] = {file.name: file.content for file in outputs_of(other).files}["seg-1.dcm"]


def _first(resources: dict[str, dict[str, Any]], kind: str = "Observation") -> dict[str, Any]:
    return next(each for name, each in resources.items() if name.startswith(kind))


def _component(resources: dict[str, dict[str, Any]], code: str) -> dict[str, Any]:
    return next(
        component
        for name, each in resources.items()
        if name.startswith("Observation")
        for component in each["component"]
        if component["code"]["coding"][0]["code"] == code and "extension" in component
    )


def _remove(files: Files, name: str) -> None:
    del files[name]


def _drop_observation(resources: dict[str, dict[str, Any]]) -> None:
    del resources[next(name for name in resources if name.startswith("Observation"))]


OTHER = derived_uid("test", "somewhere else")
CHANGES: dict[str, tuple[Callable[[Files], object], str]] = {
    "evidence: a region moved": (_in_evidence(_move), "seg-1.dcm: segment 1 marks another region"),
    "evidence: a region's box": (
        _in_evidence(lambda d: _lit(d)["placements"][0]["regions"][0].update(box=[0, 0, 1, 1])),
        "evidence.json: phrase 2: box or area",
    ),
    "evidence: a phrase's words": (
        _in_evidence(lambda d: _set(d["phrases"][1], text=d["phrases"][1]["text"].upper())),
        "evidence.json: phrase 2: its words do not stand in the report",
    ),
    "evidence: the report's text": (
        _in_evidence(lambda d: _set(d["report"], text=d["report"]["text"].replace("Moderate", "Massive "))),
        "evidence.json: the report's text is not the one that was read",
    ),
    "evidence: the text and its hash": (
        _in_evidence(lambda d: _set(d["provenance"], report_sha256="ef" * 32)),
        "report text: it is another text",
    ),
    "evidence: an assertion": (
        _in_evidence(lambda d: _set(d["phrases"][1], assertion="possible")),
        "sr.dcm: phrase 2: its words, places or certainty",
    ),
    "evidence: a probability": (
        _in_evidence(lambda d: _set(d["phrases"][1]["placements"][0], probability=0.01)),
        "sr.dcm: phrase 2: its words, places or certainty",
    ),
    "evidence: a side": (
        _in_evidence(lambda d: _set(d["phrases"][1], laterality="right")),
        "FHIR Observations: that of phrase 2 differs in bodySite",
    ),
    "evidence: a phrase removed": (
        _in_evidence(lambda d: d["phrases"].pop(1)),
        "sr.dcm: it holds a phrase that the evidence does not have",
    ),
    "evidence: a note that nothing repeats": (
        _in_evidence(lambda d: _set(d, warnings=["Trust this."])),
        "FHIR Provenance: target: 1 of its hashes",
    ),
    "evidence: other weights": (
        _in_evidence(lambda d: _set(d["provenance"]["model"], weights_sha256="00" * 32)),
        "model weights: they are other weights",
    ),
    "evidence: other settings": (
        _in_evidence(lambda d: _set(d["provenance"], settings_sha256="00" * 32)),
        "settings: those of this machine differ",
    ),
    "evidence: another threshold": (
        _in_evidence(lambda d: _set(d["provenance"]["model"], threshold=0.9)),
        "sr.dcm: it was made with other weights, settings, text or pixels",
    ),
    "evidence: other pixels": (
        _in_evidence(lambda d: _set(d["images"][0], source_sha256="00" * 32)),
        "its pixels are not those that were read",
    ),
    "evidence: another report version": (
        _in_evidence(lambda d: _set(d["report"], version="3")),
        "sr.dcm: it is about another report",
    ),
    "evidence: another report": (
        _in_evidence(lambda d: _set(d["report"], report_id="x")),
        "seg-1.dcm: it is about another",
    ),
    "evidence: a release that says less": (
        _in_evidence(lambda d: d["provenance"]["model"].pop("presence_threshold")),
        "evidence.json: it is of an earlier release",
    ),
    "evidence: a lateral removed": (
        _in_evidence(lambda d: _set(d, references=[])),
        "sr.dcm: the images and Segmentations that it lists",
    ),
    "source: one pixel": (_in_dicom("source-1.dcm", _flip), "its pixels are not those that were read"),
    "source: another patient": (
        _in_dicom("source-1.dcm", lambda d: setattr(d, "PatientID", "SOMEBODY")),
        "it differs from source-1.dcm in PatientID",
    ),
    "source: another study": (
        _in_dicom("source-2.dcm", lambda d: setattr(d, "StudyInstanceUID", OTHER)),
        "source-2.dcm: it is of another study",
    ),
    "SEG: pixels shifted": (_in_dicom("seg-1.dcm", _shift_frame), "seg-1.dcm: segment 1 marks another region"),
    "SEG: a label": (
        _in_dicom("seg-1.dcm", lambda d: setattr(d.SegmentSequence[0], "SegmentLabel", "Normal")),
        "seg-1.dcm: segment 1 says something else than the evidence: SegmentLabel",
    ),
    "SEG: its UID": (_in_dicom("seg-2.dcm", lambda d: setattr(d, "SOPInstanceUID", OTHER)), "seg-2.dcm: its UID"),
    "SEG: a tracking UID": (
        _in_dicom("seg-1.dcm", lambda d: setattr(d.SegmentSequence[0], "TrackingUID", OTHER)),
        "seg-1.dcm: its segments are not the phrases that are lit",
    ),
    "SEG: whose algorithm": (
        _in_dicom(
            "seg-1.dcm",
            lambda d: setattr(
                d.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0], "AlgorithmParameters", "a=b"
            ),
        ),
        "segment 1 says something else than the evidence: SegmentationAlgorithmIdentificationSequence",
    ),
    "SEG: another patient": (
        _in_dicom("seg-1.dcm", lambda d: setattr(d, "PatientName", "Else^Somebody")),
        "seg-1.dcm: it differs from source-1.dcm in PatientName",
    ),
    "SEG: an attribute that nothing repeats": (
        _in_dicom("seg-1.dcm", lambda d: setattr(d, "SeriesDescription", "Mine")),
        "FHIR DocumentReference: seg-1.dcm is another one",
    ),
    "SEG: removed": (lambda files: _remove(files, "seg-2.dcm"), "its Segmentation is missing"),
    "SEG: of other evidence": (_other_seg, "seg-1.dcm: its segments are not the phrases that are lit"),
    "SR: a phrase": (
        _in_dicom("sr.dcm", lambda d: setattr(_of_value("TEXT")(d.ContentSequence[-3]), "TextValue", "Nothing.")),
        "sr.dcm: ",
    ),
    "SR: a rectangle": (
        _in_dicom("sr.dcm", lambda d: setattr(_of_value("SCOORD")(d), "GraphicData", [0, 0, 9, 0, 9, 9, 0, 9, 0, 0])),
        "its words, places or certainty are other ones",
    ),
    "SR: a certainty": (
        _in_dicom(
            "sr.dcm",
            lambda d: setattr(_of_value("NUM")(d.ContentSequence[-3]).MeasuredValueSequence[0], "NumericValue", "1"),
        ),
        "its words, places or certainty are other ones",
    ),
    "SR: whose report": (
        _in_dicom("sr.dcm", lambda d: setattr(d.ContentSequence[-2], "TextValue", "id a; version b; SHA-256 c")),
        "sr.dcm: it is about another report",
    ),
    "SR: with what": (
        _in_dicom("sr.dcm", lambda d: setattr(d.ContentSequence[-1], "TextValue", "weights_sha256=0")),
        "sr.dcm: it was made with other weights",
    ),
    "SR: removed": (lambda files: _remove(files, "sr.dcm"), "SR: 0 Structured Reports"),
    "FHIR: removed": (lambda files: _remove(files, "fhir.json"), "FHIR: the FHIR resources (fhir.json) are missing"),
    "FHIR: an Observation removed": (_in_fhir(_drop_observation), "FHIR Observations: that of phrase"),
    "FHIR: a phrase": (
        _in_fhir(lambda r: _set(_first(r)["valueCodeableConcept"], text="Absent: everything")),
        "differs in valueCodeableConcept",
    ),
    "FHIR: a region": (
        _in_fhir(
            lambda r: _component(r, "111030")["extension"][2]["extension"][2]["extension"][3].update(valueDecimal=0)
        ),
        "differs in component",
    ),
    "FHIR: a segment": (
        _in_fhir(lambda r: _component(r, "121191").update(valueInteger=9)),
        "differs in component",
    ),
    "FHIR: another patient": (
        _in_fhir(lambda r: _set(_first(r), subject={"reference": "Patient/other"})),
        "FHIR Observations: they are about different patients",
    ),
    "FHIR: withdrawn": (_in_fhir(lambda r: _set(_first(r), status="entered-in-error")), "was withdrawn"),
    "FHIR: the portal's entry removed": (
        _in_fhir(lambda r: r.pop("DocumentReference")),
        "FHIR DocumentReference: it is missing",
    ),
    "FHIR: the hash of a file": (
        _in_fhir(
            lambda r: r["DocumentReference"]["content"][1]["attachment"].update(hash="AAAAAAAAAAAAAAAAAAAAAAAAAAA=")
        ),
        "seg-1.dcm is another one: size or hash differ",
    ),
    "FHIR: other weights": (
        _in_fhir(lambda r: r["Device"]["identifier"][0].update(value="ni:///sha-256;AA")),
        "FHIR Device: it has other weights",
    ),
    "FHIR: a source": (
        _in_fhir(lambda r: r["Provenance"]["entity"].pop(1)),
        "FHIR Provenance: entity: 1 of its hashes",
    ),
    "FHIR: a result": (_in_fhir(lambda r: r["Provenance"]["target"].pop(0)), "FHIR Provenance: target does not name"),
    "FHIR: the audit event removed": (_in_fhir(lambda r: r.pop("AuditEvent")), "FHIR AuditEvent: there are 0"),
    "page: another one": (
        lambda files: files.update({"evidence.html": files["evidence.html"] + b"<p>All clear.</p>"}),
        "FHIR DocumentReference: the page is another one",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_single_change_is_found_and_named(change: str) -> None:
    tamper, words = CHANGES[change]
    files = deepcopy(_written())

    tamper(files)

    failures = _failures(files)
    assert any(words in failure for failure in failures), failures
    assert not [failure for failure in failures for quoted in _long_words() if quoted in failure]


def test_files_under_other_names_are_told_apart_by_what_they_are() -> None:
    files = deepcopy(_written())

    _swap(files)

    assert _failures(files) == []


def test_copies_and_results_of_other_reports_in_an_archives_folder_are_passed_over() -> None:
    other = replace(_evidence(), report=replace(_evidence().report, ref=ReportRef("another", "1")))
    others = {f"archive/{file.name}": file.content for file in outputs_of(other).files if file.name.endswith(".dcm")}
    copies = {f"copy/{name}": content for name, content in _written().items() if name.endswith(".dcm")}

    checks = tuple(examine(material_of((_written() | copies | others).items()), GIVEN))

    assert not [check for check in checks if check.verdict is Verdict.FAILS]
    assert {check.item for check in checks if check.verdict is Verdict.OPEN} == set(others)


def test_the_files_of_two_results_are_refused() -> None:
    files = _written() | {"other.json": _written()["evidence.json"]}

    with pytest.raises(InputError, match="2 evidence documents"):
        material_of(files.items())


def test_weights_are_known_by_file_and_by_folder() -> None:
    assert digests_of(SHIPPED) == digests_of(SHIPPED / FILE_NAME)
    assert json.loads((SHIPPED / "manifest.json").read_text())["sha256"] in digests_of(SHIPPED)


def test_the_command_answers_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in _written().items():
        (tmp_path / name).write_bytes(content)
    report = tmp_path.with_name("report.txt")
    report.write_text(REPORT_TEXT)
    command = ["verify", str(tmp_path), "--report", str(report)]

    assert main(command) == 0
    assert "All that was compared holds" in capsys.readouterr().out
    (tmp_path / "evidence.html").write_bytes(b"<p>another page</p>")
    assert main(command) == 1
    assert "2 of" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "missing")]) == 65
