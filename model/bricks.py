"""The parts of the network. B images, P phrases (all images together), C channels; maps are (rows, columns)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.config import Config


def convolution(inputs: int, outputs: int, *, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class Residual(nn.Module):
    """Two convolutions around a shortcut. *Shape:* (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convolution(channels, channels)
        norm = nn.BatchNorm2d(channels)
        nn.init.zeros_(norm.weight)  # at first the shortcut alone (Goyal et al. 2017)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), norm)

    def forward(self, maps: Tensor) -> Tensor:
        """Apply."""
        return F.relu(maps + self.second(self.first(maps)))


@dataclass(frozen=True, slots=True)
class Features:
    """What the image encoder sees, at three scales; h is the side of the heatmap.

    *Shape:* fine (B, widths[0], h, h); middle (B, pyramid, h/2, h/2); coarse (B, pyramid, h/4, h/4);
    whole (B, widths[4]).
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor
    whole: Tensor


@dataclass(frozen=True, slots=True)
class Shown(Features):
    """What phrases are located in, made once for all phrases of an image.

    *Shape:* fine (B, widths[0] / 2, h, h); middle (B, widths[0], h/2, h/2); coarse (B, pyramid, h/4, h/4);
    whole (B, pyramid); places (B, embedding, h/4, h/4) of length 1; body, the anatomy, (B, 3, h/4, h/4).
    """

    places: Tensor
    body: Tensor


class ImageEncoder(nn.Module):
    """A small residual network with a feature pyramid. *Shape:* (B, 1, s, s) in [0, 1] -> :class:`Features`.

    Two channels with the position are appended: left and right of a chest look alike, and only place tells them apart.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        w, entry = config.widths, config.widths[0] // 2
        halved = config.stride == 4
        self.entry = nn.Sequential(nn.Conv2d(1, entry, 3, 2, 1), nn.ReLU(inplace=True)) if halved else nn.Identity()
        self.stem = nn.Sequential(
            convolution((entry if halved else 1) + 2, w[0], stride=2),
            *(Residual(w[0]) for _ in range(config.blocks - 1)),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(convolution(a, b, stride=2), *(Residual(b) for _ in range(config.blocks)))
            for a, b in pairwise(w)
        )
        self.lateral = nn.ModuleList(nn.Conv2d(channels, config.pyramid, 1) for channels in w[1:])
        self.smooth = nn.ModuleList(convolution(config.pyramid, config.pyramid) for _ in range(2))
        axis = torch.linspace(-1, 1, 2 * config.heatmap)
        self.place: Tensor
        self.register_buffer("place", torch.stack(torch.meshgrid(axis, axis, indexing="ij"))[None], persistent=False)

    def forward(self, images: Tensor) -> Features:
        """Encode each image once, for all its phrases."""
        place = self.place.expand(len(images), -1, -1, -1)
        fine = self.stem(torch.cat([self.entry(images - 0.5), place], dim=1))
        maps, levels = fine, []
        for stage in self.stages:
            maps = stage(maps)
            levels.append(maps)
        merged = self.lateral[3](levels[3])
        pyramid = []
        for level in (2, 1, 0):
            merged = self.lateral[level](levels[level]) + F.interpolate(merged, scale_factor=2.0, mode="nearest")
            pyramid.append(merged)
        return Features(
            fine=fine,
            middle=self.smooth[0](pyramid[2]),
            coarse=self.smooth[1](pyramid[1]),
            whole=levels[3].mean(dim=(2, 3)),
        )


class PhraseEncoder(nn.Module):
    """Mean of hashed word vectors through a small perceptron. *Shape:* tokens (T,), offsets (P,) -> (P, embedding)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(config.buckets, config.embedding, mode="mean")
        self.mix = nn.Sequential(
            nn.Linear(config.embedding, 2 * config.embedding),
            nn.GELU(),
            nn.Linear(2 * config.embedding, config.embedding),
            nn.LayerNorm(config.embedding),
        )

    def forward(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """Encode P phrases, given as one flat list of tokens and the start of each phrase in it."""
        phrases: Tensor = self.mix(self.words(tokens, offsets))
        return phrases


class AnatomyHead(nn.Module):
    """Right lung, left lung and heart. *Shape:* Features -> logits (B, 3, h, h)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.coarse = convolution(2 * config.pyramid, config.pyramid)
        self.up = nn.ConvTranspose2d(config.pyramid, config.widths[0], 2, 2)
        self.out = nn.Sequential(convolution(2 * config.widths[0], config.widths[0]), nn.Conv2d(config.widths[0], 3, 1))

    def forward(self, features: Features) -> Tensor:
        """Apply."""
        coarse = F.interpolate(features.coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        maps = self.up(self.coarse(torch.cat([coarse, features.middle], dim=1)))
        logits: Tensor = self.out(torch.cat([maps, features.fine], dim=1))
        return logits


class PhraseDecoder(nn.Module):
    """Cosine similarity map of phrase and image, and transposed convolutions that refine it with the image's features.

    *Shape:* Shown of B images, phrases (P, embedding), image (P,) the image number of each phrase -> mask logits
    (P, h, h), presence logits (P,).

    A phrase steers what each scale takes from the image (FiLM, Perez et al. 2018): it scales and shifts channels that
    were made once per image (:meth:`show`), so that a further phrase costs no more than its own channels.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        c, w = config.pyramid, config.widths[0]
        wide, narrow = w + w // 2, w // 2
        self.project = nn.Conv2d(c, config.embedding, 1)
        self.film = nn.Linear(config.embedding, 2 * c)
        self.mix = nn.Sequential(convolution(c + 4, c), convolution(c, c))
        self.up1 = nn.ConvTranspose2d(c, wide, 4, 2, 1, bias=False)
        self.middle = nn.Conv2d(c, w, 1)
        self.middle_film = steering(config.embedding, w)
        self.refine = nn.Conv2d(w, wide, 3, padding=1, bias=False)
        self.refined = nn.Sequential(nn.BatchNorm2d(wide), nn.ReLU(inplace=True))
        self.up2 = nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)
        self.fine = nn.Conv2d(w + 3, narrow, 3, padding=1, bias=False)
        self.fine_film = steering(config.embedding, narrow)
        self.near = nn.Conv2d(1, narrow, 3, padding=1, bias=False)
        self.out = nn.Sequential(nn.BatchNorm2d(narrow), nn.ReLU(inplace=True), nn.Conv2d(narrow, 1, 1))
        self.glance = nn.Linear(config.widths[4], c)
        self.presence = nn.Sequential(nn.Linear(2 * c + config.embedding + 3, 64), nn.GELU(), nn.Linear(64, 1))

    def show(self, features: Features, anatomy: Tensor) -> Shown:
        """What needs no phrase; *anatomy* (B, 3, h, h) holds probabilities."""
        return Shown(
            fine=self.fine(torch.cat([features.fine, anatomy], dim=1)),
            middle=self.middle(features.middle),
            coarse=features.coarse,
            whole=self.glance(features.whole),
            places=F.normalize(self.project(features.coarse), dim=1),
            body=F.avg_pool2d(anatomy, 4),
        )

    def forward(self, shown: Shown, phrases: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Apply."""
        similarity = torch.einsum("pchw,pc->phw", of(shown.places, image), F.normalize(phrases, dim=1))
        coarse = steered(of(shown.coarse, image), self.film(phrases))
        maps = self.mix(torch.cat([coarse, similarity[:, None] * 4, shown.body[image]], dim=1))
        pooled = self._pooled(maps, similarity)
        middle = steered(of(shown.middle, image), self.middle_film(phrases))
        maps = self.refined(self.up1(maps).add_(self.refine(middle)))
        near = F.interpolate(similarity[:, None], scale_factor=4.0, mode="bilinear", align_corners=False)
        fine = steered(of(shown.fine, image), self.fine_film(phrases))
        logits = self.out(fine.add_(self.up2(maps)).add_(self.near(near)))[:, 0]
        strongest = logits.flatten(1).topk(32, dim=1).values.mean(dim=1, keepdim=True)
        area = logits.flatten(1).sigmoid().mean(dim=1, keepdim=True) * 20
        peak = similarity.flatten(1).amax(dim=1, keepdim=True)
        said = torch.cat([pooled, shown.whole[image], phrases, strongest / 4, area, peak], dim=1)
        return logits, self.presence(said)[:, 0]

    def _pooled(self, maps: Tensor, similarity: Tensor) -> Tensor:
        weights = (similarity.flatten(1) * 8).softmax(dim=1)
        return torch.einsum("pcn,pn->pc", maps.flatten(2), weights)


def of(maps: Tensor, image: Tensor) -> Tensor:
    """The maps of each phrase's image; of a single image without a copy for each phrase.

    *Shape:* (B, C, h, w), (P,) -> (P, C, h, w), or (1, C, h, w) to be broadcast.
    """
    return maps if len(maps) == 1 else maps[image]


def steering(embedding: int, channels: int) -> nn.Linear:
    """What makes gain and shift of :func:`steered` from a phrase; at first they change nothing."""
    made = nn.Linear(embedding, 2 * channels)
    nn.init.zeros_(made.weight)
    nn.init.zeros_(made.bias)
    return made


def steered(seen: Tensor, wanted: Tensor) -> Tensor:
    """Channels scaled and shifted as a phrase wants them. *Shape:* (P, C, h, w), (P, 2 C) -> (P, C, h, w)."""
    gain, shift = wanted[:, :, None, None].chunk(2, dim=1)
    return torch.addcmul(shift, seen, 1 + gain)
