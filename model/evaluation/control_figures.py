"""What the controls show, in figures. Pure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from model.evaluation.bootstrap import Series, interval, patient_weights
from model.evaluation.controls import Control
from model.evaluation.examine import Examination, Score
from model.evaluation.figures import Figures, Json, number
from model.evaluation.measures import auc
from model.values import State


def controls(examination: Examination) -> Figures:
    """Scrambled images, wrong phrases and absent findings."""
    return {
        "scrambled image": _scrambled(examination),
        "wrong phrase": _wrong(examination),
        "absent test": _absent(examination),
    }


def _scrambled(examination: Examination) -> Figures:
    """The patches of each image in disorder: the map should be the prior's, and the presence lower."""
    lower = _paired(examination, lambda score, control: score.presence - control.scrambled_presence)
    return {
        "Dice": _mean(examination, lambda score, _: score.dice),
        "Dice, scrambled": _mean(examination, lambda _, control: control.scrambled_dice),
        "Dice, prior only": number(_average([score.dice for score in examination.prior])),
        "CNR": _mean(examination, lambda score, _: score.cnr),
        "CNR, scrambled": _mean(examination, lambda _, control: control.scrambled_cnr),
        "presence": _mean(examination, lambda score, _: score.presence),
        "presence, scrambled": _mean(examination, lambda _, control: control.scrambled_presence),
        "presence lowered by, interval": lower,
        "share refused": _mean(examination, lambda _, control: float(control.scrambled_refused)),
        "correlation with the prior": _mean(examination, lambda _, control: control.likeness),
        "correlation with the prior, scrambled": _mean(examination, lambda _, control: control.scrambled_likeness),
    }


def _wrong(examination: Examination) -> Figures:
    """Another finding asked of an image that shows this one: map and presence should fall."""
    return {
        "Dice, right phrase": _mean(examination, lambda score, _: score.dice),
        "Dice, wrong phrase": _mean(examination, lambda _, control: control.wrong_dice),
        "presence, right phrase": number(_average([s.presence for s in _present(examination)])),
        "presence, wrong phrase": _mean(examination, lambda _, control: control.wrong_presence),
        "presence lowered by, interval": _paired(
            examination, lambda score, control: score.presence - control.wrong_presence
        ),
    }


def _absent(examination: Examination) -> Figures:
    """Phrases that a reader found nothing for: nothing should be lit."""
    pairs = list(zip(examination.rows, examination.full, strict=True))
    absent = [score for row, score in pairs if not row.present]
    there = [score for row, score in pairs if row.present]
    return {
        "rows": len(absent),
        "called found": number(_average([float(score.state is State.FOUND) for score in absent])),
        "called found, present rows": number(_average([float(score.state is State.FOUND) for score in there])),
        "presence": number(_average([score.presence for score in absent])),
        "share of the image lit": number(_average([score.lit for score in absent])),
    }


def side_swap(examination: Examination) -> Figures:
    """Left and right exchanged in the words: the light should move across the midline.

    *named against other side*: the area under the ROC curve that tells the named side's presence from the other's, over
    images with boxes on one side alone; asking for the other side there is asking for what is absent.
    """
    sides: dict[tuple[str, str], set[str]] = {}
    for row in examination.rows:
        if row.present and row.query.side in ("left", "right"):
            sides.setdefault((row.sample.image, row.query.finding), set()).add(row.query.side)
    named, other = [], []
    for row, score, control in zip(examination.rows, examination.full, examination.controls, strict=True):
        alone = len(sides.get((row.sample.image, row.query.finding), ())) == 1
        if alone and not np.isnan(control.swapped_presence):
            named.append(score.presence)
            other.append(control.swapped_presence)
    scores, kinds = [*named, *other], [*[True] * len(named), *[False] * len(other)]
    return {
        "rows": sum(not np.isnan(control.named_mass) for control in examination.controls),
        "mass on the named side": _mean(examination, lambda _, control: control.named_mass),
        "mass on that side, other side named": _mean(examination, lambda _, control: control.swapped_mass),
        "moved by the word, interval": _paired(
            examination, lambda _, control: control.named_mass - control.swapped_mass
        ),
        "images with one side alone": len(named),
        "presence AUC, named against other side": number(float(auc(scores, kinds)[0])) if named else None,
    }


def _present(examination: Examination) -> list[Score]:
    return [score for row, score in zip(examination.rows, examination.full, strict=True) if row.present]


def _values(examination: Examination, pick: Callable[[Score, Control], float]) -> list[float]:
    return [pick(score, control) for score, control in zip(examination.full, examination.controls, strict=True)]


def _mean(examination: Examination, pick: Callable[[Score, Control], float]) -> float | None:
    return number(_average(_values(examination, pick)))


def _average(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _paired(examination: Examination, pick: Callable[[Score, Control], float]) -> Json:
    """Patient-bootstrap interval of a difference."""
    if not examination.rows:
        return None
    weights = patient_weights([row.sample.patient for row in examination.rows])
    ends = interval(Series(np.array(_values(examination, pick), np.float64)).estimate(weights))
    return None if ends is None else [number(ends[0]), number(ends[1])]
