import copy

import pytest
import torch
from torch import nn

from model.config import Config
from model.folding import folded
from model.network import seeded_network

CONFIG = Config(size=128, stride=4, blocks=2, widths=(4, 4, 8, 8, 8), pyramid=8, embedding=8, buckets=64)


@pytest.fixture
def network():
    """With statistics, gains, shifts and steering as if it had learnt."""
    made, generator = seeded_network(CONFIG, 3), torch.Generator().manual_seed(4)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            for values, low in (
                (part.weight, 0.5),
                (part.bias, -0.5),
                (part.running_mean, -0.5),
                (part.running_var, 0.5),
            ):
                values.data = low + torch.rand(values.shape, generator=generator)
    for steering in (made.decoder.middle_film, made.decoder.fine_film):
        for values in steering.parameters():
            values.data = torch.rand(values.shape, generator=generator) - 0.5
    return made.eval()


@torch.inference_mode()
def answers(network):
    generator = torch.Generator().manual_seed(5)
    encoded = network.encode(torch.rand(2, 1, 128, 128, generator=generator))
    phrases = torch.rand(3, 8, generator=generator)
    return encoded.anatomy, *network.locate(encoded, phrases, torch.tensor([0, 1, 1]))


def test_a_folded_network_answers_as_the_one_that_learnt(network):
    for ours, theirs in zip(answers(folded(network)), answers(network), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_nothing_is_left_to_normalise(network):
    kinds = {type(part) for part in folded(network).modules()}

    assert nn.BatchNorm2d in {type(part) for part in network.modules()}
    assert nn.BatchNorm2d not in kinds


def test_what_learnt_stays_as_it_is(network):
    before = copy.deepcopy(network.state_dict())

    folded(network)

    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
