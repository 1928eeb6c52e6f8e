"""Ask every locator every phrase, image by image, and keep numbers instead of maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from model.anatomy import Lungs
from model.data.sample import DataSet
from model.data.split import fold_of
from model.evaluation import measures
from model.evaluation.controls import Control, control_of, scrambled
from model.evaluation.locators import FullModel, Learnt, Located, Locator, Shown, learn, shown
from model.evaluation.rows import Row, other_side, wrong_phrase
from model.geometry import letterbox_of
from model.regions import regions_of
from model.values import State

Pixels = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
FOLDS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """One locator's answer to one row, in numbers; NaN where a number has no meaning for the row.

    Parameters
    ----------
    tallied : see :func:`model.evaluation.measures.tally`.
    dice, cnr, pointing, iou : at the locator's threshold, and of rows with a truth.
    shown_dice : of the regions that a person would be shown.
    side_mass : share of the map's mass on the named side, of rows that name one.
    box_iou : of the box around the largest region with the box of the truth, of rows with exactly one box.
    pairs : regions matched with boxes at an intersection over union of .5 and of .3.
    lit : share of the image that a person would be shown.
    """

    presence: float
    state: State
    tallied: measures.Counts
    dice: float
    shown_dice: float
    cnr: float
    pointing: float
    mean_iou: float
    side_mass: float
    box_iou: float
    pairs: tuple[int, int]
    regions: int
    boxes: int
    lit: float


@dataclass(frozen=True, slots=True, eq=False)
class Examination:
    """All scores of all rows, aligned with *rows*; *controls* only where the row has what they need."""

    rows: tuple[Row, ...]
    full: tuple[Score, ...]
    prior: tuple[Score, ...]
    words: tuple[Score, ...]
    controls: tuple[Control, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """The rows of one image, and the model's lungs in it."""

    rows: tuple[Row, ...]
    lungs: Lungs


Progress = Callable[[str, Sequence[Any]], Iterable[Any]]


def silent(_: str, images: Sequence[Any]) -> Iterable[Any]:
    """No progress shown."""
    return images


def cross_fitted(rows: Sequence[Shown], patients: Sequence[str]) -> Mapping[int, Learnt]:
    """For each fold of patients, what the patients of all other folds teach; everybody where none is left."""
    folds = [fold_of(patient, FOLDS) for patient in patients]
    fitted = {}
    for fold in sorted(set(folds)):
        others = [row for row, own in zip(rows, folds, strict=True) if own != fold and row.truth.any()]
        fitted[fold] = learn(others or [row for row in rows if row.truth.any()])
    return fitted


def examine(
    dataset: DataSet,
    rows: Sequence[Row],
    model: FullModel,
    *,
    prior: Locator | None = None,
    progress: Progress = silent,
) -> Examination:
    """Measure *model*, its *prior* and the words on every row.

    Parameters
    ----------
    prior : the model without image evidence; where None, one in the frame of the lungs that is learnt, like the words,
        from the other patients of these rows.
    progress : wraps a list of images, with what is done to them, to show how far it is.

    Raises
    ------
    OSError, ValueError
        If an image or mask cannot be read.
    """
    by_image = sorted(rows, key=lambda row: row.sample.image)
    grouped = [tuple(group) for _, group in groupby(by_image, key=lambda row: row.sample.image)]
    images = [
        Image(group, model.lungs(dataset.pixels(group[0].sample.image)))
        for group in progress("Finding the lungs", grouped)
    ]
    marked = [
        (row.sample.patient, shown(row.query, dataset.mask(row.sample), image.lungs))
        for image in images
        for row in image.rows
    ]
    learnt = cross_fitted([each for _, each in marked], [patient for patient, _ in marked])
    results: dict[int, tuple[Score, Score, Score, Control]] = {}
    for image in progress("Measuring", images):
        own = learnt[fold_of(image.rows[0].sample.patient, FOLDS)]
        found = _image(dataset, image, model, prior=prior or own.prior_on(image.lungs), words=own.words)
        results |= dict(zip((row.number for row in image.rows), found, strict=True))
    ordered = [results[row.number] for row in rows]
    full, priors, words, controls = zip(*ordered, strict=True) if ordered else ((), (), (), ())
    return Examination(tuple(rows), tuple(full), tuple(priors), tuple(words), tuple(controls))


def _image(
    dataset: DataSet, image: Image, model: FullModel, *, prior: Locator, words: Locator
) -> list[tuple[Score, Score, Score, Control]]:
    """All rows of one image, which is encoded once for all its phrases, and once more in disorder."""
    rows = image.rows
    pixels = dataset.pixels(rows[0].sample.image)
    queries = tuple(row.query for row in rows)
    taken = {query.finding for query in queries}
    asked = (*queries, *map(other_side, queries), *(wrong_phrase(query, taken) for query in queries))
    answers = model.locate(pixels, asked)
    there, swapped, wrong = (answers[part * len(rows) : (part + 1) * len(rows)] for part in range(3))
    destroyed = model.locate(scrambled(pixels, seed=rows[0].number), queries)
    priors, alone = prior.locate(pixels, queries), words.locate(pixels, queries)
    midline = midline_of(image.lungs, pixels)
    results = []
    for number, row in enumerate(rows):
        truth = dataset.mask(row.sample)
        full, before, bare = (
            score(row, each[number], truth, threshold=locator.threshold, midline=midline)
            for locator, each in ((model, there), (prior, priors), (words, alone))
        )
        control = control_of(
            row.query,
            truth,
            there[number],
            swapped=swapped[number],
            wrong=wrong[number],
            destroyed=destroyed[number],
            prior=priors[number],
            midline=midline,
            threshold=model.threshold,
        )
        results.append((full, before, bare, control))
    return results


def midline_of(lungs: Lungs, pixels: Pixels) -> float:
    """Column between the lungs in source pixels; the middle of the image where they are not two lungs."""
    if not lungs.plausible:
        return pixels.shape[1] / 2
    unit = (lungs.midline + 0.5) / len(lungs.right)
    return float(letterbox_of(pixels).to_source(np.array([[unit, 0.5]]))[0, 0])


def score(row: Row, answer: Located, truth: Mask, *, threshold: float, midline: float) -> Score:
    """What *answer* is worth beside *truth*, bool (rows, columns)."""
    values = answer.heatmap.on_source()
    tallied = measures.tally(values, truth)
    lit = np.zeros(truth.shape, bool)
    for region in answer.regions:
        lit |= region.mask(*truth.shape)
    there = truth.any()
    corners = [(box.x, box.y, box.x + box.width, box.y + box.height) for box in row.sample.boxes]
    overlap = measures.box_iou([region.box for region in answer.regions], corners)
    side = row.query.side if row.query.side in ("left", "right") else None
    unknown = float("nan")
    return Score(
        presence=answer.presence,
        state=answer.state,
        tallied=tallied,
        dice=measures.dice(values >= threshold, truth) if there else unknown,
        shown_dice=measures.dice(lit, truth) if there else unknown,
        cnr=measures.cnr(values, truth) if there else unknown,
        pointing=float(measures.pointing(values, truth)) if there else unknown,
        mean_iou=measures.mean_iou(tallied) if there else unknown,
        side_mass=measures.mass_on_side(values, midline, side=side) if there and side else unknown,
        box_iou=_single_box(answer, corners, threshold=threshold) if len(corners) == 1 else unknown,
        pairs=(measures.matches(overlap, 0.5), measures.matches(overlap, 0.3)),
        regions=len(answer.regions),
        boxes=len(corners),
        lit=float(lit.mean()),
    )


def _single_box(answer: Located, corners: list[tuple[float, float, float, float]], *, threshold: float) -> float:
    regions = regions_of(answer.heatmap, threshold)
    return float(measures.box_iou([regions[0].box], corners)[0, 0]) if regions else 0.0
