"""Report text with its phrases marked: ``imr-ref`` spans in a narrative, links in a page. The text stays exact.

IHE RAD IMR 1.1.0, RAD-141 (Image References): ``<span class="imr-ref-ImagingSelection" id="ImagingSelection/1234">``
around the phrase; in the rendered report each becomes a link to content that is ready to be shown.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    is closed with the earlier, and goes on in a second span, which has no id, since an id stands for one element.
    """
    borders = sorted({0, len(text), *(at for link in links for at in (link.start, link.end))})
    opened: list[int] = []
    begun: set[int] = set()
    parts: list[Markup] = []
    for left, right in pairwise(borders):
        wanted = [number for number in opened if links[number].end > left]
        wanted += sorted((n for n, link in enumerate(links) if link.start == left), key=lambda n: (-links[n].end, n))
        same = next((at for at, pair in enumerate(zip(opened, wanted, strict=False)) if len(set(pair)) > 1), None)
        same = min(len(opened), len(wanted)) if same is None else same
        parts += [Markup("</span>")] * (len(opened) - same)
        for number in wanted[same:]:
            parts.append(_start(links[number], first=number not in begun))
            begun.add(number)
        parts.append(safe_text(text[left:right], isolated=True))
        opened = wanted
    return Markup("").join((*parts, *[Markup("</span>")] * len(opened)))


def _start(link: Link, *, first: bool) -> Markup:
    if first:
        return Markup('<span class="{}" id="{}">').format(SPAN_CLASS, link.target)
    return Markup('<span class="{}">').format(CONTINUED_CLASS)


def page_markup(text: str, links: tuple[Link, ...]) -> Markup:
    """*text* as HTML in which each phrase is a link.

    Links cannot hold links, so of phrases that overlap the shortest has the words; one that is left without words of
    its own is an empty link at its end, which the style sheet makes visible.
    """
    return Markup("").join(_pieces(text, links))


def _pieces(text: str, links: tuple[Link, ...]) -> Iterator[Markup]:
    for run in runs(text, tuple((link.start, link.end) for link in links)):
        if run.owner is not None:
            yield _anchor(links[run.owner], run.markup, first=run.first)
        else:
            yield Markup("<strong>{}</strong>").format(run.markup) if run.heading else run.markup
        for orphan in run.orphans:
            yield _anchor(links[orphan], Markup(""), first=True)


def _anchor(link: Link, words: Markup, *, first: bool) -> Markup:
    if not first:
        return Markup('<a class="{}" href="{}">{}</a>').format(CONTINUED_CLASS, link.href, words)
    kinds = SPAN_CLASS if words else f"{SPAN_CLASS} wordless"
    named = Markup("") if words else Markup(' aria-label="{}"').format(link.label)
    return Markup('<a class="{}" id="{}" href="{}"{}>{}</a>').format(kinds, link.target, link.href, named, words)
