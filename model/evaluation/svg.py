"""Plain charts and pictures as SVG text. Pure.

Drawn here and not by a plotting library: three charts with text that stays text, so that a reader can copy a figure and
a test can compare it, at a few kilobytes each and without 30 MB more to install.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_WIDTH, _HEIGHT, _MARGIN = 360, 300, 44
#: Told apart without colour too: each line has its own dashes. After Okabe & Ito.
STYLES = (("#0072b2", ""), ("#d55e00", "7 4"), ("#555555", "2 4"))


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: its name, points (x, y) in [0, 1], and whether each point is marked."""

    name: str
    points: tuple[tuple[float, float], ...]
    marked: bool = False


def chart(lines: Sequence[Line], *, title: str, x: str, y: str, diagonal: bool = False) -> str:
    """A chart with both axes from 0 to 1; *diagonal* draws where chance, or a perfect promise, would lie."""
    parts = [*_axes(x, y)]
    if diagonal:
        parts.append(_path(((0, 0), (1, 1)), "#bbbbbb", "4 4"))
    for number, line in enumerate(lines):
        colour, dashes = STYLES[number % len(STYLES)]
        parts.append(_path(line.points, colour, dashes))
        if line.marked:
            parts += [f'<circle cx="{_x(a):.1f}" cy="{_y(b):.1f}" r="3.5" fill="{colour}"/>' for a, b in line.points]
        parts.append(_key(number, line.name, colour, dashes))
    label = _escaped(title)
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"<title>{label}</title>{''.join(parts)}</svg>"
    )


def _x(value: float) -> float:
    return _MARGIN + value * (_WIDTH - _MARGIN - 16)


def _y(value: float) -> float:
    return _HEIGHT - _MARGIN - value * (_HEIGHT - _MARGIN - 12)


def _axes(x: str, y: str) -> list[str]:
    parts = []
    for step in range(6):
        at = step / 5
        parts.append(f'<line x1="{_x(at):.1f}" y1="{_y(0):.1f}" x2="{_x(at):.1f}" y2="{_y(1):.1f}" class="grid"/>')
        parts.append(f'<line x1="{_x(0):.1f}" y1="{_y(at):.1f}" x2="{_x(1):.1f}" y2="{_y(at):.1f}" class="grid"/>')
        parts.append(f'<text x="{_x(at):.1f}" y="{_y(0) + 15:.1f}" text-anchor="middle">{at:.1f}</text>')
        parts.append(f'<text x="{_x(0) - 6:.1f}" y="{_y(at) + 4:.1f}" text-anchor="end">{at:.1f}</text>')
    middle = (_y(0) + _y(1)) / 2
    parts.append(f'<text x="{_x(0.5):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{_escaped(x)}</text>')
    turned = f'transform="rotate(-90 12 {middle:.1f})"'
    parts.append(f'<text x="12" y="{middle:.1f}" text-anchor="middle" {turned}>{_escaped(y)}</text>')
    return parts


def _path(points: Sequence[tuple[float, float]], colour: str, dashes: str) -> str:
    joined = " ".join(f"{_x(a):.1f},{_y(b):.1f}" for a, b in points)
    return f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'


def _key(number: int, name: str, colour: str, dashes: str) -> str:
    top = _y(1) + 14 + 16 * number
    return (
        f'<line x1="{_x(1) - 132:.1f}" y1="{top - 4:.1f}" x2="{_x(1) - 108:.1f}" y2="{top - 4:.1f}" '
        f'stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
        f'<text x="{_x(1) - 102:.1f}" y="{top:.1f}">{_escaped(name)}</text>'
    )


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An image with what a reader drew and what the model drew, in pixels of the image.

    Parameters
    ----------
    pixels : float32 (rows, columns) in [0, 1].
    truth, lit : bool (rows, columns): drawn as solid and as dashed outlines.
    title : what it shows, in words, for those who do not see it.
    """

    pixels: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    lit: npt.NDArray[np.bool_]
    heatmap: npt.NDArray[np.float32]
    title: str


def picture(shown: Picture, *, side: int = 256) -> str:
    """SVG with the image inside, at most *side* pixels wide and high: nothing but pixels, no name and no file name."""
    rows, columns = shown.pixels.shape
    scale = side / max(rows, columns)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    grey = np.clip(cv2.resize(shown.pixels, size, interpolation=cv2.INTER_AREA) * 255, 0, 255)
    warm = cv2.resize(shown.heatmap, size)[..., None]
    tint = np.array([0.0, 110.0, 230.0])  # blue, green, red
    mixed = grey[..., None] * (1 - 0.45 * warm) + tint * 0.45 * warm
    encoded = cv2.imencode(".jpg", mixed.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 80])[1]
    data = base64.b64encode(encoded.tobytes()).decode()
    label = _escaped(shown.title)
    return (
        f'<svg class="picture" viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{label}"><title>{label}</title>'
        f'<image width="{size[0]}" height="{size[1]}" href="data:image/jpeg;base64,{data}"/>'
        f"{_outlines(shown.truth, size, 'truth')}{_outlines(shown.lit, size, 'lit')}</svg>"
    )


def _outlines(mask: npt.NDArray[np.bool_], size: tuple[int, int], name: str) -> str:
    small = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    found, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = (" ".join(f"{x},{y}" for x, y in outline[:, 0]) for outline in found)
    return "".join(f'<polygon class="{name}" points="{each}"/>' for each in points)
