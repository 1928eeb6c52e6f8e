"""Stand-ins for reader and model that take no time, and radiographs for them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from evidence import CARD, make_header, part10

from model.geometry import Orientation
from model.values import Grounding, ModelCard, Query, Question, Region, State, Suitability, View
from nlp.phrases import Assertion, Concept, Phrase, Reading, Section
from plugin.identity import derived_uid

#: What reports say: a sentence is a phrase, and tells what the reader makes of it.
SENTENCES = ("Effusion", "Nodule", "Mild edema", "No fracture", "Prior film with effusion")


def read(text: str) -> Reading:
    """Each sentence as a phrase; one that begins with "No" denies, one with "Prior" is of an earlier film."""
    phrases, at = [], 0
    for sentence in text.split(". "):
        words = sentence.rstrip(". ")
        if words in SENTENCES:
            phrases.append(_phrase(words, at))
        at += len(sentence) + 2
    return Reading(tuple(phrases))


_CLAIMS = {"No": Assertion.NEGATED, "Prior": Assertion.NOT_REPORTED}


def _phrase(words: str, at: int) -> Phrase:
    assertion = _CLAIMS.get(words.split(maxsplit=1)[0], Assertion.AFFIRMED)
    place = {"start": at, "end": at + len(words), "start_utf16": at, "end_utf16": at + len(words)}
    why = None if assertion is Assertion.AFFIRMED else "The report does not say that it is there."
    return Phrase(
        text=words,
        finding=Concept(words.rsplit(maxsplit=1)[-1].lower()),
        assertion=assertion,
        section=Section.FINDINGS,
        groundable=why is None,
        not_groundable_reason=why,
        **place,
    )


class Squares:
    """A grounder that finds everything asked in one square."""

    card: ModelCard = CARD

    def ground(self, pixels: np.ndarray, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        square = Region(((4.0, 4.0), (12.0, 4.0), (12.0, 12.0), (4.0, 12.0)), 0.9)
        return tuple(Grounding(query, State.FOUND, 0.9, regions=(square,)) for query in queries)

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        return tuple(self.ground(each.pixels, each.orientation, each.queries) for each in questions)

    def suitability(self, pixels: np.ndarray, orientation: Orientation) -> Suitability:
        return Suitability(View.FRONTAL, orientation)


@cache
def image(study_instance_uid: str, number: int) -> bytes:
    """A small radiograph of patient P1."""
    header = make_header(rows=32, columns=24, number=number, patient_id="P1")
    header.StudyInstanceUID = study_instance_uid
    header.SeriesInstanceUID = derived_uid("year series", study_instance_uid, str(number))
    header.SOPInstanceUID = derived_uid("year image", study_instance_uid, str(number))
    header.ViewPosition = ("PA", "AP")[number - 1]  # two of one projection would be a repeat
    header.PixelData = (np.arange(32 * 24, dtype=np.uint16).reshape(32, 24) * 5).tobytes()
    return part10(header)
