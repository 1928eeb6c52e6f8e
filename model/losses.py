"""What training minimises."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)


def focal_loss(logits: Tensor, target: Tensor, *, alpha: float, gamma: float) -> Tensor:
    """Mean focal loss per map (Lin et al. 2017, equation 5). *Shape:* (P, h, w), (P, h, w) in {0, 1} -> (P,)."""
    crossed = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missed = torch.where(target > 0.5, 1 - logits.sigmoid(), logits.sigmoid())
    weight = torch.where(target > 0.5, alpha, 1 - alpha)
    return (weight * missed**gamma * crossed).flatten(1).mean(dim=1)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice per map, with one cell of smoothing (Milletari et al. 2016). *Shape:* (P, h, w) x 2 -> (P,)."""
    probability = logits.sigmoid().flatten(1)
    wanted = target.flatten(1)
    overlap = (probability * wanted).sum(dim=1)
    return 1 - (2 * overlap + 1) / (probability.sum(dim=1) + wanted.sum(dim=1) + 1)
