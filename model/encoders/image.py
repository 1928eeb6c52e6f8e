"""A site's BioViL or BioViL-T as the image encoder of the grounding network."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.bricks import Features, convolution
from model.config import Config
from model.encoders.biovil import JOINT, BioViL, BioViLT
from model.encoders.resnet import CHANNELS, three_channels


class BioViLEncoder(nn.Module):
    """Lateral 1 x 1 convolutions from the trunk's stages, merged from coarse to fine.

    *Shape:* (B, 1, s, s) in [0, 1] -> :class:`Features`.

    The coarsest level has the projected patches as well, and two channels with the position are appended to each level:
    left and right of a chest look alike to a trunk that was trained on words in common. A frozen trunk stays as it was
    published, also while the rest is trained: no gradients, and batch normalisation by its own statistics.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.frozen = config.frozen
        self.published = BioViLT() if config.image_encoder == "biovil-t" else BioViL()
        if self.frozen:
            self.published.requires_grad_(requires_grad=False)
        self.stem = nn.Conv2d(CHANNELS[0] + 2, config.widths[0], 1)
        inputs = (*CHANNELS[1:4], CHANNELS[4] + JOINT)
        self.lateral = nn.ModuleList(nn.Conv2d(channels + 2, config.pyramid, 1) for channels in inputs)
        self.smooth = nn.ModuleList(convolution(config.pyramid, config.pyramid) for _ in range(2))
        self.whole = nn.Linear(CHANNELS[4] + JOINT, config.widths[4])

    def train(self, mode: bool = True) -> Self:
        """As every module, but what is frozen goes on as it is."""
        super().train(mode)
        if self.frozen:
            self.published.eval()
        return self

    def forward(self, images: Tensor) -> Features:
        """Encode each image once, for all its phrases."""
        with torch.no_grad() if self.frozen else nullcontext():
            stages, patches = self.published(three_channels(images))
        deep = torch.cat([stages.layer4, patches], dim=1)
        levels = [
            lateral(_placed(maps))
            for lateral, maps in zip(self.lateral, (stages.layer1, stages.layer2, stages.layer3, deep), strict=True)
        ]
        merged = levels[3]
        pyramid = []
        for level in (2, 1, 0):
            merged = levels[level] + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            pyramid.append(merged)
        return Features(
            fine=F.relu(self.stem(_placed(stages.stem))),
            middle=self.smooth[0](pyramid[2]),
            coarse=self.smooth[1](pyramid[1]),
            whole=self.whole(deep.mean(dim=(2, 3))),
        )


def _placed(maps: Tensor) -> Tensor:
    """Row and column in [-1, 1] appended as channels. *Shape:* (B, C, h, w) -> (B, C + 2, h, w)."""
    rows, columns = (torch.linspace(-1, 1, side, device=maps.device, dtype=maps.dtype) for side in maps.shape[2:])
    place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
    return torch.cat([maps, place.expand(len(maps), -1, -1, -1)], dim=1)
