"""ResNet-50 without its classifier (He et al. 2016, arXiv:1512.03385), with the parameter names of torchvision.

B images; maps are (rows, columns); s is the side of the input, any multiple of 32.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

WIDTH = 64
BLOCKS = (3, 4, 6, 3)
EXPANSION = 4
#: Channels of :class:`Stages`, in order.
CHANNELS = (WIDTH, *(EXPANSION * WIDTH * 2**stage for stage in range(4)))


@dataclass(frozen=True, slots=True)
class Stages:
    """What the trunk sees on its way down.

    *Shape:* stem (B, 64, s/2, s/2); layer1 (B, 256, s/4, s/4); layer2 (B, 512, s/8, s/8); layer3 (B, 1024, s/16, s/16);
    layer4 (B, 2048, s/32, s/32).
    """

    stem: Tensor
    layer1: Tensor
    layer2: Tensor
    layer3: Tensor
    layer4: Tensor


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolution around a shortcut.

    *Shape:* (B, inputs, h, w) -> (B, 4 * width, h/stride, w/stride).
    """

    def __init__(self, inputs: int, width: int, *, stride: int) -> None:
        super().__init__()
        outputs = EXPANSION * width
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, maps: Tensor) -> Tensor:
        """Apply."""
        inner = F.relu(self.bn1(self.conv1(maps)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(maps))


class Trunk(nn.Module):
    """*Shape:* images (B, 3, s, s) -> :class:`Stages`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTH)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(0)
        self.layer2 = _layer(1)
        self.layer3 = _layer(2)
        self.layer4 = _layer(3)

    def forward(self, images: Tensor) -> Stages:
        """Apply."""
        stem = F.relu(self.bn1(self.conv1(images)))
        layer1 = self.layer1(self.maxpool(stem))
        layer2 = self.layer2(layer1)
        layer3 = self.layer3(layer2)
        return Stages(stem, layer1, layer2, layer3, self.layer4(layer3))


def _layer(stage: int) -> nn.Sequential:
    """The blocks of *stage* 0..3, the first of which halves the maps, except in stage 0."""
    width = WIDTH * 2**stage
    first = Bottleneck(CHANNELS[stage], width, stride=1 if stage == 0 else 2)
    rest = (Bottleneck(EXPANSION * width, width, stride=1) for _ in range(BLOCKS[stage] - 1))
    return nn.Sequential(first, *rest)


def three_channels(images: Tensor) -> Tensor:
    """*Shape:* (B, 1, s, s) in [0, 1] -> (B, 3, s, s), three equal channels without any scaling, as BioViL expects."""
    return images.expand(-1, 3, -1, -1)
