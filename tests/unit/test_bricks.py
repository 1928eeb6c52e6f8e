import torch

from model.bricks import Residual, steered, steering
from model.config import Config
from model.network import seeded_network

SMALL = Config(size=64, widths=(4, 4, 8, 8, 8), pyramid=8, embedding=8, buckets=64)


def test_channels_are_scaled_and_shifted_as_the_phrase_wants():
    seen = torch.full((1, 2, 3, 3), 2.0)

    answer = steered(seen, torch.tensor([[0.5, -1.0, 0.25, 4.0]]))  # gains, then shifts

    assert (answer[0, 0] == 2 * 1.5 + 0.25).all()
    assert (answer[0, 1] == 4.0).all()


def test_steering_and_residual_blocks_change_nothing_before_training():
    seen = torch.rand(2, 3, 4, 4)

    assert torch.equal(steered(seen, steering(8, 3)(torch.rand(2, 8))), seen)
    assert torch.equal(Residual(3).eval()(seen), seen)


def test_a_phrase_is_answered_alike_alone_and_among_others():
    network = seeded_network(SMALL, 1).eval()
    images, phrases = torch.rand(2, 1, 64, 64), torch.rand(3, 8)
    with torch.no_grad():
        encoded = network.encode(images)
        together, presence = network.locate(encoded, phrases, torch.tensor([1, 0, 1]))
        alone, single = network.locate(network.encode(images[1:]), phrases[2:], torch.tensor([0]))

    assert torch.allclose(together[2], alone[0], atol=1e-5)
    assert torch.allclose(presence[2], single[0], atol=1e-5)


def test_a_stride_of_four_gives_a_heatmap_of_a_quarter_of_the_side():
    fine = Config(size=128, stride=4, blocks=2, widths=(4, 4, 8, 8, 8), pyramid=8, embedding=8, buckets=64)
    network = seeded_network(fine, 1).eval()
    with torch.no_grad():
        encoded = network.encode(torch.rand(1, 1, 128, 128))
        maps, _ = network.locate(encoded, torch.rand(2, 8), torch.tensor([0, 0]))

    assert encoded.anatomy.shape == (1, 3, 32, 32)
    assert maps.shape == (2, 32, 32)
