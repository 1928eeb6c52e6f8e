"""What a sentence claims about a finding: cues, how far they reach, and what stops them."""

from __future__ import annotations

from dataclasses import dataclass

from nlp.mentions import Mention, Sentence
from nlp.phrases import Assertion

_VERBS = frozenset(
    [
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "had",
        "appears",
        "appear",
        "remains",
        "remain",
        "shows",
        "show",
        "demonstrates",
        "demonstrate",
        "reveals",
        "reveal",
        "suggests",
        "suggest",
        "seen",
        "noted",
        "identified",
        "measures",
        "measuring",
        "there",
        "contains",
        "extends",
    ]
)
_SUBJECTS = frozenset(
    (
        "the",
        "there",
        "this",
        "these",
        "a",
        "an",
        "his",
        "her",
        "its",
        "it",
        "she",
        "he",
        "they",
        "patient",
        "heart",
        "lungs",
        "small",
        "mild",
        "moderate",
        "large",
        "stable",
        "new",
        "unchanged",
        "persistent",
        "increased",
    )
)
_JOINERS = frozenset(("or", "nor", "and", "&", "and/or"))
_ORDER = (Assertion.NEGATED, Assertion.NOT_REPORTED, Assertion.POSSIBLE, Assertion.PROBABLE)


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue and the tokens it reaches, half-open."""

    assertion: Assertion
    start: int
    end: int
    reach_start: int
    reach_end: int


def cues_of(sentence: Sentence) -> tuple[Cue, ...]:
    """The cues of a sentence with their reach, longer cues silencing the shorter ones inside them."""
    mentions = _longest(sentence.of("cue"))
    stops = sorted(mention.start for mention in mentions if mention.meaning.startswith("stop"))
    found = []
    for mention in mentions:
        meaning, direction = mention.meaning.split("/")
        if meaning in ("stop", "affirmed"):
            continue
        assertion = Assertion(meaning)
        if direction == "before":
            reach = (mention.end, _reach_after(sentence, mention, stops, assertion))
        else:
            reach = (_reach_before(mention, stops), mention.start)
        found.append(Cue(assertion, mention.start, mention.end, *reach))
    return tuple(found)


def assertion_of(cues: tuple[Cue, ...], anchor: int) -> Assertion:
    """What the cues claim about the finding whose decisive word is token *anchor*."""
    claims = {
        cue.assertion for cue in cues if cue.reach_start <= anchor < cue.reach_end and not cue.start <= anchor < cue.end
    }
    return next((assertion for assertion in _ORDER if assertion in claims), Assertion.AFFIRMED)


def _longest(mentions: tuple[Mention, ...]) -> list[Mention]:
    kept: list[Mention] = []
    for mention in sorted(mentions, key=lambda mention: (mention.start - mention.end, mention.start, mention.meaning)):
        if all(mention.end <= other.start or other.end <= mention.start or
               (mention.start, mention.end) == (other.start, other.end) for other in kept):  # fmt: skip
            kept.append(mention)
    return sorted(kept, key=lambda mention: mention.start)


def _reach_after(sentence: Sentence, cue: Mention, stops: list[int], assertion: Assertion) -> int:
    limit = next((stop for stop in stops if stop >= cue.end), len(sentence.words))
    if assertion is Assertion.NOT_REPORTED:
        return limit
    words = sentence.words
    for index in range(cue.end, limit):
        if words[index] in (",", ":") and not _list_goes_on(words, index, limit):
            return index
        if words[index] in ("and", "with") and index > cue.end and _new_clause(words, index, limit):
            return index
    return limit


def _list_goes_on(words: tuple[str, ...], comma: int, limit: int) -> bool:
    following = words[comma + 1 : limit]
    if not following or following[0] in _JOINERS:
        return True
    if any(word in ("or", "nor") for word in following):
        return following[0] not in ("the", "there")
    return following[0] not in _SUBJECTS and not any(word in _VERBS for word in following)


def _new_clause(words: tuple[str, ...], joiner: int, limit: int) -> bool:
    following = words[joiner + 1 : limit]
    if words[joiner] == "with":
        return False
    return bool(following) and (following[0] in ("the", "there", "is", "has", "was") or (following[0] in _SUBJECTS
                                and any(word in _VERBS for word in following)))  # fmt: skip


def _reach_before(cue: Mention, stops: list[int]) -> int:
    return max((stop + 1 for stop in stops if stop < cue.start), default=0)
