"""Read a report: every finding phrase with its exact place, meaning and certainty."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from nlp.assertion import assertion_of, cues_of
from nlp.lexicon import concepts, digest
from nlp.mentions import Sentence, read_sentences
from nlp.phrases import Assertion, Change, Phrase, Reading, Section
from nlp.source import reading_copy, utf16_offsets
from nlp.spans import Span, spans_of

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


def find_phrases(text: str) -> tuple[Phrase, ...]:
    """The finding phrases of a report in any layout, in order of their start.

    Offsets refer to *text* exactly as given.
    """
    return read_report(text).phrases


def read_report(text: str) -> Reading:
    """The finding phrases of *text*, its language, and what the reader of the result should know."""
    copy = reading_copy(text)
    to_utf16 = utf16_offsets(text)
    found = (_phrases(text, sentence, to_utf16) for sentence in read_sentences(copy) if sentence.mentions)
    return Reading(tuple(phrase for phrases in found for phrase in phrases))


def _phrases(text: str, sentence: Sentence, to_utf16: Callable[[int], int]) -> list[Phrase]:
    cues = cues_of(sentence)
    spans = spans_of(sentence)
    return [_phrase(text, sentence, span, assertion_of(cues, span.head.anchor), to_utf16) for span in spans]


def _phrase(text: str, sentence: Sentence, span: Span, assertion: Assertion, to_utf16: Callable[[int], int]) -> Phrase:
    start, end = sentence.starts[span.start], sentence.ends[span.end - 1]
    entry = concepts()[span.head.meaning]
    if sentence.section in _UNREPORTED:
        assertion = Assertion.NOT_REPORTED
    elif span.change is Change.RESOLVED:
        assertion = Assertion.NEGATED
    reason = _reason(assertion, sentence.section, groundable=entry.groundable)
    named = span.sites or entry.sites
    return Phrase(
        text=text[start:end],
        start=start,
        end=end,
        start_utf16=to_utf16(start),
        end_utf16=to_utf16(end),
        finding=entry.concept,
        assertion=assertion,
        section=sentence.section,
        groundable=reason is None,
        not_groundable_reason=reason,
        laterality=span.laterality,
        sites=tuple(concepts()[name].concept for name in named),
        severity=span.severity,
        degree=span.degree,
        change=span.change,
    )


def _reason(assertion: Assertion, section: Section, *, groundable: bool) -> str | None:
    if assertion is Assertion.NEGATED:
        return "the report says it is absent"
    if assertion is Assertion.NOT_REPORTED:
        return _UNREPORTED.get(section, "the report does not claim it")
    return None if groundable else "it has no region on a chest radiograph"
