"""What the page says of a phrase, in the words of a language: see :mod:`plugin.page.texts`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from model.values import State
from nlp.phrases import Assertion
from plugin.page.document import PhrasePart, PlacementPart
from plugin.page.texts import Texts

# Upper bounds of probability for all but the last of the words in "likelihoods".
_BOUNDS = (0.2, 0.4, 0.6, 0.8)


class Audience(StrEnum):
    """Who reads a page."""

    PATIENT = "patient"
    RADIOLOGIST = "radiologist"


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


def wordings(texts: Texts, audience: Audience) -> dict[Kind, Wording]:
    """The words of each kind for *audience*."""
    return {kind: Wording(*texts["kinds"][audience][kind]) for kind in Kind}


def likelihood(probability: float, texts: Texts) -> str:
    """*probability* in words and a whole percentage: "likely (72 %)"."""
    word = texts["likelihoods"][sum(probability >= bound for bound in _BOUNDS)]
    told: str = texts["likelihood"].format(word=word, percent=round(probability * 100))
    return told


def kind_of(phrase: PhrasePart) -> Kind:
    """The kind of a phrase over all its images: the best state counts."""
    if phrase.assertion is Assertion.NEGATED:
        return Kind.NEGATED
    states = {placement.state for placement in phrase.placements}
    unsure = phrase.assertion in (Assertion.PROBABLE, Assertion.POSSIBLE)
    if State.FOUND in states:
        return Kind.UNCERTAIN if unsure else Kind.LIT
    if State.REGION_ONLY in states:
        return Kind.AREA
    return Kind.NOT_FOUND if State.NOT_FOUND in states else Kind.NO_PLACE


def reason(phrase: PhrasePart, texts: Texts, audience: Audience) -> str:
    """Why the phrase looks as it does: the meaning of its kind, to radiologists the model's or reader's own reason."""
    kind = kind_of(phrase)
    given = phrase.not_groundable_reason or next(
        (placement.reason for placement in phrase.placements if placement.reason), None
    )
    if given is None or kind in (Kind.LIT, Kind.UNCERTAIN) or audience is Audience.PATIENT:
        return wordings(texts, audience)[kind].meaning
    return given[:1].upper() + given[1:] + ("" if given.endswith((".", "!", "?")) else ".")


def plain_words(phrase: PhrasePart, texts: Texts) -> tuple[str, str]:
    """What the finding is, and its place by name and what that is, in plain sentences; "" where there are none."""
    concepts = texts["concepts"]
    named = next((site.name for site in phrase.sites if site.name in concepts), "")
    place = f"{named[0].upper()}{named[1:]}. {concepts[named]}" if named else ""
    return concepts.get(phrase.finding.name, ""), place


def facts(phrase: PhrasePart, texts: Texts, audience: Audience) -> tuple[tuple[str, str], ...]:
    """What is known of the phrase, as (name, value) pairs in reading order; patients are told no figures of a model."""
    names = texts[audience]["facts"]
    told = audience is Audience.PATIENT and bool(plain_words(phrase, texts)[1])
    rows = (
        *(_figures(phrase, texts) if audience is Audience.RADIOLOGIST else ()),
        (names["side"], texts["sides"][phrase.laterality] if phrase.laterality else ""),
        (names["place"], "" if told else ", ".join(site.name for site in phrase.sites)),
        (names["degree"], texts["severities"][phrase.severity] if phrase.severity else ""),
        (names["change"], texts["changes"][phrase.change] if phrase.change else ""),
        (names["size"], ", ".join(f"{size.value:g} {size.unit}" for size in phrase.measurements)),
    )
    return tuple((name, value) for name, value in rows if value)


def _figures(phrase: PhrasePart, texts: Texts) -> tuple[tuple[str, str], ...]:
    names = texts["radiologist"]
    asked = [place for place in phrase.placements if place.state is not State.NOT_GROUNDABLE]
    name = phrase.finding.name
    return (
        (names["plain"], plain_words(phrase, texts)[0]),
        (names["finding"], "" if name in phrase.text.lower() else name),
        (names["in_report"], texts["assertions"][phrase.assertion]),
        (names["on_image"], likelihood(max(place.probability for place in asked), texts) if asked else ""),
        (names["decided"], "; ".join(_decided(place, texts) for place in phrase.placements if place.decision)),
    )


def _decided(place: PlacementPart, texts: Texts) -> str:
    said = place.decision
    if said is None:
        return ""
    when = f"{said.made:%Y-%m-%d}"
    told: str = texts["deciding"][said.ruling].format(who=said.who.name, when=when)
    return f"{told} {said.reason}." if said.reason else told
