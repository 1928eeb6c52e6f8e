"""Where sections and sentences begin and end, on the reading copy of a report."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nlp.phrases import Section

_HEADERS: dict[Section, str] = {
    Section.INDICATION: r"(?:clinical )?indications?(?: for (?:the )?(?:exam(?:ination)?|study))?"
    r"|(?:clinical |patient )?history|clinical (?:information|data|statement|details|question)"
    r"|reason(?: for (?:the )?(?:exam(?:ination)?|study|test|visit))?"
    r"|signs and symptoms|hx",
    Section.TECHNIQUE: r"techniques?|procedure(?: comments)?|exam(?:ination)?(?: type)?|study|views?|protocol"
    r"|(?:exam )?date(?: of exam)?|type of study|number of views",
    Section.COMPARISON: r"comparisons?(?: (?:stud(?:y|ies)|exams?))?|prior(?: (?:stud(?:y|ies)|exams?))?",
    Section.FINDINGS: r"findings?|report|description|observations?|narrative",
    Section.IMPRESSION: r"impressions?|conclusions?|opinion|summary|assessment|interpretation|final diagnosis",
    Section.ADDENDUM: r"addend(?:um|a)",
}
_NAMES = "|".join(f"(?P<{section}>{names})" for section, names in _HEADERS.items())
_TAIL = r"(?:[ ]*(?:and|&|,|/)[ ]*(?:impressions?|findings?|recommendations?|techniques?))?[ ]*(?:#?\d+)?[ ]*"
_AT_LINE_START = re.compile(
    rf"^[ *#]*(?:\d+[.)][ ]*)?(?:final |chest )?(?:{_NAMES}){_TAIL}(?::|[.;-](?=[ \n])|$)", re.IGNORECASE | re.MULTILINE
)
_INLINE = re.compile(rf"(?<![A-Za-z])(?:{_NAMES}){_TAIL}:", re.IGNORECASE)

_BREAK = re.compile(
    r"(?P<stop>[.!?]+(?=[\s\"')\]]|$)|[;\v]|[.](?=[A-Z][a-z]))"
    r"|(?P<blank>\n[ ]*\n)"
    r"|(?P<item>\n[ ]*(?=(?:\d{1,2}[.)]|[-*•·>])[ ]*[A-Za-z]))"
    r"|(?P<number>(?<=[\s:])(?=\d{1,2}\)[ ]?[A-Za-z]))"
    r"|(?P<line>\n[ ]*(?=[A-Z0-9]))"
    r"|(?P<run_on>(?<=[a-z0-9X])[ ]+(?=(?:There|The|No|Heart|Lungs|Cardiac|Mediastinal|Bony|Osseous|Visualized|Stable|"
    r"Mild|Moderate|Small|Large|Normal|Negative|Increased|Interval|Left|Right|Bilateral|Patchy|Both|Impression|"
    r"Degenerative|Bones)\b[ ]))"
)
_NUMBER_BEFORE = re.compile(
    r"(?:^|[\s(])(?:\d{1,2}|dr|mr|mrs|ms|vs|approx|no|fig|st|inc|e\.g|i\.e|cf|[a-z])$", re.IGNORECASE
)
_LIST_NUMBER = re.compile(r"(?:^|\n|[.;:!?][ ]{1,3})[ ]*\d{1,2}$")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the reading copy, half-open, in one section."""

    start: int
    end: int
    section: Section


def sections(copy: str) -> tuple[Part, ...]:
    """The sections of a report in order, without their headers; text before the first header is unlabelled."""
    headers = {match.start(): match for match in _AT_LINE_START.finditer(copy)}
    headers |= {match.start(): match for match in _INLINE.finditer(copy) if match[0].isupper() or match[0].istitle()}
    parts, start, section = [], 0, Section.UNLABELLED
    for match in sorted(headers.values(), key=lambda match: (match.start(), -match.end())):
        if match.start() < start:
            continue
        parts.append(Part(start, match.start(), section))
        start, section = match.end(), Section(str(match.lastgroup))
    parts.append(Part(start, len(copy), section))
    return tuple(part for part in parts if copy[part.start : part.end].strip())


def sentences(copy: str) -> tuple[Part, ...]:
    """The sentences of a report in order, each within one section."""
    return tuple(sentence for part in sections(copy) for sentence in _sentences_of(copy, part))


def _sentences_of(copy: str, part: Part) -> list[Part]:
    found, start = [], part.start
    for match in _BREAK.finditer(copy, part.start, part.end):
        if not _ends_sentence(copy, match):
            continue
        end = match.end() if match.lastgroup == "stop" else match.start()
        if copy[start:end].strip():
            found.append(Part(start, end, part.section))
        start = match.end()
    if copy[start : part.end].strip():
        found.append(Part(start, part.end, part.section))
    return found


def _ends_sentence(copy: str, match: re.Match[str]) -> bool:
    before = copy[max(0, match.start() - 40) : match.start()]
    if match.lastgroup == "stop" and match[0] == ".":
        return _LIST_NUMBER.search(before) is not None or _NUMBER_BEFORE.search(before) is None
    if match.lastgroup == "line":
        return not before.rstrip().endswith((",", "and", "or", "of", "the", "in", "with", "no", "is", "are"))
    return True
