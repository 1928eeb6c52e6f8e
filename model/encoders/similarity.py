"""A published pair of image and phrase encoder without any training: the similarity map of hi-ml.

The cosine of each patch with the phrase, smoothed on the grid of patches (Gaussian of 1.5 patches, mirrored at the
border), raised bilinearly to the heatmap (Boecking et al. 2022, arXiv:2204.09817, section 4.3). Two things differ from
hi-ml: the whole letterboxed image is seen instead of its centre, and cosines below 0 count as 0. B images, P phrases;
g = s/32 is the side of the grid.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.bricks import Features
from model.config import Config
from model.encoders.biovil import BioViL, BioViLT
from model.encoders.loading import CheckpointError, fill
from model.encoders.resnet import three_channels
from model.encoders.text import CxrBertReader, shape_of
from model.network import Encoded, GroundingNetwork

SIGMA = 1.5
_REACH = 4  # standard deviations, where SciPy's filter ends too
_SMALLEST = 1e-4  # a probability of 0 or 1 has no logit


def pair_config(image_encoder: str, *, size: int = 512) -> Config:
    """The configuration of a pair: BioViL or BioViL-T with CXR-BERT."""
    return Config(size=size, image_encoder=image_encoder, text_encoder="cxr-bert", decoder="similarity")


class Pair(nn.Module):
    """The two published encoders, and nothing that was trained here."""

    def __init__(self, config: Config, text: dict[str, Tensor]) -> None:
        super().__init__()
        self.image = BioViLT() if config.image_encoder == "biovil-t" else BioViL()
        self.phrase = CxrBertReader(shape_of(text))


def pair_of(config: Config, parameters: dict[str, Tensor]) -> Pair:
    """The pair with *parameters*, as its ``state_dict`` names them.

    Raises
    ------
    model.encoders.loading.CheckpointError
        If they are not those of such a pair.
    """
    beginning = "phrase.text."
    text = {name.removeprefix(beginning): value for name, value in parameters.items() if name.startswith(beginning)}
    pair = Pair(config, text)
    fill(pair, parameters, name="the pair of encoders")
    return pair.eval()


class SimilarityNetwork(GroundingNetwork):
    """Answers as :class:`GroundingNetwork` does: cosines stand for probabilities, their peak for presence.

    Parameters
    ----------
    body : finds the lungs, which the pair cannot; at a size of its own.
    """

    def __init__(self, config: Config, pair: Pair, body: GroundingNetwork) -> None:
        nn.Module.__init__(self)
        self.config = config
        self.image = pair.image
        self.phrase = pair.phrase
        self.body = body
        self.blur: Tensor
        self.register_buffer("blur", blur_matrix(config.size // 32), persistent=False)

    def encode(self, images: Tensor) -> Encoded:
        """*Shape:* (B, 1, s, s) in [0, 1] -> patches of length 1 (B, 128, g, g), at all scales; anatomy."""
        small = F.interpolate(images, size=(self.body.config.size,) * 2, mode="area")
        outlined = self.body.anatomy(self.body.image(small))
        side = self.config.heatmap
        anatomy = F.interpolate(outlined, size=(side, side), mode="bilinear", align_corners=False)
        _, patches = self.image(three_channels(images))
        patches = F.normalize(patches, dim=1)
        features = Features(patches, patches, patches, patches.mean(dim=(2, 3)))
        return Encoded(features, anatomy)

    def locate(self, encoded: Encoded, phrases: Tensor, image: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        """*Shape:* phrases (P, 128) of length 1, image (P,) -> map logits (P, h, h), presence logits (P,)."""
        cosine = torch.einsum("pchw,pc->phw", encoded.features.coarse[image], phrases)
        smooth = self.blur @ cosine @ self.blur.T
        side = self.config.heatmap
        maps = F.interpolate(smooth[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
        likely = maps.clamp(_SMALLEST, 1 - _SMALLEST)
        return torch.logit(likely), torch.logit(likely.flatten(1).amax(dim=1))


def take_over(network: GroundingNetwork, pair: GroundingNetwork) -> None:
    """Give *network* the encoders of *pair* that its configuration names.

    Raises
    ------
    model.encoders.loading.CheckpointError
        If it names none of them, or another one.
    """
    named = {
        "image": network.config.image_encoder == pair.config.image_encoder,
        "phrase": network.config.text_encoder == pair.config.text_encoder,
    }
    if not any(named.values()):
        raise CheckpointError(f"the network has none of the encoders {pair.config.image_encoder} and cxr-bert")
    for part in (part for part, same in named.items() if same):
        fill(getattr(network, part).published, getattr(pair, part).state_dict(), name=f"the {part} encoder")


def blur_matrix(side: int) -> Tensor:
    """A Gaussian along one axis as a matrix; what it would take from beyond the border, it takes from its mirror image.

    *Shape:* -> (side, side); each row sums to 1.
    """
    reach = int(_REACH * SIGMA + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / SIGMA) ** 2)
    weights /= weights.sum()
    matrix = np.zeros((side, side))
    for row in range(side):
        place = (row + offsets) % (2 * side)
        np.add.at(matrix[row], np.where(place < side, place, 2 * side - 1 - place), weights)
    return torch.tensor(matrix, dtype=torch.float32)
