"""The measures, as pure functions of arrays. docs/evaluation.md says how each is read, and where it comes from.

Maps are taken at the source resolution, inside the image, without the letterbox's padding: float32 (rows, columns) in
[0, 1] beside a truth, bool (rows, columns). A row is one phrase on one image; unless a name says *micro*, a figure of
many rows is the mean of the figures of each.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

#: Thresholds at which every map is tallied: 0, 0.001, ... 1.
LEVELS = 1000
THRESHOLDS: Floats = np.arange(LEVELS + 1) / LEVELS
#: A map that is constant inside and outside, at different values, would have an infinite contrast.
MOST_CNR = 10.0


def tally(values: Values, truth: Mask) -> Counts:
    """How many pixels inside and outside *truth* reach each threshold.

    Returns
    -------
    int64 (2, LEVELS + 1): true positives, false positives at :data:`THRESHOLDS`; both fall from left to right.
    """
    level = np.minimum((values.astype(np.float64) * LEVELS + 1e-6).astype(np.int64), LEVELS)
    counts = np.stack([np.bincount(level[chosen], minlength=LEVELS + 1) for chosen in (truth, ~truth)])
    return np.asarray(counts[:, ::-1].cumsum(axis=1)[:, ::-1], np.int64)


def dice_curve(tallied: Counts) -> Floats:
    """Dice at each threshold: 2 TP / (2 TP + FP + FN); 1 where nothing is there and nothing is lit."""
    hit, wrong = tallied.astype(np.float64)
    total = hit + wrong + hit[0]
    return np.asarray(np.where(total > 0, 2 * hit / np.maximum(total, 1), 1.0))


def iou_curve(tallied: Counts) -> Floats:
    """Intersection over union at each threshold: TP / (TP + FP + FN); 1 where both are empty."""
    hit, wrong = tallied.astype(np.float64)
    total = wrong + hit[0]
    return np.asarray(np.where(total > 0, hit / np.maximum(total, 1), 1.0))


def recall_curve(tallied: Counts) -> Floats:
    """Share of the truth that is lit at each threshold, TP / (TP + FN); the truth must not be empty."""
    return np.asarray(tallied[0] / tallied[0, 0])


def dice(one: Mask, other: Mask) -> float:
    """2 |A and B| / (|A| + |B|); 1 when both are empty."""
    total = int(one.sum() + other.sum())
    return 1.0 if not total else 2 * int((one & other).sum()) / total


def mean_iou(tallied: Counts) -> float:
    """Mean of the intersection over union at the thresholds .1, .2, .3, .4 and .5 (Boecking et al., ECCV 2022)."""
    curve = iou_curve(tallied)
    return float(np.mean([curve[round(LEVELS * step / 10)] for step in range(1, 6)]))


def cnr(values: Values, truth: Mask) -> float:
    """Contrast-to-noise ratio, |mean inside - mean outside| / sqrt(variance inside + variance outside).

    As Boecking et al. (BioViL, ECCV 2022) define it, with population variances; at most :data:`MOST_CNR`; 0 for a map
    that is constant, and where the truth is empty or everything.
    """
    inside, outside = values[truth].astype(np.float64), values[~truth].astype(np.float64)
    if not inside.size or not outside.size:
        return 0.0
    contrast = abs(float(inside.mean() - outside.mean()))
    noise = float(np.sqrt(inside.var() + outside.var()))
    return 0.0 if contrast < 1e-9 else min(contrast / max(noise, 1e-9), MOST_CNR)


def pointing(values: Values, truth: Mask) -> bool:
    """Whether the most probable pixel lies in the truth (Zhang et al., ECCV 2016); the first one where several are.

    A map without any light points nowhere.
    """
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    return bool(values[row, column] > 0 and truth[row, column])


def mass_on_side(values: Values, midline: float, *, side: str) -> float:
    """Share of a map's mass on the patient's *side* of the midline.

    Parameters
    ----------
    values : upright, so that the patient's right is on the viewer's left. A map without mass has none on any side: 0.
    midline : column in the map's own cells, continuous.
    side : "left" or "right", the patient's.
    """
    total = float(values.sum(dtype=np.float64))
    if total <= 0:
        return 0.0
    right = float((values.sum(axis=0, dtype=np.float64) * _share_left_of(midline, values.shape[1])).sum())
    return right / total if side == "right" else 1 - right / total


def _share_left_of(column: float, columns: int) -> Floats:
    """Of each column [i, i + 1], the share that lies left of *column*."""
    return np.asarray(np.clip(column - np.arange(columns), 0, 1), np.float64)


def auc(
    scores: npt.ArrayLike, present: npt.ArrayLike, weights: npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.float64]:
    """Area under the ROC curve: the chance that a row that is present scores above one that is not; ties count half.

    Parameters
    ----------
    scores, present : (n,).
    weights : (repeats, n), for instance how often the bootstrap drew each row; once each by default.

    Returns
    -------
    (repeats,); NaN where one of the two kinds is missing.
    """
    score, there = np.asarray(scores, np.float64), np.asarray(present, bool)
    drawn = np.ones((1, score.size)) if weights is None else weights
    ahead = score[there][:, None] - score[~there][None, :]
    ordered = (ahead > 0) + 0.5 * (ahead == 0)
    positive, negative = drawn[:, there], drawn[:, ~there]
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    won = ((positive @ ordered) * negative).sum(axis=1)
    return np.asarray(np.where(pairs > 0, won / np.maximum(pairs, 1e-12), np.nan))


def roc_curve(scores: npt.ArrayLike, present: npt.ArrayLike) -> Floats:
    """Points (false positive rate, true positive rate) from (0, 0) to (1, 1), one for each different score.

    Returns
    -------
    float64 (points, 2); only the two ends where one of the two kinds is missing.
    """
    score, there = np.asarray(scores, np.float64), np.asarray(present, bool)
    if there.all() or not there.any():
        return np.array([[0.0, 0.0], [1.0, 1.0]])
    cuts = np.unique(score)[::-1]
    reached = score[None, :] >= cuts[:, None]
    points = np.stack([reached[:, ~there].mean(axis=1), reached[:, there].mean(axis=1)], axis=1)
    return np.concatenate([np.zeros((1, 2)), points])


def box_iou(one: npt.ArrayLike, other: npt.ArrayLike) -> Floats:
    """Intersection over union of each of n boxes with each of m, as (left, top, right, bottom).

    Returns
    -------
    float64 (n, m); 0 for boxes without area.
    """
    a, b = np.asarray(one, np.float64).reshape(-1, 1, 4), np.asarray(other, np.float64).reshape(1, -1, 4)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    shared = sides.prod(axis=-1)
    union = (a[..., 2:] - a[..., :2]).prod(axis=-1) + (b[..., 2:] - b[..., :2]).prod(axis=-1) - shared
    return np.asarray(np.where(union > 0, shared / np.maximum(union, 1e-12), 0.0))


def matches(iou: Floats, least: float) -> int:
    """How many pairs of region and box a one-to-one assignment finds with at least that intersection over union."""
    if not iou.size:
        return 0
    reached = iou >= least
    rows, columns = linear_sum_assignment(reached, maximize=True)
    return int(reached[rows, columns].sum())


def set_f1(pairs: int, regions: int, boxes: int) -> float:
    """2 pairs / (regions + boxes); NaN where there is neither a region nor a box."""
    return 2 * pairs / (regions + boxes) if regions + boxes else float("nan")
