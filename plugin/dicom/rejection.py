"""Rejection notes: Key Object Selection Documents that take results back (IHE RAD, Imaging Object Change Management).

A viewer or an archive that knows the profile hides what a note names (RAD-66). The document's title says why; of the
four that the profile assigns (DCM 113001, 113037, 113038, 113039; PS3.16 CID 7010) two fit: quality for results that
newer ones replace, patient safety for results of a report that should never have been.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import MultiFrameGrayscaleByteSecondaryCaptureImageStorage as HeatmapStorage
from pydicom.uid import SecondaryCaptureImageStorage, SegmentationStorage

from model.values import ModelCard
from plugin.dicom.instance import (
    UTF_8,
    WrittenInstance,
    administrative,
    equipment,
    finished,
    observer,
    reference_to,
    without_name,
)
from plugin.identity import derived_uid
from plugin.ports import StoredResult

SERIES_NUMBER = 9201
_IMAGES = frozenset({SegmentationStorage, SecondaryCaptureImageStorage, HeatmapStorage})


class Reason(Enum):
    """Why results are rejected: code of the title, and the description for the reader."""

    SUPERSEDED = (codes.DCM.RejectedForQualityReasons, "Replaced: the report or what reads it has changed since")
    WITHDRAWN = (codes.DCM.RejectedForPatientSafetyReasons, "Taken back: the report was withdrawn")


def rejection(
    rejected: tuple[StoredResult, ...], reason: Reason, *, model: ModelCard, software_version: str, created: datetime
) -> WrittenInstance:
    """The note that rejects *rejected*, all of one study; its identity is what it rejects and why.

    Raises
    ------
    ValueError
        If *rejected* is empty or of several studies.
    """
    if len({result.image.study for result in rejected}) != 1:
        raise ValueError("a rejection note is about instances of one study")
    title, description = reason.value
    source = administrative(rejected[0].header)
    key = (title.value, *sorted(result.image.sop_instance_uid for result in rejected))
    evidence = [_evidence(result, source) for result in rejected]
    note = KeyObjectSelectionDocument(
        evidence=evidence,
        content=KeyObjectSelection(
            document_title=title,
            referenced_objects=evidence,
            observer_device_context=observer(model, software_version=software_version),
            description=description,
        ),
        series_instance_uid=derived_uid("rejection-series", *key),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derived_uid("rejection", *key),
        instance_number=1,
        specific_character_set=UTF_8,
        series_description=f"Sightline: {title.meaning.lower()}",
        **equipment(model, software_version=software_version),
    )
    for item in note.ContentSequence:
        if item.ValueType in ("IMAGE", "COMPOSITE"):
            del item.ConceptNameCodeSequence  # TID 2010 gives its references no purpose; highdicom does
    return finished(note, source=source, created=created, file_name="rejection.dcm")


def _evidence(result: StoredResult, source: Dataset) -> Dataset:
    """The instance as highdicom looks at it: one with rows and columns is referred to as an image."""
    dataset = without_name(source)
    dataset.update(reference_to(result.image))
    if result.image.sop_class_uid in _IMAGES:
        dataset.Rows = dataset.Columns = 1
    return dataset
