"""What the Segmentation and the structured report say, read back by readers that are not the writers."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import UTC
from io import BytesIO
from itertools import product

import cv2
import numpy as np
import pytest
from evidence import (
    CARD,
    CREATED,
    LONG,
    NON_ASCII,
    make_evidence,
    make_header,
    make_lateral,
    make_phrase,
    make_radiograph,
    part10,
    rectangle,
)
from pydicom import DataElement, Dataset, config, dcmread

from model.geometry import Orientation
from model.values import State
from nlp.phrases import Assertion, Change, Code, Concept, Laterality, Section, Severity
from plugin.dicom import codes
from plugin.dicom.result import read_report, read_segmentation
from plugin.dicom.seg import colour, label, segmentations
from plugin.dicom.sr import report
from plugin.errors import ConformanceError, InputError
from plugin.identity import derived_uid
from plugin.values import Evidence, GroundedPhrase, Placement

SOURCES = {
    "DX": {},
    "DX, MONOCHROME1": {"photometric": "MONOCHROME1"},
    "DX, no spacing": {"spacing": None},
    "DX, no frame of reference": {"frame_of_reference": False},
    "CR": {"modality": "CR"},
    "CR, MONOCHROME1, landscape, no spacing, no frame of reference": {
        "modality": "CR",
        "photometric": "MONOCHROME1",
        "rows": 70,
        "columns": 110,
        "spacing": None,
        "frame_of_reference": False,
    },
}


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return make_evidence(references=(make_lateral(),))


@pytest.fixture(scope="module")
def seg_content(evidence: Evidence) -> bytes:
    return segmentations(evidence)[0].content


@pytest.fixture(scope="module")
def sr_content(evidence: Evidence) -> bytes:
    return _report(evidence)


@pytest.fixture(scope="module")
def seg(seg_content: bytes) -> Dataset:
    return _parsed(seg_content)


@pytest.fixture(scope="module")
def sr(sr_content: bytes) -> Dataset:
    return _parsed(sr_content)


def _parsed(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def _report(evidence: Evidence) -> bytes:
    written = report(evidence, segmentations(evidence))
    assert written is not None
    return written.content


def _expected_masks(evidence: Evidence) -> dict[str, np.ndarray]:
    image = evidence.images[0]
    return {
        phrase.tracking_uid: np.any([r.mask(*image.pixels.shape) for r in phrase.placements[0].regions], axis=0)
        for phrase in evidence.phrases
        if phrase.lit
    }


def _with_phrase(text: str, finding: Concept, **fields: object) -> Evidence:
    evidence = make_evidence()
    image = evidence.images[0]
    phrase = make_phrase(text, finding, source=text, **fields)
    placement = Placement(image.ref, State.FOUND, 0.9, regions=(rectangle(1, 2, 30, 40),))
    only = GroundedPhrase(phrase, f"1 {finding.name}", derived_uid("test", "one"), (placement,))
    return replace(evidence, phrases=(only,))


def _items(item: Dataset) -> list[Dataset]:
    children = list(item.get("ContentSequence", ()))
    return children + [grandchild for child in children for grandchild in _items(child)]


def _named(item: Dataset, value: str) -> list[Dataset]:
    return [child for child in _items(item) if child.ConceptNameCodeSequence[0].CodeValue == value]


# Segmentation


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_masks_come_back_pixel_for_pixel(source: dict) -> None:
    evidence = make_evidence(make_radiograph(make_header(**source)))

    (written,) = segmentations(evidence)

    expected = _expected_masks(evidence)
    segments = read_segmentation(written.content)
    assert [segment.tracking_uid for segment in segments] == list(expected)
    for segment in segments:
        np.testing.assert_array_equal(segment.mask, expected[segment.tracking_uid])
        assert segment.image_uid == evidence.images[0].ref.sop_instance_uid


@pytest.mark.parametrize("turned", list(product((False, True), repeat=3)), ids=str)
def test_regions_stay_in_source_pixels_however_the_image_is_turned(turned: tuple[bool, bool, bool]) -> None:
    radiograph = make_radiograph(make_header(rows=40, columns=64), orientation=Orientation(*turned))
    evidence = make_evidence(radiograph)

    (written,) = segmentations(evidence)

    masks = {segment.tracking_uid: segment.mask for segment in read_segmentation(written.content)}
    expected = _expected_masks(evidence)
    assert masks.keys() == expected.keys()
    assert all(np.array_equal(masks[uid], expected[uid]) for uid in expected)


def test_a_plain_reader_finds_each_segment_in_the_frame_of_the_same_number(evidence: Evidence, seg: Dataset) -> None:
    numbers = [
        group.SegmentIdentificationSequence[0].ReferencedSegmentNumber for group in seg.PerFrameFunctionalGroupsSequence
    ]

    assert numbers == list(range(1, 6))
    for frame, expected in zip(seg.pixel_array, _expected_masks(evidence).values(), strict=True):
        np.testing.assert_array_equal(frame == 1, expected)


def test_overlapping_regions_are_kept_whole(seg_content: bytes) -> None:
    masks = [segment.mask for segment in read_segmentation(seg_content)]

    assert np.sum(masks, axis=0).max() == 2


def test_a_segment_says_what_it_is(seg: Dataset) -> None:
    effusion = seg.SegmentSequence[0]

    assert effusion.SegmentLabel == effusion.SegmentDescription == "Moderate left pleural effusion, increased"
    assert effusion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert effusion.SegmentedPropertyTypeCodeSequence[0].CodeValue == "60046008"
    assert effusion.AnatomicRegionSequence[0].CodeValue == "816094009"
    assert effusion.AnatomicRegionSequence[0].AnatomicRegionModifierSequence[0].CodeValue == "7771000"
    assert effusion.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = effusion.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (CARD.name, CARD.version)
    assert CARD.weights_sha256 in algorithm.AlgorithmParameters
    assert effusion.TrackingID == "2 pleural effusion"


def test_laterality_of_one_segment_does_not_leak_into_the_next() -> None:
    first = make_evidence()
    segmentations(first)

    (written,) = segmentations(_with_phrase("right effusion", Concept("x"), laterality=Laterality.RIGHT))

    region = _parsed(written.content).SegmentSequence[0].AnatomicRegionSequence[0]
    assert [code.CodeMeaning for code in region.AnatomicRegionModifierSequence] == ["Right"]


def test_a_device_is_a_physical_object_and_disease_is_not(seg: Dataset) -> None:
    categories = {
        segment.SegmentLabel: segment.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning
        for segment in seg.SegmentSequence
    }

    assert categories["Cardiac pacemaker"] == "Physical object"
    assert categories["Bilateral pulmonary nodules"] == "Morphologically Abnormal Structure"


def test_segments_differ_in_colour(seg: Dataset) -> None:
    colours = {tuple(segment.RecommendedDisplayCIELabValue) for segment in seg.SegmentSequence}

    assert len(colours) == len(seg.SegmentSequence)


# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": np.array([[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0519]]),
    "deuteranopia": np.array([[0.3673, 0.8608, -0.2281], [0.2801, 0.6726, 0.0473], [-0.0118, 0.0429, 0.9689]]),
}


@pytest.mark.parametrize("matrix", BLINDNESS.values(), ids=BLINDNESS)
def test_the_first_seven_colours_differ_for_colour_blind_readers(matrix: np.ndarray) -> None:
    linear = (np.array([colour(number) for number in range(1, 8)]) / 255) ** 2.2
    seen = np.clip(linear @ matrix.T, 0, 1).astype(np.float32) ** np.float32(1 / 2.2)

    lab = cv2.cvtColor(seen[np.newaxis], cv2.COLOR_RGB2LAB)[0]
    apart = [float(np.linalg.norm(one - other)) for at, one in enumerate(lab) for other in lab[at + 1 :]]

    assert min(apart) > 10  # CIE76: 2.3 is just noticeable
    assert len({colour(number) for number in range(1, 22)}) == 21


def test_the_long_phrase_is_cut_in_the_label_and_whole_in_the_description(seg: Dataset) -> None:
    segment = seg.SegmentSequence[1]

    assert segment.SegmentLabel == "patchy ill-defined airspace opacities scattered throughout..."
    assert segment.SegmentDescription == LONG


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("two\n  lines", "two lines"),
        ("5\\6", "5/6"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 61 + "..."),
        ("left, " * 20, "left, " * 9 + "left..."),
        ("左" * 30, "左" * 20 + "..."),
    ],
)
def test_labels_fit_their_attribute(text: str, expected: str) -> None:
    assert label(text) == expected
    assert len(label(text).encode()) <= 64


def test_pixel_size_and_orientation_are_stated_once_for_all_frames(seg: Dataset) -> None:
    shared = seg.SharedFunctionalGroupsSequence[0]

    assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.2, 0.15]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]


def test_without_spacing_a_pixel_is_one_millimetre_for_viewers() -> None:
    (written,) = segmentations(make_evidence(make_radiograph(make_header(spacing=None))))

    shared = _parsed(written.content).SharedFunctionalGroupsSequence[0]
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [1, 1]


def test_the_source_image_is_referenced(evidence: Evidence, seg: Dataset) -> None:
    image = evidence.images[0].ref

    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == image.series_instance_uid
    derivation = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    assert derivation.SourceImageSequence[0].ReferencedSOPInstanceUID == image.sop_instance_uid


def test_an_image_without_regions_has_no_segmentation() -> None:
    evidence = make_evidence()
    dark = tuple(phrase for phrase in evidence.phrases if not phrase.lit)

    assert segmentations(replace(evidence, phrases=dark)) == ()


def test_a_region_smaller_than_a_pixel_lights_no_segment() -> None:
    evidence = _with_phrase("dot", Concept("nodule"))
    (phrase,) = evidence.phrases
    speck = replace(phrase.placements[0], regions=(rectangle(1.1, 1.1, 1.2, 1.2),))
    evidence = replace(evidence, phrases=(replace(phrase, placements=(speck,)),))

    assert segmentations(evidence) == ()
    assert read_report(_report(evidence))[0].boxes != ()


def test_two_images_give_two_segmentations_in_series_of_their_own() -> None:
    second = make_radiograph(make_header(number=2, rows=50, columns=60, modality="CR"))
    evidence = make_evidence(make_radiograph(), second)

    written = segmentations(evidence)

    assert [instance.file_name for instance in written] == ["seg-1.dcm", "seg-2.dcm"]
    assert len({instance.series_instance_uid for instance in written}) == 2
    assert [read_segmentation(instance.content)[0].mask.shape for instance in written] == [(96, 80), (50, 60)]


# Both objects


def test_writing_twice_gives_the_same_bytes(evidence: Evidence, seg_content: bytes, sr_content: bytes) -> None:
    time.sleep(1.1)  # a wall clock would show: DICOM times are written to the second

    assert segmentations(evidence)[0].content == seg_content
    assert _report(evidence) == sr_content


def test_another_report_version_gives_other_instances(evidence: Evidence) -> None:
    amended = replace(evidence, report=replace(evidence.report, ref=replace(evidence.report.ref, version="3")))

    assert segmentations(amended)[0].sop_instance_uid != segmentations(evidence)[0].sop_instance_uid


@pytest.mark.parametrize("kind", ["seg", "sr"])
def test_patient_study_and_equipment(kind: str, request: pytest.FixtureRequest) -> None:
    dataset = request.getfixturevalue(kind)

    assert dataset.PatientName == "Müller^Jörg"
    assert (dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex) == ("TEST-1", "19500102", "M")
    assert (dataset.AccessionNumber, dataset.StudyDate, dataset.StudyDescription) == ("ACC-7", "20260228", "Chest")
    assert dataset.ReferringPhysicianName == "Referrer^One"
    assert dataset.Manufacturer == "Sightline"
    assert dataset.SpecificCharacterSet == "ISO_IR 192"
    assert dataset.ContentDate + dataset.ContentTime == CREATED.strftime("%Y%m%d%H%M%S")
    assert dataset.file_meta.ImplementationVersionName == "SIGHTLINE"


def test_a_japanese_name_in_iso_2022_becomes_utf_8() -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    header = make_header(patient_name=name, character_set=["", "ISO 2022 IR 87"])

    (written,) = segmentations(make_evidence(make_radiograph(header)))

    assert _parsed(written.content).PatientName == name
    assert name.encode() in written.content


def test_invalid_values_of_the_source_are_not_copied() -> None:
    header = make_header()
    for keyword, vr, value in (("PatientSex", "CS", "X"), ("PatientAge", "AS", "old"), ("StudyTime", "TM", "25:99")):
        header[keyword] = DataElement(keyword, vr, value, validation_mode=config.IGNORE)

    (written,) = segmentations(make_evidence(make_radiograph(header)))

    dataset = _parsed(written.content)
    assert (dataset.PatientSex, dataset.PatientAge, dataset.StudyTime) == ("", "", "")


def test_a_source_without_any_identity_is_written_with_empty_attributes() -> None:
    header = make_header()
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "ReferringPhysicianName"):
        delattr(header, keyword)

    dataset = _parsed(_report(make_evidence(make_radiograph(header))))

    assert dataset.PatientName == ""
    assert dataset.StudyDate == ""


@pytest.mark.parametrize(("zone", "expected"), [("+0900", "20260301213015"), (None, "20260301123015")])
def test_times_are_in_the_zone_that_the_source_states(zone: str | None, expected: str) -> None:
    header = make_header()
    header.TimezoneOffsetFromUTC = zone
    evidence = make_evidence(make_radiograph(header))
    created = CREATED.replace(tzinfo=UTC)

    (written,) = segmentations(replace(evidence, provenance=replace(evidence.provenance, created=created)))

    dataset = _parsed(written.content)
    assert dataset.ContentDate + dataset.ContentTime == expected
    assert dataset.get("TimezoneOffsetFromUTC") == zone


def test_a_section_is_a_heading_and_a_text_without_sections_has_none() -> None:
    said = {
        section: dict(codes.evaluations(make_phrase("edema", Concept("edema"), section=section))) for section in Section
    }

    assert said[Section.IMPRESSION][codes.SOURCE].value == "121072"
    assert all((codes.SOURCE in values) == (section is not Section.UNLABELLED) for section, values in said.items())


def test_no_name_reaches_warnings_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    evidence = make_evidence(make_radiograph(make_header(patient_name="Doubtful Name")))

    with caplog.at_level(logging.DEBUG):
        _report(evidence)  # warnings are errors in this suite

    assert "Doubtful" not in caplog.text


def test_a_header_of_another_size_is_refused() -> None:
    radiograph = make_radiograph()
    other = replace(radiograph, header=part10(make_header(rows=95)))

    with pytest.raises(ConformanceError, match=r"95, 80"):
        segmentations(make_evidence(other))


def test_two_phrases_with_one_tracking_uid_are_refused() -> None:
    evidence = make_evidence()
    twins = tuple(replace(phrase, tracking_uid="1.2.3") for phrase in evidence.phrases)

    with pytest.raises(ConformanceError, match="tracking UID"):
        segmentations(replace(evidence, phrases=twins))


# Structured report


def test_every_phrase_is_in_the_report_verbatim(evidence: Evidence, sr_content: bytes) -> None:
    phrases = read_report(sr_content)

    assert sorted(phrase.phrase for phrase in phrases) == sorted(p.phrase.text for p in evidence.phrases)
    assert NON_ASCII in {phrase.phrase for phrase in phrases}


def test_the_key_finding_comes_first_and_the_denied_last(sr_content: bytes) -> None:
    phrases = read_report(sr_content)

    assert [phrase.tracking_id for phrase in phrases] == [
        "6 pacemaker",
        "2 pleural effusion",
        "3 opacity",
        "4 nodule",
        "5 pleural effusion",
        "7 pneumothorax",
        "8 edema",
        "1 pneumonia",
        "9 fracture",
    ]


def test_each_region_is_a_rectangle_around_it_and_each_segment_a_frame(evidence: Evidence, sr_content: bytes) -> None:
    (segmentation,) = segmentations(evidence)
    found = {phrase.tracking_uid: phrase for phrase in read_report(sr_content)}

    for at, phrase in enumerate((phrase for phrase in evidence.phrases if phrase.lit), start=1):
        (placement,) = phrase.placements
        boxes = sorted(box for _, box in found[phrase.tracking_uid].boxes)
        np.testing.assert_allclose(boxes, sorted(region.box for region in placement.regions), rtol=1e-6)
        assert found[phrase.tracking_uid].frames == ((segmentation.sop_instance_uid, at),)


def test_rectangles_are_closed_polylines_in_groups_without_numbers(sr: Dataset) -> None:
    groups = [group for group in _named(sr, "125007") if _named(group, "111030")]

    assert len(groups) == 7
    for group in groups:
        (region,) = _named(group, "111030")
        assert region.GraphicType == "POLYLINE"
        assert len(region.GraphicData) == 10
        assert region.GraphicData[:2] == region.GraphicData[-2:]
        assert all(item.ValueType != "NUM" for item in group.ContentSequence)


def test_a_frame_reference_names_no_segment_besides(sr: Dataset) -> None:
    references = [item.ReferencedSOPSequence[0] for item in _named(sr, "121214")]

    assert len(references) == 5
    assert all("ReferencedFrameNumber" in it and "ReferencedSegmentNumber" not in it for it in references)


def test_certainty_is_given_in_percent(sr_content: bytes) -> None:
    probabilities = {p.tracking_id: p.probabilities for p in read_report(sr_content)}

    assert probabilities["2 pleural effusion"] == (0.93,)
    assert probabilities["7 pneumothorax"] == (0.12,)
    assert probabilities["9 fracture"] == ()


def test_a_phrase_that_is_not_lit_has_no_region_and_says_why(sr_content: bytes) -> None:
    phrases = {p.tracking_id: p for p in read_report(sr_content)}

    assert phrases["9 fracture"].boxes == phrases["9 fracture"].frames == ()
    assert phrases["9 fracture"].conclusions == ("Not looked for in the image. The report denies it.",)
    assert phrases["7 pneumothorax"].conclusions == ("Not found in the image. Below the threshold.",)
    assert phrases["5 pleural effusion"].conclusions[0].startswith("Only the area that the report names")


def test_only_regions_are_measurements(evidence: Evidence, sr: Dataset) -> None:
    (measurements,) = _named(sr, "126010")

    lit = {phrase.tracking_uid for phrase in evidence.phrases if phrase.lit}
    assert {item.UID for item in _named(measurements, "112040")} == lit


def test_every_phrase_has_one_statement(evidence: Evidence, sr: Dataset) -> None:
    (evaluations,) = _named(sr, "C0034375")

    texts = [item.TextValue for item in _named(evaluations, "121106")]
    assert sorted(texts) == sorted(phrase.phrase.text for phrase in evidence.phrases)


@pytest.mark.parametrize(
    ("assertion", "code"),
    [
        (Assertion.AFFIRMED, "410515003"),
        (Assertion.PROBABLE, "410592001"),
        (Assertion.POSSIBLE, "410590009"),
        (Assertion.NEGATED, "410516002"),
        (Assertion.NOT_REPORTED, None),
    ],
)
def test_assertions_are_coded(assertion: Assertion, code: str | None) -> None:
    asserted = assertion not in (Assertion.NEGATED, Assertion.NOT_REPORTED)
    reason = None if asserted else "No."
    phrase = make_phrase(
        "edema", Concept("edema"), assertion=assertion, groundable=asserted, not_groundable_reason=reason
    )

    values = [value.value for name, value in codes.evaluations(phrase) if name == codes.FINDING_CONTEXT]

    assert values == ([code] if code else [])


def test_every_severity_change_and_side_has_a_code() -> None:
    assert codes.SEVERITY.keys() == set(Severity)
    assert codes.CHANGE.keys() == set(Change)
    assert codes.LATERALITY.keys() == set(Laterality)


def test_snomed_is_preferred_and_unknown_schemes_are_not_written() -> None:
    sct, local = Code("SCT", "1", "one"), Code("99LOCAL", "2", "two")

    assert codes.coded(Concept("x", (local, Code("RADLEX", "RID1", "r"), sct))).value == "1"  # type: ignore[union-attr]
    assert codes.coded(Concept("x", (local,))) is None


def test_report_device_and_procedure_are_identified(evidence: Evidence, sr: Dataset) -> None:
    (source,) = _named(sr, "128225")
    (procedure,) = _named(sr, "121058")
    (language,) = _named(sr, "121049")

    assert source.TextValue == f"id report-1; version 2; SHA-256 {evidence.provenance.report_sha256}"
    assert procedure.ConceptCodeSequence[0].CodeValue == "363679005"
    assert language.ConceptCodeSequence[0].CodeValue == "en"
    assert [item.TextValue for item in _named(sr, "121013")] == ["Sightline"]


def test_the_lateral_is_in_the_image_library_and_in_the_evidence(sr: Dataset) -> None:
    lateral = make_lateral().image.sop_instance_uid

    (library,) = _named(sr, "111028")
    shown = {it.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for it in _items(library) if it.ValueType == "IMAGE"}
    listed = {
        instance.ReferencedSOPInstanceUID
        for series in sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }

    assert lateral in shown & listed


def test_a_phrase_lit_on_one_of_two_images_says_so_of_the_other() -> None:
    second = make_radiograph(make_header(number=2))
    evidence = _with_phrase("nodule", Concept("nodule"))
    (phrase,) = evidence.phrases
    absent = Placement(second.ref, State.NOT_FOUND, 0.1, reason="Below the threshold.")
    both = replace(phrase, placements=(*phrase.placements, absent))

    (read,) = read_report(_report(replace(evidence, images=(*evidence.images, second), phrases=(both,))))

    assert len(read.boxes) == len(read.frames) == 1
    assert read.probabilities == (0.9, 0.1)
    assert read.conclusions == ("Shown by the image.", "Not found in the image. Below the threshold.")


def test_without_phrases_there_is_no_report() -> None:
    assert report(replace(make_evidence(), phrases=()), ()) is None


def test_an_unknown_language_is_named_by_its_tag() -> None:
    sr = _parsed(_report(replace(make_evidence(), language="is")))

    (language,) = _named(sr, "121049")
    assert language.ConceptCodeSequence[0].CodeMeaning == "is"


# Reading back what is not ours


@pytest.mark.parametrize("read", [read_segmentation, read_report])
def test_foreign_content_is_refused(read) -> None:
    with pytest.raises(InputError, match="not a DICOM file"):
        read(b"hello")
    with pytest.raises(InputError, match="was expected"):
        read(part10(make_header()))


def test_a_damaged_segmentation_is_refused(seg: Dataset) -> None:
    damaged = Dataset()
    damaged.update({element.tag: element for element in seg if element.keyword != "PixelData"})

    with pytest.raises(InputError, match="damaged"):
        read_segmentation(part10(damaged))


def test_a_damaged_report_is_refused(sr: Dataset) -> None:
    damaged = _parsed(part10(sr))
    for group in _named(damaged, "125007"):
        del group.ContentSequence[0:2]

    with pytest.raises(InputError, match="damaged"):
        read_report(part10(damaged))
