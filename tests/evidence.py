"""Small synthetic evidence for tests of whatever reads or writes it: ``make_evidence()`` and its parts.

The report holds one phrase of every fate: found, found in two parts, region only, looked for and not found, possible,
denied, unreported, non-ASCII, longer than a DICOM label, and overlapping another.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from io import BytesIO

import numpy as np
import numpy.typing as npt
from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from model.geometry import UPRIGHT, Orientation
from model.values import ModelCard, Region, State, View
from nlp.phrases import Assertion, Change, Code, Concept, Laterality, Phrase, Section, Severity
from plugin.decisions import decided
from plugin.identity import derived_uid
from plugin.results import KeptReport, kept_report
from plugin.values import (
    Evidence,
    GroundedPhrase,
    ImageDescription,
    ImageRef,
    PatientRef,
    Person,
    Placement,
    Provenance,
    Radiograph,
    RegionDecision,
    Report,
    ReportRef,
    ReportStatus,
    Ruling,
    StudyRef,
)

STUDY = StudyRef(derived_uid("test", "study"))
CREATED = datetime(2026, 3, 1, 12, 30, 15)  # noqa: DTZ001 - DICOM times carry no zone unless the source states one
DECIDED = datetime(2026, 3, 2, 9, tzinfo=UTC)
CARD = ModelCard(name="sightline-test", version="1.0", weights_sha256="ab" * 32, threshold=0.4)
LONG = "patchy ill-defined airspace opacities scattered throughout the right lower lung zone"
NON_ASCII = "petit épanchement pleural gauche – étude №2 左胸水"
REPORT_TEXT = (
    "INDICATION: Fever for two days, evaluate for pneumonia.\n"
    "FINDINGS: Moderate left pleural effusion, increased. "
    f"{LONG}. Bilateral pulmonary nodules. {NON_ASCII}. Cardiac pacemaker. "
    "Possible right apical pneumothorax. Mild edema. No fracture.\n"
)

EFFUSION = Concept("pleural effusion", (Code("SCT", "60046008", "Pleural effusion"),))
OPACITY = Concept("opacity", (Code("RADLEX", "RID28530", "opacity"),))
NODULE = Concept("nodule", (Code("SCT", "27925004", "Nodule"),))
PACEMAKER = Concept("pacemaker", (Code("SCT", "14106009", "Cardiac pacemaker"),))
PNEUMOTHORAX = Concept("pneumothorax", (Code("SCT", "36118008", "Pneumothorax"),))
UNCODED = Concept("edema")
LUNG = Concept("lung", (Code("SCT", "39607008", "Lung"),))
LOWER_ZONE = Concept("lower zone of lung", (Code("SCT", "281394001", "Lower zone of lung"),))


def make_phrase(text: str, finding: Concept, *, source: str = REPORT_TEXT, **fields: object) -> Phrase:
    """The first occurrence of *text* in *source* as a phrase; affirmed and groundable unless *fields* say otherwise."""
    start = source.index(text)
    before, end = source[:start], start + len(text)
    start_utf16 = len(before.encode("utf-16-le")) // 2
    given: dict[str, object] = {"assertion": Assertion.AFFIRMED, "section": Section.FINDINGS, "groundable": True}
    return Phrase(
        text=text,
        start=start,
        end=end,
        start_utf16=start_utf16,
        end_utf16=start_utf16 + len(text.encode("utf-16-le")) // 2,
        finding=finding,
        **(given | fields),  # type: ignore[arg-type]
    )


def rectangle(left: float, top: float, right: float, bottom: float, *, probability: float = 0.8) -> Region:
    """A rectangular region in source coordinates."""
    return Region(((left, top), (right, top), (right, bottom), (left, bottom)), probability)


def make_header(  # every argument is one way in which sources differ
    *,
    rows: int = 96,
    columns: int = 80,
    modality: str = "DX",
    photometric: str = "MONOCHROME2",
    spacing: tuple[float, float] | None = (0.2, 0.15),
    frame_of_reference: bool = True,
    patient_name: str = "Müller^Jörg",
    patient_orientation: tuple[str, str] = ("L", "F"),
    number: int = 1,
    character_set: str | list[str] = "ISO_IR 192",
    patient_id: str = "TEST-1",
) -> Dataset:
    """A complete DX or CR header without pixels, valid by dciodvfy when its pixels are added."""
    ds = Dataset()
    ds.SpecificCharacterSet = character_set
    ds.SOPClassUID = DigitalXRayImageStorageForPresentation if modality == "DX" else ComputedRadiographyImageStorage
    ds.SOPInstanceUID = derived_uid("test", "image", str(number))
    ds.StudyInstanceUID = STUDY.study_instance_uid
    ds.SeriesInstanceUID = derived_uid("test", "series", str(number))
    ds.StudyDate, ds.StudyTime = "20260228", "080910"
    ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = "20260228"
    ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "081000"
    ds.AccessionNumber, ds.StudyID = "ACC-7", "S1"
    ds.Modality = modality
    ds.Manufacturer = "Test works"
    ds.ReferringPhysicianName = "Referrer^One"
    ds.StudyDescription = "Chest"
    ds.PatientName, ds.PatientID = patient_name, patient_id
    ds.PatientBirthDate, ds.PatientSex = "19500102", "M"
    ds.PatientAge = "076Y"
    ds.SeriesNumber, ds.InstanceNumber = number, 1
    ds.BodyPartExamined, ds.ViewPosition = "CHEST", "PA"
    ds.PatientOrientation = list(patient_orientation)
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""]
    ds.Rows, ds.Columns = rows, columns
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    if modality == "DX":
        _add_dx_modules(ds, inverse=photometric == "MONOCHROME1")
    else:
        ds.PlateType = ""
    if spacing:
        ds.ImagerPixelSpacing = [f"{value:g}" for value in spacing]
    if frame_of_reference:
        ds.FrameOfReferenceUID = derived_uid("test", "frame", str(number))
        ds.PositionReferenceIndicator = ""
    return ds


def _add_dx_modules(ds: Dataset, *, inverse: bool) -> None:
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.ImageLaterality = "U"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "LIN", -1 if inverse else 1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = "0", "1", "US"
    ds.PresentationLUTShape = "INVERSE" if inverse else "IDENTITY"
    ds.WindowCenter, ds.WindowWidth = "2048", "4096"
    ds.DetectorType, ds.AcquisitionDeviceProcessingDescription = "DIRECT", ""
    ds.PositionerType = ""
    ds.AnatomicRegionSequence = [_code("816094009", "SCT", "Thorax")]
    view = _code("399348003", "SCT", "antero-posterior")
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.AcquisitionContextSequence = []


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def part10(dataset: Dataset, *, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """*dataset* as a DICOM file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    dataset.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def make_pixels(rows: int, columns: int) -> npt.NDArray[np.float32]:
    """An asymmetric pattern: brighter to the right and to the bottom, a bright square in the upper left."""
    pixels = np.linspace(0.1, 0.5, rows, dtype=np.float32)[:, None] + np.linspace(0, 0.3, columns, dtype=np.float32)
    pixels[rows // 10 : rows // 5, columns // 10 : columns // 5] = 1
    return pixels


def make_radiograph(header: Dataset | None = None, *, orientation: Orientation = UPRIGHT) -> Radiograph:
    """The image that *header* describes (:func:`make_header`)."""
    header = make_header() if header is None else header
    pixels = make_pixels(header.Rows, header.Columns)
    image = ImageRef(STUDY, header.SeriesInstanceUID, header.SOPInstanceUID, header.SOPClassUID)
    spacing = header.get("ImagerPixelSpacing")
    return Radiograph(
        description=ImageDescription(
            image=image,
            modality=header.Modality,
            view=View.FRONTAL,
            why="ViewPosition PA",
            view_position="PA",
            patient=PatientRef(header.PatientID),
            accession_number=header.AccessionNumber,
            rows=header.Rows,
            columns=header.Columns,
            instance_number=1,
        ),
        pixels=pixels,
        header=part10(header),
        source_sha256=hashlib.sha256(pixels.tobytes()).hexdigest(),
        orientation=orientation,
        spacing_mm=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        spacing_kind="none" if spacing is None else "detector",
    )


def make_lateral() -> ImageDescription:
    """A lateral view that is kept as a reference."""
    image = ImageRef(
        STUDY,
        derived_uid("test", "series", "lateral"),
        derived_uid("test", "image", "lateral"),
        DigitalXRayImageStorageForPresentation,
    )
    return ImageDescription(image=image, modality="DX", view=View.LATERAL, why="ViewPosition LL", rows=96, columns=80)


def make_report(text: str = REPORT_TEXT) -> Report:
    """A final report about :data:`STUDY`."""
    return Report(
        ref=ReportRef("report-1", "2"),
        status=ReportStatus.FINAL,
        text=text,
        text_source="file",
        patient=PatientRef("TEST-1"),
        study_instance_uids=(STUDY.study_instance_uid,),
    )


def phrases_of_every_fate() -> tuple[tuple[Phrase, tuple[Region, ...], State, float], ...]:
    """(phrase, regions in fractions of the image, state, probability) in text order; see the module's docstring."""
    denied = {"assertion": Assertion.NEGATED, "groundable": False, "not_groundable_reason": "The report denies it."}
    indication = {
        "assertion": Assertion.NOT_REPORTED,
        "section": Section.INDICATION,
        "groundable": False,
        "not_groundable_reason": "It stands in the indication.",
    }
    left = {"laterality": Laterality.LEFT}
    nothing = ((), State.NOT_GROUNDABLE, 0.0)
    return (
        (make_phrase("pneumonia", Concept("pneumonia"), **indication), *nothing),
        (
            make_phrase(
                "Moderate left pleural effusion, increased",
                EFFUSION,
                **left,
                severity=Severity.MODERATE,
                change=Change.INCREASED,
            ),
            (rectangle(0.55, 0.6, 0.9, 0.95, probability=0.9),),
            State.FOUND,
            0.93,
        ),
        (
            make_phrase(LONG, OPACITY, laterality=Laterality.RIGHT, sites=(LOWER_ZONE,)),
            (rectangle(0.1, 0.5, 0.42, 0.8), rectangle(0.05, 0.82, 0.2, 0.9, probability=0.6)),
            State.FOUND,
            0.81,
        ),
        (
            make_phrase("Bilateral pulmonary nodules", NODULE, laterality=Laterality.BILATERAL, sites=(LUNG,)),
            (
                Region(((0.2, 0.2), (0.3, 0.3), (0.2, 0.4), (0.1, 0.3)), 0.7),
                Region(((0.7, 0.2), (0.82, 0.3), (0.7, 0.4), (0.58, 0.3)), 0.75),
            ),
            State.FOUND,
            0.77,
        ),
        (make_phrase(NON_ASCII, EFFUSION, **left), (rectangle(0.6, 0.7, 0.95, 0.97),), State.REGION_ONLY, 0.35),
        (make_phrase("Cardiac pacemaker", PACEMAKER), (rectangle(0.65, 0.08, 0.85, 0.18),), State.FOUND, 0.99),
        (
            make_phrase(
                "Possible right apical pneumothorax",
                PNEUMOTHORAX,
                assertion=Assertion.POSSIBLE,
                laterality=Laterality.RIGHT,
            ),
            (),
            State.NOT_FOUND,
            0.12,
        ),
        (make_phrase("Mild edema", UNCODED, severity=Severity.MILD), (), State.NOT_FOUND, 0.2),
        (make_phrase("fracture", Concept("fracture"), **denied), *nothing),
    )


def make_evidence(*images: Radiograph, references: tuple[ImageDescription, ...] = ()) -> Evidence:
    """Evidence on *images* (one DX unless given) with a phrase of every fate; the same regions on each image."""
    images = images or (make_radiograph(),)
    report = make_report()
    phrases = tuple(
        GroundedPhrase(
            phrase=phrase,
            tracking_id=f"{number} {phrase.finding.name}",
            tracking_uid=derived_uid("test", "tracking", str(number)),
            placements=tuple(_placement(image, regions, state, probability) for image in images)
            if phrase.groundable
            else (),
        )
        for number, (phrase, regions, state, probability) in enumerate(phrases_of_every_fate(), start=1)
    )
    return Evidence(
        study=images[0].ref.study,
        report=report,
        images=images,
        references=references,
        phrases=phrases,
        provenance=Provenance(
            software_version="0.0.test",
            model=CARD,
            reader_version="test",
            report_sha256=hashlib.sha256(report.text.encode()).hexdigest(),
            settings_sha256="cd" * 32,
            created=CREATED,
        ),
    )


def _placement(image: Radiograph, regions: tuple[Region, ...], state: State, probability: float) -> Placement:
    rows, columns = image.pixels.shape
    scaled = tuple(
        Region(tuple((x * columns, y * rows) for x, y in region.outline), region.probability) for region in regions
    )
    reason = None if state is State.FOUND else "Below the threshold."
    return Placement(image.ref, state, probability, regions=scaled, reason=reason)


def decision(
    grounded: GroundedPhrase, ruling: Ruling, *, at: int = 0, number: int = 1, reason: str = "not there"
) -> RegionDecision:
    """Dr. Ada's word about *grounded* on its image *at*: what is redrawn, becomes a triangle."""
    placement = grounded.placements[at]
    triangle = Region(((10.0, 10.0), (40.0, 10.0), (25.0, 40.0)), 1.0)
    return RegionDecision(
        tracking_uid=grounded.tracking_uid,
        sop_instance_uid=placement.image.sop_instance_uid,
        number=number,
        ruling=ruling,
        regions=(triangle,) if ruling is Ruling.REDRAWN else placement.regions,
        state=State.FOUND if ruling is Ruling.REDRAWN else placement.state,
        reason="" if ruling is Ruling.ACCEPTED else reason,
        who=Person("Dr. Ada Beispiel", "Practitioner/ada"),
        made=DECIDED + timedelta(minutes=number),
        model="sightline-test 1.0",
        weights_sha256=CARD.weights_sha256,
    )


def decided_evidence(*images: Radiograph) -> Evidence:
    """:func:`make_evidence` after a radiologist saw every region: two rejected, one drawn, the others accepted."""
    evidence = make_evidence(*images)
    lit = [grounded for grounded in evidence.phrases if grounded.lit]
    rulings = (Ruling.ACCEPTED, Ruling.REDRAWN, Ruling.REJECTED, Ruling.REJECTED, Ruling.ACCEPTED)
    said = [
        decision(grounded, ruling, at=at)
        for grounded, ruling in zip(lit, rulings, strict=True)
        for at in range(len(grounded.placements))
    ]
    return decided(evidence, said)


def kept_of(evidence: Evidence) -> KeptReport:
    """What is kept of the report of *evidence* beside its results."""
    return kept_report(evidence.report, created=evidence.provenance.created)
