"""Secondary Captures for viewers that show neither Segmentations nor SR: a picture of all phrases, and graded maps.

Written by option only. They are plain images (PS3.3 A.8.1), so no viewer trips over them, and name their source.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt
from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.valuerep import DA, TM

from plugin.dicom.drawing import picture_of
from plugin.dicom.instance import UTF_8, WrittenInstance, equipment, finished, source_dataset
from plugin.identity import derived_uid
from plugin.ports import report_code
from plugin.values import Evidence, GroundedPhrase, Placement, Radiograph

PICTURE_SERIES_NUMBER = 9301
HEATMAP_SERIES_NUMBER = 9401
HEATMAP_SIDE = 512
"""Longest side of a graded map: the network's grid is far coarser."""
UPRIGHT_DIRECTIONS = ("L", "F")
SOURCE_IMAGE = codes.DCM.SourceImageForImageProcessingOperation


def pictures(evidence: Evidence) -> tuple[WrittenInstance, ...]:
    """One colour Secondary Capture for each grounded image: upright, regions outlined and numbered, phrases beside it.

    Raises
    ------
    ConformanceError
        If header and pixels of an image contradict each other.
    """
    return tuple(_picture(evidence, image, number=at) for at, image in enumerate(evidence.images, start=1))


def heatmaps(evidence: Evidence) -> tuple[WrittenInstance, ...]:
    """One grey Secondary Capture for each map that the model drew: 0 to 255 is a probability of 0 to 100 %.

    As the source is stored (not turned), its longest side at most :data:`HEATMAP_SIDE`; one series for each image.
    """
    return tuple(
        _heatmap(evidence, image, phrase, placement, number=at)
        for at, image in enumerate(evidence.images, start=1)
        for phrase, placement in _maps(evidence, image)
    )


def _maps(evidence: Evidence, image: Radiograph) -> Iterator[tuple[GroundedPhrase, Placement]]:
    for phrase in evidence.phrases:
        for placement in phrase.placements:
            if placement.image == image.ref and placement.heatmap is not None:
                yield phrase, placement


def _picture(evidence: Evidence, image: Radiograph, *, number: int) -> WrittenInstance:
    key = (*evidence.key, image.ref.sop_instance_uid)
    instance = _secondary(
        evidence,
        image,
        picture_of(evidence, image),
        series_instance_uid=derived_uid("picture-series", *key),
        series_number=PICTURE_SERIES_NUMBER + number - 1,
        sop_instance_uid=derived_uid("picture", *key),
        instance_number=1,
        series_description="Sightline: picture of the report's phrases",
    )
    instance.BurnedInAnnotation = "YES"  # words of the report, which may name anything
    name = "picture.dcm" if len(evidence.images) == 1 else f"picture-{number}.dcm"
    return _finished(instance, evidence, image, file_name=name)


def _heatmap(
    evidence: Evidence, image: Radiograph, phrase: GroundedPhrase, placement: Placement, *, number: int
) -> WrittenInstance:
    key = (*evidence.key, image.ref.sop_instance_uid)
    at = 1 + evidence.phrases.index(phrase)
    instance = _secondary(
        evidence,
        image,
        _grey(placement),
        series_instance_uid=derived_uid("heatmap-series", *key),
        series_number=HEATMAP_SERIES_NUMBER + number - 1,
        sop_instance_uid=derived_uid("heatmap", *key, phrase.tracking_uid),
        instance_number=at,
        series_description="Sightline: graded maps of the report's phrases",
    )
    instance.BurnedInAnnotation = "NO"
    instance.PatientOrientation = source_dataset(image).get("PatientOrientation")
    instance.RescaleIntercept, instance.RescaleSlope, instance.RescaleType = "0", "0.392156862745", "US"
    instance.WindowCenter, instance.WindowWidth = "50", "100"
    instance.ImageComments = f"{phrase.tracking_id}: {phrase.phrase.text}"
    instance.DerivationCodeSequence = [_coded(codes.DCM.VisualExplanation)]
    return _finished(instance, evidence, image, file_name=f"heatmap-{number}-{at}.dcm")


def _grey(placement: Placement) -> npt.NDArray[np.uint8]:
    """The map of *placement* on the source matrix, made smaller, uint8 (rows, columns)."""
    if placement.heatmap is None:
        raise ValueError("there is no map")
    probabilities = placement.heatmap.on_source()
    share = min(1.0, HEATMAP_SIDE / max(probabilities.shape))
    rows, columns = (max(1, round(side * share)) for side in probabilities.shape)
    small = cv2.resize(probabilities, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(255 * np.clip(small, 0, 1)), np.uint8)


def _secondary(
    evidence: Evidence,
    image: Radiograph,
    pixels: npt.NDArray[np.uint8],
    *,
    series_instance_uid: str,
    series_number: int,
    sop_instance_uid: str,
    instance_number: int,
    series_description: str,
) -> SCImage:
    """A Secondary Capture of *pixels*, uint8 (rows, columns) or (rows, columns, 3) in RGB."""
    made = evidence.provenance
    return SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=UPRIGHT_DIRECTIONS,
        study_instance_uid=image.ref.study.study_instance_uid,
        series_instance_uid=series_instance_uid,
        series_number=series_number,
        sop_instance_uid=sop_instance_uid,
        instance_number=instance_number,
        series_description=series_description,
        specific_character_set=UTF_8,
        **equipment(made.model, software_version=made.software_version),
    )


def _finished(instance: SCImage, evidence: Evidence, image: Radiograph, *, file_name: str) -> WrittenInstance:
    """*instance* with its source, its derivation, and the times of the evidence."""
    created, model = evidence.written, evidence.provenance.model
    source = source_dataset(image)
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = (
        image.ref.sop_class_uid,
        image.ref.sop_instance_uid,
    )
    reference.PurposeOfReferenceCodeSequence = [_coded(SOURCE_IMAGE)]
    instance.BodyPartExamined = "CHEST"
    instance.PerformedProcedureStepID = report_code(evidence.report.ref.report_id)
    instance.SourceImageSequence = [reference]
    instance.DerivationDescription = f"Phrases of the report grounded by {model.name} {model.version}"[:1024]
    instance.LossyImageCompression = source.get("LossyImageCompression") or "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if instance.LossyImageCompression == "01" and keyword in source:
            setattr(instance, keyword, source.get(keyword))
    instance.DateOfSecondaryCapture = DA(created.date())
    instance.TimeOfSecondaryCapture = TM(created.time().replace(microsecond=0))
    return finished(instance, source=source, created=created, file_name=file_name)


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
