"""PyTorch: the reference on the CPU in single precision, and bfloat16 on CPU or GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from model.engines.engine import Asked, EngineError, Maps, Seen
from model.folding import folded
from model.network import Encoded, GroundingNetwork

#: Phrases located in one go on a CPU: for the maps of more, memory is given back and cleared anew in each step.
_TOGETHER = 8


class TorchEngine:
    """Runs a copy of the network, folded (:mod:`model.folding`), in a precision and on a device of its own.

    Parameters
    ----------
    precision : of weights and maps. The copy is cast once: casting on the fly is slower than single precision.
    batches : whether it is given many images and phrases at once; by default on anything but a CPU.
    """

    def __init__(
        self,
        network: GroundingNetwork,
        *,
        name: str = "torch",
        device: str = "cpu",
        precision: torch.dtype = torch.float32,
        batches: bool | None = None,
    ) -> None:
        self._device, self._precision = torch.device(device), precision
        self._network = folded(network).to(self._device, precision)
        # The same numbers in the order in which convolutions read them: a third less time on a CPU.
        self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._words = network
        self._name = name
        self._batches = device != "cpu" if batches is None else batches

    @property
    def name(self) -> str:
        """As in SIGHTLINE_ENGINE."""
        return self._name

    @property
    def batches(self) -> bool:
        """See :class:`model.engines.engine.Engine`."""
        return self._batches

    def encode(self, images: Maps) -> tuple[Seen, ...]:
        """See :class:`model.engines.engine.Engine`."""
        with torch.inference_mode():
            placed = self._placed(images[:, None]).contiguous(memory_format=torch.channels_last)
            encoded: Encoded = self._network.encode(placed)
            anatomy = _array(encoded.anatomy.sigmoid())
            return tuple(Seen(anatomy[number], _single(encoded, number)) for number in range(len(images)))

    def embed(self, rows: Sequence[tuple[int, ...]]) -> Maps:
        """In single precision on the CPU: a few words at a time, once."""
        return embedded(self._words, rows)

    def locate(self, seen: Sequence[Seen], asked: Asked, image: npt.NDArray[np.int64]) -> tuple[Maps, Maps]:
        """See :class:`model.engines.engine.Engine`."""
        encoded = [cast(Encoded, each.kept) for each in seen]
        if self._batches:
            return self._located(_joined(encoded), asked, image)
        size = seen[0].anatomy.shape[-1]
        maps, found = np.empty((len(image), size, size), np.float32), np.empty(len(image), np.float32)
        for number in np.unique(image):
            wanted = np.flatnonzero(image == number)
            for chosen in np.split(wanted, range(_TOGETHER, len(wanted), _TOGETHER)):
                some = tuple(each[chosen] for each in asked)
                maps[chosen], found[chosen] = self._located(encoded[number], some, np.zeros(len(chosen), np.int64))
        return maps, found

    def _located(self, encoded: Encoded, asked: Asked, image: npt.NDArray[np.int64]) -> tuple[Maps, Maps]:
        given = [self._placed(each) for each in asked]
        with torch.inference_mode():
            logits, presence = self._network.locate(encoded, given[0], self._placed(image), *given[1:])
            return _array(logits.float().sigmoid()), _array(presence.float().sigmoid())

    def _placed(self, values: npt.NDArray[np.generic]) -> torch.Tensor:
        """On the device; numbers with a fraction in the engine's precision."""
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(self._device)
        return tensor.to(self._precision) if tensor.is_floating_point() else tensor


def _single(encoded: Encoded, number: int) -> Encoded:
    """One image of a batch: what belongs to it is then shared by its phrases, and not copied for each."""
    features = encoded.features
    chosen = (getattr(features, each.name)[number : number + 1] for each in fields(features))
    return Encoded(type(features)(*chosen), encoded.anatomy[number : number + 1])


def _joined(several: Sequence[Encoded]) -> Encoded:
    """Images that were encoded apart, as one batch."""
    if len(several) == 1:
        return several[0]
    features = several[0].features
    parts = (torch.cat([getattr(each.features, name.name) for each in several]) for name in fields(features))
    return Encoded(type(features)(*parts), torch.cat([each.anatomy for each in several]))


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
