"""Lit phrases as a DICOM Segmentation (PS3.3 A.51): one object per image, one segment per phrase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from highdicom import AlgorithmIdentificationSequence, PixelMeasuresSequence, PlaneOrientationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentationTypeValues, SegmentDescription
from highdicom.sr import CodedConcept
from pydicom import Dataset

from nlp.phrases import Phrase
from plugin.dicom import codes
from plugin.dicom.header import MANUFACTURER
from plugin.dicom.instance import WrittenInstance, equipment, finished, inputs_of, source_dataset, without_name
from plugin.errors import ConformanceError
from plugin.identity import derived_uid
from plugin.ports import report_code
from plugin.values import Evidence, GroundedPhrase, ImageRef, Keyed, Provenance, Radiograph, Ruling

SERIES_NUMBER = 9001
# PS3.5 6.2 counts characters of LO and ST; dciodvfy and other readers count bytes, so that is what we keep to.
LABEL_LIMIT = 64
DESCRIPTION_LIMIT = 1024
# Okabe and Ito, "Color Universal Design" (2008), without black; red, green, blue.
PALETTE = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)

Mask = npt.NDArray[np.bool_]


def segmentation_uid(evidence: Keyed, image: ImageRef) -> str:
    """The SOP instance UID of the Segmentation of *image*."""
    return derived_uid("segmentation", *evidence.key, image.sop_instance_uid)


def segmentations(
    evidence: Evidence, *, follows: Mapping[ImageRef, tuple[str, ...]] = MappingProxyType({})
) -> tuple[WrittenInstance, ...]:
    """One BINARY Segmentation for each grounded image that shows a region, in the order of ``evidence.images``.

    Rows and columns are the source's; frame *n* is segment *n*; segments may overlap.

    Parameters
    ----------
    follows : for an image, the series of the Segmentations that its own replaces.

    Raises
    ------
    ConformanceError
        If evidence and image contradict each other, or the object would not be valid.
    """
    written = []
    for number, radiograph in enumerate(evidence.images, start=1):
        lit = _lit(evidence, radiograph)
        if lit:
            earlier = follows.get(radiograph.ref, ())
            written.append(_segmentation(evidence, radiograph, lit=lit, number=number, follows=earlier))
    return tuple(written)


def label(text: str) -> str:
    """*text* on one line of at most 64 bytes, cut at a word, without the backslash that LO reserves."""
    line = " ".join(text.replace("\\", "/").split())
    if len(line.encode()) <= LABEL_LIMIT:
        return line
    cut = _first_bytes(line, LABEL_LIMIT - 3)
    return (cut.rpartition(" ")[0] or cut).rstrip(" ,;:") + "..."


def colour(number: int) -> tuple[int, int, int]:
    """Red, green, blue of segment *number*, from 1: the palette, then paler, then palest; 21 in all, then again."""
    rounds, at = divmod(number - 1, len(PALETTE))
    white = (0.0, 0.4, 0.7)[rounds % 3]
    red, green, blue = (round(value + (255 - value) * white) for value in PALETTE[at])
    return red, green, blue


def _first_bytes(text: str, limit: int) -> str:
    """The longest beginning of *text* whose UTF-8 has at most *limit* bytes."""
    return text.encode()[:limit].decode(errors="ignore")


def mask_on(phrase: GroundedPhrase, image: ImageRef, *, rows: int, columns: int) -> Mask:
    """The union of the regions of *phrase* on *image*, bool (rows, columns)."""
    union = np.zeros((rows, columns), np.bool_)
    for placement in phrase.placements:
        if placement.image == image:
            for region in placement.regions:
                union |= region.mask(rows, columns)
    return union


def _lit(evidence: Evidence, radiograph: Radiograph) -> tuple[tuple[GroundedPhrase, Mask], ...]:
    rows, columns = radiograph.pixels.shape
    masks = ((phrase, mask_on(phrase, radiograph.ref, rows=rows, columns=columns)) for phrase in evidence.phrases)
    return tuple((phrase, mask) for phrase, mask in masks if mask.any())


def _segmentation(
    evidence: Evidence,
    radiograph: Radiograph,
    *,
    lit: tuple[tuple[GroundedPhrase, Mask], ...],
    number: int,
    follows: tuple[str, ...],
) -> WrittenInstance:
    source = source_dataset(radiograph)
    key = (*evidence.key, radiograph.ref.sop_instance_uid)
    instance = Segmentation(
        source_images=[without_name(source)],
        pixel_array=np.stack([mask for _, mask in lit], axis=-1)[np.newaxis].astype(np.uint8),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            described(
                phrase,
                at,
                image=radiograph.ref,
                algorithm=algorithm_of(evidence.provenance, radiograph.source_sha256),
            )
            for at, (phrase, _) in enumerate(lit, start=1)
        ],
        # An own series for each image: one series has one Frame of Reference (PS3.3 C.7.4.1).
        series_instance_uid=derived_uid("segmentation-series", *key),
        series_number=SERIES_NUMBER + number - 1,
        sop_instance_uid=segmentation_uid(evidence, radiograph.ref),
        instance_number=1,
        content_label="REPORT_REGIONS",
        content_description="Regions that the phrases of the report speak of",
        series_description="Sightline: regions of the report's phrases",
        omit_empty_frames=False,
        **equipment(evidence.provenance.model, software_version=evidence.provenance.software_version),
    )
    _derive_dimension_uid(instance, derived_uid("dimension-organization", *key))
    instance.BurnedInAnnotation = "NO"
    instance.PerformedProcedureStepID = report_code(evidence.report.ref.report_id)
    _add_planes(instance, radiograph)
    _add_related(instance, follows)
    _check(instance, radiograph, lit=lit)
    name = "seg.dcm" if len(evidence.images) == 1 else f"seg-{number}.dcm"
    written = finished(instance, source=source, created=evidence.written, file_name=name)
    return replace(written, segments=tuple(phrase.tracking_uid for phrase, _ in lit))


def described(
    phrase: GroundedPhrase, number: int, *, image: ImageRef, algorithm: AlgorithmIdentificationSequence
) -> SegmentDescription:
    """Segment *number* of a Segmentation of *image*, which shows *phrase*."""
    said = phrase.phrase
    drawn = any(each.ruling is Ruling.REDRAWN for each in phrase.decisions_on(image))
    region = codes.site(said)
    segment = SegmentDescription(
        segment_number=number,
        segment_label=label(said.text),
        segmented_property_category=codes.property_category(said.finding),
        segmented_property_type=codes.property_type(said.finding),
        algorithm_type=SegmentAlgorithmTypeValues.MANUAL if drawn else SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=None if drawn else algorithm,
        tracking_uid=phrase.tracking_uid,
        tracking_id=phrase.tracking_id,
        anatomic_regions=None if region is None else [region],
        display_color=CIELabColor.from_rgb(*colour(number)),
    )
    segment.SegmentDescription = _first_bytes(said.text, DESCRIPTION_LIMIT)
    _add_laterality(segment, said)
    return segment


def _add_laterality(segment: Dataset, phrase: Phrase) -> None:
    if phrase.laterality:
        for region in segment.get("AnatomicRegionSequence", ()):
            region.AnatomicRegionModifierSequence = [CodedConcept.from_code(codes.LATERALITY[phrase.laterality])]


def algorithm_of(provenance: Provenance, pixels_sha256: str) -> AlgorithmIdentificationSequence:
    """The model, and by hash what it was run with."""
    model = provenance.model
    return AlgorithmIdentificationSequence(
        name=model.name[:64],
        family=codes.ARTIFICIAL_INTELLIGENCE,
        version=model.version[:64],
        source=MANUFACTURER,
        parameters=inputs_of(provenance, {"pixels_sha256": pixels_sha256}),
    )


def _derive_dimension_uid(instance: Segmentation, uid: str) -> None:
    for item in (*instance.DimensionOrganizationSequence, *instance.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _add_planes(instance: Segmentation, radiograph: Radiograph) -> None:
    """Pixel size and orientation, which viewers ask of every frame; conformance/dicom.md says what they mean here."""
    shared = instance.SharedFunctionalGroupsSequence[0]
    shared.PixelMeasuresSequence = PixelMeasuresSequence(
        pixel_spacing=radiograph.spacing_mm or (1.0, 1.0), slice_thickness=1.0
    )
    shared.PlaneOrientationSequence = PlaneOrientationSequence(
        coordinate_system="PATIENT", image_orientation=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    )


def _add_related(instance: Segmentation, follows: tuple[str, ...]) -> None:
    """The replaced Segmentations by their series (PS3.3 C.7.3.1).

    A reference to the instances would need a second item of Referenced Series Sequence, with which OHIF 3.13.2 no
    longer finds the source image.
    """
    related = []
    for series_instance_uid in follows:
        item = Dataset()
        item.StudyInstanceUID, item.SeriesInstanceUID = instance.StudyInstanceUID, series_instance_uid
        item.PurposeOfReferenceCodeSequence = []
        related.append(item)
    if related:
        instance.RelatedSeriesSequence = related


def _check(instance: Segmentation, radiograph: Radiograph, *, lit: tuple[tuple[GroundedPhrase, Mask], ...]) -> None:
    if (instance.Rows, instance.Columns) != radiograph.pixels.shape:
        raise ConformanceError(f"a Segmentation of {instance.Rows} x {instance.Columns} does not fit its source image")
    if int(instance.NumberOfFrames) != len(lit) or len(instance.SegmentSequence) != len(lit):
        raise ConformanceError(f"{len(lit)} lit phrases became {instance.NumberOfFrames} frames")
    if len({phrase.tracking_uid for phrase, _ in lit}) != len(lit):
        raise ConformanceError("two phrases share a tracking UID")
    if any(len(segment.SegmentLabel.encode()) > LABEL_LIMIT for segment in instance.SegmentSequence):
        raise ConformanceError("a segment label is longer than 64 bytes")
