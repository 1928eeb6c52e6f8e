"""What a score means: probabilities that keep their word, and thresholds that keep a promised recall. Pure.

Everything here is fitted on validation patients, stored with the weights it belongs to, and measured on others
(:mod:`model.evaluation`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Promised pixel recall of each named operating point.
OPERATING_POINTS: Mapping[str, float] = {"sensitive": 0.95, "balanced": 0.9, "specific": 0.8}
_EDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Scaling:
    """Platt scaling: the calibrated probability of a score p is sigmoid(slope * logit(p) + offset).

    Temperature scaling (Guo et al., ICML 2017) is the case of offset 0, its temperature 1 / slope.
    """

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.slope >= 0:
            raise ValueError("a slope below 0 would turn the order of the scores round")

    def apply(self, scores: npt.ArrayLike) -> Floats:
        """*scores* in [0, 1] -> calibrated probabilities of the same shape; their order stays."""
        return _sigmoid(self.slope * logit(scores) + self.offset)


def logit(scores: npt.ArrayLike) -> Floats:
    """log(p / (1 - p)), with p kept a millionth away from 0 and 1."""
    kept = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(kept / (1 - kept)))


def fit_scaling(scores: npt.ArrayLike, present: npt.ArrayLike, *, weight: float = 1e-3) -> Scaling:
    """Platt scaling by maximum likelihood, with Platt's smoothed targets (Platt, 1999).

    Parameters
    ----------
    scores, present : (n,).
    weight : of a pull towards leaving the scores as they are, so that separable scores have an answer.

    Raises
    ------
    ValueError
        If scores of only one kind are given.
    """
    there = np.asarray(present, bool)
    positive, negative = int(there.sum()), int((~there).sum())
    if not positive or not negative:
        raise ValueError("calibration needs rows that are present and rows that are not")
    target = np.where(there, (positive + 1) / (positive + 2), 1 / (negative + 2))
    x = np.stack([logit(scores), np.ones(there.size)], axis=1)
    start = np.array([1.0, 0.0])
    found = start.copy()
    for _ in range(50):  # Newton's method on a convex function
        likely = _sigmoid(x @ found)
        slope = x.T @ (likely - target) + weight * (found - start)
        curvature = (x * (likely * (1 - likely))[:, None]).T @ x + weight * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        found = found - step / max(1.0, float(np.abs(step).max()))
        if np.abs(step).max() < 1e-9:
            break
    return Scaling(max(0.0, float(found[0])), float(found[1]))


def calibrated(score: float, group: str, scalings: Mapping[str, Scaling]) -> float:
    """*score* by the scaling of its group, or of all; as it is without any."""
    scaling = scalings.get(group, scalings.get(""))
    return score if scaling is None else float(scaling.apply(score))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))


@dataclass(frozen=True, slots=True)
class Bin:
    """Rows whose score lies in [low, high): how many, their mean score, and how often the finding was there."""

    low: float
    high: float
    rows: int
    score: float
    present: float


def reliability(scores: npt.ArrayLike, present: npt.ArrayLike, *, bins: int = 10) -> tuple[Bin, ...]:
    """The rows in bins of equal width; empty bins are left out, and 1 belongs to the last."""
    score, there = np.asarray(scores, np.float64), np.asarray(present, np.float64)
    number = np.minimum((score * bins).astype(int), bins - 1)
    filled = (int(each) for each in np.unique(number))
    return tuple(
        Bin(k / bins, (k + 1) / bins, int(chosen.sum()), float(score[chosen].mean()), float(there[chosen].mean()))
        for k in filled
        for chosen in (number == k,)
    )


def ece(scores: npt.ArrayLike, present: npt.ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error: mean over rows of |mean score - share present| of their bin (Naeini et al., 2015)."""
    filled = reliability(scores, present, bins=bins)
    rows = sum(each.rows for each in filled)
    if not rows:
        return float("nan")
    return sum(each.rows * abs(each.score - each.present) for each in filled) / rows


def ece_by_chance(scores: npt.ArrayLike, *, draws: int = 1000) -> Floats:
    """The ECE of *draws* samples whose findings are there exactly as often as *scores* (n,) say, rising: (draws,).

    Few rows are never as often there as the best probabilities say: an ECE within what is drawn here shows no fault
    (consistency resampling, Broecker and Smith 2007). The draws are the same every time.
    """
    score = np.asarray(scores, np.float64)
    drawn = np.random.Generator(np.random.PCG64(0)).random((draws, score.size)) < score
    return np.sort([ece(score, present) for present in drawn])


def recall_threshold(recalls: npt.ArrayLike, thresholds: npt.ArrayLike, *, promised: float) -> float:
    """The highest threshold that keeps the promised mean pixel recall for an exchangeable new row.

    Conformal risk control (Angelopoulos et al., 2022) with the loss 1 - recall, which is at most 1 and falls with the
    threshold: n / (n + 1) * mean loss + 1 / (n + 1) <= 1 - promised.

    Parameters
    ----------
    recalls : (n, k): recall of each row at each threshold. One row per patient, or the mean of a patient's rows, since
        rows of one patient are not exchangeable.
    thresholds : (k,), rising.

    Returns
    -------
    The threshold; 0 (everything is lit) where even the lowest does not keep the promise.

    Raises
    ------
    ValueError
        If *promised* is outside (0, 1) or there is no row.
    """
    if not 0 < promised < 1:
        raise ValueError("a promised recall lies in (0, 1)")
    recall, level = np.asarray(recalls, np.float64), np.asarray(thresholds, np.float64)
    if recall.ndim != 2 or not len(recall):
        raise ValueError("a promised recall needs at least one row to be measured on")
    rows = len(recall)
    risk = rows / (rows + 1) * (1 - recall).mean(axis=0) + 1 / (rows + 1)
    kept = np.flatnonzero(risk <= 1 - promised + 1e-12)
    return float(level[kept.max()]) if kept.size else 0.0


def operating_points(recalls: npt.ArrayLike, thresholds: npt.ArrayLike) -> dict[str, float]:
    """The threshold of each of :data:`OPERATING_POINTS`."""
    return {
        name: recall_threshold(recalls, thresholds, promised=promised) for name, promised in OPERATING_POINTS.items()
    }


def mean_by(values: npt.ArrayLike, groups: Sequence[str]) -> Floats:
    """Mean of the rows (n, k) of each group, in the order of their names: (groups, k)."""
    rows = np.asarray(values, np.float64)
    _, number = np.unique(np.asarray(groups, str), return_inverse=True)
    sums = np.zeros((int(number.max()) + 1, rows.shape[1]))
    np.add.at(sums, number, rows)
    return np.asarray(sums / np.bincount(number)[:, None])
