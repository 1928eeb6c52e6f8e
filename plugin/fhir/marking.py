"""Report text with its phrases marked: ``imr-ref`` spans in a narrative, links in a page. The text stays exact.

IHE RAD IMR 1.1.0, RAD-141 (Image References): ``<span class="imr-ref-ImagingSelection" id="ImagingSelection/1234">``
around the phrase; in the rendered report each becomes a link to content that is ready to be shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from plugin.page.spans import runs, safe_text

SPAN_CLASS = "imr-ref-ImagingSelection"
CONTINUED_CLASS = "imr-continued"


@dataclass(frozen=True, slots=True)
class Link:
    """A phrase of the text and what it is linked to.

    Parameters
    ----------
    start, end : half-open, in code points of the text.
    target : "ImagingSelection/<id>", which names the span; no two links have the same.
    href : where the region is shown.
    label : the phrase in plain words.
    """

    start: int
    end: int
    target: str
    href: str
    label: str


def narrative_markup(text: str, links: tuple[Link, ...]) -> Markup:
    """*text* as XHTML with a span for each link.

    A phrase inside another is a span inside a span. Where two cross, XML allows no span over both ends: the later one
    is closed with the earlier, and goes on in a second span. Of such pieces the first with something to read has the
    id, since an id stands for one element.
    """
    borders = sorted({0, len(text), *(at for link in links for at in (link.start, link.end))})
    opened: list[_Piece] = []
    pieces: list[_Piece] = []
    parts: list[Markup] = []
    for left, right in pairwise(borders):
        kept = _kept(opened, [links[piece.link].end > left for piece in opened])
        for piece in opened[len(kept) :]:
            piece.end = left
        parts += [Markup("</span>")] * (len(opened) - len(kept))
        again = [piece.link for piece in opened[len(kept) :] if links[piece.link].end > left]
        new = sorted((n for n, link in enumerate(links) if link.start == left), key=lambda n: (-links[n].end, n))
        opened = kept + [_Piece(link, left, len(text), len(parts) + at) for at, link in enumerate((*again, *new))]
        pieces += opened[len(kept) :]
        parts += [Markup("")] * (len(opened) - len(kept))  # filled in below
        parts.append(safe_text(text[left:right], isolated=True))
    named = _named(text, pieces)
    for piece in pieces:
        parts[piece.place] = _start(links[piece.link], named=named[piece.link] is piece)
    return Markup("").join((*parts, *[Markup("</span>")] * len(opened)))


@dataclass(slots=True, eq=False)
class _Piece:
    """A span of the link of that number over text from *start* to *end*; *place* of its tag among the parts."""

    link: int
    start: int
    end: int
    place: int


def _kept(opened: list[_Piece], alive: list[bool]) -> list[_Piece]:
    """The spans outside the outermost one that ends."""
    return opened[: alive.index(False)] if False in alive else opened


def _named(text: str, pieces: list[_Piece]) -> dict[int, _Piece]:
    """The piece of each link that has its id."""
    named: dict[int, _Piece] = {}
    for piece in pieces:
        earlier = named.get(piece.link)
        if earlier is None or not text[earlier.start : earlier.end].strip():
            named[piece.link] = piece
    return named


def _start(link: Link, *, named: bool) -> Markup:
    if named:
        return Markup('<span class="{}" id="{}">').format(SPAN_CLASS, link.target)
    return Markup('<span class="{}">').format(CONTINUED_CLASS)


def page_markup(text: str, links: tuple[Link, ...]) -> Markup:
    """*text* as HTML in which each phrase is a link.

    Links cannot hold links, so of phrases that overlap the shortest has the words; one that is left without words of
    its own is an empty link at its end, which the style sheet makes visible.
    """
    cut = runs(text, tuple((link.start, link.end) for link in links))
    worded = {
        run.owner: at for at, run in reversed(tuple(enumerate(cut))) if run.owner is not None and run.text.strip()
    }
    last = {number: at for at, run in enumerate(cut) for number in run.phrases if number not in worded}
    parts = []
    for at, run in enumerate(cut):
        if run.owner in worded:
            parts.append(_anchor(links[run.owner or 0], run.markup, first=worded[run.owner] == at))
        else:
            parts.append(Markup("<strong>{}</strong>").format(run.markup) if run.heading else run.markup)
        parts += [_anchor(links[number], Markup(""), first=True) for number, end in last.items() if end == at]
    return Markup("").join(parts)


def _anchor(link: Link, words: Markup, *, first: bool) -> Markup:
    if not first:
        return Markup('<a class="{}" href="{}">{}</a>').format(CONTINUED_CLASS, link.href, words)
    kinds = SPAN_CLASS if words else f"{SPAN_CLASS} wordless"
    named = Markup("") if words else Markup(' aria-label="{}"').format(link.label)
    return Markup('<a class="{}" id="{}" href="{}"{}>{}</a>').format(kinds, link.target, link.href, named, words)
