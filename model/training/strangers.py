"""How well answers about strangers keep their word: every fold measured by what the other folds fit. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from model.calibration import OPERATING_POINTS, calibrated, ece
from model.training.answers import Answered, Checks, outlined, telling
from model.training.scores import auc, average_precisions
from model.training.tuning import LEVELS, Maker, points_of, recalls_of, scalings_of


def scores_of(strangers: Checks, made: Maker) -> dict[str, float]:
    """By source: what needs no threshold, and how presence and promised recall keep their word on each fold when they
    are fitted on the others.
    """
    found: dict[str, float] = {}
    for name, (_, rows) in strangers.items():
        values, truth = (torch.from_numpy(np.stack([getattr(row, of) for row in rows])) for of in ("values", "truth"))
        precisions = average_precisions(values, truth.float(), torch.tensor([row.outlined for row in rows]).float())
        films = telling(rows)
        there = np.array([row.present for row in films], bool)
        own = {
            "average precision": float(np.mean(precisions or [np.nan])),
            "presence AUC": auc(np.array([row.presence for row in films], np.float32), there),
            "ECE": ece(_cross_calibrated(films), there),
            **_cross_recalls(outlined(rows), made),
        }
        found |= {f"{name}/{score}": value for score, value in own.items() if not np.isnan(value)}
    return found


def _cross_calibrated(films: Sequence[Answered]) -> list[float]:
    """Presence of each film, scaled by the films of the other folds."""
    by_fold = {
        fold: scalings_of({"": (1.0, tuple(row for row in films if row.fold != fold))}, {""})
        for fold in {row.fold for row in films}
    }
    return [calibrated(row.presence, row.query.finding, by_fold[row.fold]) for row in films]


def _cross_recalls(rows: Sequence[Answered], made: Maker) -> dict[str, float]:
    """Mean over images of the recall at the threshold that keeps each promise for the images of the other folds."""
    recalls, by_image = recalls_of(rows, made), {row.image: row.fold for row in rows}
    folds = np.array([by_image[image] for image in sorted(by_image)])
    reached: dict[str, list[float]] = {}
    for fold in set(folds.tolist()):
        for name, level in points_of(recalls[folds != fold]).items():
            reached.setdefault(name, []).extend(recalls[folds == fold, LEVELS.searchsorted(level)])
    return {f"recall promised at {OPERATING_POINTS[name]}": float(np.mean(each)) for name, each in reached.items()}
