"""What a step of training minimises, with its parts, so that the log shows which of them moves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.batches import Batch
from model.losses import dice_loss, focal_loss
from model.network import Encoded, GroundingNetwork
from model.training.config import Loss

#: Share of the picture below which a finding is small.
_SMALL = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What the network says of a batch. *Shape:* logits (P, h, h), presence logits (P,)."""

    encoded: Encoded
    logits: Tensor
    presence: Tensor


def answer_of(network: GroundingNetwork, batch: Batch) -> Answer:
    """One forward pass."""
    encoded = network.encode(batch.images)
    if not len(batch.image):
        half = network.config.heatmap
        return Answer(encoded, batch.images.new_zeros(0, half, half), batch.images.new_zeros(0))
    phrases = network.phrase(batch.tokens, batch.offsets)
    logits, presence = network.locate(encoded, phrases, batch.image)
    return Answer(encoded, logits.float(), presence.float())


def parts_of(answer: Answer, batch: Batch, loss: Loss) -> dict[str, Tensor]:
    """The parts of the loss, weighted: focal over what is drawn, Dice where present, presence and anatomy."""
    logits = answer.logits
    focal = focal_loss(logits, batch.masks, alpha=loss.alpha, gamma=loss.gamma) * _raised(batch.masks, loss.small)
    dice = _mean(dice_loss(logits, batch.masks), batch.drawn * batch.present)
    there = F.binary_cross_entropy_with_logits(answer.presence, batch.present, reduction="none")
    outlined = (batch.anatomy >= 0).float() * batch.known[:, None, None, None]
    anatomy = F.binary_cross_entropy_with_logits(
        answer.encoded.anatomy.float(), batch.anatomy.clamp(min=0), weight=outlined
    )
    outlines = _outlines(answer.encoded.anatomy.float(), batch)
    return {
        "focal": loss.focal * _mean(focal, batch.drawn),
        "dice": loss.dice * dice,
        "presence": loss.presence * _mean(there, torch.ones_like(there)),
        "anatomy": loss.anatomy * anatomy,
        "outlines": loss.outlines * outlines,
    }


def _raised(masks: Tensor, power: float) -> Tensor:
    """What the few cells of a small finding count more, which large ones drown otherwise. *Shape:* (P, h, w) -> (P,)"""
    share = masks.flatten(1).mean(dim=1)
    return torch.where(share > 0, (_SMALL / share.clamp(min=1e-6)).clamp(min=1) ** power, 1.0)


def _outlines(logits: Tensor, batch: Batch) -> Tensor:
    """Dice loss over the planes of anatomy that are known and not empty."""
    planes = batch.anatomy.flatten(2)
    there = (planes >= 0).all(dim=2) & (planes > 0).any(dim=2) & (batch.known[:, None] > 0)
    return _mean(dice_loss(logits.flatten(0, 1), batch.anatomy.clamp(min=0).flatten(0, 1)), there.flatten().float())


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 where nothing counts."""
    return (values * weight).sum() / weight.sum().clamp(min=1)
