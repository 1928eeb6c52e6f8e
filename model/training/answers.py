"""What a network answers to phrases whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model.anatomy import Lungs, lungs_of
from model.batches import Item, collate
from model.config import Config
from model.network import GroundingNetwork
from model.prior import Maps
from model.training.objective import answer_of
from model.values import Query

_AT_ONCE = 20


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """One phrase of one image, as the network answers it, with its truth.

    Parameters
    ----------
    image : which one of which source.
    values, truth : probabilities and mask, (size, size).
    drawn : whether the truth says where.
    fold : of the patient, where the network that answers was trained without it.
    """

    image: str
    query: Query
    values: Maps
    presence: float
    lungs: Lungs
    truth: npt.NDArray[np.bool_]
    present: bool
    drawn: bool
    fold: int | None = None

    @property
    def outlined(self) -> bool:
        """Whether it is there and the truth says where."""
        return self.drawn and self.present and bool(self.truth.any())


#: Weight and phrases of each source whose patients the network did not see; training phrases of each that teaches a
#: prior and whose patients it did.
Checks = Mapping[str, tuple[float, tuple[Answered, ...]]]
Taught = Mapping[str, tuple[Answered, ...]]


@torch.inference_mode()
def answered(
    network: GroundingNetwork, items: Sequence[Item], config: Config, *, fold: int | None = None
) -> Iterator[Answered]:
    """Every phrase of *items*, in order."""
    network.eval()
    device = next(network.parameters()).device
    for start in range(0, len(items), _AT_ONCE):
        batch = collate(list(items[start : start + _AT_ONCE]), config)
        answer = answer_of(network, batch.to(device))
        maps, presence = answer.logits.sigmoid().cpu().numpy(), answer.presence.sigmoid().cpu().tolist()
        lungs = [lungs_of(each) for each in answer.encoded.anatomy[:, :2].float().sigmoid().cpu().numpy()]
        for row, query in enumerate(batch.queries):
            number = int(batch.image[row])
            yield Answered(
                image=batch.names[number],
                query=query,
                values=maps[row],
                presence=presence[row],
                lungs=lungs[number],
                truth=batch.masks[row].numpy() > 0.5,
                present=bool(batch.present[row]),
                drawn=bool(batch.drawn[row]),
                fold=fold,
            )


def outlined(*sources: tuple[Answered, ...]) -> list[Answered]:
    """Those of all *sources* that are there and whose truth says where."""
    return [row for rows in sources for row in rows if row.outlined]


def telling(rows: Sequence[Answered]) -> list[Answered]:
    """Those that tell how often what is asked is there.

    Findings that are only ever there do not: nobody was asked where they are not. A phrase that names a side is left
    out where the image was asked without one, so that each image counts once.
    """
    kinds = {(row.query.finding, row.present) for row in rows}
    both = [row for row in rows if (row.query.finding, not row.present) in kinds]
    bare = {row.image for row in both if row.query.side is None}
    return [row for row in both if row.query.side is None or row.image not in bare]
