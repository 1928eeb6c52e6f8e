"""The whole evaluation: a data set and a grounder in, every figure out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from model.data.sample import DataSet, Sample
from model.data.split import digest, held_out
from model.evaluation import figures
from model.evaluation.cases import Case, cases_of
from model.evaluation.control_figures import controls, side_swap
from model.evaluation.examine import Examination, Progress, examine, silent
from model.evaluation.figures import Figures, number
from model.evaluation.locators import FullModel, Groundable, Locator
from model.evaluation.lungs import lungs_dice
from model.evaluation.rows import Row, chosen, headline, rows_of
from model.speed import times
from model.values import Query, Question


class NothingToMeasureError(ValueError):
    """No row is left to measure."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows, and what else to measure.

    Parameters
    ----------
    held_out : only the patients that :func:`model.data.split.held_out` keeps aside.
    lungs : folder of lung masks of the Hannover form.
    """

    source: str | None = None
    finding: str | None = None
    held_out: bool = False
    lungs: Path | None = None
    speed: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The figures, and the rows that the report draws: those of the table of bars."""

    figures: Figures
    cases: tuple[Case, ...]


def evaluate(
    dataset: DataSet,
    grounder: Groundable,
    *,
    query_of: Callable[[Sample], Query],
    choice: Choice,
    prior: Locator | None = None,
    trained: Mapping[str, Any] | None = None,
    promised: Mapping[str, float] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Every figure of docs/evaluation.md.

    Parameters
    ----------
    query_of : how a phrase is understood; the service's report reader.
    prior : the model's own prior without image evidence, or None where it has none.
    trained : what the weights' manifest says about their data.
    promised : threshold of each operating point of the manifest, for a promised pixel recall.

    Raises
    ------
    NothingToMeasureError
        If no row is left.
    OSError, ValueError
        If data cannot be read.
    """
    rows = chosen(rows_of(dataset.samples(), query_of), source=choice.source, finding=choice.finding)
    if choice.held_out:
        rows = tuple(row for row in rows if held_out(row.sample.patient))
    if not rows:
        raise NothingToMeasureError("no row is left to measure: check the file and the filters")
    model = FullModel(grounder)
    found = examine(dataset, rows, model, prior=prior, progress=progress)
    seen = (trained or {}).get("lungs", {}).get("patients", ())
    lungs = lungs_dice(model, choice.lungs, seen=seen) if choice.lungs else ()
    result = figures_of(found, lungs=lungs, promised=promised)
    card = grounder.card
    result["weights"] = {"name": card.name, "version": card.version, "sha256": card.weights_sha256}
    result["threshold"] = card.threshold
    result["data"] = {"name": dataset.name, "version": dataset.version, "held out only": choice.held_out}
    result["trained on"] = trained_on(rows, trained or {})
    result["prior"] = "learnt from the other patients of these rows" if prior is None else "the model's own"
    if choice.speed:
        result["speed"] = speed_of(grounder)
    head = part_of(found, headline(found.rows)[0])
    return Evaluation(result, cases_of(dataset, head, model))


def speed_of(grounder: Groundable) -> Figures:
    """Seconds of a study and of a further phrase, and the share of a study that this is."""

    def ground(asked: Sequence[Question]) -> None:
        for each in asked:
            grounder.ground(each.pixels, each.orientation, each.queries)

    spent = times(ground, runs=10)
    return {"study_s": number(spent.study), "phrase_s": number(spent.phrase), "phrase_share": number(spent.share)}


def part_of(examination: Examination, rows: Iterable[Row]) -> Examination:
    """The examination of *rows* alone."""
    kept = {row.number for row in rows}
    places = [place for place, row in enumerate(examination.rows) if row.number in kept]
    return replace(
        examination,
        **{
            name: tuple(getattr(examination, name)[place] for place in places)
            for name in ("rows", "full", "prior", "words", "controls")
        },
    )


def figures_of(
    examination: Examination, *, lungs: tuple[float, ...] = (), promised: Mapping[str, float] | None = None
) -> Figures:
    """All figures of an examination; the table and what belongs to it over the headline's rows."""
    rows, said = headline(examination.rows)
    head = part_of(examination, rows)
    top = figures.table(head, lungs=float(np.mean(lungs)) if lungs else None)
    top["lungs"] = {"images": len(lungs), "lowest": number(min(lungs)) if lungs else None}
    top["measured on"] = {
        "rows of the table": said,
        **figures.counts(head.rows),
        "whole file": figures.counts(examination.rows),
    }
    for name, scores in (
        ("overall", head.full),
        ("overall, prior only", head.prior),
        ("overall, words only", head.words),
    ):
        top[name] = figures.block(head.rows, scores)
    everything = examination.rows, examination.full
    top["by finding"] = figures.grouped(*everything, lambda row: row.query.finding)
    top["by side"] = figures.grouped(head.rows, head.full, lambda row: row.query.side or "no side")
    top["by side, prior only"] = figures.grouped(head.rows, head.prior, lambda row: row.query.side or "no side")
    top["by side, words only"] = figures.grouped(head.rows, head.words, lambda row: row.query.side or "no side")
    top["by view"] = figures.grouped(head.rows, head.full, lambda row: row.sample.view)
    top["presence AUC by view"] = figures.presence_by_view(head.rows, head.full)
    top["calibration"] = figures.calibration(head.rows, head.full)
    top["conformal"] = figures.conformal(head.rows, head.full, promised)
    top["threshold curve"] = figures.threshold_curve(head.rows, head.full)
    top["threshold curve, prior only"] = figures.threshold_curve(head.rows, head.prior)
    top["ROC"] = figures.roc(head.rows, head.full)
    top["controls"] = controls(head)
    top["side-swap test"] = side_swap(head)
    return top


def trained_on(rows: Sequence[Row], data: Mapping[str, Any]) -> Figures:
    """How many of the measured patients the weights have seen, as their manifest tells it.

    A manifest lists its training patients as digests (``patients``; :func:`model.data.split.digest`). One that only
    names the rule of those held out counts everybody else as seen, which is the most that it can be.
    """
    patients = {row.sample.patient for row in rows}
    if "patients" in data:
        seen, how = sum(digest(patient) in set(data["patients"]) for patient in patients), "listed in the manifest"
    elif "held_out" in data:
        seen, how = sum(not held_out(patient) for patient in patients), "not held out: at most so many"
    else:
        seen, how = 0, "the manifest names no real patients"
    return {"patients": len(patients), "seen in training": seen, "how this is known": how}
