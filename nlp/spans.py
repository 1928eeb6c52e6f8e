"""The span grammar: which words belong to a finding, and what they say of it.

finding phrase = modifiers  finding  (preposition  determiner  modifiers  site)*
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nlp.mentions import Mention, Sentence
from nlp.phrases import Change, Laterality, Severity

_PREPOSITIONS = frozenset(
    [
        "in",
        "of",
        "at",
        "within",
        "along",
        "involving",
        "over",
        "overlying",
        "throughout",
        "on",
        "near",
        "projecting",
        "about",
        "around",
        "to",
        "bilaterally",
    ]
)
_DETERMINERS = frozenset(
    (
        "the",
        "both",
        "a",
        "an",
        "its",
        "this",
        "either",
    )
)
_JOINERS = frozenset(("and", "or", "to", "/", "&", ","))
_MODIFIERS = ("side", "severity", "change", "descriptor", "site")
_UNITS = frozenset(("mm", "cm", "millimeter", "millimeters", "centimeter", "centimeters", "x"))
_SEVERITY = {
    "minimal": Severity.MINIMAL, "mild": Severity.MILD, "small": Severity.MILD, "borderline": Severity.MINIMAL,
    "moderate": Severity.MODERATE, "large": Severity.SEVERE, "severe": Severity.SEVERE,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """A finding with its own words; tokens of the sentence, half-open."""

    head: Mention
    start: int
    end: int
    sites: tuple[str, ...]
    laterality: Laterality | None
    degree: str | None
    change: Change | None

    @property
    def severity(self) -> Severity | None:
        """The degree, folded to four steps."""
        return _SEVERITY.get(self.degree or "")


def spans_of(sentence: Sentence) -> tuple[Span, ...]:
    """The finding phrases of a sentence, in order, none overlapping another."""
    heads = _heads(sentence)
    modifier = _modifier_tokens(sentence)
    bounds: list[tuple[Mention, int, int]] = []
    previous = 0
    for index, head in enumerate(heads):
        following = heads[index + 1].start if index + 1 < len(heads) else len(sentence.words)
        start = _extend_left(sentence, head, modifier, previous)
        end = _extend_right(sentence, head, modifier, following)
        bounds.append((head, start, end))
        previous = end
    return _inherit(sentence, [_read(sentence, head, start, end, ()) for head, start, end in bounds])


def _heads(sentence: Sentence) -> list[Mention]:
    kept: list[Mention] = []
    for mention in sorted(
        sentence.of("finding", "device"), key=lambda head: (head.start - head.end, head.start, head.meaning)
    ):
        if all(mention.end <= other.start or other.end <= mention.start for other in kept):
            kept.append(mention)
    return sorted(kept, key=lambda mention: mention.start)


def _modifier_tokens(sentence: Sentence) -> frozenset[int]:
    tokens = {
        index
        for mention in sentence.of(*_MODIFIERS)
        if mention.kind != "change" or mention.end - mention.start == 1
        for index in range(mention.start, mention.end)
    }
    for index, word in enumerate(sentence.words):
        if (word.strip("x") == "" and len(word) >= 3) or word in _UNITS or word[0].isdigit():
            tokens.add(index)
    return frozenset(tokens)


def _extend_left(sentence: Sentence, head: Mention, modifier: frozenset[int], limit: int) -> int:
    start = index = head.start
    while index > limit:
        index -= 1
        if index in modifier:
            start = index
        elif sentence.words[index] not in _JOINERS or index - 1 not in modifier:
            break
    while start < head.start and sentence.words[start] in ("x", "to", "and", "or"):
        start += 1
    return start


def _extend_right(sentence: Sentence, head: Mention, modifier: frozenset[int], limit: int) -> int:
    words, end, index = sentence.words, head.end, head.end
    places = {i for mention in sentence.of("site", "side") for i in range(mention.start, mention.end)}
    while index < limit:
        begin = index
        if words[index] in _JOINERS and end > head.end and words[index] != "/":
            index += 1
        if index < limit and words[index] in _PREPOSITIONS:
            index += 1
        elif begin == index and not (
            index in places and index == head.end and words[index] in ("bilaterally", "bilateral")
        ):
            break
        while index < limit and words[index] in _DETERMINERS:
            index += 1
        stop = index
        while stop < limit and (
            stop in modifier or (words[stop] in ("and", "or") and stop + 1 in places and stop > index)
        ):
            stop += 1
        while stop > index and stop - 1 not in places:
            stop -= 1
        if stop == index and index not in places:
            break
        end = index = max(stop, index)
    return end


def _read(sentence: Sentence, head: Mention, start: int, end: int, extra: tuple[Mention, ...]) -> Span:
    inside = [m for m in sentence.of(*_MODIFIERS) if start <= m.start and m.end <= end]
    own = [m for m in inside if m.kind != "site" or not (head.start <= m.start and m.end <= head.end)]
    own += extra
    sites = tuple(dict.fromkeys(m.meaning for m in _maximal([m for m in own if m.kind == "site"])))
    return Span(
        head=head,
        start=start,
        end=end,
        sites=sites,
        laterality=_side([m.meaning for m in own if m.kind == "side"] + _implied_side(sentence, own)),
        degree=next((m.meaning for m in _maximal([m for m in own if m.kind == "severity"])), None),
        change=next((Change(m.meaning) for m in _maximal([m for m in own if m.kind == "change"])), None),
    )


def _implied_side(sentence: Sentence, mentions: list[Mention]) -> list[str]:
    abbreviations = {"rul": "right", "rml": "right", "rll": "right", "lul": "left", "lll": "left", "lingula": "left",
                     "lingular": "left", "bibasilar": "bilateral", "biapical": "bilateral"}  # fmt: skip
    return [
        abbreviations[word]
        for mention in mentions
        if mention.kind == "site"
        for word in sentence.words[mention.start : mention.end]
        if word in abbreviations
    ]


def _side(sides: list[str]) -> Laterality | None:
    if not sides:
        return None
    if "bilateral" in sides or ("left" in sides and "right" in sides):
        return Laterality.BILATERAL
    return Laterality(sides[0])


def _maximal(mentions: list[Mention]) -> list[Mention]:
    return [
        m
        for m in mentions
        if not any(o.start <= m.start and m.end <= o.end and o.end - o.start > m.end - m.start for o in mentions)
    ]


def _inherit(sentence: Sentence, spans: list[Span]) -> tuple[Span, ...]:
    """Give each span the places in its clause that no span holds, and a conjunct those of its neighbour."""
    held = {index for span in spans for index in range(span.start, span.end)}
    loose = [m for m in sentence.of("site", "side", "severity", "change") if m.start not in held and spans]
    extra: dict[int, list[Mention]] = {}
    for mention in _maximal(loose):
        owner = _owner(sentence, spans, mention)
        if owner is not None:
            extra.setdefault(owner, []).append(mention)
    read = [
        _read(sentence, span.head, span.start, span.end, tuple(extra.get(index, ())))
        for index, span in enumerate(spans)
    ]
    return tuple(_share(sentence, read))


def _owner(sentence: Sentence, spans: list[Span], mention: Mention) -> int | None:
    before = [index for index, span in enumerate(spans) if span.end <= mention.start]
    after = [index for index, span in enumerate(spans) if span.start >= mention.end]
    barrier = {",", ";", ":", "but", "with", "without", "no"}
    if before and not any(word in barrier for word in sentence.words[spans[before[-1]].end : mention.start]):
        return before[-1]
    if after and not any(word in barrier - {","} for word in sentence.words[mention.end : spans[after[0]].start]):
        return after[0]
    return None


def _share(sentence: Sentence, spans: list[Span]) -> list[Span]:
    for index in range(1, len(spans)):
        one, two = spans[index - 1], spans[index]
        between = sentence.words[one.end : two.start]
        if not between or any(word not in ("and", "or", "/", ",", "versus", "vs", "&", "with") for word in between):
            continue
        if two.laterality is None and not two.sites:
            spans[index] = replace(two, laterality=one.laterality, sites=one.sites)
        elif one.laterality is None and not one.sites and two.end > two.head.end:
            spans[index - 1] = replace(one, laterality=two.laterality, sites=two.sites)
    return spans
