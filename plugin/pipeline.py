"""From a report and radiographs to evidence. Pure; the reader and the model arrive as values and callables."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from model.values import Grounding, Query, Question
from nlp.phrases import Phrase, Reading
from plugin import __version__
from plugin.anchors import tracking_uids
from plugin.errors import InputError
from plugin.identity import sha256_hex
from plugin.ports import Grounder
from plugin.values import (
    Evidence,
    GroundedPhrase,
    ImageDescription,
    Placement,
    Provenance,
    Radiograph,
    Report,
)

#: A report with more finding phrases is none: each costs a map, and a segment or a line in everything written.
MAX_PHRASES: Final = 500


def query_of(phrase: Phrase) -> Query:
    """The phrase as the model is asked about it."""
    return Query(
        text=phrase.text,
        finding=phrase.finding.name,
        side=None if phrase.laterality is None else phrase.laterality.value,
        sites=tuple(site.name for site in phrase.sites),
    )


def ground_report(
    report: Report,
    reading: Reading,
    *,
    images: tuple[Radiograph, ...],
    references: tuple[ImageDescription, ...],
    grounder: Grounder,
    reader_version: str,
    settings_sha256: str,
    created: datetime,
    notes: tuple[str, ...] = (),
) -> Evidence:
    """Join what *reading* found in *report* with what *grounder* finds on *images*.

    Parameters
    ----------
    images : the frontal images to ground, all of one study, best first.
    references : its other images.
    created : see :class:`plugin.values.Provenance`.
    notes : warnings from earlier steps, put before those of the reading.

    Raises
    ------
    ValueError
        If *images* is empty or of several studies.
    InputError
        If the reading has too many phrases.
    """
    if not images:
        raise ValueError("there is no image to ground")
    if len(reading.phrases) > MAX_PHRASES:
        raise InputError(
            f"The report has {len(reading.phrases):,} finding phrases; at most {MAX_PHRASES} are grounded."
        )
    study = images[0].ref.study
    placed = _placements(reading.phrases, images=images, grounder=grounder)
    uids = tracking_uids(study, report, reading.phrases)
    phrases = tuple(
        GroundedPhrase(
            phrase=phrase,
            tracking_id=f"{number} {phrase.finding.name}",
            tracking_uid=uid,
            placements=placed[number - 1],
        )
        for number, (phrase, uid) in enumerate(zip(reading.phrases, uids, strict=True), start=1)
    )
    return Evidence(
        study=study,
        report=report,
        images=images,
        references=references,
        phrases=phrases,
        provenance=Provenance(
            software_version=__version__,
            model=grounder.card,
            reader_version=reader_version,
            report_sha256=sha256_hex(report.text.encode()),
            settings_sha256=settings_sha256,
            created=created,
        ),
        language=reading.language,
        warnings=(*notes, *reading.notes),
    )


def _placements(
    phrases: tuple[Phrase, ...], *, images: tuple[Radiograph, ...], grounder: Grounder
) -> tuple[tuple[Placement, ...], ...]:
    """Placements of every phrase; one that shares another's region is not asked again but shows that region."""
    groundable = {(phrase.start, phrase.end) for phrase in phrases if phrase.groundable}
    sources = tuple(
        phrase.shares_region_with if phrase.shares_region_with in groundable else (phrase.start, phrase.end)
        for phrase in phrases
    )
    asked = tuple(phrase for phrase in phrases if phrase.groundable and (phrase.start, phrase.end) in sources)
    answers: dict[tuple[int, int], list[Placement]] = {(phrase.start, phrase.end): [] for phrase in asked}
    queries = tuple(query_of(phrase) for phrase in asked)
    questions = tuple(Question(image.pixels, image.orientation, queries) for image in images)
    for image, found in zip(images, grounder.ground_all(questions), strict=True):
        for phrase, grounding in zip(asked, found, strict=True):
            answers[phrase.start, phrase.end].append(_placement(image, grounding))
    return tuple(
        tuple(answers[source]) if phrase.groundable else () for phrase, source in zip(phrases, sources, strict=True)
    )


def _placement(image: Radiograph, grounding: Grounding) -> Placement:
    return Placement(
        image=image.ref,
        state=grounding.state,
        probability=grounding.probability,
        regions=grounding.regions,
        heatmap=grounding.heatmap,
        reason=grounding.reason,
    )
