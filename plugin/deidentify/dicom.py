"""Images by the Basic Application Level Confidentiality Profile (PS3.15 E.2), with two of its options.

The table (E.1-1) is dicom-anonymizer's, in its newest edition. Retain Longitudinal Temporal Information with Modified
Dates: days move by the same number for everything of a patient. What the table does not name and holds free text is
removed as well, unless it is known to be about equipment alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from io import BytesIO

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom import DataElement, Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.tag import BaseTag

from plugin import __version__
from plugin.deidentify.pseudonyms import Pseudonyms
from plugin.deidentify.text import words_of_name
from plugin.dicom.header import read_part10, text, tolerant
from plugin.dicom.instance import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, UTF_8

TABLE = "2026c"
METHOD = (
    codes.DCM.BasicApplicationConfidentialityProfile,
    codes.DCM.RetainLongitudinalTemporalInformationModifiedDatesOption,
)
FREE_TEXT = ("AE", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT")
OF_EQUIPMENT = frozenset(
    {
        "CodeMeaning",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "ConvolutionKernel",
        "FilterMaterial",
        "LUTExplanation",
        "Manufacturer",
        "ManufacturerModelName",
        "ModalityLUTType",
        "PixelSpacingCalibrationDescription",
        "RescaleType",
        "WindowCenterWidthExplanation",
    }
)
"""Free text that the profile keeps and that images need; compared with known names all the same."""
_SCHEMES = ("DCM", "SCT", "SRT", "LN", "UCUM", "RADLEX", "NCIt", "UMLS")
_EMPTY = frozenset(table.Z_TAGS) | frozenset(table.X_Z_TAGS)
_DUMMY = frozenset(table.D_TAGS) | frozenset(table.Z_D_TAGS) | frozenset(table.X_D_TAGS) | frozenset(table.X_Z_D_TAGS)
_GONE = frozenset(table.X_TAGS) | frozenset(table.X_Z_U_STAR_TAGS)
_NAMED = _EMPTY | _DUMMY | _GONE
_DUMMIES = {"AS": "000Y", "DS": "0", "IS": "0", "TM": "000000"}


def image_without_identity(content: bytes, pseudonyms: Pseudonyms) -> bytes:
    """The DICOM file *content* as one that tells of no person, with its pixels as they are.

    Raises
    ------
    InputError
        If it is no DICOM file.
    """
    with tolerant():
        source = read_part10(content)
        patient = text(source, "PatientID")
        known = frozenset(word.casefold() for word in known_words(source))
        dataset = _cleaned(source, pseudonyms, patient, known)
        dataset.SpecificCharacterSet = UTF_8
        dataset.PatientName = dataset.PatientID = pseudonyms.patient(patient)
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = f"Sightline {__version__}: PS3.15 E.1 table {TABLE}, dates moved"[:64]
        dataset.DeidentificationMethodCodeSequence = [_code(each) for each in METHOD]
        dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
        dataset.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        buffer = BytesIO()
        dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def known_words(dataset: Dataset) -> Iterator[str]:
    """Names of people and places, ids and numbers that a header holds, items of sequences included."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from known_words(item)
        elif element.VR == "PN" or element.keyword in ("InstitutionName", "InstitutionalDepartmentName"):
            for value in _values(element):
                yield from words_of_name(value)
        elif element.keyword in _IDS:
            yield from (value.strip() for value in _values(element) if len(value.strip()) > 1)


_IDS = (
    "PatientID",
    "AccessionNumber",
    "StudyID",
    "InstitutionAddress",
    "OtherPatientIDs",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "PatientMotherBirthName",
    "MilitaryRank",
    "MedicalRecordLocator",
    "IssuerOfPatientID",
    "StationName",
    "DeviceSerialNumber",
    "RequestedProcedureID",
    "ScheduledProcedureStepID",
    "PerformedProcedureStepID",
    "AdmissionID",
    "PersonTelephoneNumbers",
    "PersonAddress",
)


def _values(element: DataElement) -> tuple[str, ...]:
    value = element.value
    return tuple(map(str, value)) if isinstance(value, (MultiValue, list, tuple)) else (str(value or ""),)


def _cleaned(source: Dataset, pseudonyms: Pseudonyms, patient: str, known: frozenset[str]) -> Dataset:
    cleaned = Dataset()
    for element in source:
        kept = _kept(element, pseudonyms, patient, known)
        if kept is not None:
            cleaned.add(kept)
    if "CodeMeaning" in cleaned and text(cleaned, "CodingSchemeDesignator") not in _SCHEMES:
        cleaned.CodeValue, cleaned.CodeMeaning = "LOCAL", "Code of the site"
    return cleaned


def _kept(element: DataElement, pseudonyms: Pseudonyms, patient: str, known: frozenset[str]) -> DataElement | None:
    """What becomes of an element; None: it goes."""
    tag, vr = element.tag, element.VR
    if tag.is_private or tag.group in (0x0002, 0x0004) or _repeats(tag) or vr == "UN":
        return None
    if vr == "UI":
        uids = [pseudonyms.uid(uid) for uid in _values(element)]
        return DataElement(tag, vr, uids if len(uids) > 1 else uids[0])
    if vr in ("DA", "DT"):
        of_a_life = tag.group == 0x0010 or ((tag.group, tag.element) in _GONE and tag.group != 0x0008)
        return DataElement(tag, vr, "" if of_a_life else _dates(element, pseudonyms.days(patient)))
    if (tag.group, tag.element) in _NAMED:
        return _by_table(element)
    if vr == "SQ":
        return DataElement(tag, vr, [_cleaned(item, pseudonyms, patient, known) for item in element.value])
    return _by_kind(element, known)


def _by_table(element: DataElement) -> DataElement | None:
    """Of an attribute that the table names: it goes, is emptied, or says nothing."""
    tag, vr = element.tag, element.VR
    place = (tag.group, tag.element)
    if place in _GONE or (place in _DUMMY and vr == "SQ"):
        return None
    if place in _EMPTY:
        return DataElement(tag, vr, [] if vr == "SQ" else "")
    return DataElement(tag, vr, _DUMMIES.get(vr, "REMOVED" if vr in FREE_TEXT else ""))


def _by_kind(element: DataElement, known: frozenset[str]) -> DataElement:
    """Of any other: emptied if it is free text, unless about equipment, and if it names somebody known."""
    if element.VR in FREE_TEXT and element.keyword not in OF_EQUIPMENT:
        return DataElement(element.tag, element.VR, "")
    named = isinstance(element.value, (str, MultiValue)) and _names(element, known)
    return DataElement(element.tag, element.VR, "") if named else element


def _names(element: DataElement, known: frozenset[str]) -> bool:
    """Whether a value holds one of the *known* words."""
    words = {word.casefold() for value in _values(element) for word in (value, *words_of_name(value))}
    return element.VR in (*FREE_TEXT, "CS") and not words.isdisjoint(known - _CODES)


_CODES = frozenset(
    {"cr", "dx", "chest", "pa", "ap", "ll", "rl", "no", "yes", "us", "or", "primary", "original", "derived"}
)
"""Values of code strings that a short id may be equal to by chance."""


def _repeats(tag: BaseTag) -> bool:
    """Overlays and curves (PS3.6: groups 60xx and 50xx)."""
    return tag.group & 0xFF00 in (0x5000, 0x6000)


def _dates(element: DataElement, days: int) -> str | list[str]:
    moved = [_moved(value.strip(), element.VR, days) for value in _values(element)]
    return moved if len(moved) > 1 else moved[0]


def _moved(value: str, vr: str, days: int) -> str:
    """A date, or a date with a time, moved by *days*; "" when it is none, or not told to the day."""
    try:
        day = datetime.strptime(value[:8], "%Y%m%d") + timedelta(days=days)  # noqa: DTZ007 - a day has no zone
    except (ValueError, OverflowError):
        return ""
    return day.strftime("%Y%m%d") + (value[8:] if vr == "DT" else "")


def _code(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item
