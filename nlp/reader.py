"""Read a report: every finding phrase with its exact place, meaning and certainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from nlp.assertion import assertion_of, cues_of
from nlp.language import language_of
from nlp.lexicon import concepts, digest, named
from nlp.measurements import measurements
from nlp.mentions import Sentence, read_sentences
from nlp.phrases import Assertion, Change, Measurement, Phrase, Reading, Section
from nlp.relations import contradictions, explained, referred, with_repeats
from nlp.source import reading_copy, utf16_offsets
from nlp.spans import Span, placeless, spans_of

_UNREPORTED = {
    Section.INDICATION: "it stands in the indication",
    Section.COMPARISON: "it speaks of an earlier study",
    Section.TECHNIQUE: "it stands in the description of the technique",
}


def _version() -> str:
    try:
        package = version("sightline-cxr")
    except PackageNotFoundError:
        package = "0"
    return f"{package}+{digest()[:16]}"


READER_VERSION = _version()


def find_phrases(text: str, site_model: str | None = None) -> tuple[Phrase, ...]:
    """The finding phrases of a report in any layout, in order of their start.

    Offsets refer to *text* exactly as given. A text that is not English gives none.
    """
    return read_report(text, site_model).phrases


def read_report(text: str, site_model: str | None = None) -> Reading:
    """The finding phrases of *text*, its language, and what the reader of the result should know.

    Parameters
    ----------
    site_model : name or folder of a spaCy model that the site has installed (``en_core_sci_sm`` ...); its entities
        widen the phrases and add findings that the lexicon does not know.

    Raises
    ------
    OSError
        If *site_model* is not installed.
    """
    copy = reading_copy(text)
    language = language_of(copy)
    if language != "en":
        return Reading((), language, ("the text is not English; nothing was read",))
    phrases = with_repeats(tuple(_phrases(text, copy, site_model)))
    disputes = contradictions(phrases)
    notes = ("the report contradicts itself about a finding; see the contradictions",) if disputes else ()
    return Reading(phrases, language, notes, disputes)


def _phrases(text: str, copy: str, site_model: str | None) -> Iterator[Phrase]:
    to_utf16 = utf16_offsets(text)
    last: Span | None = None
    for sentence in read_sentences(copy, site_model):
        spans = referred(sentence, spans_of(sentence), last)
        last = next((span for span in reversed(spans) if not placeless(span)), last)
        if spans:
            yield from _of_sentence(text, copy, sentence=sentence, spans=spans, to_utf16=to_utf16)


def _of_sentence(
    text: str, copy: str, *, sentence: Sentence, spans: tuple[Span, ...], to_utf16: Callable[[int], int]
) -> Iterator[Phrase]:
    cues = cues_of(sentence)
    sizes = _sizes(copy, sentence, spans)
    lit: dict[int, tuple[int, int]] = {}
    for index, (span, root) in enumerate(zip(spans, explained(sentence, spans), strict=True)):
        start, end = sentence.starts[span.start], sentence.ends[span.end - 1]
        assertion = _assertion(sentence, span, assertion_of(cues, span.head.anchor))
        reason = _reason(assertion, sentence.section, span)
        if reason is None:
            lit[index] = (start, end)
        concept = named(span.head.meaning)
        yield Phrase(
            text=text[start:end],
            start=start,
            end=end,
            start_utf16=to_utf16(start),
            end_utf16=to_utf16(end),
            finding=concept.concept,
            assertion=assertion,
            section=sentence.section,
            groundable=reason is None,
            not_groundable_reason=reason,
            laterality=span.laterality,
            sites=tuple(concepts()[name].concept for name in span.sites or concept.sites),
            severity=span.severity,
            degree=span.degree,
            change=span.change,
            measurements=sizes.get(index, ()),
            shares_region_with=lit.get(root) if root is not None and reason is None else None,
        )


def _assertion(sentence: Sentence, span: Span, claimed: Assertion) -> Assertion:
    if sentence.section in _UNREPORTED:
        return Assertion.NOT_REPORTED
    return Assertion.NEGATED if span.change is Change.RESOLVED else claimed


def _reason(assertion: Assertion, section: Section, span: Span) -> str | None:
    """Why no region may be lit for the phrase, or None."""
    if assertion is Assertion.NOT_REPORTED:
        return _UNREPORTED.get(section, "the report does not claim it")
    if assertion is Assertion.NEGATED:
        return "the report says that it is gone" if span.change is Change.RESOLVED else "the report says it is absent"
    if span.sites and not any(concepts()[name].groundable for name in span.sites):
        return "it lies outside the chest"
    return None if named(span.head.meaning).groundable else "it has no region of its own on a chest radiograph"


def _sizes(copy: str, sentence: Sentence, spans: tuple[Span, ...]) -> dict[int, tuple[Measurement, ...]]:
    """The sizes of a sentence by the finding they belong to: the one around or before them, else the next."""
    owned: dict[int, tuple[Measurement, ...]] = {}
    for size in measurements(copy, sentence.starts[0], sentence.ends[-1]):
        before = [index for index, span in enumerate(spans) if sentence.starts[span.start] <= size.start]
        owner = before[-1] if before else 0
        owned[owner] = (*owned.get(owner, ()), size)
    return owned
