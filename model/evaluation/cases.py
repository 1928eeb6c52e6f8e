"""Which cases the report shows: the best, the median and the worst of the model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.data.sample import DataSet
from model.evaluation.examine import Examination
from model.evaluation.locators import FullModel
from model.evaluation.rows import Row
from model.evaluation.svg import Picture

EACH = 3


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One row as a picture; *kind* is best, median or worst. Named by its line in the file and by nothing else."""

    kind: str
    line: int
    phrase: str
    dice: float
    presence: float
    picture: Picture


def chosen_places(scores: list[float], *, each: int = EACH) -> dict[str, list[int]]:
    """Places of the highest, the middle and the lowest scores, none of them twice; NaN is left out."""
    order = [int(place) for place in np.argsort(scores, kind="stable") if not np.isnan(scores[place])]
    worst, best = order[:each], order[::-1][: min(each, max(0, len(order) - each))]
    rest = order[len(worst) : len(order) - len(best)]
    first = max(0, (len(rest) - each) // 2)
    return {"best": best, "median": rest[first : first + each], "worst": worst}


def cases_of(dataset: DataSet, examination: Examination, model: FullModel) -> tuple[Case, ...]:
    """The pictures, by Dice of the phrases that are there; each image is asked once more."""
    places = chosen_places([score.dice for score in examination.full])
    return tuple(
        _case(dataset, examination.rows[place], model, kind=kind, dice=examination.full[place].dice)
        for kind, chosen in places.items()
        for place in chosen
    )


def _case(dataset: DataSet, row: Row, model: FullModel, *, kind: str, dice: float) -> Case:
    pixels, truth = dataset.pixels(row.sample.image), dataset.mask(row.sample)
    answer = model.locate(pixels, (row.query,))[0]
    heatmap = answer.heatmap.on_source()
    title = f"{row.sample.phrase}: solid is what a radiologist drew, dashed is what the model lit"
    shown = Picture(pixels, truth, heatmap >= model.threshold, heatmap, title)
    return Case(kind, row.number, row.sample.phrase, dice, answer.presence, shown)
