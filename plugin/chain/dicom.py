"""Segmentations and Structured Report before the evidence that they were written of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO

import numpy as np
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes as dicom
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian

from plugin.chain.checks import Check, Verdict, compared
from plugin.chain.material import DicomFile, Material
from plugin.chain.rebuilt import Rebuilt
from plugin.dicom.codes import SOURCE_REPORT
from plugin.dicom.header import items, text
from plugin.dicom.instance import UTF_8, administrative
from plugin.dicom.result import ReadSegment, groups_in, named, read_segmentation
from plugin.dicom.seg import algorithm_of, described, mask_on, segmentation_uid
from plugin.dicom.sr import Frame, Frames, identified, inputs, region_groups, report_uid, statement
from plugin.errors import InputError
from plugin.ports import report_code
from plugin.values import GroundedPhrase, ImageRef

_PATIENT = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "AccessionNumber")


def of_this_result(material: Material, rebuilt: Rebuilt) -> tuple[Material, tuple[str, ...]]:
    """*material* without copies and without Segmentations and reports of other results, and the names of these.

    An archive holds those of other reports and versions, too. Whatever may stand where ours is missing stays, to be
    found out.
    """
    segmented = {segmentation_uid(rebuilt, image) for image in rebuilt.images.values()}
    segmentations, other_segmentations = _chosen(
        material.segmentations, segmented if rebuilt.knows_decisions else set()
    )
    reports, other_reports = _chosen(material.reports, {report_uid(rebuilt)} if rebuilt.knows_decisions else set())
    chosen = replace(material, segmentations=segmentations, reports=reports)
    return chosen, tuple(file.name for file in (*other_segmentations, *other_reports))


def _chosen(files: list[DicomFile], uids: set[str]) -> tuple[list[DicomFile], list[DicomFile]]:
    """Those that are looked at, each once, and the others."""
    once = list({(file.uid, file.content): file for file in files}.values())
    ours = [file for file in once if file.uid in uids]
    taken = {source_uid(file.dataset) for file in ours}
    instead = [file for file in once if file.uid not in uids and source_uid(file.dataset) not in taken]
    return [*ours, *instead], [file for file in once if file not in ours and file not in instead]


def segmentations(material: Material, rebuilt: Rebuilt) -> Iterator[Check]:
    """Whether every lit image has its Segmentation, and each shows what the evidence says."""
    by_image: dict[str, list[DicomFile]] = {}
    for file in material.segmentations:
        by_image.setdefault(source_uid(file.dataset), []).append(file)
    for uid, image in rebuilt.images.items():
        lit, files = _lit_on(rebuilt, image), by_image.pop(uid, [])
        if lit and not files:
            yield Check(f"image {uid}", Verdict.FAILS, "its Segmentation is missing")
        for file in files:
            yield from compared(file.name, "it shows the regions of the evidence", _wrong(file, image, lit, rebuilt))
        if len(files) > 1:
            yield Check(f"image {uid}", Verdict.FAILS, "it has several Segmentations")
    for file in (each for files in by_image.values() for each in files):
        yield Check(file.name, Verdict.FAILS, "it is about an image that the evidence does not list")


def source_uid(dataset: Dataset) -> str:
    """The image that a Segmentation is about, "" when it says none."""
    series = items(dataset, "ReferencedSeriesSequence")
    instances = [each for item in series for each in items(item, "ReferencedInstanceSequence")]
    return text(instances[0], "ReferencedSOPInstanceUID") if instances else ""


def _lit_on(rebuilt: Rebuilt, image: ImageRef) -> list[GroundedPhrase]:
    part = rebuilt.parts[image.sop_instance_uid]
    size = {"rows": part.rows, "columns": part.columns}
    return [phrase for phrase in rebuilt.phrases if mask_on(phrase, image, **size).any()]


def _wrong(file: DicomFile, image: ImageRef, lit: list[GroundedPhrase], rebuilt: Rebuilt) -> Iterator[str]:
    dataset = file.dataset
    if rebuilt.knows_decisions and file.uid != segmentation_uid(rebuilt, image):
        yield "its UID is not the one of this evidence"
    if text(dataset, "StudyInstanceUID") != image.study.study_instance_uid:
        yield "it is of another study"
    if [text(each, "SeriesInstanceUID") for each in items(dataset, "ReferencedSeriesSequence")] != [
        image.series_instance_uid
    ]:
        yield "it names another series of its image"
    if text(dataset, "PerformedProcedureStepID") != report_code(rebuilt.report.report_id):
        yield "it is about another report"
    try:
        segments = read_segmentation(file.content)
    except InputError as error:
        yield str(error)
        return
    yield from _wrong_segments(segments, lit, image, rebuilt)
    algorithm = algorithm_of(rebuilt.provenance, rebuilt.parts[image.sop_instance_uid].source_sha256)
    wanted = [described(phrase, number, image=image, algorithm=algorithm) for number, phrase in enumerate(lit, start=1)]
    for number, (found, expected) in enumerate(zip(items(dataset, "SegmentSequence"), wanted, strict=False), start=1):
        if _bytes([found]) != _bytes([expected]):
            yield f"segment {number} says something else than the evidence: {_other(found, expected)}"


def _wrong_segments(
    segments: tuple[ReadSegment, ...], lit: list[GroundedPhrase], image: ImageRef, rebuilt: Rebuilt
) -> Iterator[str]:
    if [each.tracking_uid for each in segments] != [each.tracking_uid for each in lit]:
        yield "its segments are not the phrases that are lit"
        return
    part = rebuilt.parts[image.sop_instance_uid]
    for number, (segment, phrase) in enumerate(zip(segments, lit, strict=True), start=1):
        wanted = mask_on(phrase, image, rows=part.rows, columns=part.columns)
        if segment.mask.shape != wanted.shape:
            yield f"segment {number} has another size than its image"
        elif not np.array_equal(segment.mask, wanted):
            pixels = int(np.count_nonzero(segment.mask != wanted))
            yield f"segment {number} marks another region than the evidence: {pixels} pixels differ"


def structured_report(material: Material, rebuilt: Rebuilt) -> Iterator[Check]:
    """Whether the Structured Report says what the evidence says."""
    if not rebuilt.phrases and not material.reports:
        return
    if len(material.reports) != 1:
        yield Check("SR", Verdict.FAILS, f"{len(material.reports)} Structured Reports were found instead of one")
        return
    (file,) = material.reports
    holds = "it says what the evidence says, and names its Segmentations"
    yield from compared(file.name, holds, _wrong_report(file, material, rebuilt))


def _wrong_report(file: DicomFile, material: Material, rebuilt: Rebuilt) -> Iterator[str]:
    dataset, said = file.dataset, rebuilt.provenance
    if rebuilt.knows_decisions and file.uid != report_uid(rebuilt):
        yield "its UID is not the one of this evidence"
    if text(dataset, "StudyInstanceUID") != rebuilt.document.study_instance_uid:
        yield "it is of another study"
    if _texts(dataset, SOURCE_REPORT) != [identified(rebuilt.report, said)]:
        yield "it is about another report, or another text of it"
    pixels = {uid: part.source_sha256 for uid, part in rebuilt.parts.items()}
    if _texts(dataset, dicom.DCM.AlgorithmParameters) != [inputs(said, pixels)]:
        yield "it was made with other weights, settings, text or pixels"
    named_uids = {each.uid for each in material.segmentations}
    wanted = {*rebuilt.images, *named_uids, *(each.sop_instance_uid for each in rebuilt.document.references)}
    listed = {
        text(each, "ReferencedSOPInstanceUID")
        for study in items(dataset, "CurrentRequestedProcedureEvidenceSequence")
        for series in items(study, "ReferencedSeriesSequence")
        for each in items(series, "ReferencedSOPSequence")
    }
    if listed != wanted:
        yield "the images and Segmentations that it lists are not those of the evidence"
    yield from _wrong_groups(dataset, rebuilt, frames=_frames(material.segmentations))


def _frames(segmentations: Sequence[DicomFile]) -> Frames:
    return {
        (text(segment, "TrackingUID"), source_uid(file.dataset)): Frame(
            text(file.dataset, "SOPClassUID"), file.uid, number
        )
        for file in segmentations
        for number, segment in enumerate(items(file.dataset, "SegmentSequence"), start=1)
    }


def _wrong_groups(dataset: Dataset, rebuilt: Rebuilt, *, frames: Frames) -> Iterator[str]:
    try:
        found = groups_in(dataset)
    except InputError as error:
        yield str(error)
        return
    known = {phrase.tracking_uid for phrase in rebuilt.phrases}
    if set(found) - known:
        yield "it holds a phrase that the evidence does not have"
    for number, phrase in enumerate(rebuilt.phrases, start=1):
        if phrase.tracking_uid not in found:
            yield f"phrase {number} is missing"
            continue
        wanted = [*region_groups(phrase, frames), *statement(phrase)]
        if _bytes(found[phrase.tracking_uid]) != _bytes(wanted):
            yield f"phrase {number}: its words, places or certainty are other ones"


def _texts(dataset: Dataset, name: Code) -> list[str]:
    return [text(item, "TextValue") for item in items(dataset, "ContentSequence") if named(item, name)]


def _bytes(sequence: Sequence[Dataset]) -> bytes:
    """*sequence* as it is encoded, in a file of its own: what is equal there is equal to every reader."""
    holder = Dataset()
    holder.SpecificCharacterSet = UTF_8
    holder.ContentSequence = [Dataset(dict(each.items())) for each in sequence]
    holder.file_meta = FileMetaDataset()
    holder.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, holder, enforce_file_format=False)
    return buffer.getvalue()


def _other(found: Dataset, expected: Dataset) -> str:
    """The attributes that differ, by keyword."""
    tags = {element.tag for dataset in (found, expected) for element in dataset}
    other = [tag for tag in sorted(tags) if _bytes([_only(found, tag)]) != _bytes([_only(expected, tag)])]
    keywords = (found[tag].keyword if tag in found else expected[tag].keyword for tag in other)
    return ", ".join(keywords)


def _only(dataset: Dataset, tag: int) -> Dataset:
    part = Dataset()
    if tag in dataset:
        part[tag] = dataset[tag]
    return part


def same_patient(material: Material) -> Iterator[Check]:
    """Whether images and results name the same patient, study and order."""
    files = [*material.sources, *material.segmentations, *material.reports, *material.others]
    if len(files) < 2:
        return
    told = {file.name: _identity(file, ours=file not in material.sources) for file in files}
    usual = told[files[0].name]
    for name, identity in told.items():
        others = [keyword for keyword, one, other in zip(_PATIENT, usual, identity, strict=True) if one != other]
        if others:
            yield Check(name, Verdict.FAILS, f"it differs from {files[0].name} in {', '.join(others)}")


def _identity(file: DicomFile, *, ours: bool) -> tuple[str, ...]:
    header = file.dataset if ours else administrative(file.content)  # a value that cannot be is not copied
    return tuple(text(header, keyword) for keyword in _PATIENT)
