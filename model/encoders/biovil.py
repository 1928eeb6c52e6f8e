"""BioViL (Boecking et al. 2022, arXiv:2204.09817) and BioViL-T (Bannur et al. 2023, arXiv:2301.04558) image encoders.

B images; maps are (rows, columns); h = w = s/32 is the grid of patches; N = h * w or 2 * h * w tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.encoders.resnet import CHANNELS, Stages, Trunk

JOINT = 128  # dimensions that image and phrase share
REDUCED = 256  # channels of a patch in BioViL-T, for the image and for its comparison with the previous one
HEADS = 8
ROUNDS = 3


class BioViL(nn.Module):
    """*Shape:* images (B, 3, s, s) -> stages and projected patches (B, 128, s/32, s/32)."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.projector = _projector(CHANNELS[4])

    def forward(self, images: Tensor) -> tuple[Stages, Tensor]:
        """Apply."""
        stages: Stages = self.trunk(images)
        return stages, self.projector(stages.layer4)


class BioViLT(nn.Module):
    """BioViL that may see the previous radiograph as well.

    *Shape:* images (B, 3, s, s), previous (B, 3, s, s) or None -> stages of *images* and projected patches
    (B, 128, s/32, s/32).
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk()
        self.reduce = nn.Conv2d(CHANNELS[4], REDUCED, 1, bias=False)
        self.compare = Comparison()
        self.no_previous = nn.Parameter(torch.zeros(1, REDUCED, 1, 1))
        self.projector = _projector(2 * REDUCED)

    def forward(self, images: Tensor, previous: Tensor | None = None) -> tuple[Stages, Tensor]:
        """Apply; without *previous*, a learnt vector stands for what is not known, and any grid will do."""
        stages: Stages = self.trunk(images)
        now = self.reduce(stages.layer4)
        if previous is None:
            change = self.no_previous.expand_as(now)
        else:
            change = self.compare(now, self.reduce(self.trunk(previous).layer4))
        return stages, self.projector(torch.cat([now, change], dim=1))


def _projector(inputs: int) -> nn.Sequential:
    """*Shape:* (B, inputs, h, w) -> (B, 128, h, w)."""
    return nn.Sequential(
        nn.Conv2d(inputs, JOINT, 1, bias=False), nn.BatchNorm2d(JOINT), nn.ReLU(), nn.Conv2d(JOINT, JOINT, 1)
    )


class Comparison(nn.Module):
    """A transformer over the patches of both images; gives those of the current one.

    *Shape:* now (B, 256, h, w), before (B, 256, h, w) -> (B, 256, h, w).
    """

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Parameter(torch.zeros(2, 1, REDUCED))  # current, previous
        self.blocks = nn.ModuleList(ComparisonBlock() for _ in range(ROUNDS))
        self.norm = nn.LayerNorm(REDUCED, eps=1e-6)

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        """Apply."""
        rows, columns = now.shape[2:]
        tokens = torch.cat([now.flatten(2), before.flatten(2)], dim=2).transpose(1, 2)
        place = sine_positions(rows, columns, REDUCED).to(now)
        where = torch.cat([place + self.kind[0], place + self.kind[1]])
        for block in self.blocks:
            tokens = block(tokens, where)
        current = self.norm(tokens)[:, : rows * columns]
        patches: Tensor = current.transpose(1, 2).unflatten(2, (rows, columns))
        return patches


class ComparisonBlock(nn.Module):
    """Attention and a perceptron, each around a shortcut.

    *Shape:* tokens (B, N, 256), where (N, 256) -> (B, N, 256).
    """

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(REDUCED, eps=1e-6)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(REDUCED, eps=1e-6)
        self.mix = nn.Sequential(nn.Linear(REDUCED, REDUCED), nn.GELU(), nn.Linear(REDUCED, REDUCED))

    def forward(self, tokens: Tensor, where: Tensor) -> Tensor:
        """Apply."""
        tokens = tokens + self.attention(self.norm1(tokens) + where)
        mixed: Tensor = tokens + self.mix(self.norm2(tokens))
        return mixed


class Attention(nn.Module):
    """Self-attention of 8 heads. *Shape:* (B, N, 256) -> (B, N, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(REDUCED, REDUCED, bias=False)
        self.key = nn.Linear(REDUCED, REDUCED, bias=False)
        self.value = nn.Linear(REDUCED, REDUCED, bias=False)
        self.out = nn.Linear(REDUCED, REDUCED)

    def forward(self, tokens: Tensor) -> Tensor:
        """Apply."""
        query, key, value = (
            each(tokens).unflatten(2, (HEADS, REDUCED // HEADS)).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        attended: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return attended


def sine_positions(rows: int, columns: int, channels: int) -> Tensor:
    """Where each place of a grid lies, as ever longer waves: half of *channels* for the row, half for the column.

    *Shape:* -> (rows * columns, channels), row by row (Carion et al. 2020, arXiv:2005.12872, section A.4).
    """
    half = channels // 2
    period = 10_000 ** (2 * (torch.arange(half) // 2) / half)

    def waves(length: int) -> Tensor:
        place = torch.arange(1, length + 1) / (length + 1e-6) * 2 * math.pi
        angle = place[:, None] / period
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)

    vertical = waves(rows)[:, None].expand(-1, columns, -1)
    horizontal = waves(columns)[None].expand(rows, -1, -1)
    return torch.cat([vertical, horizontal], dim=2).flatten(0, 1)
