"""The spaCy pipeline: scispaCy's tokenizer and a span ruler over the lexicon; words and what they mean."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from nlp.lexicon import entries
from nlp.sections import sentences

if TYPE_CHECKING:
    from spacy.language import Language

    from nlp.phrases import Section

_GAP = 7
_SLASH = r"(?<=[A-Za-z]{3})/(?=[A-Za-z]{3})"  # "scarring/atelectasis" is two findings
_SPANS = "lexicon"
_LONGEST = 200_000
_BARS = frozenset(("normal", "unremarkable", "clear", ";", ".", "but", "without", "although"))


@dataclass(frozen=True, slots=True)
class Mention:
    """A term of the lexicon in a sentence; *start*, *end* half-open, in tokens of the sentence.

    *anchor* is the token that carries the claim: "enlarged" in "heart is not enlarged", else the last one.
    """

    kind: str
    meaning: str
    start: int
    end: int
    anchor: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: lower-case words, where each begins and ends in the source, and the lexicon's terms in it."""

    words: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]
    section: Section
    mentions: tuple[Mention, ...]

    def of(self, *kinds: str) -> tuple[Mention, ...]:
        """The mentions of these kinds, by start, the longest first."""
        return tuple(mention for mention in self.mentions if mention.kind in kinds)


def read_sentences(copy: str) -> Iterator[Sentence]:
    """Tokenize the reading copy and find the lexicon's terms, sentence by sentence."""
    pipeline, gaps = _pipeline()
    for part in sentences(copy):
        for start in range(part.start, part.end, _LONGEST):
            doc = pipeline(copy[start : min(part.end, start + _LONGEST)])
            kept = [token for token in doc if not token.is_space]
            place = {token.i: index for index, token in enumerate(kept)}
            spans = [(span.label_, span.id_, place[span.start], place[span.end - 1] + 1) for span in doc.spans[_SPANS]]
            words = tuple(token.lower_ for token in kept)
            starts = tuple(start + token.idx for token in kept)
            ends = tuple(start + token.idx + len(token) for token in kept)
            yield Sentence(words, starts, ends, part.section, _mentions(words, spans, gaps))


def _mentions(
    words: tuple[str, ...], spans: list[tuple[str, str, int, int]], gaps: dict[str, list[tuple[str, str, str]]]
) -> tuple[Mention, ...]:
    found = {Mention(kind, meaning, start, end, end - 1) for kind, meaning, start, end in spans if kind != "part"}
    parts = [(meaning, start, end) for kind, meaning, start, end in spans if kind == "part"]
    if parts:
        whole = [(mention.start, mention.end) for mention in found if mention.kind in ("finding", "device")]
        found.update(_across_gaps(words, parts, gaps, whole))
    return tuple(sorted(found, key=lambda mention: (mention.start, -mention.end, mention.kind, mention.meaning)))


def _across_gaps(
    words: tuple[str, ...],
    parts: list[tuple[str, int, int]],
    gaps: dict[str, list[tuple[str, str, str]]],
    whole: list[tuple[int, int]],
) -> Iterator[Mention]:
    """The terms written with ``~``: both parts in order, few words between and none that belongs to another finding."""
    for first, start, end in parts:
        following: dict[str, tuple[int, int]] = {}
        for other, begin, stop in parts:
            if end <= begin <= end + _GAP:
                following.setdefault(other, (begin, stop))
        for second, kind, meaning in gaps.get(first, ()) if following else ():
            begin, stop = following.get(second, (0, 0))
            if begin and _BARS.isdisjoint(words[end:begin]) and not any(end <= a and b <= begin for a, b in whole):
                yield Mention(kind, meaning, start, stop, begin)


@cache
def _pipeline() -> tuple[Language, dict[str, list[tuple[str, str, str]]]]:
    with _no_torch():
        import spacy
        from scispacy.custom_tokenizer import combined_rule_tokenizer

    pipeline = spacy.blank("en")
    with warnings.catch_warnings():  # a nested set in one of scispaCy's own patterns
        warnings.simplefilter("ignore", FutureWarning)
        tokenizer = combined_rule_tokenizer(pipeline)
        infix = tokenizer.infix_finditer.__self__.pattern
        tokenizer.infix_finditer = re.compile(rf"{infix}|{_SLASH}").finditer
    pipeline.tokenizer = tokenizer
    ruler = pipeline.add_pipe(
        "span_ruler",
        config={"phrase_matcher_attr": "LOWER", "spans_key": _SPANS, "spans_filter": None},
    )
    patterns, gaps = _patterns()
    ruler.add_patterns([{"label": kind, "id": meaning, "pattern": term} for kind, meaning, term in patterns])  # type: ignore[attr-defined]
    return pipeline, gaps


def _patterns() -> tuple[list[tuple[str, str, str]], dict[str, list[tuple[str, str, str]]]]:
    patterns: dict[tuple[str, str, str], None] = {}
    gaps: dict[str, list[tuple[str, str, str]]] = {}
    for entry in entries():
        for term in entry.terms:
            first, _, second = term.partition(" ~ ")
            if not second:
                patterns |= dict.fromkeys((entry.kind, entry.meaning, form) for form in _forms(entry.kind, term))
                continue
            for one in _forms(entry.kind, first):
                for other in _forms(entry.kind, second):
                    gaps.setdefault(one, []).append((other, entry.kind, entry.meaning))
                    patterns |= {("part", one, one): None, ("part", other, other): None}
    return list(patterns), gaps


def _forms(kind: str, term: str) -> tuple[str, ...]:
    """The term and, for things that can be counted, its plural."""
    if kind not in ("finding", "device", "site") or term.endswith(("s", "ed", "ic", "al")):
        return (term,)
    return (term, term[:-1] + "ies" if term[-1] == "y" and term[-2:-1] not in tuple("aeiou") else term + "s")


@contextmanager
def _no_torch() -> Iterator[None]:
    """Keep thinc from importing PyTorch, which this package never uses (12 s and 190 MB)."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]
