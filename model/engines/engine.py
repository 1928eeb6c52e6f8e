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
    """B images, understood once.

    Parameters
    ----------
    anatomy : probabilities (B, 3, h, h) of right lung, left lung and heart.
    kept : what the engine needs to locate phrases in them; nobody else looks inside.
    """

    anatomy: Maps
    kept: object


class Engine(Protocol):
    """Runs one network. Deterministic for a number of threads; safe to use from one thread at a time."""

    @property
    def name(self) -> str:
        """As in SIGHTLINE_ENGINE."""

    def encode(self, images: Maps) -> Seen:
        """*Shape:* (B, s, s) in [0, 1] -> :class:`Seen`."""

    def embed(self, rows: Sequence[tuple[int, ...]]) -> Maps:
        """*Shape:* the tokens of P phrases -> (P, embedding). Rare, since the grounder keeps what was embedded."""

    def locate(self, seen: Seen, asked: Asked, image: npt.NDArray[np.int64]) -> tuple[Maps, Maps]:
        """Where each phrase lies in its image.

        *Shape:* asked (P, ...), image (P,) numbers in [0, B) -> probabilities (P, h, h), presence (P,).
        """
