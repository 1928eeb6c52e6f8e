import math

import pytest
import torch

from model.losses import dice_loss, focal_loss


def test_focal_loss_is_the_value_computed_by_hand():
    logits = torch.tensor([[[0.0, math.log(3.0)]]])  # probabilities 0.5 and 0.75
    target = torch.tensor([[[1.0, 0.0]]])

    loss = focal_loss(logits, target, alpha=0.25, gamma=2.0)

    hit = 0.25 * 0.5**2 * -math.log(0.5)
    miss = 0.75 * 0.75**2 * -math.log(0.25)
    assert loss.tolist() == pytest.approx([(hit + miss) / 2])


def test_without_focusing_the_focal_loss_is_half_the_cross_entropy():
    logits, target = torch.randn(3, 4, 4), (torch.rand(3, 4, 4) > 0.5).float()

    loss = focal_loss(logits, target, alpha=0.5, gamma=0.0)

    crossed = torch.nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    assert torch.allclose(loss, 0.5 * crossed.mean(dim=(1, 2)))


def test_dice_loss_is_the_value_computed_by_hand():
    logits = torch.tensor([[[0.0, 0.0, 100.0, -100.0]]])  # probabilities 0.5, 0.5, 1, 0
    target = torch.tensor([[[1.0, 0.0, 1.0, 0.0]]])

    # overlap 1.5, sums 2 and 2, one cell of smoothing
    assert dice_loss(logits, target).tolist() == pytest.approx([1 - 4 / 5])


def test_a_perfect_map_costs_nothing():
    target = torch.zeros(1, 8, 8)
    target[:, 2:5, 2:5] = 1

    assert dice_loss((target - 0.5) * 200, target).item() == pytest.approx(0, abs=1e-4)
    assert focal_loss((target - 0.5) * 200, target, alpha=0.25, gamma=2.0).item() == pytest.approx(0, abs=1e-6)
