"""Every word that the evidence page says of its own. English; another language is another such table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from model.values import State
from nlp.phrases import Assertion
from nlp.plain import plain_language
from plugin.values import GroundedPhrase


class Kind(StrEnum):
    """How a phrase looks on the page, and why."""

    LIT = "lit"
    UNCERTAIN = "uncertain"
    AREA = "area"
    NOT_FOUND = "not-found"
    NEGATED = "negated"
    NO_PLACE = "no-place"


@dataclass(frozen=True, slots=True)
class Wording:
    """The name of a kind, as a heading and as a legend tells it."""

    label: str
    meaning: str


WORDINGS: dict[Kind, Wording] = {
    Kind.LIT: Wording("Shown on the image", "The model sees it where the light is."),
    Kind.UNCERTAIN: Wording("Shown, but the report is unsure", "The report says it may be so; the light marks where."),
    Kind.AREA: Wording(
        "Area named by the report", "Not seen on its own; only the area that the report names is shown."
    ),
    Kind.NOT_FOUND: Wording("Not located", "The report names it, but the model found no place for it on the image."),
    Kind.NEGATED: Wording("Reported as absent", "The report says it is not there, so nothing lights up."),
    Kind.NO_PLACE: Wording("No place to show", "Not a finding with a place on this image."),
}

# Upper bounds of probability and their words; the last one has none.
_LIKELIHOODS = ((0.2, "very unlikely"), (0.4, "unlikely"), (0.6, "as likely as not"), (0.8, "likely"))

_ASSERTIONS = {
    Assertion.AFFIRMED: "stated as present",
    Assertion.PROBABLE: "stated as probable",
    Assertion.POSSIBLE: "stated as possible",
    Assertion.NEGATED: "stated as absent",
    Assertion.NOT_REPORTED: "mentioned, not reported as seen",
}


def likelihood(probability: float) -> str:
    """*probability* in words and a whole percentage: "likely (72 %)"."""
    word = next((word for bound, word in _LIKELIHOODS if probability < bound), "very likely")
    return f"{word} ({round(probability * 100)} %)"


def kind_of(grounded: GroundedPhrase) -> Kind:
    """The kind of a phrase over all its images: the best state counts."""
    phrase = grounded.phrase
    if phrase.assertion is Assertion.NEGATED:
        return Kind.NEGATED
    states = {placement.state for placement in grounded.placements}
    unsure = phrase.assertion in (Assertion.PROBABLE, Assertion.POSSIBLE)
    if State.FOUND in states:
        return Kind.UNCERTAIN if unsure else Kind.LIT
    if State.REGION_ONLY in states:
        return Kind.AREA
    return Kind.NOT_FOUND if State.NOT_FOUND in states else Kind.NO_PLACE


def reason(grounded: GroundedPhrase) -> str:
    """Why the phrase looks as it does: the model's or the reader's own reason, or else the meaning of its kind."""
    kind = kind_of(grounded)
    given = grounded.phrase.not_groundable_reason or next(
        (placement.reason for placement in grounded.placements if placement.reason), None
    )
    if given is None or kind in (Kind.LIT, Kind.UNCERTAIN):
        return WORDINGS[kind].meaning
    return given[:1].upper() + given[1:] + ("" if given.endswith((".", "!", "?")) else ".")


def facts(grounded: GroundedPhrase) -> tuple[tuple[str, str], ...]:
    """What is known of the phrase, as (name, value) pairs in reading order."""
    phrase = grounded.phrase
    asked = [place for place in grounded.placements if place.state is not State.NOT_GROUNDABLE]
    rows = (
        ("In plain words", plain_language(phrase.finding.name) or ""),
        ("Finding", "" if phrase.finding.name in phrase.text.lower() else phrase.finding.name),
        ("In the report", _ASSERTIONS[phrase.assertion]),
        ("On the image", likelihood(max(place.probability for place in asked)) if asked else ""),
        ("Patient’s side", "both sides" if phrase.laterality == "bilateral" else phrase.laterality or ""),
        ("Place", ", ".join(site.name for site in phrase.sites)),
        ("Degree", phrase.severity or ""),
        ("Change", phrase.change or ""),
        ("Size", ", ".join(f"{size.value:g} {size.unit}" for size in phrase.measurements)),
    )
    return tuple((name, str(value)) for name, value in rows if value)
