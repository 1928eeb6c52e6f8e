"""PyTorch: the reference on the CPU in single precision, and bfloat16 on CPU or GPU."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from model.bricks import Features
from model.engines.engine import Asked, EngineError, Maps, Seen
from model.network import Encoded, GroundingNetwork


class TorchEngine:
    """Runs the network as it was trained, or a copy of it in another precision or on another device.

    Parameters
    ----------
    precision : of weights and maps. The network is cast once: casting on the fly is slower than single precision.
    """

    def __init__(
        self,
        network: GroundingNetwork,
        *,
        name: str = "torch",
        device: str = "cpu",
        precision: torch.dtype = torch.float32,
    ) -> None:
        self._device, self._precision = torch.device(device), precision
        same = device == "cpu" and precision is torch.float32
        self._network = network if same else copy.deepcopy(network).to(self._device, precision).eval()
        # The same numbers in the order in which convolutions read them: a third less time on a CPU.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._words = network
        self._name = name

    @property
    def name(self) -> str:
        """As in SIGHTLINE_ENGINE."""
        return self._name

    def encode(self, images: Maps) -> Seen:
        """See :class:`model.engines.engine.Engine`."""
        with torch.inference_mode():
            placed = self._placed(images[:, None]).contiguous(memory_format=torch.channels_last)
            encoded: Encoded = self._network.encode(placed)
            return Seen(_array(encoded.anatomy.sigmoid()), encoded)

    def embed(self, rows: Sequence[tuple[int, ...]]) -> Maps:
        """In single precision on the CPU: a few words at a time, once."""
        return embedded(self._words, rows)

    def locate(self, seen: Seen, asked: Asked, image: npt.NDArray[np.int64]) -> tuple[Maps, Maps]:
        """See :class:`model.engines.engine.Engine`."""
        encoded = cast(Encoded, seen.kept)
        size = seen.anatomy.shape[-1]
        maps, found = np.empty((len(image), size, size), np.float32), np.empty(len(image), np.float32)
        with torch.inference_mode():
            for number in np.unique(image):
                chosen = np.flatnonzero(image == number)
                given = [self._placed(each[chosen]) for each in asked]
                first = torch.zeros(len(chosen), dtype=torch.long, device=self._device)
                logits, presence = self._network.locate(_single(encoded, int(number)), given[0], first, *given[1:])
                maps[chosen], found[chosen] = _array(logits.float().sigmoid()), _array(presence.float().sigmoid())
        return maps, found

    def _placed(self, values: npt.NDArray[np.generic]) -> torch.Tensor:
        """On the device; numbers with a fraction in the engine's precision."""
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self._device)
        return tensor.to(self._precision) if tensor.is_floating_point() else tensor


def _single(encoded: Encoded, number: int) -> Encoded:
    """One image of a batch: what belongs to it is then shared by its phrases, and not copied for each."""
    features = encoded.features
    chosen = Features(*(getattr(features, each.name)[number : number + 1] for each in fields(features)))
    return Encoded(chosen, encoded.anatomy[number : number + 1])


def embedded(network: GroundingNetwork, rows: Sequence[tuple[int, ...]]) -> Maps:
    """The phrase encoder of *network*. *Shape:* the tokens of P phrases -> (P, embedding)."""
    starts = np.cumsum([0, *(len(row) for row in rows)])[:-1]
    with torch.inference_mode():
        tokens = torch.tensor([token for row in rows for token in row], dtype=torch.long)
        return _array(network.phrase(tokens, torch.from_numpy(starts)))


def _array(values: torch.Tensor) -> Maps:
    return np.asarray(values.float().cpu().numpy())


def cuda_engine(network: GroundingNetwork) -> TorchEngine:
    """On the GPU, in bfloat16 where it has it.

    Raises
    ------
    EngineError
        If there is no GPU, or PyTorch was built without it.
    """
    if not torch.cuda.is_available():
        raise EngineError(
            "no GPU that this PyTorch can use was found; choose the engine torch, or install a CUDA build"
        )
    precision = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return TorchEngine(network, name="cuda", device="cuda", precision=precision)
