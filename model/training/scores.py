"""Scores on validation images that need no threshold: they choose the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.batches import Batch, collate
from model.config import Config
from model.network import GroundingNetwork
from model.training.objective import answer_of
from model.training.sources import Source

_AT_ONCE = 20


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """The validation images of one source, as batches."""

    name: str
    weight: float
    batches: tuple[Batch, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """Of one source.

    Parameters
    ----------
    average_precision : mean over drawn, present phrases; NaN where there are none.
    presence_auc : NaN where all phrases are present, or none.
    """

    average_precision: float
    presence_auc: float


def checks_of(sources: Sequence[Source], config: Config) -> tuple[Checks, ...]:
    """The validation images of every source that has a score."""
    found = []
    for source in sources:
        items = list(source.validation()) if source.score else []
        batches = tuple(collate(items[start : start + _AT_ONCE], config) for start in range(0, len(items), _AT_ONCE))
        if batches:
            found.append(Checks(source.name, source.score, batches))
    return tuple(found)


@torch.inference_mode()
def predict(network: GroundingNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """*Shape:* -> mask probabilities (P, h, h), presence probabilities (P,); on the CPU."""
    network.eval()
    answer = answer_of(network, batch.to(next(network.parameters()).device))
    return answer.logits.sigmoid().cpu(), answer.presence.sigmoid().cpu()


def score_of(network: GroundingNetwork, checks: Checks) -> Score:
    """Both scores of a source."""
    precisions: list[float] = []
    said: list[Tensor] = []
    for batch in checks.batches:
        probability, presence = predict(network, batch)
        precisions += average_precisions(probability, batch.masks, batch.drawn)
        said.append(torch.stack([presence, batch.present]))
    presence, truth = torch.cat(said, dim=1).numpy()
    return Score(float(np.mean(precisions)) if precisions else float("nan"), auc(presence, truth > 0.5))


def total(scores: Sequence[Score], weights: Sequence[float], *, presence: float) -> float:
    """One number over all sources: average precision, and presence AUC for a share of *presence*.

    A score that a source does not have does not count.
    """
    parts = [
        (weight * share, value)
        for score, weight in zip(scores, weights, strict=True)
        for share, value in ((1 - presence, score.average_precision), (presence, score.presence_auc))
        if share and not np.isnan(value)
    ]
    counted = sum(weight for weight, _ in parts)
    return sum(weight * value for weight, value in parts) / counted if counted else 0.0


def average_precisions(probability: Tensor, masks: Tensor, drawn: Tensor) -> list[float]:
    """Average precision of cells at half the heatmap's resolution, for each drawn phrase that is present.

    *Shape:* probability and masks (P, h, h), drawn (P,).
    """
    small = F.avg_pool2d(probability[:, None], 2)[:, 0].flatten(1)
    wanted = (F.avg_pool2d(masks[:, None], 2)[:, 0] > 0.5).float().flatten(1)
    order = small.argsort(dim=1, descending=True, stable=True)
    hits = wanted.gather(1, order)
    precision = hits.cumsum(dim=1) / torch.arange(1, hits.shape[1] + 1)
    counted = wanted.sum(dim=1)
    chosen = (counted > 0) & (drawn > 0)
    return [float(value) for value in (precision * hits).sum(dim=1)[chosen] / counted[chosen]]


def auc(said: npt.NDArray[np.float32], truth: npt.NDArray[np.bool_]) -> float:
    """Share of pairs that *said* puts in order (the area under the ROC curve); NaN without a pair."""
    present, missing = said[truth], said[~truth]
    if not len(present) or not len(missing):
        return float("nan")
    ranked = present[:, None] - missing[None, :]
    return float((ranked > 0).mean() + 0.5 * (ranked == 0).mean())
