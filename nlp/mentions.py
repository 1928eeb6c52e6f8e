"""The spaCy pipeline: scispaCy's tokenizer and a span ruler over the lexicon; words and what they mean."""

from __future__ import annotations

import re
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

from nlp.lean import without_torch
from nlp.lexicon import entries
from nlp.sections import Part, sentences
from nlp.spelling import respelled

if TYPE_CHECKING:
    from scispacy.abbreviation import AbbreviationDetector
    from spacy.language import Language
    from spacy.tokens import Doc, Span

    from nlp.phrases import Section

_GAP = 7
_SLASH = r"(?<=[A-Za-z]{3})/(?=[A-Za-z]{3})"  # "scarring/atelectasis" is two findings
_Gaps = dict[str, list[tuple[str, str, str]]]  # first part of a term with ~: (second part, kind, meaning)
_Term = tuple[str, str, int, int]  # kind, meaning, first token, token after the last
_SPANS = "lexicon"
_BRACKETS = 40
_DEFINITION = re.compile(r"\([A-Za-z]{0,3}[A-Z][A-Za-z]{1,6}\)")
_DISEASES = frozenset(("DISEASE", "DISORDER", "FINDING", "PROBLEM"))
_LONGEST = 20_000
_ENDLESS = 4_000  # of a sentence, whose mentions are compared with each other
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


def read_sentences(copy: str, site_model: str | None = None) -> Iterator[Sentence]:
    """Tokenize the reading copy and find the lexicon's terms, sentence by sentence.

    The entities of *site_model*, a spaCy model by name or folder, are added to the terms.
    """
    pipeline, gaps = _pipeline()
    for parts in _stretches(sentences(copy)):
        first = parts[0].start
        text = copy[first : parts[-1].end]
        doc, starts = _without_blanks(pipeline, text)
        tokens = [(token.norm_, first + start, len(token)) for token, start in zip(doc, starts, strict=True)]
        spans = [(span.label_, span.id_, span.start, span.end) for span in doc.spans[_SPANS]]
        spans += _abbreviations(doc, spans)
        if site_model is not None:
            spans += _entities(text, starts, spans=spans, site_model=site_model)
        yield from _cut(parts, tokens, spans, gaps)


def _abbreviations(doc: Doc, spans: list[_Term]) -> list[_Term]:
    """Later uses of abbreviations that the report itself defines: "ground glass opacity (GO)"."""
    if not _DEFINITION.search(doc.text) or doc.text.count("(") > _BRACKETS:
        return []
    longest = sorted(spans, key=lambda term: term[3] - term[2])
    ends = {end: (kind, meaning) for kind, meaning, _, end in longest if kind in ("finding", "device")}
    found = {
        (*ends[short._.long_form.end], short.start, short.end)
        for short in _defined(doc)
        if short._.long_form.end in ends and short.start > short._.long_form.end + 1
    }
    return sorted(found, key=lambda term: term[2:])


def _entities(text: str, starts: list[int], *, spans: list[_Term], site_model: str) -> list[_Term]:
    """A site model's entities: around a known finding they are its modifiers, diseases of their own are findings."""
    found: list[_Term] = []
    for entity in _load(site_model)(text).ents:
        first, last = bisect_right(starts, entity.start_char) - 1, bisect_left(starts, entity.end_char)
        if first < 0:
            continue
        heads = (term for term in spans if term[0] in ("finding", "device"))
        if any(start < last and first < end for _, _, start, end in heads):
            found.append(("descriptor", "", first, last))
        elif entity.label_ in _DISEASES:
            found.append(("finding", entity.text.lower(), first, last))
    return found


def _without_blanks(pipeline: Language, text: str) -> tuple[Doc, list[int]]:
    """The words of *text* without the blanks, which would part a term that wraps, and where each word begins."""
    from spacy.tokens import Doc

    kept = [token for token in pipeline.make_doc(text) if not token.is_space]
    spaces = [one.idx + len(one) < two.idx for one, two in pairwise(kept)]
    doc = Doc(pipeline.vocab, words=[token.text for token in kept], spaces=[*spaces, False][: len(kept)])
    return pipeline(doc), [token.idx for token in kept]


def _stretches(parts: Iterable[Part]) -> Iterator[list[Part]]:
    """Sentences in stretches short enough to be tokenized at once; an endless sentence is cut."""
    stretch: list[Part] = []
    for part in parts:
        for start in range(part.start, part.end, _ENDLESS):
            piece = Part(start, min(part.end, start + _ENDLESS), part.section)
            if stretch and piece.end - stretch[0].start > _LONGEST:
                yield stretch
                stretch = []
            stretch.append(piece)
    if stretch:
        yield stretch


def _cut(parts: list[Part], tokens: list[tuple[str, int, int]], spans: list[_Term], gaps: _Gaps) -> Iterator[Sentence]:
    """The sentences of one stretch with the tokens and terms that lie in each."""
    starts = [start for _, start, _ in tokens]
    spans = sorted(spans, key=lambda span: span[2])
    begins = [span[2] for span in spans]
    for part in parts:
        low, high = bisect_left(starts, part.start), bisect_left(starts, part.end)
        if low == high:
            continue
        inside = [
            (kind, meaning, start - low, end - low)
            for kind, meaning, start, end in spans[bisect_left(begins, low) : bisect_left(begins, high)]
            if end <= high
        ]
        kept = tokens[low:high]
        words = tuple(norm for norm, _, _ in kept)
        yield Sentence(
            words,
            tuple(start for _, start, _ in kept),
            tuple(start + length for _, start, length in kept),
            part.section,
            _mentions(words, inside, gaps),
        )


def _mentions(words: tuple[str, ...], spans: list[_Term], gaps: _Gaps) -> tuple[Mention, ...]:
    found = {Mention(kind, meaning, start, end, end - 1) for kind, meaning, start, end in spans if kind != "part"}
    parts = [(meaning, start, end) for kind, meaning, start, end in spans if kind == "part"]
    if parts:
        whole = [(mention.start, mention.end) for mention in found if mention.kind in ("finding", "device")]
        found.update(_across_gaps(words, parts, gaps, whole))
    return tuple(sorted(found, key=lambda mention: (mention.start, -mention.end, mention.kind, mention.meaning)))


def _across_gaps(
    words: tuple[str, ...],
    parts: list[tuple[str, int, int]],
    gaps: _Gaps,
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
def _pipeline() -> tuple[Language, _Gaps]:
    with without_torch():
        import spacy
        from scispacy.custom_tokenizer import combined_rule_tokenizer
        from spacy.language import Language

    pipeline = spacy.blank("en")
    with warnings.catch_warnings():  # a nested set in one of scispaCy's own patterns
        warnings.simplefilter("ignore", FutureWarning)
        tokenizer = combined_rule_tokenizer(pipeline)
        infix = tokenizer.infix_finditer.__self__.pattern
        tokenizer.infix_finditer = re.compile(rf"{infix}|{_SLASH}").finditer
    pipeline.tokenizer = tokenizer
    ruler = pipeline.add_pipe(
        "span_ruler",
        config={"phrase_matcher_attr": "NORM", "spans_key": _SPANS, "spans_filter": None},
    )
    patterns, gaps = _patterns()
    ruler.add_patterns([{"label": kind, "id": meaning, "pattern": term} for kind, meaning, term in patterns])  # type: ignore[attr-defined]
    Language.component("sightline_spelling", func=_respell)
    pipeline.add_pipe("sightline_spelling", first=True)
    return pipeline, gaps


def _defined(doc: Doc) -> list[Span]:
    with warnings.catch_warnings():  # its matcher warns when the text defines nothing
        warnings.simplefilter("ignore", UserWarning)
        return list(_detector()(doc)._.abbreviations)


@cache
def _detector() -> AbbreviationDetector:
    from scispacy.abbreviation import AbbreviationDetector

    return AbbreviationDetector(_pipeline()[0])


@cache
def _load(site_model: str) -> Language:
    with without_torch():
        import spacy

        return spacy.load(site_model)


def _respell(doc: Doc) -> Doc:
    """Read a misspelt finding as the word that was meant; the text stays as it is."""
    for token in doc:
        word = token.lower_
        meant = respelled(word)
        if meant != word:
            token.norm_ = meant
    return doc


def _patterns() -> tuple[list[tuple[str, str, str]], _Gaps]:
    patterns: dict[tuple[str, str, str], None] = {}
    gaps: _Gaps = {}
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
