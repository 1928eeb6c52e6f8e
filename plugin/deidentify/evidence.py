"""Evidence without whom it is about: SEG, SR, FHIR and page are then written of it as of any other.

Nothing of the results themselves is copied: they are made anew of cleaned images, cleaned text and places, so that what
no field of the evidence holds cannot leave with them, and all of them fit together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from model.geometry import Orientation
from plugin.chain.rebuilt import Rebuilt
from plugin.deidentify.pseudonyms import Pseudonyms
from plugin.deidentify.text import Cleaned, cleaned
from plugin.errors import InputError
from plugin.identity import sha256_hex
from plugin.page.document import EvidenceDocument
from plugin.values import (
    Evidence,
    GroundedPhrase,
    ImageDescription,
    ImageRef,
    PatientRef,
    Person,
    Placement,
    Radiograph,
    RegionDecision,
    Report,
    ReportRef,
    StudyRef,
)

SOMEBODY = Person("A radiologist")


def evidence_without_identity(
    document: EvidenceDocument,
    images: Mapping[str, Radiograph],
    pseudonyms: Pseudonyms,
    *,
    patient: str,
    known: Iterable[str],
) -> Evidence:
    """The evidence of *document* about *images*.

    Parameters
    ----------
    images : what :func:`plugin.deidentify.dicom.image_without_identity` made, by the UIDs that the document has.
    patient : Patient ID of the images as they were.
    known : names, ids and places that are known to be about the patient, or of people around them.

    Raises
    ------
    InputError
        If an image is missing, or the document says what cannot be.
    """
    if missing := [each for each in document.images if each.sop_instance_uid not in images]:
        raise InputError(f"{len(missing)} of its images were not given")
    rebuilt, days = Rebuilt(document), pseudonyms.days(patient)
    clean = cleaned(document.report.text, known=known, days=days)
    radiographs = tuple(_radiograph(document, number, images) for number in range(len(document.images)))
    refs = {part.sop_instance_uid: image.ref for part, image in zip(document.images, radiographs, strict=True)}
    try:
        phrases = tuple(_phrase(each, clean, refs, pseudonyms, patient) for each in rebuilt.phrases)
        return Evidence(
            study=radiographs[0].ref.study,
            report=_report(document, clean.text, pseudonyms, patient),
            images=radiographs,
            references=tuple(_reference(document, number, pseudonyms) for number in range(len(document.references))),
            phrases=phrases,
            provenance=replace(
                rebuilt.provenance,
                report_sha256=sha256_hex(clean.text.encode()),
                created=pseudonyms.moved(rebuilt.provenance.created, patient),
            ),
            language=document.report.language,
            warnings=document.warnings,
            again=document.again,
        )
    except ValueError as error:
        raise InputError(f"its evidence cannot be written anew: {error}") from None


def _radiograph(document: EvidenceDocument, number: int, images: Mapping[str, Radiograph]) -> Radiograph:
    """The image as it was grounded: a person, or the judge of images, may have said how it is turned."""
    part = document.images[number]
    image, turn = images[part.sop_instance_uid], part.orientation
    described = replace(
        image.description, view=part.view, why=part.view_source.split(" ")[0], patient=image.description.patient
    )
    return replace(
        image,
        description=described,
        orientation=Orientation(turn.transpose, turn.reverse_rows, turn.reverse_columns),
        notes=part.notes,
    )


def _reference(document: EvidenceDocument, number: int, pseudonyms: Pseudonyms) -> ImageDescription:
    part = document.references[number]
    ref = ImageRef(
        StudyRef(pseudonyms.uid(document.study_instance_uid)),
        pseudonyms.uid(part.series_instance_uid),
        pseudonyms.uid(part.sop_instance_uid),
        part.sop_class_uid,
    )
    return ImageDescription(image=ref, modality="", view=part.view, why="")


def _report(document: EvidenceDocument, text: str, pseudonyms: Pseudonyms, patient: str) -> Report:
    said = document.report
    return Report(
        ref=ReportRef(pseudonyms.name("report", said.report_id), pseudonyms.name("version", said.version)),
        status=said.status,
        text=text,
        text_source=said.text_source,
        patient=PatientRef(pseudonyms.patient(patient)),
        study_instance_uids=(pseudonyms.uid(document.study_instance_uid),),
        issued=None if said.issued is None else pseudonyms.moved(said.issued, patient),
    )


def _phrase(
    grounded: GroundedPhrase,
    clean: Cleaned,
    refs: Mapping[str, ImageRef],
    pseudonyms: Pseudonyms,
    patient: str,
) -> GroundedPhrase:
    said = grounded.phrase
    start, end = clean.moved(said.start, said.end)
    before, words = clean.text[:start], clean.text[start:end]
    start_utf16 = len(before.encode("utf-16-le", "surrogatepass")) // 2
    phrase = replace(
        said,
        text=words,
        start=start,
        end=end,
        start_utf16=start_utf16,
        end_utf16=start_utf16 + len(words.encode("utf-16-le", "surrogatepass")) // 2,
        measurements=tuple(
            replace(each, start=place[0], end=place[1])
            for each in said.measurements
            for place in [clean.moved(each.start, each.end)]
        ),
        shares_region_with=None if said.shares_region_with is None else clean.moved(*said.shares_region_with),
    )
    uid = pseudonyms.uid(grounded.tracking_uid)
    placements = tuple(_placement(each, uid, refs, pseudonyms, patient) for each in grounded.placements)
    return replace(grounded, phrase=phrase, tracking_uid=uid, placements=placements)


def _placement(
    placement: Placement, tracking_uid: str, refs: Mapping[str, ImageRef], pseudonyms: Pseudonyms, patient: str
) -> Placement:
    image, decision = refs[placement.image.sop_instance_uid], placement.decision
    if decision is not None:
        decision = _decision(decision, tracking_uid, image, pseudonyms, patient)
    return replace(placement, image=image, decision=decision)


def _decision(
    decision: RegionDecision, tracking_uid: str, image: ImageRef, pseudonyms: Pseudonyms, patient: str
) -> RegionDecision:
    """Somebody's word; who it was, and what they wrote, stays here."""
    return replace(
        decision,
        tracking_uid=tracking_uid,
        sop_instance_uid=image.sop_instance_uid,
        who=SOMEBODY,
        reason="",
        made=pseudonyms.moved(decision.made, patient),
    )
