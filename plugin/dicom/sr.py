"""The whole evidence as a Comprehensive SR, TID 1500 "Measurement Report" (PS3.16): every phrase, lit or not.

Per phrase, all under one tracking UID: a TID 1410 group for each region with its rectangle, a TID 1410 group for each
segmentation frame, and a TID 1501 group with the certainty, what became of the phrase, and what radiologists decided
about it, who are observers (TID 1003) then. The numbers stand apart from the rectangles because OHIF drops a rectangle
whose group has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, NamedTuple

import highdicom.sr as hd
import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes as dicom
from pydicom.sr.coding import Code

from model.values import Region, State
from nlp.phrases import Assertion
from plugin.dicom import codes
from plugin.dicom.header import text
from plugin.dicom.instance import (
    WrittenInstance,
    equipment,
    finished,
    inputs_of,
    observer,
    reference_to,
    source_dataset,
    without_name,
)
from plugin.identity import derived_uid
from plugin.values import (
    Evidence,
    GroundedPhrase,
    ImageRef,
    Keyed,
    Placement,
    Provenance,
    RegionDecision,
    ReportRef,
    Ruling,
)

SERIES_NUMBER = 9101
IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
PERCENT = Code("%", "UCUM", "Percent")
PIXELS = Code("{pixels}", "UCUM", "Pixels")
Relationship = hd.RelationshipTypeValues
LANGUAGES = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "ja": "Japanese", "und": "Undetermined"}
STATES = {
    State.FOUND: "Shown by the image.",
    State.REGION_ONLY: "Only the area that the report names is marked.",
    State.NOT_FOUND: "Not found in the image.",
    State.NOT_GROUNDABLE: "Not looked for in the image.",
}

DECIDED = {
    Ruling.ACCEPTED: "Region accepted",
    Ruling.REJECTED: "Region rejected",
    Ruling.REDRAWN: "Region drawn",
}
NOT_STATED = "not stated"


class Frame(NamedTuple):
    """One frame of a Segmentation that is written with the report."""

    sop_class_uid: str
    sop_instance_uid: str
    number: int


Frames = Mapping[tuple[str, str], Frame]


def report_uid(evidence: Keyed) -> str:
    """The SOP instance UID of the report on *evidence*."""
    return derived_uid("report", *evidence.key)


def report(
    evidence: Evidence, segmentations: tuple[WrittenInstance, ...], *, follows: tuple[ImageRef, ...] = ()
) -> WrittenInstance | None:
    """The Comprehensive SR of *evidence* that refers to *segmentations*; None when the report has no phrase.

    The key finding comes first: lit phrases by probability, then asserted ones that are not lit, then the denied.

    Parameters
    ----------
    follows : the reports that this one replaces: its Predecessor Documents (PS3.3 C.17.2).

    Raises
    ------
    ConformanceError
        If header and pixels of an image contradict each other.
    """
    if not evidence.phrases:
        return None
    sources = [source_dataset(radiograph) for radiograph in evidence.images]
    segments = [dcmread(BytesIO(written.content), stop_before_pixels=True) for written in segmentations]
    frames = _frames(segments)
    instance = hd.ComprehensiveSR(
        evidence=[
            *map(without_name, sources),
            *segments,
            *(reference_to(other.image) for other in evidence.references),
        ],
        content=_content(evidence, frames),
        series_instance_uid=derived_uid("report-series", *evidence.key),
        series_number=SERIES_NUMBER,
        sop_instance_uid=report_uid(evidence),
        instance_number=1,
        is_complete=True,
        previous_versions=[reference_to(earlier) for earlier in follows] or None,
        series_description="Sightline: phrases of the report and their regions",
        **equipment(evidence.provenance.model, software_version=evidence.provenance.software_version),
    )
    _verify(instance, evidence, organization=text(sources[0], "InstitutionName"))
    return finished(instance, source=sources[0], created=evidence.written, file_name="sr.dcm")


def _verify(instance: hd.ComprehensiveSR, evidence: Evidence, *, organization: str) -> None:
    """SR Document General (PS3.3 C.17.2): verified when people decided about every region, by each of them."""
    if not evidence.decisions or not all(phrase.decided for phrase in evidence.phrases if phrase.lit):
        return
    instance.VerificationFlag = "VERIFIED"
    instance.VerifyingObserverSequence = [
        _verifier(name, last, organization=organization) for name, last in _people(evidence).items()
    ]


def _verifier(name: str, last: datetime, *, organization: str) -> Dataset:
    item = Dataset()
    item.VerifyingObserverName = name
    item.VerifyingOrganization = organization or NOT_STATED
    item.VerificationDateTime = last.strftime("%Y%m%d%H%M%S+0000")
    item.VerifyingObserverIdentificationCodeSequence = []
    return item


def _people(evidence: Evidence) -> dict[str, datetime]:
    """Who decided, as a person name (PS3.5 6.2.1), and when last."""
    last: dict[str, datetime] = {}
    for decision in sorted(evidence.decisions, key=lambda each: each.made):
        name = " ".join(re.sub(r"[\\^=]", " ", decision.who.name).split())
        last[f"{name[:63]}^"] = decision.made.astimezone(UTC)  # a caret: one component, and meant
    return last


# What the report is about


def _content(evidence: Evidence, frames: Frames) -> hd.ContainerContentItem:
    """TID 1500: regions are "Imaging Measurements", statements about each phrase are "Qualitative Evaluations".

    Both would be allowed in the first container, but there PixelMed's validator holds every group to TID 1410, which
    asks for a region, and viewers offer a jump to nowhere.
    """
    phrases = _key_first(evidence.phrases)
    regions = [group for phrase in phrases for group in region_groups(phrase, frames)]
    statements = [group for phrase in phrases for group in statement(phrase)]
    root = hd.ContainerContentItem(name=dicom.DCM.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = hd.ContentSequence(
        [
            *hd.LanguageOfContentItemAndDescendants(_language(evidence.language)),
            *hd.ObservationContext(observer_device_context=_device(evidence.provenance)),
            *(item for name in _people(evidence) for item in _person(name)),
            hd.CodeContentItem(
                name=dicom.DCM.ProcedureReported,
                value=IMAGING_PROCEDURE,
                relationship_type=Relationship.HAS_CONCEPT_MOD,
            ),
            _image_library(evidence),
            *([_container(dicom.DCM.ImagingMeasurements, regions)] if regions else []),
            _container(codes.QUALITATIVE_EVALUATIONS, statements),
            _text(codes.SOURCE_REPORT, identified(evidence.report.ref, evidence.provenance)),
            _text(dicom.DCM.AlgorithmParameters, _inputs(evidence)),
        ]
    )
    return root


def _device(provenance: Provenance) -> hd.ObserverContext:
    return observer(provenance.model, software_version=provenance.software_version)


def _person(name: str) -> hd.ObserverContext:
    """TID 1003: somebody who decided about regions."""
    return hd.ObserverContext(
        observer_type=dicom.DCM.Person,
        observer_identifying_attributes=hd.PersonObserverIdentifyingAttributes(name=name),
    )


def identified(report: ReportRef, provenance: Provenance) -> str:
    """Which report it is about, and its text by hash."""
    return f"id {report.report_id}; version {report.version}; SHA-256 {provenance.report_sha256}"


def inputs(provenance: Provenance, pixels: Mapping[str, str]) -> str:
    """In the form of Algorithm Parameters in a Segmentation; *pixels* are hashes by the UID of their image."""
    named = {f"pixels_sha256 {uid}": sha256 for uid, sha256 in pixels.items()}
    return ",".join(f"{name}={value}" for name, value in inputs_of(provenance, named).items())


def _inputs(evidence: Evidence) -> str:
    return inputs(evidence.provenance, {image.ref.sop_instance_uid: image.source_sha256 for image in evidence.images})


def _container(name: Code, items: Sequence[hd.ContentItem]) -> hd.ContainerContentItem:
    container = hd.ContainerContentItem(name=name, relationship_type=Relationship.CONTAINS)
    container.ContentSequence = hd.ContentSequence(items)
    return container


def _text(name: Code, value: str) -> hd.TextContentItem:
    return hd.TextContentItem(name=name, value=value, relationship_type=Relationship.CONTAINS)


def _language(tag: str) -> hd.CodedConcept:
    return hd.CodedConcept(tag, "RFC5646", LANGUAGES.get(tag.partition("-")[0], tag))


def _image_library(evidence: Evidence) -> hd.ContainerContentItem:
    """TID 1600: the grounded images with their size, then the images that were only looked at."""
    entries = [_entry(radiograph.ref, *radiograph.pixels.shape) for radiograph in evidence.images]
    entries += [_entry(other.image, other.rows, other.columns) for other in evidence.references]
    return _container(dicom.DCM.ImageLibrary, [_container(dicom.DCM.ImageLibraryGroup, entries)])


def _entry(image: ImageRef, rows: int, columns: int) -> hd.ImageContentItem:
    entry = hd.ImageContentItem(
        name=codes.SOURCE,
        referenced_sop_class_uid=image.sop_class_uid,
        referenced_sop_instance_uid=image.sop_instance_uid,
        relationship_type=Relationship.CONTAINS,
    )
    sizes = [(dicom.DCM.PixelDataRows, rows), (dicom.DCM.PixelDataColumns, columns)] if rows and columns else []
    if sizes:
        entry.ContentSequence = hd.ContentSequence(
            [
                hd.NumContentItem(name=name, value=value, unit=PIXELS, relationship_type=Relationship.HAS_ACQ_CONTEXT)
                for name, value in sizes
            ]
        )
    return entry


# One phrase


def _frames(segmentations: Iterable[Dataset]) -> Frames:
    """Which frame shows a phrase: by (tracking UID, SOP instance UID of the image). Frame *n* is segment *n*."""
    return {
        (str(segment.TrackingUID), _source_uid(segmentation)): Frame(
            segmentation.SOPClassUID, segmentation.SOPInstanceUID, int(segment.SegmentNumber)
        )
        for segmentation in segmentations
        for segment in segmentation.SegmentSequence
    }


def _source_uid(segmentation: Dataset) -> str:
    instance = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    return str(instance.ReferencedSOPInstanceUID)


def _key_first(phrases: tuple[GroundedPhrase, ...]) -> list[GroundedPhrase]:
    def rank(phrase: GroundedPhrase) -> tuple[int, float]:
        if phrase.lit:
            return 0, -max(placement.probability for placement in phrase.placements if placement.regions)
        return (2 if phrase.phrase.assertion in (Assertion.NEGATED, Assertion.NOT_REPORTED) else 1), 0.0

    return sorted(phrases, key=rank)


def region_groups(phrase: GroundedPhrase, frames: Frames) -> Iterator[hd.ContentItem]:
    """A TID 1410 group for each rectangle, then one for each segmentation frame, under one tracking UID."""
    for placement in phrase.placements:
        for region in sorted(placement.regions, key=lambda region: -region.probability):
            yield from _rectangle_group(phrase, placement.image, region)
    for placement in phrase.placements:
        if frame := frames.get((phrase.tracking_uid, placement.image.sop_instance_uid)):
            yield from _frame_group(phrase, placement.image, frame)


def statement(phrase: GroundedPhrase) -> hd.ContentSequence:
    """A TID 1501 group: the phrase, what it claims, the certainty on each image, and why it is lit or not."""
    group = hd.MeasurementsAndQualitativeEvaluations(
        measurements=[_certainty(placement) for placement in phrase.placements], **_context(phrase)
    )
    conclusions = [_conclusion(placement.state, placement.reason) for placement in phrase.placements]
    if not conclusions:
        conclusions = [_conclusion(State.NOT_GROUNDABLE, phrase.phrase.not_groundable_reason)]
    conclusions += [_decision(decision) for decision in phrase.decisions]
    items = group[0].ContentSequence
    items.append(_text(dicom.DCM.Comment, phrase.phrase.text))
    items.extend(_text(dicom.DCM.Conclusion, conclusion) for conclusion in conclusions)
    return group


def _context(phrase: GroundedPhrase) -> dict[str, Any]:
    """What every group of a phrase repeats: its identity, finding, site, and what the report says of it."""
    said = phrase.phrase
    site = codes.site(said)
    laterality = codes.LATERALITY[said.laterality] if said.laterality else None
    return {
        "tracking_identifier": hd.TrackingIdentifier(uid=phrase.tracking_uid, identifier=phrase.tracking_id),
        "finding_type": codes.coded(said.finding),
        "finding_sites": None if site is None else [hd.FindingSite(site, laterality=laterality)],
        "qualitative_evaluations": [hd.QualitativeEvaluation(name, value) for name, value in codes.evaluations(said)],
    }


def _rectangle_group(phrase: GroundedPhrase, image: ImageRef, region: Region) -> hd.ContentSequence:
    left, top, right, bottom = region.box
    group = hd.PlanarROIMeasurementsAndQualitativeEvaluations(
        referenced_region=hd.ImageRegion(
            graphic_type=hd.GraphicTypeValues.POLYLINE,
            graphic_data=np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]),
            source_image=hd.SourceImageForRegion(image.sop_class_uid, image.sop_instance_uid),
        ),
        **_context(phrase),
    )
    group[0].ContentSequence.append(_text(dicom.DCM.Comment, phrase.phrase.text))
    return group


def _frame_group(phrase: GroundedPhrase, image: ImageRef, frame: Frame) -> hd.ContentSequence:
    reference = hd.ReferencedSegmentationFrame(
        sop_class_uid=frame.sop_class_uid,
        sop_instance_uid=frame.sop_instance_uid,
        frame_number=frame.number,
        segment_number=frame.number,
        source_image=hd.SourceImageForSegmentation(image.sop_class_uid, image.sop_instance_uid),
    )
    # A frame or a segment, never both (PS3.3 table 10-3).
    del reference[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
    return hd.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=reference, **_context(phrase))


def _certainty(placement: Placement) -> hd.Measurement:
    image = placement.image
    return hd.Measurement(
        name=dicom.DCM.CertaintyOfFinding,
        value=round(100 * placement.probability, 1),
        unit=PERCENT,
        referenced_images=[hd.SourceImageForMeasurement(image.sop_class_uid, image.sop_instance_uid)],
    )


def _decision(decision: RegionDecision) -> str:
    said = f"{DECIDED[decision.ruling]} by {decision.who.name} on {decision.made:%Y-%m-%d}"
    return f"{said}: {decision.reason}" if decision.reason else f"{said}."


def _conclusion(state: State, reason: str | None) -> str:
    return f"{STATES[state]} {reason}" if reason else STATES[state]
