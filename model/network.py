"""The whole network: image and phrases in, a map and a presence for each phrase out, with the anatomy beside them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.bricks import AnatomyHead, Features, ImageEncoder, PhraseDecoder, PhraseEncoder
from model.config import Config


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image, understood once; *features* are :class:`model.bricks.Shown` for a trained decoder.

    *Shape:* anatomy logits (B, 3, h, h) on the heatmap's grid: right lung, left lung, heart.
    """

    features: Features
    anatomy: Tensor


class GroundingNetwork(nn.Module):
    """Image encoder, phrase encoder, cosine similarity map, transposed-convolution decoder; see :mod:`model.bricks`."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        if config.decoder != "trained":
            raise ValueError("a similarity map has nothing to train; see model.encoders.similarity")
        self.config = config
        self.image = image_encoder_of(config)
        self.phrase = phrase_encoder_of(config)
        self.anatomy = AnatomyHead(config)
        self.decoder = PhraseDecoder(config)

    def encode(self, images: Tensor) -> Encoded:
        """*Shape:* (B, 1, s, s) in [0, 1] -> :class:`Encoded`."""
        features: Features = self.image(images)
        anatomy = self.anatomy(features)
        return Encoded(self.decoder.show(features, anatomy.detach().sigmoid()), anatomy)

    def locate(self, encoded: Encoded, phrases: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """*Shape:* phrases (P, embedding), image (P,) numbers in [0, B) -> mask logits (P, h, h), presence (P,)."""
        result: tuple[Tensor, Tensor] = self.decoder(encoded.features, phrases, image)
        return result


def image_encoder_of(config: Config) -> nn.Module:
    """*Shape:* (B, 1, s, s) in [0, 1] -> :class:`Features`."""
    if config.image_encoder == "small":
        return ImageEncoder(config)
    from model.encoders.image import BioViLEncoder

    return BioViLEncoder(config)


def phrase_encoder_of(config: Config) -> nn.Module:
    """*Shape:* tokens (T,) of :func:`model.words.tokens_of`, offsets (P,) -> (P, embedding)."""
    if config.text_encoder == "small":
        return PhraseEncoder(config)
    from model.encoders.text import CxrBertEncoder  # takes seconds to import

    return CxrBertEncoder(config)


def parameters_of(network: nn.Module) -> int:
    """How many numbers are learnt."""
    return sum(parameter.numel() for parameter in network.parameters())


def seeded_network(config: Config, seed: int) -> GroundingNetwork:
    """A network with weights drawn from *seed*."""
    torch.manual_seed(seed)
    return GroundingNetwork(config)
