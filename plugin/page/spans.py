"""The report text cut at the borders of its phrases, so that phrases may overlap and the text stays exact."""

from __future__ import annotations

import re
from dataclasses import dataclass

from markupsafe import Markup, escape

_HEADING = re.compile(r"(?m)^[ \t]*([A-Z][A-Z0-9 ,/&()-]{2,60}):")
# What HTML drops or what turns the reading order of its neighbours (Unicode Bidirectional Algorithm, UAX 9 2.1-2.7).
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of the text in which nothing changes.

    Parameters
    ----------
    text : verbatim.
    phrases : numbers of the phrases that cover it, the shortest first; the first one owns it.
    heading : whether it is a section heading.
    first : whether it is the first run of its owner.
    last : whether its owner ends with it.
    orphans : phrases that end here and own no run of their own, since shorter ones cover them wholly.
    """

    text: str
    phrases: tuple[int, ...] = ()
    heading: bool = False
    first: bool = False
    last: bool = False
    orphans: tuple[int, ...] = ()

    @property
    def owner(self) -> int | None:
        return self.phrases[0] if self.phrases else None

    @property
    def markup(self) -> Markup:
        """The text, escaped so that a browser's textContent is exactly *text*, with controls made inert."""
        return safe_text(self.text)


def safe_text(text: str, *, isolated: bool = False) -> Markup:
    """*text* as HTML, well-formed as XML too, whose textContent equals it, but for controls it cannot hold (U+FFFD).

    A carriage return survives as a character reference; one that stands alone also breaks the line. A bidirectional
    control is isolated, so that it turns nothing but itself, and is made visible by the style sheet; *isolated*: the
    isolation stands in the markup, for where there is no style sheet.
    """
    parts = []
    for piece in re.split(r"(\r\n?|" + _CONTROL.pattern + ")", text):
        if piece == "\r\n":
            parts.append(Markup("&#13;\n"))
        elif piece == "\r":
            parts.append(Markup("&#13;<br/>"))
        elif _UNPRINTABLE.fullmatch(piece):
            parts.append(Markup("\ufffd"))
        elif _CONTROL.fullmatch(piece):
            style = Markup(' style="unicode-bidi: isolate"') if isolated else Markup("")
            parts.append(Markup('<span class="control"{}>&#{};</span>').format(style, ord(piece)))
        else:
            parts.append(escape(piece))
    return Markup("").join(parts)


def plain_text(text: str) -> str:
    """*text* for an attribute: white space folded, control characters taken out."""
    return " ".join(_CONTROL.sub("", text).split())


def runs(text: str, spans: tuple[tuple[int, int], ...]) -> tuple[Run, ...]:
    """Cut *text* at the borders of *spans* and of its headings; the runs joined are *text* again.

    Parameters
    ----------
    spans : (start, end) of each phrase in code points; a phrase's number is its place here.
    """
    headings = {match.span(1) for match in _HEADING.finditer(text)}
    borders = sorted({0, len(text), *(at for span in (*spans, *headings) for at in span)})
    covers = _covers(borders, spans)
    owners = [covering[0] if covering else None for covering in covers]
    first = {owner: number for number, owner in reversed(tuple(enumerate(owners))) if owner is not None}
    ends = {number: place for place, covering in enumerate(covers) for number in covering}
    orphans: dict[int, list[int]] = {}
    for number, place in ends.items():
        if number not in first:
            orphans.setdefault(place, []).append(number)
    return tuple(
        Run(
            text=text[start:end],
            phrases=covering,
            heading=any(left <= start and end <= right for left, right in headings),
            first=owner is not None and first[owner] == place,
            last=owner is not None and ends[owner] == place,
            orphans=tuple(orphans.get(place, ())),
        )
        for place, (start, end, covering, owner) in enumerate(zip(borders, borders[1:], covers, owners, strict=False))
    )


def _covers(borders: list[int], spans: tuple[tuple[int, int], ...]) -> tuple[tuple[int, ...], ...]:
    """For each piece between two *borders*: the numbers of the spans over it, shortest first."""
    starting: dict[int, list[int]] = {}
    for number, (start, _) in enumerate(spans):
        starting.setdefault(start, []).append(number)
    here: list[int] = []
    covers = []
    for at in borders[:-1]:
        here = [number for number in here if spans[number][1] > at] + starting.get(at, [])
        covers.append(tuple(sorted(here, key=lambda number: (spans[number][1] - spans[number][0], number))))
    return tuple(covers)
