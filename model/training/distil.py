"""Knowledge distillation: a student learns the maps and the presence that its teachers answer (Hinton et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.batches import Batch, tokens_of_all
from model.network import GroundingNetwork
from model.training.config import Distil
from model.training.objective import Answer, answer_of
from model.weights import load_weights

#: The map's part is a mean over all cells, most of which are empty and agreed on: it counts as the focal loss does.
_MAP_WEIGHT = 10.0


class Teachers:
    """Networks that answer together: the mean of their logits, at the student's resolution."""

    def __init__(self, networks: Sequence[GroundingNetwork], distil: Distil) -> None:
        self._networks = tuple(network.eval().requires_grad_(False) for network in networks)
        self._distil = distil

    def loss(self, answer: Answer, batch: Batch) -> Tensor:
        """How far a student's *answer* to *batch* is from the teachers', weighted; 0 where they agree."""
        logits, presence = self.answer(batch)
        apart = divergence(answer.presence, presence, temperature=self._distil.temperature)
        maps = divergence(
            answer.logits, _resized(logits, answer.logits.shape[-1]), temperature=self._distil.temperature
        )
        return self._distil.weight * (_MAP_WEIGHT * maps + apart)

    @torch.no_grad()
    def answer(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The teachers' mean logits. *Shape:* maps (P, h, h) of the first teacher's size, presence (P,)."""
        answers = [answer_of(network, _for(network, batch)) for network in self._networks]
        side = answers[0].logits.shape[-1]
        logits = torch.stack([_resized(each.logits, side) for each in answers]).mean(dim=0)
        return logits, torch.stack([each.presence for each in answers]).mean(dim=0)


def teachers_of(distil: Distil, device: torch.device) -> Teachers:
    """The teachers that the configuration names.

    Raises
    ------
    model.weights.WeightsError
        If a folder holds no weights.
    """
    return Teachers([load_weights(folder)[0].to(device) for folder in distil.teachers], distil)


def divergence(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Mean Kullback-Leibler divergence of yes-or-no answers, both softened, times the temperature's square.

    *Shape:* logits of any one shape -> a number, 0 where they are equal.
    """
    soft = (teacher / temperature).sigmoid()
    crossed = F.binary_cross_entropy_with_logits(student / temperature, soft)
    own = F.binary_cross_entropy_with_logits(teacher / temperature, soft)
    return (crossed - own) * temperature**2


def _for(network: GroundingNetwork, batch: Batch) -> Batch:
    """*batch* in the size and the words of *network*."""
    size = network.config.size
    images = batch.images
    if images.shape[-1] != size:
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False, antialias=True)
    tokens, offsets = tokens_of_all(batch.queries, network.config)
    return replace(batch, images=images, tokens=tokens.to(images.device), offsets=offsets.to(images.device))


def _resized(logits: Tensor, side: int) -> Tensor:
    if logits.shape[-1] == side:
        return logits
    return F.interpolate(logits[:, None], (side, side), mode="bilinear", align_corners=False)[:, 0]
