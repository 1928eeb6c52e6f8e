"""``report.html``: the figures of ``metrics.json`` for people who look rather than read. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from model.evaluation.cases import Case
from model.evaluation.figures import BARS, Figures
from model.evaluation.svg import Line, chart, picture

_TEMPLATE = "report.html"


@dataclass(frozen=True, slots=True)
class Entry:
    """A figure and where it stands in ``metrics.json``: the page carries the path, so that a test can compare."""

    path: tuple[str, ...]
    value: Any

    @property
    def shown(self) -> str:
        """Three decimals; a dash for what was not measured."""
        return shown(self.value)

    @property
    def place(self) -> str:
        """The path, as JSON."""
        return json.dumps(self.path)


def shown(value: Any) -> str:
    """As the page writes a figure."""
    if value is None:
        return "–"
    if isinstance(value, list):
        return f"{shown(value[0])} to {shown(value[1])}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def html_of(figures: Figures, cases: Sequence[Case]) -> str:
    """The page: self-contained, without scripts; nothing in it names a patient or a file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        bars=BARS,
        at=lambda *path: Entry(path, _at(figures, path)),
        keys=lambda *path: list(_at(figures, path)),
        verdict=_verdict,
        charts=[Markup(each) for each in _charts(figures)],  # noqa: S704 (built from numbers and our own words)
        groups=_groups(cases),
    )


def _at(figures: Figures, path: Iterable[str]) -> Any:
    found: Any = figures
    for name in path:
        found = found[name]
    return found


def _verdict(value: float | None, least: float, aim: float) -> str:
    if value is None:
        return "not measured"
    return "reaches the aim" if value >= aim else "reaches the bar" if value >= least else "below the bar"


def _groups(cases: Sequence[Case]) -> list[tuple[str, list[tuple[Case, Markup]]]]:
    names = {"best": "Best", "median": "In the middle", "worst": "Worst"}
    return [
        (title, [(case, Markup(picture(case.picture))) for case in cases if case.kind == kind])  # noqa: S704 (escaped)
        for kind, title in names.items()
    ]


def _charts(figures: Figures) -> list[str]:
    full, prior = figures["threshold curve"], figures["threshold curve, prior only"]
    curve = (_points(full, "threshold", "Dice"), _points(prior, "threshold", "Dice"))
    recall = _points(full, "threshold", "pixel recall")
    bins = _points(_at(figures, ("calibration", "bins")), "score", "present")
    roc = tuple((x, y) for x, y in _at(figures, ("ROC",)) if x is not None and y is not None)
    return [
        chart(
            [Line("Dice, model", curve[0]), Line("Dice, prior", curve[1]), Line("recall, model", recall)],
            title="Dice and recall at each threshold",
            x="threshold",
            y="mean over phrases",
        ),
        chart(
            [Line("model", bins, marked=True)],
            title="Reliability of presence",
            x="presence that the model states",
            y="share really present",
            diagonal=True,
        ),
        chart(
            [Line("model", roc)],
            title="Present against absent",
            x="false alarms",
            y="found",
            diagonal=True,
        ),
    ]


def _points(rows: Any, x: str, y: str) -> tuple[tuple[float, float], ...]:
    return tuple((row[x], row[y]) for row in rows if row[x] is not None and row[y] is not None)
