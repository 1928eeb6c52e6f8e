"""The pages: report, image and regions for a patient or a radiologist, served or as one file that works from disk.

Both are the same template, style and modules over ``evidence.json``. The image is the grounded one turned upright;
regions are SVG paths in the pixels of that upright image, taken there by the same geometry that took the image to the
model. Served, everything comes from the page's own origin; in the file, style and script are allowed by their hashes
(Content Security Policy Level 3, 6.7), so that nothing else in the page can run.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import jinja2
from markupsafe import Markup

from model.values import State
from plugin.page.document import EvidenceDocument, ImagePart, PhrasePart, PlacementPart, evidence_document
from plugin.page.linking import STYLE, asset, joined, modules
from plugin.page.pictures import data_uri, jpeg_of, maps_of
from plugin.page.shapes import letterbox_of_part, path_of
from plugin.page.spans import plain_text, runs, safe_text
from plugin.page.texts import Texts, texts_in
from plugin.page.words import Audience, Kind, facts, kind_of, likelihood, plain_words, reason, wordings
from plugin.values import Evidence

SERVED_POLICY = (
    "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class Links:
    """Where a page finds what is not in it.

    Parameters
    ----------
    images, maps : addresses of pictures and of heatmaps by SOP Instance UID; an image may have no heatmaps.
    viewer : of the study in the viewer, or "".
    files : (name, address) of what was written in standard forms.
    decisions : where radiologists decide about regions, or "".
    named : whether who decides has to say their name, since nobody signs in.
    audiences : (audience, address) of the same report for others, where whoever reads this may see them.
    embed : whether the page stands inside another one.
    """

    images: Mapping[str, str]
    maps: Mapping[str, str] = field(default_factory=dict)
    viewer: str = ""
    files: tuple[tuple[str, str], ...] = ()
    audiences: tuple[tuple[Audience, str], ...] = ()
    embed: bool = False
    decisions: str = ""
    named: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """A region as drawn: SVG path data, and the numbers of the phrases it belongs to."""

    path: str
    phrases: tuple[int, ...]
    label: str
    dashed: bool
    area: float


@dataclass(frozen=True, slots=True)
class Heat:
    """The heatmaps of an image, one below the other in the order of *phrases*, and the square that each is laid on."""

    href: str
    phrases: tuple[int, ...]
    left: int
    top: int
    side: int


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of the switcher: *width* x *height* source pixels, upright; *turn* made it so from the stored one."""

    number: int
    uid: str
    turn: str
    label: str
    name: str
    width: int
    height: int
    feather: float
    href: str
    shapes: tuple[Shape, ...]
    heat: Heat | None


@dataclass(frozen=True, slots=True)
class Line:
    """One phrase in the list below the report; *finding* and *place* in plain words."""

    number: int
    text: str
    tracking_uid: str
    kind: Kind
    reason: str
    finding: str
    place: str
    facts: tuple[tuple[str, str], ...]


def evidence_page(evidence: Evidence, *, audience: Audience = Audience.RADIOLOGIST, texts: Texts | None = None) -> str:
    """*evidence* as one self-contained HTML document; equal evidence gives equal bytes."""
    radiologist = audience is Audience.RADIOLOGIST
    maps = {image.ref.sop_instance_uid: maps_of(evidence, image) for image in evidence.images if radiologist}
    links = Links(
        images={image.ref.sop_instance_uid: data_uri(jpeg_of(image), "image/jpeg") for image in evidence.images},
        maps={uid: data_uri(content, "image/png") for uid, content in maps.items() if content is not None},
    )
    style, script = asset(STYLE), joined()
    return _rendered(
        evidence_document(evidence),
        audience=audience,
        links=links,
        texts=texts or texts_in(),
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        policy=content_security_policy(style=style, script=script),
    )


def served_page(document: EvidenceDocument, *, audience: Audience, links: Links, texts: Texts | None = None) -> str:
    """The page of *document* for *audience*, whose style, modules and images are asked for from where it comes from."""
    return _rendered(
        document,
        audience=audience,
        links=links,
        texts=texts or texts_in(),
        style=None,
        script=None,
        policy=SERVED_POLICY,
    )


def content_security_policy(*, style: str, script: str) -> str:
    """A policy under which only *style*, *script* and inlined images are used, and nothing is fetched or sent."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _rendered(
    document: EvidenceDocument,
    *,
    audience: Audience,
    links: Links,
    texts: Texts,
    style: Markup | None,
    script: Markup | None,
    policy: str,
) -> str:
    lines = tuple(_line(number, phrase, texts, audience) for number, phrase in enumerate(document.phrases))
    spans = tuple((phrase.start, phrase.end) for phrase in document.phrases)
    told = wordings(texts, audience)
    return template("page.html").render(
        t=texts,
        audience=audience.value,
        document=document,
        links=links,
        notes=_notes(document, texts, audience),
        runs=runs(document.report.text, spans),
        lines=lines,
        legend=tuple((kind, told[kind], _count(lines, kind)) for kind in Kind if _count(lines, kind)),
        pictures=tuple(
            _picture(number, image, document, links=links, texts=texts, audience=audience)
            for number, image in enumerate(document.images)
        ),
        heated=bool(links.maps),
        threshold=round(document.provenance.model.threshold * 100),
        style=style,
        script=script,
        modules=modules(),
        policy=policy,
    )


def _notes(document: EvidenceDocument, texts: Texts, audience: Audience) -> tuple[str, ...]:
    """What the reader is to know beforehand; patients are told that there is something, and who can tell them what."""
    unfinished = () if document.report.status.final else (texts["page"]["not_final"],)
    if audience is Audience.RADIOLOGIST:
        return (*unfinished, *document.warnings)
    return (*unfinished, *((texts["patient"]["warned"],) if document.warnings else ()))


def _line(number: int, phrase: PhrasePart, texts: Texts, audience: Audience) -> Line:
    finding, place = plain_words(phrase, texts)
    return Line(
        number=number,
        text=phrase.text,
        tracking_uid=phrase.tracking_uid,
        kind=kind_of(phrase),
        reason=reason(phrase, texts, audience),
        finding=finding,
        place=place,
        facts=facts(phrase, texts, audience),
    )


def _count(lines: tuple[Line, ...], kind: Kind) -> int:
    return sum(line.kind is kind for line in lines)


def _picture(
    number: int, image: ImagePart, document: EvidenceDocument, *, links: Links, texts: Texts, audience: Audience
) -> Picture:
    box = letterbox_of_part(image)
    rows, columns = box.upright_shape
    label = image.view_position or image.view.value
    shapes = _shapes(image, document.phrases, texts, audience)
    page = texts["page"]
    marked = page["regions_one"] if len(shapes) == 1 else page["regions"].format(count=len(shapes))
    left, top = box.padding
    href = links.maps.get(image.sop_instance_uid)
    placed = tuple(
        at
        for at, phrase in enumerate(document.phrases)
        for place in phrase.placements
        if place.sop_instance_uid == image.sop_instance_uid
    )
    turn = image.orientation
    turns = {"transpose": turn.transpose, "rows": turn.reverse_rows, "columns": turn.reverse_columns}
    return Picture(
        number=number,
        uid=image.sop_instance_uid,
        turn=" ".join(name for name, done in turns.items() if done),
        label=label,
        name=f"{page['picture'].format(view=label)}, {marked}",
        width=columns,
        height=rows,
        feather=round(box.side / 90, 2),
        href=links.images[image.sop_instance_uid],
        shapes=shapes,
        heat=None if href is None else Heat(href, placed, left, top, box.side),
    )


def _shapes(image: ImagePart, phrases: tuple[PhrasePart, ...], texts: Texts, audience: Audience) -> tuple[Shape, ...]:
    """The regions on *image*, large ones first so that small ones stay on top; one shared by phrases is drawn once."""
    owners: dict[tuple[tuple[float, float], ...], list[int]] = {}
    places: dict[tuple[tuple[float, float], ...], PlacementPart] = {}
    for number, phrase in enumerate(phrases):
        for placement in phrase.placements:
            if placement.sop_instance_uid == image.sop_instance_uid:
                for region in placement.regions:
                    owners.setdefault(region.outline, []).append(number)
                    places.setdefault(region.outline, placement)
    shapes = []
    for outline, numbers in owners.items():
        path, area = path_of(outline, letterbox_of_part(image))
        words = " / ".join(dict.fromkeys(plain_text(phrases[number].text) for number in numbers))
        label = texts["page"]["region"].format(phrases=words)
        if audience is Audience.RADIOLOGIST:
            told = likelihood(places[outline].probability, texts)
            label = texts["radiologist"]["region_told"].format(region=label, likelihood=told)
        dashed = places[outline].state is State.REGION_ONLY
        shapes.append(Shape(path, tuple(numbers), label, dashed, area))
    return tuple(sorted(shapes, key=lambda shape: -shape.area))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def template(name: str) -> jinja2.Template:
    """A template of this package, with escaping on."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plugin.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"safe_text": safe_text, "plain": plain_text}
    return environment.get_template(name)
