"""What Sightline wrote, read back: masks and phrases by tracking UID, through highdicom's own readers.

A damaged or foreign object is refused and not half understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO

import highdicom.sr as hd
import numpy as np
import numpy.typing as npt
from highdicom.seg import Segmentation
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.sr.codedict import codes as dicom
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from plugin.errors import InputError

# What pydicom and highdicom raise when an attribute, an item or pixels are missing.
_DAMAGES = (AttributeError, IndexError, KeyError, StopIteration, TypeError, ValueError)

_NOT_OURS = "this report was not written by Sightline, or it is damaged"

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class ReadSegment:
    """One segment of a Segmentation.

    Parameters
    ----------
    image_uid : SOP instance UID of the source image.
    phrase : verbatim (up to 1024 bytes).
    mask : bool (rows, columns) in source pixels.
    """

    tracking_uid: str
    tracking_id: str
    label: str
    phrase: str
    image_uid: str
    mask: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ReadPhrase:
    """One phrase of a report, in the report's order.

    Parameters
    ----------
    boxes : (SOP instance UID of the image, (left, top, right, bottom) in source coordinates) of each region.
    frames : (SOP instance UID of the Segmentation, frame number).
    probabilities : one per image that was looked at, in [0, 1].
    conclusions : what became of the phrase, for the reader.
    """

    tracking_uid: str
    tracking_id: str
    phrase: str
    boxes: tuple[tuple[str, Box], ...]
    frames: tuple[tuple[str, int], ...]
    probabilities: tuple[float, ...]
    conclusions: tuple[str, ...]


def read_segmentation(content: bytes) -> tuple[ReadSegment, ...]:
    """The segments of a Segmentation that Sightline wrote, in order.

    Raises
    ------
    InputError
        If *content* is not such an object.
    """
    dataset = _read(content, SegmentationStorage)
    try:
        return _segments(Segmentation.from_dataset(dataset, copy=False))
    except _DAMAGES as error:
        raise InputError("this Segmentation was not written by Sightline, or it is damaged") from error


def _segments(segmentation: Segmentation) -> tuple[ReadSegment, ...]:
    ((_, _, image_uid),) = segmentation.get_source_image_uids()
    masks = segmentation.get_pixels_by_source_instance([image_uid])[0]
    return tuple(
        ReadSegment(
            tracking_uid=str(segment.TrackingUID),
            tracking_id=str(segment.TrackingID),
            label=str(segment.SegmentLabel),
            phrase=str(segment.SegmentDescription),
            image_uid=str(image_uid),
            mask=masks[..., at] == 1,
        )
        for at, segment in enumerate(segmentation.SegmentSequence)
    )


def read_report(content: bytes) -> tuple[ReadPhrase, ...]:
    """The phrases of a Comprehensive SR that Sightline wrote, lit or not, in its order.

    Raises
    ------
    InputError
        If *content* is not such an object.
    """
    groups = groups_in(_read(content, ComprehensiveSRStorage))
    try:
        return tuple([_phrase(uid, found) for uid, found in groups.items()])
    except _DAMAGES as error:
        raise InputError(_NOT_OURS) from error


def groups_in(dataset: Dataset) -> dict[str, list[Dataset]]:
    """The measurement groups of each phrase of a report that Sightline wrote, by tracking UID, in its order.

    Raises
    ------
    InputError
        If it is damaged.
    """
    groups: dict[str, list[Dataset]] = {}
    try:
        for group in _groups(dataset):
            groups.setdefault(_value(group, dicom.DCM.TrackingUniqueIdentifier), []).append(group)
    except _DAMAGES as error:
        raise InputError(_NOT_OURS) from error
    return groups


def _read(content: bytes, sop_class_uid: str) -> Dataset:
    try:
        dataset = dcmread(BytesIO(content))
    except InvalidDicomError as error:
        raise InputError("this is not a DICOM file") from error
    if dataset.get("SOPClassUID") != sop_class_uid:
        raise InputError(f"an object of SOP class {sop_class_uid} was expected, this is {dataset.get('SOPClassUID')}")
    return dataset


def _groups(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence", ()):
        if named(child, dicom.DCM.MeasurementGroup):
            yield child
        else:
            yield from _groups(child)


def _phrase(tracking_uid: str, groups: list[Dataset]) -> ReadPhrase:
    items = [item for group in groups for item in group.ContentSequence]
    regions = [item for item in items if named(item, dicom.DCM.ImageRegion)]
    frames = [item for item in items if named(item, dicom.DCM.ReferencedSegmentationFrame)]
    certainties = [item for item in items if named(item, dicom.DCM.CertaintyOfFinding)]
    return ReadPhrase(
        tracking_uid=tracking_uid,
        tracking_id=_value(groups[0], dicom.DCM.TrackingIdentifier),
        phrase=next(item.TextValue for item in items if named(item, dicom.DCM.Comment)),
        boxes=tuple((_referenced(item.ContentSequence[0]).ReferencedSOPInstanceUID, _box(item)) for item in regions),
        frames=tuple(
            (reference.ReferencedSOPInstanceUID, int(reference.ReferencedFrameNumber))
            for reference in map(_referenced, frames)
        ),
        probabilities=tuple(float(item.MeasuredValueSequence[0].NumericValue) / 100 for item in certainties),
        conclusions=tuple(item.TextValue for item in items if named(item, dicom.DCM.Conclusion)),
    )


def named(item: Dataset, name: Code) -> bool:
    """Whether *name* is the concept name of a content item."""
    return bool(hd.CodedConcept.from_dataset(item.ConceptNameCodeSequence[0]) == name)


def _value(group: Dataset, name: Code) -> str:
    item = next(item for item in group.ContentSequence if named(item, name))
    return str(item.UID if item.ValueType == "UIDREF" else item.TextValue)


def _referenced(item: Dataset) -> Dataset:
    reference: Dataset = item.ReferencedSOPSequence[0]
    return reference


def _box(region: Dataset) -> Box:
    x, y = region.GraphicData[0::2], region.GraphicData[1::2]
    return min(x), min(y), max(x), max(y)
