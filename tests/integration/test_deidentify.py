"""``sightline deidentify``: canaries in every field and in the text leave no trace; what is left still fits."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime
from io import BytesIO
from pathlib import Path

import cv2
import highdicom as hd
import matrix
import numpy as np
import pytest
import servers
from evidence import NON_ASCII, REPORT_TEXT, decided_evidence, make_evidence, make_header, part10
from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary

from model.twin.study import study
from plugin.audit.trail import Trail
from plugin.chain.checks import Verdict
from plugin.chain.material import material_of
from plugin.cli import main
from plugin.commands.verify import Given, examine
from plugin.deidentify.burnt_in import lines_of_signs, suspicions
from plugin.deidentify.dicom import FREE_TEXT, OF_EQUIPMENT, image_without_identity
from plugin.deidentify.pseudonyms import Pseudonyms
from plugin.deidentify.text import cleaned
from plugin.dicom.pixels import radiograph_of
from plugin.flow import outputs_of
from plugin.identity import sha256_hex
from plugin.page.document import read_evidence
from plugin.values import Evidence, PatientRef, ReportRef

KEY = "k" * 40
TOLD = """
Patient: Jörg Canaryname, MRN: 88123456. Joerg CANARYNAME was seen by Dr. Quentin Canarydoc.
This film is of 2026-02-28.
Prior film of 3 March 2025 and of 28.02.2024. Call 555-867-5309 or canary@hospital.example.
He lives at 12 Canary Street, Boston, MA 02115.
Dictated by: Canary Typist; the patient is 93 years old. Compared with 13/02/2026. The mass measures 12 x 15 mm.
"""
CANARIES = (
    "canary",
    "88123456",
    "867-5309",
    "02115",
    "2026-02-28",
    "20260228",
    "CANARYNAME",
    "13/02/2026",
    "hospital.example",
)


def _text() -> str:
    return REPORT_TEXT.replace("FINDINGS:", TOLD + "FINDINGS:")


def _source(number: int = 1) -> bytes:
    """A radiograph with a canary in every attribute whose kind holds text."""
    header = make_header(patient_name="Canaryname^Jörg", patient_id="88123456", number=number)
    there = OF_EQUIPMENT | {element.keyword for element in header}
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr in FREE_TEXT and vr != "UN" and not retired and tag >> 16 > 8 and keyword not in there:
            header.add_new(tag, vr, f"CANARY{tag:08X}"[: 16 if vr in ("AE", "SH") else 64])
    item = Dataset()
    item.PersonName, item.PatientComments = "Canary^Nested", "canary in an item"
    header.RequestAttributesSequence, header.ReferencedStudySequence = [item], [item]
    header.private_block(0x0011, "CANARY PRIVATE", create=True).add_new(1, "LO", "canary in private")
    header.private_block(0x6001, "CANARY OVERLAY", create=True).add_new(1, "LO", "canary")
    header.add_new(0x60003000, "OW", b"canary overlay!!")
    header.add_new(0x60000022, "LO", "canary overlay")
    header.InstitutionName, header.ReferringPhysicianName = "Canary Hospital", "Canarydoc^Quentin"
    header.OperatorsName = ["Canary^One", "Canary^Two"]
    header.PatientComments, header.ImageComments = "canary " * 9, "canary"
    header.AcquisitionDateTime = "20260228081000.000000"
    header.PixelData = np.arange(header.Rows * header.Columns, dtype="<u2").tobytes()
    content = bytearray(part10(header))
    content[0:6] = b"canary"  # the preamble
    return bytes(content)


def _evidence(base: Evidence | None = None) -> Evidence:
    image = radiograph_of(_source())
    made = base or make_evidence(image)
    text = _text()
    by = len(text) - len(REPORT_TEXT)

    def moved(phrase):
        shift = by if phrase.start > REPORT_TEXT.index("FINDINGS") else 0
        return replace(
            phrase,
            start=phrase.start + shift,
            end=phrase.end + shift,
            start_utf16=phrase.start_utf16 + shift,
            end_utf16=phrase.end_utf16 + shift,
        )

    report = replace(
        made.report,
        ref=ReportRef("canary-report", "canary-version"),
        text=text,
        patient=PatientRef("88123456", "canary-issuer"),
        issued=datetime.fromisoformat("2026-02-28T09:00:00+00:00"),
    )
    return replace(
        made,
        report=report,
        phrases=tuple(replace(each, phrase=moved(each.phrase)) for each in made.phrases),
        provenance=replace(made.provenance, report_sha256=sha256_hex(text.encode())),
    )


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a result and its image."""
    monkeypatch.setenv("SIGHTLINE_DATA_DIR", str(tmp_path / "data"))
    _write(tmp_path / "in", _evidence())
    return tmp_path


def _write(folder: Path, evidence: Evidence) -> None:
    folder.mkdir()
    (folder / "canary-source.dcm").write_bytes(_source())
    for file in outputs_of(evidence).files:
        (folder / file.name).write_bytes(file.content)


def _export(site: Path, name: str = "out", *more: str) -> Path:
    assert main(["deidentify", str(site / "in"), "--out", str(site / name), *more]) == 0
    return site / name


def _uids(folder: Path) -> set[str]:
    return set(re.findall(rb"2\.25\.\d{20,}", b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())))  # type: ignore[arg-type]


def test_no_canary_is_in_any_byte_that_is_exported(site: Path) -> None:
    before = {canary for canary in CANARIES if any(canary.lower() in told for told in _told(site / "in"))}
    out = _export(site)

    assert before >= set(CANARIES) - {"13/02/2026"}
    for name, told in ((path, content) for path in out.rglob("*") if path.is_file() for content in _told(path)):
        assert not [canary for canary in CANARIES if canary.lower() in told], name
    assert not [path for path in out.rglob("*") if "canary" in str(path.relative_to(out)).lower()]


def _told(path: Path) -> Iterator[str]:
    for each in [path] if path.is_file() else path.rglob("*"):
        if each.is_file():
            content = each.read_bytes()
            yield content.decode("utf-8", "replace").lower()
            yield content.decode("latin-1").lower()


def test_no_uid_is_what_it_was_and_all_that_belonged_together_still_does(site: Path) -> None:
    out = _export(site)

    kept = _uids(site / "in") & _uids(out)
    own = {uid for uid in kept if uid.decode() not in (site / "in" / "evidence.json").read_text()}  # type: ignore[attr-defined]
    assert kept == own  # of this software, and of its coding scheme
    (study,) = out.iterdir()
    files = ((path.name, path.read_bytes()) for path in study.rglob("*") if path.is_file())
    checks = tuple(examine(material_of(files), Given()))
    assert not [check for check in checks if check.verdict is Verdict.FAILS]
    assert {check.item for check in checks if check.verdict is Verdict.OPEN} == {
        "report text",
        "model weights",
        "settings",
    }


def test_masks_and_pixels_are_the_same_and_references_lead_to_the_new_images(site: Path) -> None:
    out = _export(site)

    (image,), (seg,), (sr,) = (list(out.rglob(name)) for name in ("images/*.dcm", "seg.dcm", "sr.dcm"))
    before, after = radiograph_of(_source()), radiograph_of(image.read_bytes())
    assert before.source_sha256 == after.source_sha256
    old, new = (hd.seg.segread(BytesIO(path.read_bytes())) for path in (site / "in" / "seg.dcm", seg))
    assert np.array_equal(old.pixel_array, new.pixel_array)
    referenced = dcmread(sr).CurrentRequestedProcedureEvidenceSequence[0]
    assert referenced.StudyInstanceUID == after.ref.study.study_instance_uid
    uids = {
        each.ReferencedSOPInstanceUID
        for series in referenced.ReferencedSeriesSequence
        for each in series.ReferencedSOPSequence
    }
    assert uids == {after.ref.sop_instance_uid, new.SOPInstanceUID}
    for path in (image, seg, sr):
        dataset = dcmread(path)
        assert dataset.PatientIdentityRemoved == "YES"
        assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
        assert [item.CodeValue for item in dataset.DeidentificationMethodCodeSequence] == ["113100", "113107"]


def test_phrases_still_stand_where_the_text_has_them(site: Path) -> None:
    document = read_evidence(next(_export(site).rglob("evidence.json")).read_bytes())

    assert len(document.phrases) == len(_evidence().phrases)
    assert all(document.report.text[each.start : each.end] == each.text for each in document.phrases)
    assert NON_ASCII in {each.text for each in document.phrases}
    assert "12 x 15 mm" in document.report.text


@pytest.mark.acceptance
@pytest.mark.parametrize("modality", ["CR", "DX"])
def test_dciodvfy_finds_no_error_that_it_did_not_find_before(modality: str, tmp_path: Path) -> None:
    (cell, *_) = (cell for cell in matrix.CELLS if cell.modality == modality and cell.images == 2)
    before = matrix.source_of(cell)
    for name, content in (("before", before), ("after", image_without_identity(before, Pseudonyms(KEY)))):
        (tmp_path / name).write_bytes(content)

    found = {name: _errors(tmp_path / name) for name in ("before", "after")}

    assert found["after"] <= found["before"]


def _errors(file: Path) -> set[str]:
    command = [str(servers.program("dciodvfy")), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    return {line for line in done.stderr.splitlines() if line.startswith("Error")}


def test_every_date_of_a_patient_moves_by_the_same_number_of_weeks(site: Path) -> None:
    out = _export(site)

    dataset = dcmread(next(out.rglob("images/*.dcm")))
    document = read_evidence(next(out.rglob("evidence.json")).read_bytes())
    moved = date.fromisoformat(dataset.StudyDate) - date(2026, 2, 28)
    assert -3650 <= moved.days <= -364
    assert moved.days % 7 == 0
    assert dataset.AcquisitionDateTime == f"{dataset.StudyDate}081000.000000"
    assert dataset.PatientBirthDate == ""
    assert document.report.issued.date() - date(2026, 2, 28) == moved
    assert (date(2026, 2, 28) + moved).isoformat() in document.report.text
    assert (date(2024, 2, 28) + moved).strftime("%d.%m.%Y") in document.report.text


def test_one_key_gives_one_pseudonym_and_another_key_another(site: Path) -> None:
    key = ["--key-file", str(site / "key")]
    first, again, other = _export(site, "a", *key), _export(site, "b", *key), _export(site, "c")

    names = [sorted(str(path.relative_to(out)) for path in out.rglob("*.dcm")) for out in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert (site / "key").stat().st_mode & 0o077 == 0


def test_a_radiologists_word_stays_and_who_said_it_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_DATA_DIR", str(tmp_path / "data"))
    evidence = _evidence(decided_evidence(radiograph_of(_source())))
    _write(tmp_path / "in", evidence)

    out = _export(tmp_path)

    document = read_evidence(next(out.rglob("evidence.json")).read_bytes())
    decisions = [place.decision for phrase in document.phrases for place in phrase.placements if place.decision]
    assert len(decisions) == len(evidence.decisions)
    assert {each.who.name for each in decisions} == {"A radiologist"}
    assert not [path for path in out.rglob("*") if path.is_file() and b"Beispiel" in path.read_bytes()]


def test_the_export_is_in_the_audit_trail_and_says_what_it_cannot_promise(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _export(site)

    (link,) = Trail(site / "data" / "audit").after(0)
    assert link.record.kind == "export"
    assert link.record.studies == (_evidence().study.study_instance_uid,)
    assert "cannot promise" in capsys.readouterr().out


def test_an_image_that_may_hold_writing_is_left_out_unless_it_is_wanted(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = dcmread(BytesIO(_source()))
    dataset.BurnedInAnnotation = "YES"
    (site / "in" / "canary-source.dcm").write_bytes(part10(dataset))

    assert main(["deidentify", str(site / "in"), "--out", str(site / "out")]) == 1
    assert "text is burnt in" in capsys.readouterr().out
    assert not list((site / "out").rglob("*.dcm")) if (site / "out").exists() else True
    _export(site, "wanted", "--keep-flagged")


def test_writing_in_pixels_is_seen_and_anatomy_with_a_marker_is_not() -> None:
    pixels = np.ascontiguousarray(study(18).images[0].pixels.astype(np.float32))
    height = pixels.shape[0] / 512
    marked = cv2.putText(
        pixels.copy(), "R", (10, int(60 * height)), cv2.FONT_HERSHEY_SIMPLEX, height, 1.0, int(3 * height)
    )
    written = cv2.putText(
        pixels.copy(), "DOE JOHN 1950", (10, int(40 * height)), cv2.FONT_HERSHEY_SIMPLEX, height, 1.0, int(2 * height)
    )

    assert lines_of_signs(pixels) == lines_of_signs(marked) == 0
    assert lines_of_signs(written) >= 1
    header = make_header()
    assert not list(suspicions(header, marked))
    assert "looks like" in " ".join(suspicions(header, written))


TEXTS = {
    "Seen by Dr. Smith today.": "Seen by Dr. [name] today.",
    "Prof. Dr. Anna Maria Huber": "Prof. Dr. [name]",
    "John A. Doe, MD": "[name], MD",
    "on March 3, 2024": "on 2 February 2023",
    "on 3 March 2024": "on 2 February 2023",
    "on 2024-03-03": "on 2023-02-02",
    "on 20240303": "on 20230202",
    "on 3/25/2024": "on 02/24/2023",
    "on 25/03/2024": "on 24/02/2023",
    "on 03.04.2024": "on 05.03.2023",
    "on 03/04/2024": "on [date]",
    "on 3/25/24": "on [date]",
    "of 13/02/2026.": "of 14/01/2025.",
    "call 555-867-5309.": "call [phone].",
    "see 12345678.": "see [id].",
    "in March 2024": "in [date]",
    "on 31.02.2024": "on [date]",
    "since 2019": "since 2019",
    "MRN 12345678": "MRN [id]",
    "accession ABC-123456": "accession [id]",
    "SSN 123-45-6789": "SSN [id]",
    "tel +49 (0)511 123456": "tel [phone]",
    "a.b@c.org": "[email]",
    "12 Main Street": "[address]",
    "Hauptstraße 5": "[address]",
    "30625 Hannover": "[address]",
    "a 91-year-old": "a 90 or older-year-old",
    "Name: somebody; then": "Name: [removed]; then",
    "2.5 x 3.0 cm, 12 mm, T12, L1-L2, grade 2/3": "2.5 x 3.0 cm, 12 mm, T12, L1-L2, grade 2/3",
    "Moderate left pleural effusion. No pneumothorax.": "Moderate left pleural effusion. No pneumothorax.",
}


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_cleaned_by_its_form(text: str) -> None:
    assert cleaned(text, days=-395).text == TEXTS[text]


def test_known_names_go_however_they_are_spelt() -> None:
    told = cleaned("MÜLLER, Mueller, Muller and Mullerian; jörg's", known=("Müller", "Jörg"))

    assert told.text == "[removed], [removed], [removed] and Mullerian; [removed]'s"


def test_places_in_cleaned_text_are_found_again() -> None:
    text = "Dr. Smith saw an effusion on 2024-03-03, and a nodule."
    told = cleaned(text, days=-7)

    for words in ("effusion", "nodule"):
        start = text.index(words)
        begin, end = told.moved(start, start + len(words))
        assert told.text[begin:end] == words
    assert told.text[slice(*told.moved(5, 7))] == "[name]"  # a part of a name is all of what stands for it


def test_an_image_without_identity_is_valid_and_the_same_every_time() -> None:
    once, again = (image_without_identity(_source(), Pseudonyms(KEY)) for _ in range(2))

    assert once == again
    assert json.loads(dcmread(BytesIO(once)).to_json())["00100010"] == {
        "vr": "PN",
        "Value": [{"Alphabetic": Pseudonyms(KEY).patient("88123456")}],
    }
