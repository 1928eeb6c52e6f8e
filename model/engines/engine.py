"""The interface of an engine, and what can go wrong in choosing one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Maps = npt.NDArray[np.float32]
#: What is asked about P phrases: arrays whose first axis is P; the first are the embedded phrases, float32.
Asked = tuple[npt.NDArray[np.generic], ...]


class EngineError(ValueError):
    """An engine was asked for that cannot run here; says why and what can be done."""


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """An image, understood once.

    Parameters
    ----------
    anatomy : probabilities (3, h, h) of right lung, left lung and heart.
    kept : what the engine needs to locate phrases in it; nobody else looks inside.
    """

    anatomy: Maps
    kept: object


class Engine(Protocol):
    """Runs one network. Deterministic for a number of threads; safe to use from one thread at a time."""

    @property
    def name(self) -> str:
        """As in SIGHTLINE_ENGINE."""

    @property
    def batches(self) -> bool:
        """Whether images and phrases go through it faster together, as on a GPU.

        Where they do not, each image, and each :data:`model.values.PHRASES_AT_ONCE` of its phrases, is given to it
        alone: sums of other shapes differ in their last bits, and an answer shall not depend on who else asks.
        """

    def encode(self, images: Maps) -> tuple[Seen, ...]:
        """*Shape:* (B, s, s) in [0, 1] -> B times :class:`Seen`."""

    def embed(self, rows: Sequence[tuple[int, ...]]) -> Maps:
        """*Shape:* the tokens of P phrases -> (P, embedding). Rare, since the grounder keeps what was embedded."""

    def locate(self, seen: Sequence[Seen], asked: Asked, image: npt.NDArray[np.int64]) -> tuple[Maps, Maps]:
        """Where each phrase lies in its image.

        *Shape:* asked (P, ...), image (P,) numbers of *seen* -> probabilities (P, h, h), presence (P,).
        """
