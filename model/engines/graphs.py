"""An engine over the two exported graphs, whatever runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from model.engines.engine import Asked, Maps, Seen
from model.engines.pytorch import embedded
from model.network import GroundingNetwork

Arrays = list[npt.NDArray[np.generic]]
#: Runs one graph: its inputs in order, and its outputs in order.
Run = Callable[[Arrays], Arrays]


class GraphEngine:
    """One image at a time, so that every shape but the number of phrases is known when the graph is made ready."""

    def __init__(self, network: GroundingNetwork, *, name: str, encode: Run, locate: Run) -> None:
        self._network, self._name = network, name
        self._run_encode, self._run_locate = encode, locate

    @property
    def name(self) -> str:
        """As in SIGHTLINE_ENGINE."""
        return self._name

    @property
    def batches(self) -> bool:
        """See :class:`model.engines.engine.Engine`."""
        return False

    def encode(self, images: Maps) -> tuple[Seen, ...]:
        """See :class:`model.engines.engine.Engine`."""
        made = [self._run_encode([image[None, None]]) for image in images]
        return tuple(Seen(np.asarray(outputs[0], np.float32)[0], tuple(outputs[1:])) for outputs in made)

    def embed(self, rows: Sequence[tuple[int, ...]]) -> Maps:
        """By PyTorch."""
        return embedded(self._network, rows)

    def locate(self, seen: Sequence[Seen], asked: Asked, image: npt.NDArray[np.int64]) -> tuple[Maps, Maps]:
        """See :class:`model.engines.engine.Engine`."""
        size = seen[0].anatomy.shape[-1]
        maps, presence = np.empty((len(image), size, size), np.float32), np.empty(len(image), np.float32)
        for number in np.unique(image):
            kept, chosen = seen[number].kept, image == number
            if not isinstance(kept, tuple):
                raise TypeError("this image was seen by another engine")
            inputs = [*kept, np.zeros(int(chosen.sum()), np.int64), *(each[chosen] for each in asked)]
            maps[chosen], presence[chosen] = self._run_locate(inputs)
        return maps, presence
