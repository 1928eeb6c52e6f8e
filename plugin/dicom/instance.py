"""What every object that Sightline writes has in common: bytes, identity, equipment, times, patient and study.

Nothing here reads a clock or draws a random number: the same evidence gives the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from typing import Any

from highdicom import SOPClass
from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom import Dataset, config, dcmread, dcmwrite
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless
from pydicom.valuerep import validate_value

from model.values import ModelCard
from plugin.dicom.header import MANUFACTURER, MODEL_NAME, read_part10, text, tolerant
from plugin.errors import ConformanceError
from plugin.identity import derived_uid
from plugin.values import ImageRef, Provenance, Radiograph

IMPLEMENTATION_CLASS_UID = UID(derived_uid("implementation", "sightline"))
IMPLEMENTATION_VERSION_NAME = "SIGHTLINE"  # PS3.10 7.1: SH, at most 16 characters
UTF_8 = "ISO_IR 192"

# Type 2 in the Patient and General Study modules (PS3.3 C.7.1.1, C.7.2.1): present, possibly empty.
_IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
# What an image says that tells of no person any more (PS3.3 C.7.1.1, C.12.1.1): results about it say so, too.
_DEIDENTIFIED = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)
# Transfer syntaxes that lose something whatever the header says, and their defined terms (PS3.3 C.7.6.1.1.5.1).
_LOSSY = {JPEGBaseline8Bit: "ISO_10918_1", JPEGExtended12Bit: "ISO_10918_1", JPEGLSNearLossless: "ISO_14495_1"}
# Where foreign headers are often wrong; a value that breaks its own representation is not copied.
_CHECKED_VRS = ("AS", "CS", "DA", "DS", "DT", "IS", "TM")


@dataclass(frozen=True, slots=True)
class WrittenInstance:
    """One SOP instance, ready to store.

    Parameters
    ----------
    file_name : unique among the instances of one evidence, ends in ``.dcm``.
    content : DICOM Part 10 file.
    segments : of a Segmentation, the tracking UID of segment 1, 2, ...; empty for other objects.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    file_name: str
    content: bytes
    segments: tuple[str, ...] = ()


def source_dataset(radiograph: Radiograph) -> Dataset:
    """The header of *radiograph*, see :func:`administrative`.

    Raises
    ------
    ConformanceError
        If header and pixels disagree about the size of the image.
    """
    source = administrative(radiograph.header)
    method = _LOSSY.get(source.file_meta.get("TransferSyntaxUID", ""))
    if method and source.get("LossyImageCompression") != "01":
        source.LossyImageCompression, source.LossyImageCompressionMethod = "01", method
    size = (source.get("Rows"), source.get("Columns"))
    if size != radiograph.pixels.shape:
        raise ConformanceError(f"the header says {size} rows and columns, the pixels are {radiograph.pixels.shape}")
    return source


def administrative(header: bytes) -> Dataset:
    """A header (DICOM file) with its text as Unicode and every identifying attribute present, possibly empty."""
    with tolerant():
        source = read_part10(header, header_only=True)
        _forget_character_sets(source)
        source.SpecificCharacterSet = UTF_8
        for keyword in _IDENTITY:
            if keyword not in source:
                setattr(source, keyword, None)
        for element in source:
            if element.VR in _CHECKED_VRS and not _is_valid(element.VR, element.value):
                element.value = None
    if source.PatientSex not in ("M", "F", "O"):
        source.PatientSex = None
    return source


def _forget_character_sets(dataset: Dataset) -> None:
    # Items inherit the set of the whole object (PS3.3 C.12.1.1.2), which becomes UTF-8.
    dataset.pop("SpecificCharacterSet", None)
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _forget_character_sets(item)


def _is_valid(vr: str, value: object) -> bool:
    values = value if isinstance(value, MultiValue) else [value]
    try:
        for single in values:
            validate_value(vr, None if single is None else str(single), config.RAISE)
    except ValueError:
        return False
    return True


def without_name(source: Dataset) -> Dataset:
    """A copy of *source* for highdicom's constructors, which print names they find doubtful in warnings."""
    nameless = Dataset()
    nameless.update({element.tag: element for element in source if element.VR != "PN"})
    nameless.PatientName = None
    return nameless


def equipment(model: ModelCard, *, software_version: str) -> dict[str, Any]:
    """The General Equipment module (PS3.3 C.7.5.1) as highdicom's keyword arguments."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL_NAME,
        "device_serial_number": model.weights_sha256[:16],
        "software_versions": f"{software_version} ({model.name} {model.version})"[:64],
    }


def reference_to(image: ImageRef) -> Dataset:
    """What a reference to *image* says of it."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = image.sop_class_uid, image.sop_instance_uid
    dataset.StudyInstanceUID = image.study.study_instance_uid
    dataset.SeriesInstanceUID = image.series_instance_uid
    return dataset


def inputs_of(provenance: Provenance, pixels: Mapping[str, str]) -> dict[str, str]:
    """What the model was run with, by hash; the parameters of the algorithm in SEG and SR (PS3.3 10-19).

    Parameters
    ----------
    pixels : hash of the decoded pixels of each image, by the name that its parameter has.
    """
    return {
        "weights_sha256": provenance.model.weights_sha256,
        "threshold": f"{provenance.model.threshold:g}",
        "settings_sha256": provenance.settings_sha256,
        "report_sha256": provenance.report_sha256,
        **pixels,
    }


def observer(model: ModelCard, *, software_version: str) -> ObserverContext:
    """TID 1004: this software with these weights, as the observer of a document."""
    device = DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", software_version, model.weights_sha256),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=model.weights_sha256,
    )
    return ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)


def finished(instance: SOPClass, *, source: Dataset, created: datetime, file_name: str) -> WrittenInstance:
    """*instance* with the source's names, with *created* in place of every time of writing, as bytes."""
    instance.copy_patient_and_study_information(source)
    instance.ReferringPhysicianName = source.ReferringPhysicianName
    for keyword in _DEIDENTIFIED:
        if keyword in source:
            instance[keyword] = source[keyword]
    instance.SpecificCharacterSet = UTF_8
    created = _in_zone(instance, source, created)
    for moment in ("InstanceCreation", "Content", "Series"):
        setattr(instance, f"{moment}Date", created.strftime("%Y%m%d"))
        setattr(instance, f"{moment}Time", created.strftime("%H%M%S"))
    for contributor in instance.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in contributor:
            contributor.ContributionDateTime = created.strftime("%Y%m%d%H%M%S")
    instance.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    instance.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    buffer = BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    return WrittenInstance(
        sop_class_uid=str(instance.SOPClassUID),
        sop_instance_uid=str(instance.SOPInstanceUID),
        series_instance_uid=str(instance.SeriesInstanceUID),
        file_name=file_name,
        content=buffer.getvalue(),
    )


def series_of(content: bytes) -> str:
    """The Series Instance UID of a DICOM file that Sightline wrote."""
    return str(dcmread(BytesIO(content), specific_tags=["SeriesInstanceUID"]).SeriesInstanceUID)


def _in_zone(instance: Dataset, source: Dataset, created: datetime) -> datetime:
    """*created* in the zone that the source states for its times, which *instance* then states too (PS3.3 C.12.1.1)."""
    offset = text(source, "TimezoneOffsetFromUTC")
    if not re.fullmatch(r"[+-](0\d|1[0-4])[0-5]\d", offset):
        return created
    instance.TimezoneOffsetFromUTC = offset
    return created.astimezone(datetime.strptime(offset, "%z").tzinfo) if created.tzinfo else created
