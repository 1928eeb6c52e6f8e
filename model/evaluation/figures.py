"""From scores of rows to the figures of ``metrics.json``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from model.calibration import OPERATING_POINTS, ece, ece_by_chance, fit_scaling, mean_by, recall_threshold, reliability
from model.data.split import fold_of
from model.evaluation import measures
from model.evaluation.bootstrap import Series, interval, patient_weights
from model.evaluation.examine import FOLDS, Examination, Score
from model.evaluation.rows import Row, one_per_image
from model.values import State

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
Figures: TypeAlias = dict[str, Json]
Floats = npt.NDArray[np.float64]
LUNGS = "lungs Dice"


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of the table: what it is made of, and what is asked of it."""

    name: str
    least: float
    aim: float


#: The table of bars, by the names that ``metrics.json`` has on its top level.
BARS = (
    Bar("Dice, phrase without side", 0.50, 0.58),
    Bar("Dice, phrase with side", 0.60, 0.66),
    Bar("CNR, phrase with side", 2.2, 2.6),
    Bar("pointing game, phrase with side", 0.80, 0.88),
    Bar("presence AUC", 0.75, 0.85),
    Bar("side-swap: mass of the heatmap on the named side", 0.95, 0.99),
    Bar(LUNGS, 0.93, 0.95),
)
#: Of the whole table, and one more that the comparison with the prior needs.
MEASURED = (*(bar.name for bar in BARS if bar.name != LUNGS), "CNR, phrase without side")


def series_of(rows: Sequence[Row], scores: Sequence[Score]) -> dict[str, Series]:
    """Each of :data:`MEASURED`, over *rows*."""
    sided = np.array([row.query.side in ("left", "right") for row in rows], bool)
    bare = np.array([row.query.side is None for row in rows], bool)

    def where(kept: npt.NDArray[np.bool_], pick: Callable[[Score], float]) -> Series:
        return Series(np.where(kept, np.array([pick(score) for score in scores], np.float64), np.nan))

    return {
        "Dice, phrase without side": where(bare, lambda score: score.dice),
        "Dice, phrase with side": where(sided, lambda score: score.dice),
        "CNR, phrase with side": where(sided, lambda score: score.cnr),
        "pointing game, phrase with side": where(sided, lambda score: score.pointing),
        "presence AUC": presence_series(rows, scores),
        "side-swap: mass of the heatmap on the named side": where(sided, lambda score: score.side_mass),
        "CNR, phrase without side": where(bare, lambda score: score.cnr),
    }


def presence_series(rows: Sequence[Row], scores: Sequence[Score]) -> Series:
    """Presence of phrases without a side, one row per image."""
    counted = {row.number for row in one_per_image(rows)}
    values = [score.presence if row.number in counted else np.nan for row, score in zip(rows, scores, strict=True)]
    return Series(np.array(values, np.float64), np.array([row.present for row in rows], bool))


def table(examination: Examination, *, lungs: float | None) -> Figures:
    """The bars for the model, its prior and the words, with intervals, and what the model adds to its prior."""
    rows = examination.rows
    weights = patient_weights([row.sample.patient for row in rows]) if rows else np.zeros((1, 0))
    full, prior, words = (
        series_of(rows, scores) for scores in (examination.full, examination.prior, examination.words)
    )
    drawn = {name: series.estimate(weights) for name, series in full.items()}
    before = {name: series.estimate(weights) for name, series in prior.items()}
    top: Figures = {name: number(full[name].figure) for name in MEASURED}
    top[LUNGS] = number(lungs)
    top["words only"] = {**_plain(words), LUNGS: None}
    top["prior only"] = {**_plain(prior), LUNGS: None}
    top["intervals"] = {name: _ends(drawn[name]) for name in MEASURED}
    top["intervals, prior only"] = {name: _ends(before[name]) for name in MEASURED}
    top["full minus prior"] = {
        name: {
            "difference": number(full[name].figure - prior[name].figure),
            "interval": _ends(drawn[name] - before[name]),
        }
        for name in MEASURED
    }
    return top


def _plain(series: dict[str, Series]) -> Figures:
    return {name: number(each.figure) for name, each in series.items()}


def _ends(estimates: Floats) -> Json:
    found = interval(estimates)
    return None if found is None else [number(found[0]), number(found[1])]


def number(value: float | None) -> float | None:
    """Four decimals; None for what is not a number, since JSON has no NaN."""
    return None if value is None or not np.isfinite(value) else round(float(value), 4)


def counts(rows: Sequence[Row]) -> Figures:
    """How much was measured."""
    return {
        "rows": len(rows),
        "present": sum(row.present for row in rows),
        "absent": sum(not row.present for row in rows),
        "patients": len({row.sample.patient for row in rows}),
        "images": len({row.sample.image for row in rows}),
    }


def block(rows: Sequence[Row], scores: Sequence[Score]) -> Figures:
    """The figures of any group of rows."""
    there = [score for row, score in zip(rows, scores, strict=True) if row.present]
    regions, boxes = sum(score.regions for score in scores), sum(score.boxes for score in scores)

    def mean(pick: Callable[[Score], float]) -> float | None:
        picked = np.array([pick(score) for score in there], np.float64)
        return number(float(np.nanmean(picked))) if picked.size and not np.isnan(picked).all() else None

    return {
        **counts(rows),
        "Dice": mean(lambda score: score.dice),
        "Dice of the regions shown": mean(lambda score: score.shown_dice),
        "mIoU": mean(lambda score: score.mean_iou),
        "CNR": mean(lambda score: score.cnr),
        "pointing game": mean(lambda score: score.pointing),
        "single-box IoU": mean(lambda score: score.box_iou),
        "Acc@0.5": mean(lambda score: float(score.box_iou >= 0.5) if score.box_iou == score.box_iou else np.nan),
        "set F1 at .5": number(measures.set_f1(sum(score.pairs[0] for score in scores), regions, boxes)),
        "set F1 at .3": number(measures.set_f1(sum(score.pairs[1] for score in scores), regions, boxes)),
        "found": mean(lambda score: float(score.state is State.FOUND)),
        "presence AUC": number(presence_series(rows, scores).figure) if rows else None,
    }


def grouped(rows: Sequence[Row], scores: Sequence[Score], key: Callable[[Row], str]) -> Figures:
    """A block for each value of *key* among the rows that are present or, where nobody is, absent."""
    names = sorted({key(row) for row in rows})
    found: Figures = {}
    for name in names:
        both = [(row, score) for row, score in zip(rows, scores, strict=True) if key(row) == name]
        found[name or "not said"] = block([row for row, _ in both], [score for _, score in both])
    return found


def threshold_curve(rows: Sequence[Row], scores: Sequence[Score]) -> Json:
    """Mean Dice, IoU and pixel recall of the rows that are present, at each fiftieth."""
    there = [score.tallied for row, score in zip(rows, scores, strict=True) if row.present]
    if not there:
        return []
    curves = [
        np.mean([curve(tallied) for tallied in there], axis=0)
        for curve in (measures.dice_curve, measures.iou_curve, measures.recall_curve)
    ]
    return [
        {"threshold": step / 50, "Dice": number(d), "IoU": number(i), "pixel recall": number(r)}
        for step in range(51)
        for d, i, r in [[float(curve[step * measures.LEVELS // 50]) for curve in curves]]
    ]


def calibration(rows: Sequence[Row], scores: Sequence[Score]) -> Figures:
    """How well the presence probability keeps its word, as it is and rescaled on other patients of the same rows."""
    series = presence_series(rows, scores)
    kept = ~np.isnan(series.values)
    values = series.values[kept]
    there = np.array([row.present for row in rows], bool)[kept]
    patients = [row.sample.patient for row, use in zip(rows, kept, strict=True) if use]
    rescaled = _cross_scaled(values, there, patients)
    return {
        "rows": int(kept.sum()),
        "share present": number(float(there.mean())) if there.size else None,
        "mean presence": number(float(values.mean())) if values.size else None,
        "ECE": number(ece(values, there)),
        "ECE by chance": _by_chance(values),
        "ECE, rescaled on other patients of these rows": None if rescaled is None else number(ece(rescaled, there)),
        "bins": [{name: number(value) for name, value in asdict(each).items()} for each in reliability(values, there)],
    }


def _by_chance(values: Floats) -> Json:
    """Mean, and the middle nine tenths, of the ECE of perfect probabilities on so many rows."""
    drawn = ece_by_chance(values)
    low, high = np.quantile(drawn, (0.05, 0.95))
    return {"mean": number(float(drawn.mean())), "from": number(float(low)), "to": number(float(high))}


def _cross_scaled(values: Floats, there: npt.NDArray[np.bool_], patients: Sequence[str]) -> Floats | None:
    folds = np.array([fold_of(patient, FOLDS) for patient in patients], int)
    result = np.empty_like(values)
    for fold in range(FOLDS):
        other = folds != fold
        if not there[other].any() or there[other].all():
            return None
        result[~other] = fit_scaling(values[other], there[other]).apply(values[~other])
    return result


def roc(rows: Sequence[Row], scores: Sequence[Score]) -> Json:
    """Points of the ROC curve of presence."""
    series = presence_series(rows, scores)
    kept = ~np.isnan(series.values)
    there = np.array([row.present for row in rows], bool)[kept]
    points = measures.roc_curve(series.values[kept], there)
    return [[number(x), number(y)] for x, y in points]


def presence_by_view(rows: Sequence[Row], scores: Sequence[Score]) -> Figures:
    """Presence AUC within each view: portable AP films show sicker patients, so that the view alone tells something."""
    found: Figures = {}
    for view in sorted({row.sample.view for row in rows}):
        pairs = [(row, score) for row, score in zip(rows, scores, strict=True) if row.sample.view == view]
        series = presence_series([row for row, _ in pairs], [score for _, score in pairs])
        found[view or "not said"] = number(series.figure)
    by_view = [float(row.sample.view == "AP") for row in rows]
    alone = presence_series(rows, scores)
    counted = np.where(np.isnan(alone.values), np.nan, np.array(by_view, np.float64))
    found["the view alone (AP or not)"] = number(Series(counted, alone.present).figure) if rows else None
    return found


def conformal(rows: Sequence[Row], scores: Sequence[Score], stored: Mapping[str, float] | None) -> Figures:
    """Promised and measured pixel recall.

    Parameters
    ----------
    stored : threshold of each named operating point as the weights' manifest promises it; None where it has none.
    """
    there = [(row.sample.patient, score) for row, score in zip(rows, scores, strict=True) if row.present]
    if not there:
        return {}
    patients = [patient for patient, _ in there]
    recalls = mean_by([measures.recall_curve(score.tallied) for _, score in there], patients)
    folds = np.array([fold_of(patient, FOLDS) for patient in sorted(set(patients))], int)
    found: Figures = {}
    for name, promised in OPERATING_POINTS.items():
        crossed, cuts = _cross_promised(recalls, folds, promised)
        entry: Figures = {
            "promised": promised,
            "measured, fitted on other patients of these rows": number(crossed),
            "threshold, fitted on other patients of these rows": number(cuts),
        }
        if stored and name in stored:
            cut = stored[name]
            entry["threshold of the weights"] = cut
            entry["measured"] = number(float(recalls[:, _level(cut)].mean()))
        else:
            entry["threshold of the weights"], entry["measured"] = None, number(crossed)
        found[name] = entry
    return found


def _level(threshold: float) -> int:
    """The tally's level at or just above *threshold*."""
    return int(np.searchsorted(measures.THRESHOLDS, threshold - 1e-9))


def _cross_promised(recalls: Floats, folds: npt.NDArray[np.int_], promised: float) -> tuple[float, float]:
    """Mean recall and mean threshold when each fold is cut where the others promise; NaN with one fold alone."""
    reached, cuts = [], []
    for fold in np.unique(folds):
        other = recalls[folds != fold]
        if not len(other):
            return float("nan"), float("nan")
        cut = recall_threshold(other, measures.THRESHOLDS, promised=promised)
        reached += recalls[folds == fold][:, _level(cut)].tolist()
        cuts.append(cut)
    return float(np.mean(reached)), float(np.mean(cuts))
