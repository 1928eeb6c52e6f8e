"""The evidence as one page that works from disk: report, image and regions in a single HTML file without requests.

The image is the grounded one turned upright; regions are SVG paths in the pixels of that upright image, taken there by
the same geometry that took the image to the model. Style and script are files of this package, put into the page and
allowed by their hashes (Content Security Policy Level 3, 6.7), so that nothing else in the page can run.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import cv2
import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from model.geometry import Letterbox
from model.values import Region, State
from plugin.page.spans import plain_text, runs, safe_text
from plugin.page.words import WORDINGS, Kind, Wording, facts, kind_of, likelihood, reason
from plugin.values import Evidence, GroundedPhrase, Placement, Radiograph

LONGEST_SIDE_PX = 1600
JPEG_QUALITY = 90
# An outline may leave its true line by a quarter of a pixel of the image shown.
SIMPLIFIED_PX = 0.25


@dataclass(frozen=True, slots=True)
class Shape:
    """A region as drawn: SVG path data, and the numbers of the phrases it belongs to."""

    path: str
    phrases: tuple[int, ...]
    label: str
    dashed: bool
    area: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of the switcher: *width* x *height* source pixels, upright."""

    number: int
    label: str
    width: int
    height: int
    feather: float
    data_uri: str
    shapes: tuple[Shape, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One phrase in the list below the report."""

    number: int
    text: str
    kind: Kind
    wording: Wording
    reason: str
    facts: tuple[tuple[str, str], ...]
    pictures: tuple[int, ...]


def evidence_page(evidence: Evidence) -> str:
    """*evidence* as one self-contained HTML document; equal evidence gives equal bytes."""
    lines = tuple(_line(number, grounded, evidence) for number, grounded in enumerate(evidence.phrases))
    spans = tuple((grounded.phrase.start, grounded.phrase.end) for grounded in evidence.phrases)
    style, script = _asset("evidence.css"), _asset("evidence.js")
    return _template().render(
        evidence=evidence,
        final=evidence.report.status.final,
        runs=runs(evidence.report.text, spans),
        lines=lines,
        legend=tuple((kind, WORDINGS[kind], _count(lines, kind)) for kind in Kind if _count(lines, kind)),
        pictures=tuple(_picture(number, image, evidence) for number, image in enumerate(evidence.images)),
        style=Markup(style),  # noqa: S704 - files of this package
        script=Markup(script),  # noqa: S704
        policy=content_security_policy(style=style, script=script),
    )


def content_security_policy(*, style: str, script: str) -> str:
    """A policy under which only *style*, *script* and inlined images are used, and nothing is fetched or sent."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def outline_on_upright(region: Region, letterbox: Letterbox) -> npt.NDArray[np.float64]:
    """Vertices of *region*, float64 (n, 2) as (x, y), in pixels of the upright image; (0, 0) is its top-left corner."""
    unit = letterbox.to_unit(np.asarray(region.outline, np.float64))
    return np.asarray(unit * letterbox.side - np.asarray(letterbox.padding, np.float64))


def _line(number: int, grounded: GroundedPhrase, evidence: Evidence) -> Line:
    kind = kind_of(grounded)
    lit = {placement.image.sop_instance_uid for placement in grounded.placements if placement.regions}
    return Line(
        number=number,
        text=grounded.phrase.text,
        kind=kind,
        wording=WORDINGS[kind],
        reason=reason(grounded),
        facts=facts(grounded),
        pictures=tuple(at for at, image in enumerate(evidence.images) if image.ref.sop_instance_uid in lit),
    )


def _count(lines: tuple[Line, ...], kind: Kind) -> int:
    return sum(line.kind is kind for line in lines)


def _picture(number: int, image: Radiograph, evidence: Evidence) -> Picture:
    rows, columns = image.letterbox.upright_shape
    description = image.description
    return Picture(
        number=number,
        label=description.view_position or description.view.value,
        width=columns,
        height=rows,
        feather=round(image.letterbox.side / 90, 2),
        data_uri=_data_uri(image),
        shapes=_shapes(image, evidence.phrases),
        notes=image.notes,
    )


def _shapes(image: Radiograph, phrases: tuple[GroundedPhrase, ...]) -> tuple[Shape, ...]:
    """The regions on *image*, large ones first so that small ones stay on top; one shared by phrases is drawn once."""
    owners: dict[Region, list[int]] = {}
    places: dict[Region, Placement] = {}
    for number, grounded in enumerate(phrases):
        for placement in grounded.placements:
            if placement.image == image.ref:
                for region in placement.regions:
                    owners.setdefault(region, []).append(number)
                    places.setdefault(region, placement)
    shapes = (_shape(region, places[region], image=image, owners=owners[region], phrases=phrases) for region in owners)
    return tuple(sorted(shapes, key=lambda shape: -shape.area))


def _shape(
    region: Region, placement: Placement, *, image: Radiograph, owners: list[int], phrases: tuple[GroundedPhrase, ...]
) -> Shape:
    points = outline_on_upright(region, image.letterbox).astype(np.float32)
    tolerance = SIMPLIFIED_PX * max(1.0, image.letterbox.side / LONGEST_SIDE_PX)
    kept = cv2.approxPolyDP(points[:, None], tolerance, closed=True)[:, 0]
    drawn = kept if len(kept) >= 3 else points
    words = " / ".join(dict.fromkeys(plain_text(phrases[number].phrase.text) for number in owners))
    return Shape(
        path="M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in drawn.tolist()) + "Z",
        phrases=tuple(owners),
        label=f"Region of: {words}; {likelihood(placement.probability)}",
        dashed=placement.state is State.REGION_ONLY,
        area=float(cv2.contourArea(points)),
    )


def _data_uri(image: Radiograph) -> str:
    """The upright image as an 8-bit JPEG of at most LONGEST_SIDE_PX."""
    upright = np.ascontiguousarray(image.orientation.apply(image.pixels))
    scale = LONGEST_SIDE_PX / max(upright.shape)
    if scale < 1:
        rows, columns = (max(1, round(length * scale)) for length in upright.shape)
        upright = np.asarray(cv2.resize(upright, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    grey = np.rint(upright * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    return files("plugin.page").joinpath(name).read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("plugin.page", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"safe_text": safe_text, "plain": plain_text}
    return environment.get_template("evidence.html")
