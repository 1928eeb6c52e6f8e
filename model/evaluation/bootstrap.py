"""How far a figure may lie from the truth: patients, not rows, are drawn again and again. Pure.

Rows of one patient say the same thing twice, so an interval over rows would be too narrow (Efron & Tibshirani, 1993).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.evaluation.measures import auc

Floats = npt.NDArray[np.float64]
REPEATS = 2000


def patient_weights(patients: Sequence[str], *, repeats: int = REPEATS, seed: int = 0) -> Floats:
    """How often each row is drawn when as many patients as there are are drawn with replacement: (repeats, rows)."""
    names, number = np.unique(np.asarray(patients, str), return_inverse=True)
    rng = np.random.Generator(np.random.PCG64(seed))
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=repeats)
    return np.asarray(drawn[:, number], np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """What one figure is made of: a number per row, NaN for rows that it leaves out.

    Parameters
    ----------
    values : float64 (rows,).
    present : bool (rows,) where the figure is the area under the ROC curve of *values*; None where it is their mean.
    """

    values: Floats
    present: npt.NDArray[np.bool_] | None = None

    def estimate(self, weights: Floats) -> Floats:
        """The figure for each of the draws (repeats, rows): (repeats,); NaN where a draw leaves nothing."""
        kept = ~np.isnan(self.values)
        values, drawn = self.values[kept], weights[:, kept]
        if self.present is not None:
            return auc(values, self.present[kept], drawn)
        total = drawn.sum(axis=1)
        return np.asarray(np.where(total > 0, (drawn @ values) / np.maximum(total, 1e-12), np.nan))

    @property
    def figure(self) -> float:
        """The figure of all rows as they are; NaN where there is none."""
        return float(self.estimate(np.ones((1, len(self.values))))[0])


def interval(estimates: Floats) -> tuple[float, float] | None:
    """The middle 95 % of the draws; None where none has an estimate."""
    known = estimates[~np.isnan(estimates)]
    if not known.size:
        return None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
