"""``sightline evaluate``: how good the grounder is on a file of phrases and boxes, in figures and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from model.data.opening import open_dataset
from model.data.sample import Sample
from model.evaluation.figures import BARS, Figures
from model.evaluation.report import html_of
from model.evaluation.run import Choice, evaluate
from model.grounder import load_grounder
from model.values import Query
from model.weights import SHIPPED, load_manifest
from nlp.reader import read_report
from plugin.errors import InputError
from plugin.pipeline import query_of


def run(*, data: str, out: Path, weights: Path | None, choice: Choice, cache_folder: Path | None = None) -> int:
    """Measure the weights on *data* and write ``metrics.json`` and ``report.html`` into *out*.

    Raises
    ------
    InputError
        If data or weights cannot be used, or *out* cannot be written.
    """
    console = Console()
    try:
        dataset = open_dataset(data, cache=cache_folder)
        manifest = load_manifest(weights or SHIPPED)
        result = evaluate(
            dataset,
            load_grounder(weights, judged=False),  # what the judge refuses is measured by itself
            query_of=query_of_sample,
            choice=choice,
            trained=manifest.data,
            promised=manifest.operating_points,
            progress=_tracked,
        )
        out.mkdir(parents=True, exist_ok=True)
        (out / "report.html").write_text(html_of(result.figures, result.cases), encoding="utf-8")
        (out / "metrics.json").write_text(json.dumps(result.figures, indent=1) + "\n", encoding="utf-8")
    except ValueError as error:
        raise InputError(f"nothing can be measured: {error}") from None
    except OSError as error:
        raise InputError(f"a file cannot be read or written ({error.strerror}): check the data and --out") from None
    _print(result.figures, console)
    return 0


def query_of_sample(sample: Sample) -> Query:
    """The phrase as the report reader understands it; by its bare words where the reader finds no finding in it."""
    return _understood(sample.phrase) or Query(
        sample.phrase,
        sample.finding.lower() or sample.phrase.lower(),
        next((side for side in ("left", "right") if side in sample.phrase.lower().split()), None),
    )


@cache
def _understood(phrase: str) -> Query | None:
    found = [each for each in read_report(phrase).phrases if each.groundable]
    return query_of(found[0]) if found else None


def _tracked(said: str, images: Sequence[Any]) -> Iterable[Any]:
    return track(images, description=said, total=len(images), transient=True)


def _print(figures: Figures, console: Console) -> None:
    table = Table("measure", "words only", "prior only", "model", "at least", "aim")
    for bar in BARS:
        beside = [figures[name] for name in ("words only", "prior only")]
        cells = [each.get(bar.name) if isinstance(each, dict) else None for each in beside]
        table.add_row(bar.name, *map(_cell, (*cells, figures[bar.name], bar.least, bar.aim)))
    console.print(table)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"
