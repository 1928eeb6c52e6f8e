"""A small network that looks at a picture in the eight ways in which a film can lie on a screen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.bricks import convolution

SIZE = 64
KINDS = ("frontal", "lateral", "other")
#: The eight turns and mirrorings of a square, each as (transpose, reverse rows, reverse columns), applied in this
#: order as :class:`model.geometry.Orientation` does. The first changes nothing.
POSES = tuple((bool(n & 4), bool(n & 2), bool(n & 1)) for n in range(8))


def posed(images: Tensor, pose: int) -> Tensor:
    """*images* (..., s, s) as they look after the pose's turn. *Shape:* unchanged."""
    transpose, reverse_rows, reverse_columns = POSES[pose]
    turned = images.transpose(-1, -2) if transpose else images
    axes = [axis for axis, wanted in ((-2, reverse_rows), (-1, reverse_columns)) if wanted]
    return turned.flip(axes) if axes else turned


class SuitabilityNetwork(nn.Module):
    """Features and uprightness of each picture; kind and inversion from features averaged over the eight poses.

    Uprightness is one number. The pose of a film is found by turning the film all eight ways and comparing: no turn is
    favoured by construction, and every film teaches all eight.
    """

    def __init__(self, widths: tuple[int, ...] = (12, 24, 48, 80)) -> None:
        super().__init__()
        stem, *rest = widths
        layers: list[nn.Module] = [convolution(1, stem, stride=2)]
        before = stem
        for width in rest:
            layers += [convolution(before, width, stride=2), convolution(width, width)]
            before = width
        self.body = nn.Sequential(*layers)
        self.place = nn.Parameter(0.1 * torch.randn(before, SIZE // 2 ** len(widths), SIZE // 2 ** len(widths)))
        self.upright = nn.Sequential(nn.Dropout(0.2), nn.Linear(before, 1))
        self.kind = nn.Linear(before, len(KINDS))
        self.inverted = nn.Linear(before, 1)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """*Shape:* (N, 1, s, s) in [0, 1] -> what is there (N, C), what is where (N, C)."""
        maps = self.body(images - 0.5)
        return maps.mean(dim=(2, 3)), (maps * self.place).sum(dim=(2, 3))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All that is told of B pictures.

        *Shape:* (B, 1, s, s) -> uprightness of each pose (B, 8), kind logits (B, 3), inversion logits (B,),
        features averaged over the poses (B, C).
        """
        turned = torch.cat([posed(images, pose) for pose in range(len(POSES))])
        what, where = self.features(turned)
        pooled = what.reshape(len(POSES), -1, what.shape[1]).mean(dim=0)
        upright = self.upright(where)[:, 0].reshape(len(POSES), -1).T
        return upright, self.kind(pooled), self.inverted(pooled)[:, 0], pooled
