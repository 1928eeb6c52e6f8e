"""What the page says of each phrase."""

from __future__ import annotations

import pytest
from evidence import make_evidence, make_phrase, make_radiograph

from model.values import State
from nlp.phrases import Assertion, Concept
from nlp.plain import plain_language
from plugin.identity import derived_uid
from plugin.page.words import WORDINGS, Kind, facts, kind_of, likelihood, reason
from plugin.values import GroundedPhrase, Placement

IMAGE = make_radiograph()
UID = derived_uid("test", "words")


def grounded(*states: State, assertion: Assertion = Assertion.AFFIRMED, why: str | None = None) -> GroundedPhrase:
    groundable = assertion not in (Assertion.NEGATED, Assertion.NOT_REPORTED)
    phrase = make_phrase(
        "Mild edema",
        Concept("edema"),
        assertion=assertion,
        groundable=groundable,
        not_groundable_reason=None if groundable else "it is denied",
    )
    return GroundedPhrase(
        phrase, "1 edema", UID, tuple(Placement(IMAGE.ref, state, 0.4, reason=why) for state in states)
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
    assert likelihood(probability) == words


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
    assert reason(grounded(State.NOT_FOUND, why="nothing reached the threshold")) == "Nothing reached the threshold."


def test_a_given_sentence_is_left_as_it_is() -> None:
    assert reason(grounded(State.NOT_FOUND, why="Below the threshold.")) == "Below the threshold."


def test_without_a_reason_the_meaning_of_the_kind_is_told() -> None:
    assert reason(grounded(State.NOT_FOUND)) == WORDINGS[Kind.NOT_FOUND].meaning


def test_the_reader_says_why_a_phrase_has_no_place() -> None:
    assert reason(grounded(assertion=Assertion.NEGATED)) == "It is denied."


def test_a_lit_phrase_is_not_excused() -> None:
    assert reason(grounded(State.FOUND, State.NOT_FOUND, why="below")) == WORDINGS[Kind.LIT].meaning


def test_the_facts_of_a_phrase() -> None:
    effusion = make_evidence().phrases[1]

    assert facts(effusion) == (
        ("In plain words", plain_language("pleural effusion")),
        ("In the report", "stated as present"),
        ("On the image", "very likely (93 %)"),
        ("Patient’s side", "left"),
        ("Degree", "moderate"),
        ("Change", "increased"),
    )


def test_no_probability_is_told_for_what_was_never_asked() -> None:
    assert "On the image" not in dict(facts(grounded(assertion=Assertion.NEGATED)))


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_words(kind: Kind) -> None:
    assert WORDINGS[kind].label
    assert WORDINGS[kind].meaning.endswith(".")
