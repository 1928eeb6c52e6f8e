"""``evidence.json``: the evidence as other programs read it. docs/evidence.md tells every field; a test compares.

The document is versioned: a reader refuses a ``format_version`` it does not know. Fields may be added within a version;
a changed meaning or a removed field is a new version.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from model.values import ModelCard, Region, State, View
from nlp.phrases import Assertion, Change, Concept, Laterality, Section, Severity
from plugin.anchors import context_of
from plugin.values import (
    Evidence,
    GroundedPhrase,
    ImageDescription,
    Placement,
    Provenance,
    Radiograph,
    RegionDecision,
    Report,
    Ruling,
)
from plugin.values import ReportStatus as Status


class _Part(BaseModel):
    """A frozen part of the document that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class CodePart(_Part):
    """A coded concept (PS3.16 8)."""

    scheme: str
    value: str
    meaning: str


class ConceptPart(_Part):
    """A finding or site: preferred name and codes."""

    name: str
    codes: tuple[CodePart, ...]


class MeasurementPart(_Part):
    """A size that the report states."""

    value: float
    unit: str = Field(description="UCUM.")
    start: int
    end: int


class RegionPart(_Part):
    """One connected area of a source image."""

    outline: tuple[tuple[float, float], ...] = Field(
        description="Closed polygon of (x, y) = (column, row) in source pixels; (0, 0) is the top-left corner of the "
        "first stored pixel (PS3.3 C.18.6.1.1); the last vertex joins the first."
    )
    box: tuple[float, float, float, float] = Field(description="Left, top, right, bottom in source pixels.")
    probability: float = Field(ge=0, le=1)
    area_px: int = Field(ge=0, description="Source pixels whose centre lies inside.")
    area_mm2: float | None = Field(description="area_px in square millimetres; null when the image has no spacing.")


class PersonPart(_Part):
    """Who decided."""

    name: str
    identifier: str = Field("", description="Of the account; empty when nobody signed the person in.")


class DecisionPart(_Part):
    """A radiologist's word about the regions of a phrase on an image."""

    number: int = Field(ge=1, description="Of this phrase on this image; a later one goes before an earlier one.")
    ruling: Ruling
    reason: str
    who: PersonPart
    made: datetime


class PlacementPart(_Part):
    """What became of a phrase on one image."""

    sop_instance_uid: str
    state: State
    probability: float = Field(ge=0, le=1, description="That the image shows the finding.")
    reason: str | None
    regions: tuple[RegionPart, ...]
    decision: DecisionPart | None = Field(None, description="What a radiologist decided: it made state and regions.")


class PhrasePart(_Part):
    """One finding phrase and its places."""

    text: str
    start: int = Field(description="First character, in Unicode code points of report.text.")
    end: int = Field(description="One past the last.")
    start_utf16: int = Field(description="The same in UTF-16 code units, for browsers.")
    end_utf16: int
    prefix: str = Field("", description="The text before it; with text and suffix a W3C TextQuoteSelector.")
    suffix: str = Field("", description="The text after it.")
    section: Section
    finding: ConceptPart
    assertion: Assertion
    laterality: Laterality | None
    sites: tuple[ConceptPart, ...]
    severity: Severity | None
    change: Change | None
    measurements: tuple[MeasurementPart, ...]
    groundable: bool
    not_groundable_reason: str | None
    shares_region_with: tuple[int, int] | None
    tracking_id: str
    tracking_uid: str
    placements: tuple[PlacementPart, ...]


class ImagePart(_Part):
    """An image that was grounded."""

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    rows: int
    columns: int
    view: View
    view_source: str = Field(description="The attribute that told the view.")
    view_position: str
    orientation: OrientationPart
    spacing_mm: tuple[float, float] | None = Field(description="(row, column) size of a pixel.")
    spacing_kind: str
    source_sha256: str
    notes: tuple[str, ...]


class OrientationPart(_Part):
    """How stored pixels are turned upright: transpose, then reverse rows, then reverse columns."""

    transpose: bool
    reverse_rows: bool
    reverse_columns: bool


class ReferencePart(_Part):
    """An image of the study that was not grounded."""

    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    view: View


class ReportPart(_Part):
    """The report as received."""

    report_id: str
    version: str
    status: Status
    text: str = Field(description="Exact text that the offsets refer to.")
    text_source: str
    language: str
    issued: datetime | None


class ModelPart(_Part):
    """Which model answered."""

    name: str
    version: str
    weights_sha256: str
    threshold: float
    presence_threshold: float | None = Field(None, description="Null in documents of earlier releases.")
    judge_sha256: str | None = Field(None, description="Of the weights that judge images; empty when none do.")


class ProvenancePart(_Part):
    """How the evidence came about."""

    software_version: str
    model: ModelPart
    reader_version: str
    report_sha256: str
    settings_sha256: str
    created: datetime


class EvidenceDocument(_Part):
    """The joined result for one study and one report version."""

    format: Literal["sightline-evidence"]
    format_version: Literal[1]
    study_instance_uid: str
    report: ReportPart
    images: tuple[ImagePart, ...]
    references: tuple[ReferencePart, ...]
    phrases: tuple[PhrasePart, ...]
    provenance: ProvenancePart
    warnings: tuple[str, ...]
    again: int = Field(0, ge=0, description="How many times equal results were taken back before.")


def evidence_document(evidence: Evidence) -> EvidenceDocument:
    """*evidence* as the document that is written."""
    images = {image.ref.sop_instance_uid: image for image in evidence.images}
    return EvidenceDocument(
        format="sightline-evidence",
        format_version=1,
        study_instance_uid=evidence.study.study_instance_uid,
        report=_report(evidence.report, language=evidence.language),
        images=tuple(_image(image) for image in evidence.images),
        references=tuple(_reference(reference) for reference in evidence.references),
        phrases=tuple(phrase_part(grounded, images, evidence.report.text) for grounded in evidence.phrases),
        provenance=_provenance(evidence.provenance),
        warnings=evidence.warnings,
        again=evidence.again,
    )


def evidence_json(evidence: Evidence) -> str:
    """*evidence* as UTF-8 JSON text; equal evidence gives equal bytes, and outlines keep every digit.

    ``Region(outline).mask(rows, columns)`` of an outline read back is the mask of the SEG, pixel for pixel.
    """
    document = evidence_document(evidence).model_dump(mode="json")
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_evidence(text: str | bytes) -> EvidenceDocument:
    """The document of *text*.

    Raises
    ------
    ValueError
        If it is not evidence of a version this software knows.
    """
    return EvidenceDocument.model_validate_json(text)


def region_part(region: Region, *, rows: int, columns: int, spacing_mm: tuple[float, float] | None) -> RegionPart:
    """One region of an image of *rows* x *columns*; *spacing_mm* is (row, column)."""
    left, top, right, bottom = region.box
    area_px = int(np.count_nonzero(region.mask(rows, columns)))
    return RegionPart(
        outline=tuple((float(x), float(y)) for x, y in region.outline),
        box=(float(left), float(top), float(right), float(bottom)),
        probability=float(region.probability),
        area_px=area_px,
        area_mm2=None if spacing_mm is None else round(area_px * spacing_mm[0] * spacing_mm[1], 2),
    )


def _concept(concept: Concept) -> ConceptPart:
    codes = tuple(CodePart(scheme=code.scheme, value=code.value, meaning=code.meaning) for code in concept.codes)
    return ConceptPart(name=concept.name, codes=codes)


def _placement(placement: Placement, image: Radiograph) -> PlacementPart:
    rows, columns = image.pixels.shape
    return PlacementPart(
        sop_instance_uid=placement.image.sop_instance_uid,
        state=placement.state,
        probability=float(placement.probability),
        reason=placement.reason,
        regions=tuple(
            region_part(region, rows=rows, columns=columns, spacing_mm=image.spacing_mm) for region in placement.regions
        ),
        decision=None if placement.decision is None else decision_part(placement.decision),
    )


def decision_part(decision: RegionDecision) -> DecisionPart:
    """*decision* as it is told."""
    who = PersonPart(name=decision.who.name, identifier=decision.who.identifier)
    return DecisionPart(
        number=decision.number, ruling=decision.ruling, reason=decision.reason, who=who, made=decision.made
    )


def contexts_in(document: EvidenceDocument | None) -> dict[str, tuple[str, str]]:
    """The text before and after each phrase of *document*, by tracking UID."""
    return {} if document is None else {each.tracking_uid: (each.prefix, each.suffix) for each in document.phrases}


def phrase_part(grounded: GroundedPhrase, images: dict[str, Radiograph], text: str) -> PhrasePart:
    phrase = grounded.phrase
    prefix, suffix = context_of(text, phrase.start, phrase.end)
    return PhrasePart(
        text=phrase.text,
        start=phrase.start,
        end=phrase.end,
        start_utf16=phrase.start_utf16,
        end_utf16=phrase.end_utf16,
        prefix=prefix,
        suffix=suffix,
        section=phrase.section,
        finding=_concept(phrase.finding),
        assertion=phrase.assertion,
        laterality=phrase.laterality,
        sites=tuple(_concept(site) for site in phrase.sites),
        severity=phrase.severity,
        change=phrase.change,
        measurements=tuple(
            MeasurementPart(value=size.value, unit=size.unit, start=size.start, end=size.end)
            for size in phrase.measurements
        ),
        groundable=phrase.groundable,
        not_groundable_reason=phrase.not_groundable_reason,
        shares_region_with=phrase.shares_region_with,
        tracking_id=grounded.tracking_id,
        tracking_uid=grounded.tracking_uid,
        placements=tuple(
            _placement(placement, images[placement.image.sop_instance_uid]) for placement in grounded.placements
        ),
    )


def _image(image: Radiograph) -> ImagePart:
    rows, columns = image.pixels.shape
    turn = image.orientation
    return ImagePart(
        sop_instance_uid=image.ref.sop_instance_uid,
        series_instance_uid=image.ref.series_instance_uid,
        sop_class_uid=image.ref.sop_class_uid,
        rows=rows,
        columns=columns,
        view=image.description.view,
        view_source=image.description.why,
        view_position=image.description.view_position,
        orientation=OrientationPart(
            transpose=turn.transpose, reverse_rows=turn.reverse_rows, reverse_columns=turn.reverse_columns
        ),
        spacing_mm=image.spacing_mm,
        spacing_kind=image.spacing_kind,
        source_sha256=image.source_sha256,
        notes=image.notes,
    )


def _reference(description: ImageDescription) -> ReferencePart:
    return ReferencePart(
        sop_instance_uid=description.image.sop_instance_uid,
        series_instance_uid=description.image.series_instance_uid,
        sop_class_uid=description.image.sop_class_uid,
        view=description.view,
    )


def _report(report: Report, *, language: str) -> ReportPart:
    return ReportPart(
        report_id=report.ref.report_id,
        version=report.ref.version,
        status=report.status,
        text=report.text,
        text_source=report.text_source,
        language=language,
        issued=report.issued,
    )


def model_part(card: ModelCard) -> ModelPart:
    """Which model *card* is of."""
    return ModelPart(
        name=card.name,
        version=card.version,
        weights_sha256=card.weights_sha256,
        threshold=card.threshold,
        presence_threshold=card.presence_threshold,
        judge_sha256=card.judge_sha256,
    )


def _provenance(provenance: Provenance) -> ProvenancePart:
    return ProvenancePart(
        software_version=provenance.software_version,
        model=model_part(provenance.model),
        reader_version=provenance.reader_version,
        report_sha256=provenance.report_sha256,
        settings_sha256=provenance.settings_sha256,
        created=provenance.created,
    )
