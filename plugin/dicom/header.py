"""What the header of an instance says, read tolerantly: one odd element never costs the rest.

Real archives hold unknown character sets, values that break their VR, and missing attributes. Every attribute is read
through :func:`text` or :func:`numbers`, which answer "nothing" where the element is absent or unreadable.
"""

from __future__ import annotations

import logging
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta, timezone
from io import BytesIO
from typing import Final

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from model.values import View
from plugin.dicom.weight import Metered, check_weight
from plugin.errors import InputError
from plugin.values import Accession, ImageDescription, ImageRef, PatientRef, StudyDescription, StudyRef

# pydicom quotes offending values, names of patients among them, in its log.
logging.getLogger("pydicom").setLevel(logging.CRITICAL)

FOR_PRESENTATION: Final = (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation)
FOR_PROCESSING: Final = DigitalXRayImageStorageForProcessing
#: SOP classes that can be a radiograph at all; a secondary capture only by the rule of :func:`radiographs_among`.
RADIOGRAPH_CLASSES: Final = (*FOR_PRESENTATION, FOR_PROCESSING, SecondaryCaptureImageStorage)

#: What pydicom is known to raise on malformed elements; caught so that one element never costs the rest.
UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    NotImplementedError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)

#: A deflated data set that grows beyond this is refused: no radiograph does.
MAX_INFLATED_BYTES: Final = 256 * 1024 * 1024

#: General Equipment of everything that Sightline writes about a study (PS3.3 C.7.5.1).
MANUFACTURER: Final = "Sightline"
MODEL_NAME: Final = "Sightline phrase grounding"

_PIXELS: Final = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

# ViewPosition defined terms (PS3.3 C.8.7.1.1.1, C.8.11.5) and what vendors write there.
_POSITIONS: Final = {
    "PA": View.FRONTAL,
    "AP": View.FRONTAL,
    "FRONTAL": View.FRONTAL,
    "LLD": View.FRONTAL,  # decubitus: the patient lies on the side, the beam is frontal
    "RLD": View.FRONTAL,
    "LL": View.LATERAL,
    "RL": View.LATERAL,
    "LAT": View.LATERAL,
    "LATERAL": View.LATERAL,
    "LLAT": View.LATERAL,
    "RLAT": View.LATERAL,
    "LLO": View.OTHER,
    "RLO": View.OTHER,
    "LAO": View.OTHER,
    "RAO": View.OTHER,
    "LPO": View.OTHER,
    "RPO": View.OTHER,
}

# CID 4010 (DX View): the codes that a chest radiograph uses, SCT and the SRT values that they replaced.
_VIEW_CODES: Final = {
    "399348003": ("AP", View.FRONTAL),
    "R-10206": ("AP", View.FRONTAL),
    "272479007": ("PA", View.FRONTAL),
    "R-10214": ("PA", View.FRONTAL),
    "399033003": ("", View.FRONTAL),
    "R-10208": ("", View.FRONTAL),
    "399067008": ("", View.LATERAL),
    "R-10228": ("", View.LATERAL),
    "399173006": ("LL", View.LATERAL),
    "R-10236": ("LL", View.LATERAL),
    "399198007": ("RL", View.LATERAL),
    "R-10232": ("RL", View.LATERAL),
}

# CID 4031 (common anatomic regions): chest, thorax, lung; SCT and SRT.
_CHEST_CODES: Final = frozenset({"51185008", "T-D3000", "43799004", "T-D3300", "39607008", "T-28000"})

_CHEST_WORDS: Final = re.compile(r"CHEST|CHST|\bCXR|THORA|TORAX|TÓRAX|LUNG|PULMON|POUMON", re.IGNORECASE)
_OTHER_WORDS: Final = re.compile(
    r"ABDOM|PELVI|SPINE|SKULL|\bHEAD|\bNECK|HAND|WRIST|ELBOW|SHOULDER|CLAVIC|HUMER|FEMUR|\bHIP|KNEE|ANKLE|FOOT|TIBIA"
    r"|FOREARM|FINGER|\bTOE|EXTREMIT|\bARM\b|\bLEG\b|BREAST|MAMMO|SINUS|\bJAW|SCAPULA|SACR|COCCY|\bTEETH|\bDENTAL",
    re.IGNORECASE,
)
_FRONTAL_WORDS: Final = re.compile(
    r"(?<![A-Z])(?P<position>PA|AP)(?![A-Z])|FRONTAL|POSTERO-?\s?ANTERIOR|ANTERO-?\s?POSTERIOR|PORTABLE|BEDSIDE",
    re.IGNORECASE,
)
_LATERAL_WORDS: Final = re.compile(r"(?<![A-Z])(LAT|LL|RL|SEITLICH|PROFIL)(?![A-Z])|LATERAL", re.IGNORECASE)
_SILENT_BODY_PARTS: Final = frozenset({"", "UNKNOWN", "UNSPECIFIED", "OTHER", "NONE", "N/A", "NA", "DEFAULT"})
_DESCRIPTIONS: Final = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "StudyDescription",
)

# DA and TM, or DT, of PS3.5 6.2: fractions of a second do not matter here.
_MOMENT: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d))?)?)?")
_OFFSET: Final = re.compile(r"([+-])(\d\d)(\d\d)$")


@contextmanager
def tolerant() -> Iterator[None]:
    """Silence what pydicom warns about while reading: a foreign file is judged by what can be read of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_part10(content: bytes, *, header_only: bool = False) -> Dataset:
    """The data set of a DICOM file; one without preamble or file meta information is accepted.

    Raises
    ------
    InputError
        If *content* is empty, is not DICOM, is a directory (DICOMDIR) instead of an image, or has a header that would
        fill the memory.
    """
    if not content:
        raise InputError("The file is empty; expected a DICOM file.")
    preamble = content[128:132] == b"DICM"
    # Without preamble, only what begins with group 0002 or 0008, little-endian, is worth a try.
    if not preamble and content[:2] not in (b"\x02\x00", b"\x08\x00"):
        raise InputError("The file is not DICOM: neither a DICM prefix nor DICOM elements at its start (PS3.10 7.1).")
    with tolerant():
        try:
            dataset = _weighed(content, header_only=header_only)
            dataset.decode()
            dataset.file_meta = _file_meta(dataset)
        except (*UNREADABLE, MemoryError) as error:
            raise InputError(f"The file cannot be read as DICOM ({type(error).__name__}); is it complete?") from error
    if "DirectoryRecordSequence" in dataset:
        raise InputError("This is a DICOMDIR, a directory of files; give the folder or the image files it lists.")
    return dataset


def refuse_heavy(content: bytes) -> None:
    """Refuse a DICOM file that would fill the memory of a reader without limits; what is none is that reader's to say.

    Raises
    ------
    InputError
        If it inflates to too much, or its header has too much in it.
    """
    with tolerant(), suppress(*UNREADABLE, MemoryError):
        _weighed(content)


def _weighed(content: bytes, *, header_only: bool = False) -> Dataset:
    preamble = content[128:132] == b"DICM"
    if preamble:
        _refuse_inflation(content)
    dataset = dcmread(Metered(content), stop_before_pixels=header_only, force=not preamble)
    check_weight(dataset)
    return dataset


def _refuse_inflation(content: bytes) -> None:
    stream = BytesIO(content)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), MAX_INFLATED_BYTES + 1)
    if len(inflated) > MAX_INFLATED_BYTES:
        raise InputError(f"The deflated data set grows beyond {MAX_INFLATED_BYTES // 2**20} MiB; refused.")
    read_dataset(Metered(inflated), False, True)  # pydicom reads what it inflates itself, past our counting


def text(dataset: Dataset, keyword: str) -> str:
    """The value as text without padding, "" when absent or unreadable; several values joined by a backslash."""
    try:
        value = dataset.get(keyword)
        values = value if isinstance(value, list | tuple | MultiValue) else (value,)
        return "\\".join(_plain(item) for item in values if item is not None)
    except UNREADABLE:
        return ""


def _plain(value: object) -> str:
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip(" \0")


def numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The finite numbers of a value, empty when absent, unreadable, or when any of them is not finite."""
    found = []
    for part in text(dataset, keyword).split("\\"):
        try:
            found.append(float(part))
        except ValueError:
            return ()
    return tuple(found) if all(math.isfinite(number) for number in found) else ()


def integer(dataset: Dataset, keyword: str, default: int = 0) -> int:
    """The value as a whole number, *default* when absent or unreadable."""
    found = numbers(dataset, keyword)
    return int(found[0]) if found else default


def items(dataset: Dataset, keyword: str) -> tuple[Dataset, ...]:
    """The items of a sequence, empty when absent or unreadable."""
    try:
        return tuple(item for item in dataset.get(keyword) or () if isinstance(item, Dataset))
    except UNREADABLE:
        return ()


def image_ref_of(dataset: Dataset) -> ImageRef:
    """The identity of an instance.

    Raises
    ------
    InputError
        If one of the four UIDs is missing or breaks PS3.5 9.1.
    """
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
    uids = [text(dataset, name) for name in names]
    missing = [name for name, uid in zip(names, uids, strict=True) if not uid]
    if missing:
        raise InputError(
            f"The instance lacks {', '.join(missing)} (type 1 attributes); have it repaired at its source."
        )
    try:
        return ImageRef(StudyRef(uids[0]), *uids[1:])
    except ValueError as error:
        raise InputError(f"The instance cannot be referenced: {error}.") from error


def patient_of(dataset: Dataset) -> PatientRef | None:
    """The patient as the archive knows them: identifier and issuer, or None without identifier."""
    patient_id = text(dataset, "PatientID")
    issuer = text(dataset, "IssuerOfPatientID")
    for qualifiers in items(dataset, "IssuerOfPatientIDQualifiersSequence"):
        issuer = issuer or text(qualifiers, "UniversalEntityID")
    return PatientRef(patient_id, issuer) if patient_id else None


def is_own(dataset: Dataset) -> bool:
    """Whether Sightline wrote the instance as a result."""
    return (text(dataset, "Manufacturer"), text(dataset, "ManufacturerModelName")) == (MANUFACTURER, MODEL_NAME)


def is_radiograph(dataset: Dataset) -> bool:
    """Whether the instance can be a radiograph at all: CR, DX, or a secondary capture (:func:`radiographs_among`).

    Everything else (SEG, SR, KO, PR, encapsulated documents, tomography) is not, nor is what Sightline wrote.
    """
    return text(dataset, "SOPClassUID") in RADIOGRAPH_CLASSES and not is_own(dataset)


def radiographs_among(datasets: tuple[Dataset, ...]) -> tuple[Dataset, ...]:
    """Those instances of one study that are radiographs.

    CR and DX always. A secondary capture counts when it says that it is a radiograph (Modality CR, DX or RG) or shows
    a chest (body part, descriptions); any other secondary capture only when the study holds nothing better.
    """
    candidates = tuple(dataset for dataset in datasets if is_radiograph(dataset))
    sure = tuple(dataset for dataset in candidates if _surely_radiograph(dataset))
    return sure or candidates


def _surely_radiograph(dataset: Dataset) -> bool:
    if text(dataset, "SOPClassUID") != SecondaryCaptureImageStorage:
        return True
    return text(dataset, "Modality").upper() in ("CR", "DX", "RG") or _body_part(dataset)[0] is True


def description_of(dataset: Dataset) -> ImageDescription:
    """What the header says about an image.

    The body part comes first: anything but a chest is OTHER. Then ViewPosition, the view code, and the descriptions
    from the most to the least specific; a description that names both a frontal and a lateral view tells nothing.
    A projection without a body part stays UNKNOWN, since hands have PA views too.

    Raises
    ------
    InputError
        If a UID is missing or not valid.
    """
    with tolerant():
        chest, where = _body_part(dataset)
        position, view, why = _projection(dataset)
        if chest is False:
            view, why = View.OTHER, where
        elif chest is None and view is View.FRONTAL:
            view, why = View.UNKNOWN, f"{why}, but the body part is not stated"
        return ImageDescription(
            image=image_ref_of(dataset),
            modality=text(dataset, "Modality").upper(),
            view=view,
            why=why or "the header does not tell the view",
            view_position=position,
            patient=patient_of(dataset),
            accession_number=text(dataset, "AccessionNumber"),
            rows=max(0, integer(dataset, "Rows")),
            columns=max(0, integer(dataset, "Columns")),
            instance_number=integer(dataset, "InstanceNumber"),
            acquired=acquired_at(dataset),
            accession_issuer=accession_issuer_of(dataset),
            body_part=text(dataset, "BodyPartExamined"),
        )


def study_description_of(dataset: Dataset) -> StudyDescription:
    """What the header of an instance, or a hit of a search, says of its study.

    Raises
    ------
    InputError
        If its UID is missing or not valid.
    """
    with tolerant():
        try:
            study = StudyRef(text(dataset, "StudyInstanceUID"))
        except ValueError:
            raise InputError("The instance's StudyInstanceUID is missing or not valid (PS3.5 9.1).") from None
        number = text(dataset, "AccessionNumber")
        modalities = text(dataset, "ModalitiesInStudy") or text(dataset, "Modality")
        return StudyDescription(
            study,
            Accession(number, accession_issuer_of(dataset)) if number else None,
            patient_of(dataset),
            tuple(sorted({each.upper() for each in modalities.split("\\") if each})),
            text(dataset, "StudyDate"),
            text(dataset, "StudyDescription"),
        )


def accession_issuer_of(dataset: Dataset) -> str:
    """Who issued the accession number (PS3.3 table 10-17): the universal identifier where there is one, else the local.

    An ISO identifier is an OID, written as FHIR writes it (``urn:oid:``).
    """
    for issuer in items(dataset, "IssuerOfAccessionNumberSequence"):
        universal = text(issuer, "UniversalEntityID")
        if universal:
            return f"urn:oid:{universal}" if text(issuer, "UniversalEntityIDType").upper() == "ISO" else universal
        return text(issuer, "LocalNamespaceEntityID")
    return ""


def acquired_at(dataset: Dataset) -> datetime | None:
    """When the image was taken: AcquisitionDateTime, else the first date stated from acquisition to study.

    In TimezoneOffsetFromUTC where that is stated (PS3.3 C.12.1.1.8), else taken as UTC; midnight when only a date is.
    """
    steps = ("Acquisition", "Content", "Series", "Study")
    stated = (text(dataset, f"{step}Date") + text(dataset, f"{step}Time") for step in steps)
    zone = _OFFSET.search(text(dataset, "TimezoneOffsetFromUTC"))
    for moment in (text(dataset, "AcquisitionDateTime"), *stated):
        found = _MOMENT.match(moment)
        if found is None:
            continue
        year, month, day, hour, minute, second = (int(part) for part in found.groups(default="0"))
        try:
            return datetime(year, month, day, hour, minute, second, tzinfo=_timezone(_OFFSET.search(moment) or zone))
        except ValueError:
            continue
    return None


def _timezone(offset: re.Match[str] | None) -> timezone:
    if offset is None:
        return UTC
    minutes = int(offset[2]) * 60 + int(offset[3])
    return timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))


def _body_part(dataset: Dataset) -> tuple[bool | None, str]:
    """Whether it is a chest (None: not stated), and the attribute that says so."""
    for code in items(dataset, "AnatomicRegionSequence"):
        chest = text(code, "CodeValue") in _CHEST_CODES or bool(_CHEST_WORDS.search(text(code, "CodeMeaning")))
        return chest, "AnatomicRegionSequence"
    stated = text(dataset, "BodyPartExamined").upper()
    if stated not in _SILENT_BODY_PARTS:
        return bool(_CHEST_WORDS.search(stated)), "BodyPartExamined"
    for keyword in _DESCRIPTIONS:
        words = text(dataset, keyword)
        chest, other = bool(_CHEST_WORDS.search(words)), bool(_OTHER_WORDS.search(words))
        if chest != other:
            return chest, keyword
    return None, ""


def _projection(dataset: Dataset) -> tuple[str, View, str]:
    """ViewPosition as stated or derived, the view it means, and the attribute that told it."""
    stated = text(dataset, "ViewPosition").upper()
    if stated in _POSITIONS:
        return stated, _POSITIONS[stated], f"ViewPosition {stated}"
    for code in items(dataset, "ViewCodeSequence"):
        if text(code, "CodeValue") in _VIEW_CODES:
            position, view = _VIEW_CODES[text(code, "CodeValue")]
            return position, view, "ViewCodeSequence"
    for keyword in ("ViewPosition", *_DESCRIPTIONS):
        frontal = _FRONTAL_WORDS.search(text(dataset, keyword))
        lateral = _LATERAL_WORDS.search(text(dataset, keyword))
        if frontal and not lateral:
            return (frontal["position"] or "").upper(), View.FRONTAL, keyword
        if lateral and not frontal:
            return "", View.LATERAL, keyword
    return "", View.UNKNOWN, ""


def header_bytes(dataset: Dataset) -> bytes:
    """The instance without its pixel data as a DICOM file, the same bytes each time.

    Elements that cannot be written back are left out.
    """
    with tolerant():
        header = Dataset()
        header.update({tag: dataset.get_item(tag) for tag in tuple(dataset.keys()) if tag.group > 2})
        for keyword in _PIXELS:
            header.pop(keyword, None)
        header.file_meta = _file_meta(dataset)
        try:
            return _written(header, dataset)
        except UNREADABLE:
            for tag in tuple(header.keys()):
                if not _writable(header, tag, dataset):
                    del header[tag]
            return _written(header, dataset)


def _file_meta(dataset: Dataset) -> FileMetaDataset:
    meta = FileMetaDataset()
    source = getattr(dataset, "file_meta", Dataset())
    for tag in tuple(source.keys()):
        try:
            meta.add(source[tag])
        except UNREADABLE:
            continue
    if not meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        explicit = ExplicitVRBigEndian if little is False else ExplicitVRLittleEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return meta


def _written(header: Dataset, source: Dataset) -> bytes:
    implicit, little = source.original_encoding
    header.set_original_encoding(implicit, little, source.original_character_set)
    stream = BytesIO()
    dcmwrite(stream, header, enforce_file_format=True)
    return stream.getvalue()


def _writable(header: Dataset, tag: BaseTag, source: Dataset) -> bool:
    alone = Dataset()
    alone.update({name: header.get_item(name) for name in {tag, *_IDENTITY_TAGS} if name in header})
    alone.file_meta = header.file_meta
    try:
        return bool(_written(alone, source))
    except UNREADABLE:
        return False


_IDENTITY_TAGS: Final = (Tag(0x00080016), Tag(0x00080018))
