"""Text of reports without whom it is about: known words, and what looks like a name, a number, a place or a date.

Rules find what has a form. A name of somebody who stands in no header and has no title, or a fact that only one person
fits, has none: a person has to read what is published.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

_MONTHS: Final = {
    name: number
    for number, names in enumerate(
        (
            "january jan januar janvier",
            "february feb februar février",
            "march mar märz mars",
            "april apr avril",
            "may mai",
            "june jun juni juin",
            "july jul juli juillet",
            "august aug août",
            "september sep sept septembre",
            "october oct oktober okt octobre",
            "november nov novembre",
            "december dec dezember dez décembre",
        ),
        start=1,
    )
    for name in names.split()
}
_MONTH: Final = "|".join(sorted(_MONTHS, key=len, reverse=True))
_PERSON: Final = r"(?-i:[A-ZÀ-ÖØ-ÞĀ-Ž])[\w'’-]*\.?"
_STREETS: Final = (
    r"street|st|road|rd|avenue|ave|lane|ln|drive|dr|boulevard|blvd|court|ct|square|sq|way|place|pl|highway|hwy|terrace"
)

_DAY_FIRST: Final = ("%d", "%m", "%Y")
_WIDE: Final = ("[removed]", "[name]", "[address]")
_LABELS: Final = "|".join(
    (
        r"patient(?:'s)?(?: name| id)?|name|mrn|medical record(?: number)?|dob|date of birth|accession(?: number| no)?",
        r"ssn|phone|tel(?:ephone)?|fax|address|referring(?: physician)?|attending(?: physician)?|geburtsdatum",
        r"ordering(?: physician)?|requested by|(?:electronically |e-)?signed(?: by)?|dictated(?: by)?|befundet von|gez",
        r"transcribed(?: by)?|read by|reported by|reviewed by|radiologist|resident|cc|hospital|institution",
    )
)


@dataclass(frozen=True, slots=True)
class Replaced:
    """A span of the text, half-open, and what stands there now."""

    start: int
    end: int
    by: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Text with its *replaced* spans, in order."""

    text: str
    replaced: tuple[Replaced, ...]

    def moved(self, start: int, end: int) -> tuple[int, int]:
        """Where the span *start* to *end* of the text before is now; what is replaced belongs to it whole or not."""
        return self._at(start, ahead=False), self._at(end, ahead=True)

    def _at(self, place: int, *, ahead: bool) -> int:
        by = 0
        for each in self.replaced:
            if each.start < place < each.end:
                return each.start + by + (len(each.by) if ahead else 0)
            if each.end > place:
                break
            by += len(each.by) - (each.end - each.start)
        return place + by


Rule = tuple[re.Pattern[str], Callable[[re.Match[str]], str | None]]


def cleaned(text: str, *, known: Iterable[str] = (), days: int = 0) -> Cleaned:
    """*text* without what identifies.

    Parameters
    ----------
    known : names, ids and numbers that are known to be about the patient, or of people and places around them.
    days : by which full dates are moved; a date whose day and month cannot be told apart becomes ``[date]``.
    """
    found: list[Replaced] = []
    for pattern, replacement in (*_known(known), *_rules(days)):
        for match in pattern.finditer(text):
            start, end = match.span("it") if "it" in pattern.groupindex else match.span()
            by = replacement(match)
            if by is not None and start < end:
                _add(found, Replaced(start, end, by))
    ordered = tuple(sorted(found, key=lambda each: each.start))
    return Cleaned("".join(_joined(text, ordered)), ordered)


def _add(found: list[Replaced], new: Replaced) -> None:
    """What says the least takes in what it meets; anything else yields to what was found before it."""
    met = [each for each in found if each.start < new.end and new.start < each.end]
    if met and new.by not in _WIDE:
        return
    for each in met:
        found.remove(each)
    start, end = min((new, *met), key=lambda each: each.start).start, max((new, *met), key=lambda each: each.end).end
    found.append(Replaced(start, end, new.by))


def _joined(text: str, replaced: tuple[Replaced, ...]) -> Iterator[str]:
    at = 0
    for each in replaced:
        yield text[at : each.start]
        yield each.by
        at = each.end
    yield text[at:]


def words_of_name(name: str) -> Iterator[str]:
    """The parts of a person name (PS3.5 6.2.1), or of a name as people write it."""
    yield from (part for part in re.split(r"[\^=\s,.;]+", name) if len(part) > 1 and not part.isdigit())


def _known(words: Iterable[str]) -> Iterator[Rule]:
    forms = {form for word in words for form in _forms(word.strip()) if len(form) > 1}
    if forms:
        longest = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
        yield re.compile(rf"(?<!\w)(?:{longest})(?!\w)", re.IGNORECASE), lambda _: "[removed]"


def _forms(word: str) -> Iterator[str]:
    """As it is, without accents, and as German writes umlauts without them."""
    yield word
    yield "".join(each for each in unicodedata.normalize("NFKD", word) if not unicodedata.combining(each))
    for umlaut, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("Ä", "Ae"), ("Ö", "Oe"), ("Ü", "Ue"), ("ß", "ss")):
        word = word.replace(umlaut, plain)
    yield word


def _rules(days: int) -> Iterator[Rule]:
    def shifted(match: re.Match[str]) -> str:
        return _shifted(match, days)

    flags = re.IGNORECASE
    yield re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), lambda _: "[email]"
    yield re.compile(r"(?:https?://|www\.)\S+", flags), lambda _: "[address]"
    yield re.compile(r"(?<![\d.])\d+(?:\.\d+){5,}(?!\.?\d)"), lambda _: "[id]"  # UIDs
    yield re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\d)"), lambda _: "[address]"
    yield re.compile(rf"\b(?:{_LABELS})\s*[:#]\s*(?P<it>[^\n;]+)", flags), lambda _: "[removed]"
    yield (
        re.compile(rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?P<b>{_MONTH})\.?,?\s+(?P<y>\d{{4}})\b", flags),
        shifted,
    )
    yield re.compile(rf"\b(?P<b>{_MONTH})\.?\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?\s+(?P<y>\d{{4}})\b", flags), shifted
    yield (
        re.compile(rf"\b(?:(?:{_MONTH})\.?\s+\d{{1,2}}(?:st|nd|rd|th)?|\d{{1,2}}\.?\s+(?:{_MONTH}))\b(?!\w)", flags),
        _date,
    )
    yield re.compile(rf"\b(?:{_MONTH})\.?,?\s+(?:of\s+)?(?:19|20)\d\d\b", flags), _date
    yield re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<s>[-/.])(?P<m>\d{1,2})(?P=s)(?P<d>\d{1,2})(?!\d)"), shifted
    yield re.compile(r"(?<!\d)(?P<y>(?:19|20)\d\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])(?!\d)"), shifted
    yield re.compile(r"(?<![\d.])\d{1,2}(?P<s>[-/.])\d{1,2}(?P=s)(?:(?:19|20)\d\d|\d\d)(?!\.?\d)"), shifted
    yield re.compile(r"(?<![\d./])(?:0?[1-9]|1[0-2])/(?:19|20)\d\d(?!\d)"), _date
    yield re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"), lambda _: "[id]"
    yield re.compile(r"(?<![\w.])(?:\+|\(?0)?\(?\d[\d()\s/.-]{5,}\d(?!\.?\w)"), _telephone
    yield re.compile(r"(?<![\w.])(?=[\w-]*\d)[A-Z]{1,5}[- ]?\d{4,}[\w-]*|(?<![\w.])\d{6,}(?!\.?\w)"), lambda _: "[id]"
    yield (
        re.compile(rf"\b\d{{1,5}}\s+(?:(?-i:[A-Z])\w+\s+){{1,3}}(?:{_STREETS})\b\.?(?:,[^\n.;]*\d{{4,}})?", flags),
        _place,
    )
    yield (
        re.compile(r"\b(?-i:[A-ZÄÖÜ])[\wäöüß-]*(?:straße|strasse|str\.|weg|platz|gasse|allee)\s+\d+\w?\b", flags),
        _place,
    )
    yield (
        re.compile(r"\b(?:rue|avenue|boulevard|place|chemin)\s+(?:d[eu]s?\s+|de la\s+)?(?-i:[A-Z])[\w'-]+(?:\s+\d+)?"),
        _place,
    )
    yield re.compile(r"\b(?-i:[A-Z])[a-z]+,\s+[A-Z]{2}\s+\d{5}(?:-\d{4})?\b"), _place
    yield re.compile(r"(?<!\d)\d{5}\s+(?-i:[A-ZÄÖÜ])[a-zäöüß]{3,}"), _place
    title = r"\b(?:drs?|prof(?:essor)?|mr|mrs|ms|miss|doctor|nurse|herrn?|frau|mme|madame|monsieur)\b\.?\s+"
    titles = rf"{title}(?:(?:med|h\.?c|dipl|pd|dr|prof)\.?\s+)*"
    yield re.compile(rf"{titles}(?P<it>{_PERSON}(?:[ ]{_PERSON}){{0,2}})", flags), lambda _: "[name]"
    yield (
        re.compile(rf"(?P<it>{_PERSON}(?:[ ]{_PERSON}){{1,2}}),?\s+(?-i:M\.?D|D\.?O|Ph\.?D|R\.?N)\b"),
        lambda _: "[name]",
    )
    yield (
        re.compile(r"\b(?P<it>9\d|1[0-4]\d)(?=[ -]?(?:years?|yrs?|y/?o|jahre|jährig)\b)", flags),
        lambda _: "90 or older",
    )


def _date(_: re.Match[str]) -> str:
    return "[date]"


def _place(_: re.Match[str]) -> str:
    return "[address]"


def _telephone(match: re.Match[str]) -> str | None:
    """A number with at least seven digits, in groups; measurements have fewer."""
    return "[phone]" if sum(map(str.isdigit, match[0])) >= 7 and not match[0].isdigit() else None


def _shifted(match: re.Match[str], days: int) -> str:
    """The date in the form that it had, moved; ``[date]`` when it is none, or could be two."""
    told = match.groupdict()
    if told.get("b"):
        moved = _moved(int(told["y"]), _MONTHS[told["b"].lower()], int(told["d"]), days)
        return f"{moved.day} {moved:%B} {moved.year}" if moved else "[date]"
    separator = told.get("s") or ""
    if told.get("y"):
        moved, form = _moved(int(told["y"]), int(told["m"]), int(told["d"]), days), ("%Y", "%m", "%d")
    else:
        moved, form = _moved_of_three(match[0].split(separator), separator, days)
    return moved.strftime(separator.join(form)) if moved else "[date]"


def _moved_of_three(parts: list[str], separator: str, days: int) -> tuple[date | None, tuple[str, str, str]]:
    """Day and month in the order that they can only have: with points, or where one of them is no month."""
    first, second, year = map(int, parts)
    if len(parts[2]) == 2:
        return None, _DAY_FIRST
    if separator == "." or first > 12:
        return _moved(year, second, first, days), _DAY_FIRST
    if second > 12:
        return _moved(year, first, second, days), ("%m", "%d", "%Y")
    return None, _DAY_FIRST


def _moved(year: int, month: int, day: int, days: int) -> date | None:
    try:
        return date(year, month, day) + timedelta(days=days)
    except (ValueError, OverflowError):
        return None
