"""What the page says of each phrase."""

from __future__ import annotations

import pytest
from evidence import make_evidence, make_phrase, make_radiograph

from model.values import State
from nlp.phrases import Assertion, Concept
from plugin.identity import derived_uid
from plugin.page.document import PhrasePart, evidence_document, phrase_part
from plugin.page.texts import texts_in
from plugin.page.words import Audience, Kind, facts, kind_of, likelihood, plain_words, reason, wordings
from plugin.values import GroundedPhrase, Placement

TEXTS = texts_in()
WORDINGS = wordings(TEXTS, Audience.RADIOLOGIST)
IMAGE = make_radiograph()
UID = derived_uid("test", "words")


def grounded(*states: State, assertion: Assertion = Assertion.AFFIRMED, why: str | None = None) -> PhrasePart:
    groundable = assertion not in (Assertion.NEGATED, Assertion.NOT_REPORTED)
    phrase = make_phrase(
        "Mild edema",
        Concept("edema"),
        assertion=assertion,
        groundable=groundable,
        not_groundable_reason=None if groundable else "it is denied",
    )
    placements = tuple(Placement(IMAGE.ref, state, 0.4, reason=why) for state in states)
    return phrase_part(
        GroundedPhrase(phrase, "1 edema", UID, placements), {IMAGE.ref.sop_instance_uid: IMAGE}, phrase.text
    )


@pytest.mark.parametrize(
    ("probability", "words"),
    [
        (0.0, "very unlikely (0 %)"),
        (0.19, "very unlikely (19 %)"),
        (0.2, "unlikely (20 %)"),
        (0.5, "as likely as not (50 %)"),
        (0.6, "likely (60 %)"),
        (0.8, "very likely (80 %)"),
        (1.0, "very likely (100 %)"),
    ],
)
def test_a_probability_is_told_in_words_and_percent(probability: float, words: str) -> None:
    assert likelihood(probability, TEXTS) == words


@pytest.mark.parametrize(
    ("assertion", "states", "kind"),
    [
        (Assertion.AFFIRMED, (State.FOUND,), Kind.LIT),
        (Assertion.AFFIRMED, (State.NOT_FOUND, State.FOUND), Kind.LIT),
        (Assertion.PROBABLE, (State.FOUND,), Kind.UNCERTAIN),
        (Assertion.POSSIBLE, (State.FOUND,), Kind.UNCERTAIN),
        (Assertion.AFFIRMED, (State.REGION_ONLY, State.NOT_FOUND), Kind.AREA),
        (Assertion.POSSIBLE, (State.REGION_ONLY,), Kind.AREA),
        (Assertion.AFFIRMED, (State.NOT_FOUND,), Kind.NOT_FOUND),
        (Assertion.AFFIRMED, (State.NOT_GROUNDABLE,), Kind.NO_PLACE),
        (Assertion.NEGATED, (), Kind.NEGATED),
        (Assertion.NOT_REPORTED, (), Kind.NO_PLACE),
    ],
)
def test_the_kind_of_a_phrase(assertion: Assertion, states: tuple[State, ...], kind: Kind) -> None:
    assert kind_of(grounded(*states, assertion=assertion)) is kind


def test_a_given_reason_is_told_as_a_sentence() -> None:
    assert (
        reason(grounded(State.NOT_FOUND, why="nothing reached the threshold"), TEXTS, Audience.RADIOLOGIST)
        == "Nothing reached the threshold."
    )


def test_a_given_sentence_is_left_as_it_is() -> None:
    assert (
        reason(grounded(State.NOT_FOUND, why="Below the threshold."), TEXTS, Audience.RADIOLOGIST)
        == "Below the threshold."
    )


def test_without_a_reason_the_meaning_of_the_kind_is_told() -> None:
    assert reason(grounded(State.NOT_FOUND), TEXTS, Audience.RADIOLOGIST) == WORDINGS[Kind.NOT_FOUND].meaning


def test_the_reader_says_why_a_phrase_has_no_place() -> None:
    assert reason(grounded(assertion=Assertion.NEGATED), TEXTS, Audience.RADIOLOGIST) == "It is denied."


def test_a_lit_phrase_is_not_excused() -> None:
    assert (
        reason(grounded(State.FOUND, State.NOT_FOUND, why="below"), TEXTS, Audience.RADIOLOGIST)
        == WORDINGS[Kind.LIT].meaning
    )


def test_the_facts_of_a_phrase() -> None:
    effusion = evidence_document(make_evidence()).phrases[1]

    assert facts(effusion, TEXTS, Audience.RADIOLOGIST) == (
        ("In plain words", TEXTS["concepts"]["pleural effusion"]),
        ("In the report", "stated as present"),
        ("On the image", "very likely (93 %)"),
        ("Patient’s side", "left"),
        ("Degree", "moderate"),
        ("Change", "increased"),
    )


def test_patients_are_told_no_figures_and_no_reasons_of_a_model() -> None:
    for phrase in evidence_document(make_evidence()).phrases:
        told = str(facts(phrase, TEXTS, Audience.PATIENT)) + reason(phrase, TEXTS, Audience.PATIENT)
        assert "%" not in told
        assert "threshold" not in told


def test_a_finding_and_its_place_are_told_in_plain_words() -> None:
    nodules = evidence_document(make_evidence()).phrases[3]

    assert plain_words(nodules, TEXTS)[1] == f"Lung. {TEXTS['concepts']['lung']}"
    assert plain_words(nodules.model_copy(update={"sites": ()}), TEXTS)[1] == ""
    assert TEXTS["patient"]["facts"]["place"] not in dict(facts(nodules, TEXTS, Audience.PATIENT))
    assert dict(facts(nodules, TEXTS, Audience.RADIOLOGIST))["Place"] == "lung"


def test_no_probability_is_told_for_what_was_never_asked() -> None:
    assert "On the image" not in dict(facts(grounded(assertion=Assertion.NEGATED), TEXTS, Audience.RADIOLOGIST))


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_words(kind: Kind) -> None:
    assert WORDINGS[kind].label
    assert WORDINGS[kind].meaning.endswith(".")
