"""The values of the pipeline: frozen, and validated when made, so that nothing downstream checks again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.geometry import UPRIGHT, Letterbox, Orientation
from model.values import Heatmap, ModelCard, Region, State, View
from nlp.phrases import Phrase
from plugin import __version__
from plugin.identity import derived_id

_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


def _check_uid(name: str, uid: str) -> None:
    # PS3.5 9.1; the value is not quoted, since foreign systems have put patient data into UIDs.
    if len(uid) > 64 or not _UID.fullmatch(uid):
        raise ValueError(f"{name} is not a valid DICOM UID (PS3.5 9.1)")


@dataclass(frozen=True, slots=True, order=True)
class StudyRef:
    """A study by its UID."""

    study_instance_uid: str

    def __post_init__(self) -> None:
        _check_uid("study_instance_uid", self.study_instance_uid)


@dataclass(frozen=True, slots=True, order=True)
class ImageRef:
    """One SOP instance of a study."""

    study: StudyRef
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str

    def __post_init__(self) -> None:
        _check_uid("series_instance_uid", self.series_instance_uid)
        _check_uid("sop_instance_uid", self.sop_instance_uid)
        _check_uid("sop_class_uid", self.sop_class_uid)


@dataclass(frozen=True, slots=True)
class PatientRef:
    """A patient as a system knows them: identifier and its issuer ("" when not stated)."""

    patient_id: str
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class Accession:
    """An accession number and who issued it ("" when not stated); numbers are unique only within an issuer."""

    number: str
    issuer: str = ""


WITHDRAWN_VERSION = "withdrawn:"
"""The version of a report that is gone, or no longer about a study: no FHIR id, so no server has such a one."""


@dataclass(frozen=True, slots=True)
class ReportRef:
    """One version of a report, or with :data:`WITHDRAWN_VERSION` the order to take back what was made of it.

    Parameters
    ----------
    report_id : the DiagnosticReport's logical id; ``urn:uuid:...``, derived, when it has none.
    version : FHIR ``meta.versionId``; ``sha256:...`` of status and text when there is none, which is no FHIR id.
    """

    report_id: str
    version: str

    def __post_init__(self) -> None:
        if not self.report_id or not self.version:
            raise ValueError("a report reference needs an id and a version")

    @property
    def withdrawn(self) -> bool:
        """Whether it names no version, but that none counts any more."""
        return self.version == WITHDRAWN_VERSION


class ReportStatus(StrEnum):
    """FHIR DiagnosticReport.status."""

    REGISTERED = "registered"
    PARTIAL = "partial"
    PRELIMINARY = "preliminary"
    MODIFIED = "modified"
    FINAL = "final"
    AMENDED = "amended"
    CORRECTED = "corrected"
    APPENDED = "appended"
    CANCELLED = "cancelled"
    ENTERED_IN_ERROR = "entered-in-error"
    UNKNOWN = "unknown"

    @property
    def withdrawn(self) -> bool:
        """Whether nothing may be shown of such a report."""
        return self in (ReportStatus.CANCELLED, ReportStatus.ENTERED_IN_ERROR)

    @property
    def final(self) -> bool:
        """Whether somebody answers for the report: it was released, and maybe changed since."""
        return self in _FINAL


_FINAL = (ReportStatus.FINAL, ReportStatus.AMENDED, ReportStatus.CORRECTED, ReportStatus.APPENDED)


@dataclass(frozen=True, slots=True)
class Report:
    """A report as received.

    Parameters
    ----------
    text : the exact text that phrases point into; never normalised.
    patient : as the report names them, or None for bare text.
    other_patient_ids : further identifiers that the report's patient goes by, in the order given.
    study_instance_uids : the studies it says it describes; may be empty.
    accession_numbers : likewise.
    issued : when the report was released, or None.
    text_source : where the text was taken from ("presentedForm text/plain", "text.div", "conclusion", "file").
    carried : JSON of what a multimedia report takes over from it; see :mod:`plugin.fhir.carried`.
    """

    ref: ReportRef
    status: ReportStatus
    text: str
    text_source: str
    patient: PatientRef | None = None
    other_patient_ids: tuple[PatientRef, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    accession_numbers: tuple[str, ...] = ()
    issued: datetime | None = None
    service_request_ids: tuple[str, ...] = ()
    imaging_study_ids: tuple[str, ...] = ()
    subject_id: str | None = None
    carried: str = "{}"

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a report without text is refused before it becomes a Report")


@dataclass(frozen=True, slots=True)
class ReportDescription:
    """What the version of a report that stands now says of itself, also when its text cannot be used.

    Parameters
    ----------
    accessions : of the report, its orders and its studies.
    radiograph : False when its categories are all of other kinds than radiographs.
    ours : whether Sightline wrote it.
    unusable : why its text cannot be used, in words without patient data; "" when it can.
    patient, other_patient_ids, study_instance_uids, issued : as in :class:`Report`.
    """

    ref: ReportRef
    status: ReportStatus
    patient: PatientRef | None = None
    other_patient_ids: tuple[PatientRef, ...] = ()
    study_instance_uids: tuple[str, ...] = ()
    accessions: tuple[Accession, ...] = ()
    radiograph: bool = True
    ours: bool = False
    unusable: str = ""
    issued: datetime | None = None

    @property
    def accession_numbers(self) -> tuple[str, ...]:
        """Without their issuers."""
        return tuple(dict.fromkeys(each.number for each in self.accessions))


@dataclass(frozen=True, slots=True)
class StudyDescription:
    """What a search of the archive tells of a study.

    Parameters
    ----------
    date : StudyDate (YYYYMMDD) as stated, or "".
    description : StudyDescription, for people who choose.
    """

    study: StudyRef
    accession: Accession | None = None
    patient: PatientRef | None = None
    modalities: tuple[str, ...] = ()
    date: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """What an image's header says, before its pixels are read: what the choice of images looks at.

    Parameters
    ----------
    view : from ViewPosition, view codes and descriptions; UNKNOWN when they are silent.
    why : the attribute that told the view ("ViewPosition PA"), for the reader.
    acquired : when the image was taken (AcquisitionDateTime, else content, series or study date), or None.
    accession_issuer : of IssuerOfAccessionNumberSequence, as :func:`plugin.dicom.header.accession_issuer_of` reads it.
    body_part : BodyPartExamined as stated.
    """

    image: ImageRef
    modality: str
    view: View
    why: str
    view_position: str = ""
    patient: PatientRef | None = None
    accession_number: str = ""
    rows: int = 0
    columns: int = 0
    instance_number: int = 0
    acquired: datetime | None = None
    accession_issuer: str = ""
    body_part: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """One radiograph, ready for the model.

    Parameters
    ----------
    pixels : float32 (rows, columns) in [0, 1], stored orientation, windowed; bright is dense (MONOCHROME1 inverted).
    orientation : how the stored matrix is turned upright.
    header : the instance without its pixel data, as a DICOM Part 10 byte string; what the DICOM writers copy from.
    source_sha256 : of the decoded stored pixel values; the evidence is bound to it.
    spacing_mm : (row, column) size of a pixel, or None when the header gives none.
    spacing_kind : "patient" (PixelSpacing calibrated), "detector" (ImagerPixelSpacing) or "none".
    notes : what the reader of the result should know ("padding masked", "laterality marked by orientation").
    """

    description: ImageDescription
    pixels: npt.NDArray[np.float32]
    header: bytes
    source_sha256: str
    orientation: Orientation = UPRIGHT
    spacing_mm: tuple[float, float] | None = None
    spacing_kind: str = "none"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2 or self.pixels.dtype != np.float32:
            raise ValueError("pixels are float32 (rows, columns)")
        if not np.isfinite(self.pixels).all() or self.pixels.min() < 0 or self.pixels.max() > 1:
            raise ValueError("pixels lie in [0, 1]")
        self.pixels.setflags(write=False)

    @property
    def ref(self) -> ImageRef:
        return self.description.image

    @property
    def letterbox(self) -> Letterbox:
        """The map between these pixels and the network's square."""
        rows, columns = self.pixels.shape
        return Letterbox(rows, columns, self.orientation)


class Ruling(StrEnum):
    """What a radiologist says of the regions of a phrase on an image."""

    ACCEPTED = "accepted"  # they are right
    REJECTED = "rejected"  # nothing is to be marked
    REDRAWN = "redrawn"  # they are where the person drew them
    TAKEN_BACK = "taken-back"  # the person's earlier word counts no more


@dataclass(frozen=True, slots=True)
class Person:
    """Who decided.

    Parameters
    ----------
    name : as people read it.
    identifier : of the account, as whoever signed the person in states it ("Practitioner/12"); "" when nobody did.
    """

    name: str
    identifier: str = ""

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("a person has a name")


@dataclass(frozen=True, slots=True)
class RegionDecision:
    """A radiologist's word about the regions of one phrase on one image.

    Parameters
    ----------
    number : 1, 2, ... of this phrase on this image; the last one counts.
    regions : what was accepted, drawn, or rejected, in source coordinates of the image.
    state : of what was decided about.
    reason : as the person gave it, or "".
    made : UTC.
    seen : the tag of what the person saw; see :func:`plugin.decisions.tag_of`.
    model, weights_sha256 : name with version, and weights, of the model whose regions were decided about.
    """

    tracking_uid: str
    sop_instance_uid: str
    number: int
    ruling: Ruling
    regions: tuple[Region, ...]
    state: State
    reason: str
    who: Person
    made: datetime
    seen: str = ""
    model: str = ""
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        _check_uid("tracking_uid", self.tracking_uid)
        _check_uid("sop_instance_uid", self.sop_instance_uid)
        if self.ruling in (Ruling.ACCEPTED, Ruling.REDRAWN) and not self.regions:
            raise ValueError("what was accepted or drawn has a region")

    @property
    def place(self) -> tuple[str, str]:
        """The phrase and the image."""
        return self.tracking_uid, self.sop_instance_uid

    @property
    def key(self) -> str:
        """Tells decisions apart, also those of a book that was lost and begun again."""
        told = (*self.place, str(self.number), self.ruling, self.made.isoformat(), self.who.name, self.reason)
        return derived_id("decision", *told, repr(tuple(region.outline for region in self.regions)))


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """Where one phrase was found on one image.

    Parameters
    ----------
    regions : in source coordinates of *image*; empty unless *state* is found or region-only.
    probability : that the image shows the finding, in [0, 1]: the model's, whatever a person decided.
    heatmap : for whoever wants the graded map; not part of what is written by default.
    decision : of a radiologist, when it counts: *regions* and *state* are what it says then.
    """

    image: ImageRef
    state: State
    probability: float
    regions: tuple[Region, ...] = ()
    heatmap: Heatmap | None = None
    reason: str | None = None
    decision: RegionDecision | None = None


@dataclass(frozen=True, slots=True, eq=False)
class GroundedPhrase:
    """A phrase, its tracking identity, and its place on each grounded image.

    Parameters
    ----------
    tracking_uid : the one UID that SEG segment, SR groups and FHIR Observation of this phrase share.
    tracking_id : human-readable, unique within the evidence ("3 pleural effusion").
    placements : one per grounded image for a groundable phrase; empty for the others.
    """

    phrase: Phrase
    tracking_id: str
    tracking_uid: str
    placements: tuple[Placement, ...] = ()

    def __post_init__(self) -> None:
        _check_uid("tracking_uid", self.tracking_uid)
        if self.placements and not self.phrase.groundable:
            raise ValueError("a phrase that is not groundable has no placements")

    @property
    def lit(self) -> bool:
        """Whether any image shows a region for it."""
        return any(placement.regions for placement in self.placements)

    @property
    def decisions(self) -> tuple[RegionDecision, ...]:
        """The radiologists' decisions that count for it, in the order of its placements."""
        return tuple(placement.decision for placement in self.placements if placement.decision)

    def decisions_on(self, image: ImageRef) -> tuple[RegionDecision, ...]:
        """Those about one image: none, or one."""
        return tuple(each for each in self.decisions if each.sop_instance_uid == image.sop_instance_uid)

    @property
    def decided(self) -> bool:
        """Whether a radiologist decided, and left no region undecided."""
        return bool(self.decisions) and all(each.decision or not each.regions for each in self.placements)


def makers_of(model: ModelCard, *, reader_version: str, settings_sha256: str) -> tuple[str, ...]:
    """What makes results out of a study and a report; part of the identity of jobs and of everything written."""
    thresholds = f"{model.threshold} {model.presence_threshold}"
    weights = f"{model.weights_sha256} {model.judge_sha256}"
    return __version__, reader_version, model.name, model.version, weights, thresholds, settings_sha256


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything needed to say how the evidence came about, and to make it again.

    Parameters
    ----------
    created : the clock argument, or the source's own time: never the wall clock, so that a re-run is identical.
    report_sha256 : of the report text in UTF-8.
    settings_sha256 : of the settings that change results.
    """

    software_version: str
    model: ModelCard
    reader_version: str
    report_sha256: str
    settings_sha256: str
    created: datetime

    @property
    def makers(self) -> tuple[str, ...]:
        """Whatever else changes results: software, reader, model with its thresholds, settings."""
        return makers_of(self.model, reader_version=self.reader_version, settings_sha256=self.settings_sha256)


class Keyed(Protocol):
    """What has a key of :func:`key_of`."""

    @property
    def key(self) -> tuple[str, ...]: ...


def key_of(
    study: StudyRef, report: ReportRef, provenance: Provenance, *, images: tuple[str, ...], again: int
) -> tuple[str, ...]:
    """What evidence is about, but for people's decisions: equal keys mean equal results.

    Parameters
    ----------
    images : SOP instance UIDs of the grounded images, then of those that were only looked at.
    """
    told = (study.study_instance_uid, report.report_id, report.version, provenance.report_sha256)
    return (*told, *provenance.makers, *images, *((str(again),) if again else ()))


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """The joined result for one study and one report version.

    Parameters
    ----------
    images : the frontal images that were grounded, at least one, best first.
    references : images of the study that were not grounded (laterals), kept for the image library.
    phrases : every phrase of the report in text order, grounded or not.
    language : of the report text (BCP 47).
    warnings : for the reader, without quoting the report.
    again : how many times equal results were taken back before; a rejected instance never comes back under its UID.
    """

    study: StudyRef
    report: Report
    images: tuple[Radiograph, ...]
    references: tuple[ImageDescription, ...]
    phrases: tuple[GroundedPhrase, ...]
    provenance: Provenance
    language: str = "en"
    warnings: tuple[str, ...] = ()
    again: int = 0

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("evidence needs at least one grounded image")
        if any(image.ref.study != self.study for image in self.images):
            raise ValueError("every image belongs to the study")

    @property
    def key(self) -> tuple[str, ...]:
        """What this evidence is about: equal keys mean equal results."""
        images = (*(image.ref for image in self.images), *(other.image for other in self.references))
        uids = tuple(image.sop_instance_uid for image in images)
        told = key_of(self.study, self.report.ref, self.provenance, images=uids, again=self.again)
        return (*told, *(decision.key for decision in self.decisions))

    @property
    def decisions(self) -> tuple[RegionDecision, ...]:
        """Every decision of a radiologist that counts."""
        return tuple(decision for phrase in self.phrases for decision in phrase.decisions)

    @property
    def written(self) -> datetime:
        """When it came to say what it says: its sources' time, or that of the last decision if that is later."""
        created = self.provenance.created
        return max(
            (created, *(decision.made for decision in self.decisions)),
            key=lambda moment: moment if moment.tzinfo else moment.replace(tzinfo=UTC),
        )
