"""The images of a synthetic study as DICOM files, stored in the many ways that real equipment stores them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from io import BytesIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from model.twin.study import TwinImage, TwinStudy
from plugin.dicom.instance import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, UTF_8
from plugin.identity import derived_uid
from plugin.twin import TwinRecord

_STREAM = 4
_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless)
_SHOWN = (0.08, 0.94)  # the part of the stored range that the picture uses
_VIEWS = {
    "PA": ("272479007", "postero-anterior"),
    "AP": ("399348003", "antero-posterior"),
    "LL": ("399173006", "left lateral"),
    "RL": ("399198007", "right lateral"),
}
_ORIENTATIONS = {"PA": ["L", "F"], "AP": ["L", "F"], "LL": ["P", "F"], "RL": ["A", "F"]}


@dataclass(frozen=True, slots=True)
class Storage:
    """How the equipment stores an image.

    Parameters
    ----------
    modality : "DX" or "CR".
    inverse : MONOCHROME1 instead of MONOCHROME2.
    bits : stored, 10 to 16.
    spacing : "none", "detector" (ImagerPixelSpacing) or "patient" (PixelSpacing too, with the magnification).
    grey : "window", "lut" (VOI LUT) or "rescale" (a rescale that shifts the values, and a window).
    silent : the header does not tell the view, nor the body part.
    """

    modality: str = "DX"
    inverse: bool = False
    bits: int = 12
    transfer_syntax: str = ExplicitVRLittleEndian
    spacing: str = "patient"
    grey: str = "window"
    silent: bool = False


@dataclass(frozen=True, slots=True)
class TwinInstance:
    """One DICOM file of a synthetic study."""

    sop_instance_uid: str
    file_name: str
    content: bytes


def storage_of(seed: int) -> Storage:
    """How the study of *seed* is stored."""
    rng = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    modality = "DX" if rng.random() < 0.6 else "CR"
    greys = ("window", "window", "lut") if modality == "DX" else ("window", "lut", "rescale")
    return Storage(
        modality=modality,
        inverse=bool(rng.random() < 0.4),
        bits=int(rng.integers(10, 17)),
        transfer_syntax=_SYNTAXES[int(rng.integers(len(_SYNTAXES)))],
        spacing=("none", "detector", "patient")[int(rng.integers(1 if modality == "DX" else 0, 3))],
        grey=greys[int(rng.integers(3))],
        silent=modality == "CR" and bool(rng.random() < 0.3),
    )


def instances_of(study: TwinStudy, record: TwinRecord, storage: Storage) -> tuple[TwinInstance, ...]:
    """One file per image, in order; equal arguments give equal bytes."""
    return tuple(_instance(image, index, record=record, storage=storage) for index, image in enumerate(study.images))


def _instance(image: TwinImage, index: int, *, record: TwinRecord, storage: Storage) -> TwinInstance:
    ds = _common(record, index)
    fill: Callable[[Dataset, TwinImage, Storage], None] = _dx if storage.modality == "DX" else _cr
    fill(ds, image, storage)
    _spacing(ds, image, storage.spacing)
    _pixels(ds, image, storage)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.ImplementationClassUID, meta.ImplementationVersionName = IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
    compressed = storage.transfer_syntax in (JPEG2000Lossless, RLELossless)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if compressed else UID(storage.transfer_syntax)
    ds.file_meta = meta
    if compressed:
        ds.compress(storage.transfer_syntax, generate_instance_uid=False)
    buffer = BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return TwinInstance(ds.SOPInstanceUID, f"image-{index + 1}-{image.view.lower()}.dcm", buffer.getvalue())


def _common(record: TwinRecord, index: int) -> Dataset:
    uid, moment = record.study_instance_uid, record.taken + timedelta(minutes=2 * index)
    ds = Dataset()
    ds.SpecificCharacterSet, ds.TimezoneOffsetFromUTC = UTF_8, "+0000"
    ds.StudyInstanceUID = uid
    ds.SeriesInstanceUID = derived_uid("twin series", uid, str(index))
    ds.SOPInstanceUID = derived_uid("twin image", uid, str(index))
    ds.StudyDate, ds.StudyTime = record.taken.strftime("%Y%m%d"), record.taken.strftime("%H%M%S")
    for kind in ("Series", "Acquisition", "Content"):
        setattr(ds, f"{kind}Date", moment.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", moment.strftime("%H%M%S"))
    ds.AccessionNumber, ds.StudyID = record.accession_number, "1"
    ds.StudyDescription = "XR CHEST"
    ds.PatientName, ds.PatientID = f"{record.family}^{record.given}", record.patient_id
    ds.PatientBirthDate, ds.PatientSex = f"{record.birth_year}0101", record.sex
    ds.ReferringPhysicianName = "Referrer^Fictional"
    ds.Manufacturer, ds.ManufacturerModelName = "Sightline", "Synthetic twin"
    ds.SeriesNumber, ds.InstanceNumber = index + 1, 1
    ds.ImageType = ["DERIVED", "PRIMARY", ""]
    ds.BurnedInAnnotation, ds.LossyImageCompression = "NO", "00"
    return ds


def _dx(ds: Dataset, image: TwinImage, storage: Storage) -> None:
    ds.SOPClassUID, ds.Modality = DigitalXRayImageStorageForPresentation, "DX"
    ds.PresentationIntentType, ds.ImageLaterality = "FOR PRESENTATION", "U"
    ds.BodyPartExamined, ds.ViewPosition = "CHEST", image.view
    ds.PatientOrientation = _ORIENTATIONS[image.view]
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LOG", 1 if storage.inverse else -1
    ds.PresentationLUTShape = "INVERSE" if storage.inverse else "IDENTITY"
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PositionerType = ""
    ds.DetectorType, ds.AcquisitionDeviceProcessingDescription = "SCINTILLATOR", ""
    ds.AnatomicRegionSequence = [_code("816094009", "Thorax")]
    view = _code(*_VIEWS[image.view])
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence, ds.AcquisitionContextSequence = [view], []


def _cr(ds: Dataset, image: TwinImage, storage: Storage) -> None:
    ds.SOPClassUID, ds.Modality, ds.PlateType = ComputedRadiographyImageStorage, "CR", ""
    ds.BodyPartExamined = "" if storage.silent else "CHEST"
    ds.ViewPosition = "" if storage.silent else image.view
    ds.PatientOrientation = None if storage.silent else _ORIENTATIONS[image.view]
    if storage.silent:
        ds.StudyDescription = ""
    if storage.silent:
        ds.Laterality = ""  # type 2C: wanted where no body part says that it is not paired (PS3.3 C.7.3.1)


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item


def _spacing(ds: Dataset, image: TwinImage, kind: str) -> None:
    if kind == "none":
        return
    detector = f"{image.pixel_mm * image.magnification:.5f}"
    ds.ImagerPixelSpacing = [detector, detector]
    if kind == "patient":
        patient = f"{image.pixel_mm:.5f}"
        ds.PixelSpacing, ds.PixelSpacingCalibrationType = [patient, patient], "GEOMETRY"
        ds.PixelSpacingCalibrationDescription = "Source, detector and patient distances"
        if ds.Modality == "DX":  # the CR Image IOD has no DX Positioning module
            ds.EstimatedRadiographicMagnificationFactor = f"{image.magnification:.5f}"


def _pixels(ds: Dataset, image: TwinImage, storage: Storage) -> None:
    top = (1 << storage.bits) - 1
    low, high = (round(top * end) for end in _SHOWN)
    shown = 1 - image.pixels if storage.inverse else image.pixels
    stored = np.round(low + shown * np.float32(high - low)).astype(np.uint16)
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME1" if storage.inverse else "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, storage.bits, storage.bits - 1, 0
    _grey(ds, low, high, grey=storage.grey)
    ds.PixelData = stored.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"


def _grey(ds: Dataset, low: int, high: int, *, grey: str) -> None:
    """The transformation that shows stored *low* as one end of the grey scale and *high* as the other."""
    if grey == "lut":
        levels: npt.NDArray[np.uint16] = np.round(np.linspace(0, 65535, high - low + 1)).astype(np.uint16)
        table = Dataset()
        table.LUTDescriptor = [len(levels), low, 16]
        table.LUTExplanation = "Chest"
        table.add_new("LUTData", "OW", levels.astype("<u2").tobytes())
        ds.VOILUTSequence = [table]
        return
    slope, intercept = (2, -1000) if grey == "rescale" else (1, 0)
    if grey == "rescale":
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = str(intercept), str(slope), "US"
    width = (high - low) * slope + 1
    # PS3.3 C.11.2.1.2.1: the window runs from centre - 0.5 - (width - 1) / 2 to centre - 0.5 + (width - 1) / 2.
    ds.WindowCenter = f"{(low + high) / 2 * slope + intercept + 0.5:.1f}"
    ds.WindowWidth = str(width)
