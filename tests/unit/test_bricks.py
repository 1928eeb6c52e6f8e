import torch

from model.bricks import convolution, joined


def test_a_convolution_over_two_kinds_of_channels_is_the_sum_of_one_over_each():
    torch.manual_seed(0)
    block = convolution(6, 4).eval()
    own, also, shared = torch.rand(5, 2, 8, 8), torch.rand(5, 1, 8, 8), torch.rand(2, 3, 8, 8)
    image = torch.tensor([0, 1, 1, 0, 1])

    once = joined(block, ((own, False), (shared, True), (also, False)), image)

    assert torch.allclose(once, block(torch.cat([own, shared[image], also], dim=1)), atol=1e-6)
