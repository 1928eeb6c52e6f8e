"""What a sentence claims about a finding: cues, how far they reach, and what stops them."""

from __future__ import annotations

from dataclasses import dataclass

from nlp.mentions import Mention, Sentence
from nlp.phrases import Assertion

_VERBS = frozenset((
    "is", "are", "was", "were", "has", "have", "had", "appears", "appear", "remains", "remain", "shows", "show",
    "demonstrates", "demonstrate", "reveals", "reveal", "there",
))  # fmt: skip
_SUBJECTS = frozenset((
    "the", "there", "this", "these", "a", "an", "his", "her", "its", "it", "she", "he", "they", "patient",
    "heart", "lungs",
))  # fmt: skip
_AND_OR = frozenset(("or", "nor", "and", "&", "and/or"))
_ORDER = (Assertion.NEGATED, Assertion.NOT_REPORTED, Assertion.POSSIBLE, Assertion.PROBABLE)


@dataclass(frozen=True, slots=True)
class Cue:
    """A cue; *start*, *end* and the tokens it reaches, half-open."""

    assertion: Assertion
    start: int
    end: int
    reach_start: int
    reach_end: int


def cues_of(sentence: Sentence) -> tuple[Cue, ...]:
    """The cues of a sentence with their reach; a longer cue silences the shorter ones inside it."""
    mentions = _longest(sentence.of("cue"))
    stops = [mention.start for mention in mentions if mention.meaning.startswith("stop")]
    degrees = {mention.start for mention in sentence.of("severity", "change")}
    found = []
    for mention in mentions:
        meaning, direction = mention.meaning.split("/")
        if meaning in ("stop", "affirmed"):
            continue
        assertion = Assertion(meaning)
        if direction == "before":
            reach = (mention.end, _reach_after(sentence.words, mention, stops=stops, degrees=degrees))
        else:
            reach = (_reach_before(sentence.words, mention, stops), mention.start)
        found.append(Cue(assertion, mention.start, mention.end, *reach))
    return tuple(found)


def assertion_of(cues: tuple[Cue, ...], anchor: int) -> Assertion:
    """What the cues claim about the finding whose decisive word is token *anchor*."""
    claims = {cue.assertion for cue in cues if cue.reach_start <= anchor < cue.reach_end}
    return next((assertion for assertion in _ORDER if assertion in claims), Assertion.AFFIRMED)


def claim_about(sentence: Sentence, start: int, end: int) -> Assertion:
    """What the sentence claims about the words from token *start* to *end*, whether the lexicon knows them or not."""
    outside = tuple(cue for cue in cues_of(sentence) if cue.end <= start or end <= cue.start)
    return assertion_of(outside, end - 1)


def _longest(mentions: tuple[Mention, ...]) -> list[Mention]:
    kept: list[Mention] = []
    for mention in sorted(mentions, key=lambda mention: (mention.start - mention.end, mention.start, mention.meaning)):
        if all(_apart_or_same(mention, other) for other in kept):
            kept.append(mention)
    return sorted(kept, key=lambda mention: mention.start)


def _apart_or_same(one: Mention, two: Mention) -> bool:
    return one.end <= two.start or two.end <= one.start or (one.start, one.end) == (two.start, two.end)


def _reach_after(words: tuple[str, ...], cue: Mention, *, stops: list[int], degrees: set[int]) -> int:
    limit = next((stop for stop in stops if stop >= cue.end), len(words))
    for index in range(cue.end, limit):
        if words[index] == "," and not _list_goes_on(words, index, limit=limit, degrees=degrees):
            return index
        if words[index] in _AND_OR and index > cue.end and _new_clause(words, index, limit):
            return index
    return limit


def _list_goes_on(words: tuple[str, ...], comma: int, *, limit: int, degrees: set[int]) -> bool:
    """Whether what follows the comma is a further member of the list and not a new statement."""
    following = words[comma + 1 : limit]
    if not following or following[0] in _AND_OR:
        return not _new_clause(words, comma + 1, limit)
    if following[0] in _SUBJECTS:
        return False
    if any(word in ("or", "nor") for word in following):
        return True
    return comma + 1 not in degrees and not _statement(following)


def _new_clause(words: tuple[str, ...], joiner: int, limit: int) -> bool:
    following = words[joiner + 1 : limit]
    return bool(following) and (
        following[0] in _VERBS or (following[0] in _SUBJECTS and any(word in _VERBS for word in following[1:]))
    )


def _statement(words: tuple[str, ...]) -> bool:
    """Whether the words say that something is so, other than that the list "is seen"."""
    verb = next((index for index, word in enumerate(words) if word in _VERBS), None)
    return verb is not None and words[verb + 1 : verb + 2] not in (
        ("seen",), ("identified",), ("noted",), ("present",), ("demonstrated",), ("evident",), ("appreciated",),
        ("visualized",), ("detected",), ("apparent",), ("found",), ("observed",), ("suspected",),
    )  # fmt: skip


def _reach_before(words: tuple[str, ...], cue: Mention, stops: list[int]) -> int:
    """Back to a stop or to the verb of an earlier statement."""
    start = max((stop + 1 for stop in stops if stop < cue.start), default=0)
    verbs = [index for index in range(start, cue.start - 1) if words[index] in _VERBS]
    return max(verbs, default=start)
