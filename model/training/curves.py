"""The curves of a training as one picture: the loss, smoothed, and every score above it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np

_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 240, 56, 20
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # told apart by the colour-blind
Points = Sequence[tuple[float, float]]


def write_curves(rows: Sequence[Mapping[str, float]], file: Path) -> None:
    """Draw the log's *rows* as SVG."""
    losses = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    scored = [row for row in rows if "score" in row]
    names = sorted({name for row in scored for name in row if name != "step"})
    scores = {name: [(row["step"], row[name]) for row in scored if name in row] for name in names}
    panels = [_panel("loss, mean of 20 steps", {"": _smooth(losses)}, top=0)]
    panels.append(_panel("scores on validation patients", scores, top=_HEIGHT + 2 * _TOP + 20))
    size = f'width="{_WIDTH + 260}" height="{2 * (_HEIGHT + 2 * _TOP + 20)}"'
    style = 'font-family="sans-serif" font-size="12"'
    file.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>\n{"".join(panels)}</svg>\n', "utf-8")


def _smooth(points: Points) -> Points:
    """The mean of each twenty points."""
    return [
        (float(np.mean([x for x, _ in points[start : start + 20]])), float(np.mean([y for _, y in points[start:end]])))
        for start in range(0, len(points), 20)
        for end in (start + 20,)
    ]


def _panel(title: str, curves: Mapping[str, Points], *, top: int) -> str:
    """One pair of axes with its curves and their names."""
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return ""
    across, up = zip(*points, strict=True)
    first, last, low, high = min(across), max(across), min(up), max(up)
    wide, tall = (last - first) or 1, (high - low) or 1
    lines = [f'<text x="{_LEFT}" y="{top + 14}">{escape(title)}</text>\n']
    lines.append(f'<rect x="{_LEFT}" y="{top + _TOP}" width="{_WIDTH - _LEFT}" height="{_HEIGHT}" {_BORDER}/>\n')
    for value, y in ((high, top + _TOP + 10), (low, top + _TOP + _HEIGHT)):
        lines.append(f'<text x="{_LEFT - 4}" y="{y}" text-anchor="end">{value:.3g}</text>\n')
    for value, x in ((first, _LEFT), (last, _WIDTH)):
        lines.append(f'<text x="{x}" y="{top + _TOP + _HEIGHT + 16}" text-anchor="middle">{value:.0f}</text>\n')
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = " ".join(
            f"{_LEFT + (x - first) / wide * (_WIDTH - _LEFT):.1f},{top + _TOP + (high - y) / tall * _HEIGHT:.1f}"
            for x, y in curve
        )
        lines.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.5"/>\n')
        lines.append(
            f'<text x="{_WIDTH + 8}" y="{top + _TOP + 14 + 16 * number}" fill="{colour}">{escape(name)}</text>\n'
        )
    return "".join(lines)


_BORDER = 'fill="none" stroke="#999"'
