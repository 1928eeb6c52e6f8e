"""Batch normalisation as a part of what lies before it: the same answers in fewer steps, for a network at rest.

There a normalisation is a gain and a shift of each channel (Jacob et al. 2018, section 3.2). Both go into the
convolution before it; in the decoder, which normalises sums, into all that is summed.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from model.bricks import PhraseDecoder
from model.network import GroundingNetwork


def folded(network: GroundingNetwork) -> GroundingNetwork:
    """A copy of *network* to encode images and to locate phrases with; it has no phrase encoder, which may be large."""
    made = copy.deepcopy(network, {id(network.phrase): nn.Identity()}).eval()
    for part in made.modules():
        if isinstance(part, PhraseDecoder):
            _fold_decoder(part)
        if isinstance(part, nn.Sequential):
            _fold_pairs(part)
    return made


def _fold_pairs(part: nn.Sequential) -> None:
    """A convolution and the normalisation after it."""
    for number in range(len(part) - 1):
        first, second = part[number], part[number + 1]
        if type(first) is nn.Conv2d and type(second) is nn.BatchNorm2d:
            part[number], part[number + 1] = fuse_conv_bn_eval(first, second), nn.Identity()


@torch.no_grad()
def _fold_decoder(decoder: PhraseDecoder) -> None:
    """The normalisations of sums: of upsampled and refined maps, and of what all scales say at last."""
    gain, shift = _taken(decoder.refined)
    decoder.refine.weight.mul_(gain[:, None, None, None])
    _scale(decoder.up1, gain, shift)
    gain, shift = _taken(decoder.out)
    for convolution in (decoder.fine, decoder.near):
        convolution.weight.mul_(gain[:, None, None, None])
    steered = torch.cat([torch.ones_like(gain), gain])  # gains, of what is scaled already, and shifts
    decoder.fine_film.weight.mul_(steered[:, None])
    decoder.fine_film.bias.mul_(steered)
    _scale(decoder.up2, gain, shift)


def _taken(part: nn.Sequential) -> tuple[Tensor, Tensor]:
    """Gain and shift of the normalisation that *part* begins with, and no longer has."""
    norm = part[0]
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None or norm.running_mean is None:
        raise TypeError("the sums of the decoder are followed by a normalisation")
    gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
    part[0] = nn.Identity()
    return gain, norm.bias - norm.running_mean * gain


def _scale(convolution: nn.ConvTranspose2d, gain: Tensor, shift: Tensor) -> None:
    convolution.weight.mul_(gain[None, :, None, None])
    convolution.bias = nn.Parameter(shift)
