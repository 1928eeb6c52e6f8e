"""An evidence document as the values that DICOM and FHIR are written from, to compare with what was written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from model.values import ModelCard, Region
from nlp.phrases import Code, Concept, Measurement, Phrase
from plugin.page.document import ConceptPart, DecisionPart, EvidenceDocument, ImagePart, PhrasePart, PlacementPart
from plugin.values import (
    GroundedPhrase,
    ImageRef,
    Person,
    Placement,
    Provenance,
    RegionDecision,
    ReportRef,
    Ruling,
    StudyRef,
    key_of,
)


@dataclass(frozen=True)
class Rebuilt:
    """The values of *document*.

    Raises
    ------
    ValueError
        From every property, if the document says what cannot be.
    """

    document: EvidenceDocument

    @cached_property
    def images(self) -> dict[str, ImageRef]:
        """The grounded images by SOP instance UID."""
        study = StudyRef(self.document.study_instance_uid)
        return {
            each.sop_instance_uid: ImageRef(study, each.series_instance_uid, each.sop_instance_uid, each.sop_class_uid)
            for each in self.document.images
        }

    @property
    def parts(self) -> dict[str, ImagePart]:
        """What the document says of them."""
        return {each.sop_instance_uid: each for each in self.document.images}

    @cached_property
    def phrases(self) -> tuple[GroundedPhrase, ...]:
        """The phrases with their places."""
        return tuple(self._grounded(each) for each in self.document.phrases)

    @cached_property
    def provenance(self) -> Provenance:
        """How it came about."""
        said = self.document.provenance
        unsaid = ModelCard("unsaid", "", "", said.model.threshold)
        presence, judge = said.model.presence_threshold, said.model.judge_sha256
        card = ModelCard(
            name=said.model.name,
            version=said.model.version,
            weights_sha256=said.model.weights_sha256,
            threshold=said.model.threshold,
            presence_threshold=unsaid.presence_threshold if presence is None else presence,
            judge_sha256=judge or "",
        )
        return Provenance(
            software_version=said.software_version,
            model=card,
            reader_version=said.reader_version,
            report_sha256=said.report_sha256,
            settings_sha256=said.settings_sha256,
            created=said.created,
        )

    @property
    def report(self) -> ReportRef:
        """Which report version it is about."""
        return ReportRef(self.document.report.report_id, self.document.report.version)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """What the evidence is about."""
        document = self.document
        grounded = tuple(each.sop_instance_uid for each in document.images)
        others = tuple(each.sop_instance_uid for each in document.references)
        told = key_of(
            StudyRef(self.document.study_instance_uid),
            self.report,
            self.provenance,
            images=(*grounded, *others),
            again=self.document.again,
        )
        return (*told, *(each.key for phrase in self.phrases for each in phrase.decisions))

    @property
    def knows_decisions(self) -> bool:
        """Whether the document says all of people's decisions: not what was rejected, so names cannot be derived."""
        return not any(each.ruling is Ruling.REJECTED for phrase in self.phrases for each in phrase.decisions)

    def _grounded(self, part: PhrasePart) -> GroundedPhrase:
        placements = tuple(self._placement(each, part.tracking_uid) for each in part.placements)
        return GroundedPhrase(_phrase(part), part.tracking_id, part.tracking_uid, placements)

    def _placement(self, part: PlacementPart, tracking_uid: str) -> Placement:
        regions = tuple(Region(each.outline, each.probability) for each in part.regions)
        if part.sop_instance_uid not in self.images:
            raise ValueError("a phrase is placed on an image that the document does not list")
        return Placement(
            self.images[part.sop_instance_uid],
            part.state,
            part.probability,
            regions=regions,
            reason=part.reason,
            decision=None if part.decision is None else _decision(part, part.decision, regions, tracking_uid),
        )


def _decision(
    part: PlacementPart, said: DecisionPart, regions: tuple[Region, ...], tracking_uid: str
) -> RegionDecision:
    return RegionDecision(
        tracking_uid=tracking_uid,
        sop_instance_uid=part.sop_instance_uid,
        number=said.number,
        ruling=said.ruling,
        regions=regions,
        state=part.state,
        reason=said.reason,
        who=Person(said.who.name, said.who.identifier),
        made=said.made,
    )


def _phrase(part: PhrasePart) -> Phrase:
    return Phrase(
        text=part.text,
        start=part.start,
        end=part.end,
        start_utf16=part.start_utf16,
        end_utf16=part.end_utf16,
        finding=_concept(part.finding),
        assertion=part.assertion,
        section=part.section,
        groundable=part.groundable,
        not_groundable_reason=part.not_groundable_reason,
        laterality=part.laterality,
        sites=tuple(map(_concept, part.sites)),
        severity=part.severity,
        change=part.change,
        measurements=tuple(Measurement(each.value, each.unit, each.start, each.end) for each in part.measurements),
        shares_region_with=part.shares_region_with,
    )


def _concept(part: ConceptPart) -> Concept:
    return Concept(part.name, tuple(Code(each.scheme, each.value, each.meaning) for each in part.codes))
