"""Scores on validation images: those without a threshold choose the weights, and the thresholds are tuned last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

ODDS_OF_PRESENCE = 3
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 18))
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
    """*Shape:* -> mask probabilities (P, s/2, s/2), presence probabilities (P,); on the CPU."""
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

    *Shape:* probability and masks (P, s/2, s/2), drawn (P,).
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


def tuned(network: GroundingNetwork, checks: Sequence[Checks]) -> dict[str, float]:
    """The threshold with the best mean Dice over present phrases, and that of presence with the best accuracy.

    Each source counts by its weight. Present phrases weigh :data:`ODDS_OF_PRESENCE` times as much: the model is asked
    only what a report affirms.
    """
    dice = np.zeros(len(THRESHOLDS))
    right = np.zeros(len(THRESHOLDS))
    weight = 0.0
    for check in checks:
        scores, present, absent = _measured(network, check)
        if len(scores):
            dice += check.weight * scores.mean(axis=0)
            weight += check.weight
        right += check.weight * np.array([_accuracy(present, absent, cut) for cut in THRESHOLDS])
    best = int(dice.argmax())
    return {
        "threshold": THRESHOLDS[best],
        "dice": float(dice[best] / weight) if weight else 0.0,
        "presence_threshold": THRESHOLDS[int(right.argmax())],
    }


def _accuracy(present: npt.NDArray[np.float32], absent: npt.NDArray[np.float32], cut: float) -> float:
    seen = float((present >= cut).mean()) if len(present) else 1.0
    unseen = float((absent < cut).mean()) if len(absent) else 1.0
    return ODDS_OF_PRESENCE * seen + unseen


def _measured(
    network: GroundingNetwork, checks: Checks
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Dice of drawn phrases at each threshold, (phrases, thresholds); presence of what is there and of what is not."""
    rows, present, absent = [], [], []
    for probability, presence, batch in _answers(network, checks):
        there = batch.present > 0
        present.append(presence[there].numpy())
        absent.append(presence[~there].numpy())
        chosen = there & (batch.drawn > 0) & batch.masks.flatten(1).any(dim=1)
        wanted = batch.masks[chosen].flatten(1)
        lit = torch.stack([(probability[chosen].flatten(1) >= cut).float() for cut in THRESHOLDS], dim=1)
        overlap = 2 * (lit * wanted[:, None]).sum(2) / (lit.sum(2) + wanted.sum(1)[:, None]).clamp(min=1)
        rows.append(overlap.double().numpy())
    return np.concatenate(rows), np.concatenate(present), np.concatenate(absent)


def _answers(network: GroundingNetwork, checks: Checks) -> Iterator[tuple[Tensor, Tensor, Batch]]:
    for batch in checks.batches:
        yield *predict(network, batch), batch
