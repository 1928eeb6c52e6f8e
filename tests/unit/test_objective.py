import pytest
import torch

from model.batches import Batch
from model.bricks import Shown
from model.network import Encoded
from model.training.config import Loss
from model.training.objective import Answer, parts_of

NOTHING = torch.zeros(0, dtype=torch.long)


def focal(mask, *, small):
    """The focal part for one phrase, that the network is undecided about everywhere."""
    here = torch.zeros(1, 3, *mask.shape[1:])
    seen = Encoded(Shown(here, here, here, here, here, here), here)
    one = torch.ones(1)
    batch = Batch(here[:, :1], here, torch.tensor([False]), NOTHING, NOTHING, NOTHING, mask, one, one)
    return parts_of(Answer(seen, torch.zeros_like(mask), one), batch, Loss(small=small))["focal"].item()


@pytest.mark.parametrize(("cells", "raised"), [(5, 10**0.5), (50, 1.0), (500, 1.0), (0, 1.0)])
def test_a_finding_below_a_twentieth_of_the_picture_weighs_more_by_its_share(cells, raised):
    mask = torch.zeros(1, 1000)
    mask[0, :cells] = 1
    mask = mask.view(1, 40, 25)

    assert focal(mask, small=0.5) == pytest.approx(raised * focal(mask, small=0.0), rel=1e-4)
