"""The network's measures, as one frozen value that is stored beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of the network.

    Parameters
    ----------
    size : side of the square input in pixels; a multiple of 32.
    widths : channels at strides 2, 4, 8, 16 and 32.
    pyramid : channels of the feature pyramid.
    embedding : dimensions shared by phrase and image, in which their cosine is taken.
    buckets : rows of the hashed word table.
    """

    size: int = 256
    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 192)
    pyramid: int = 48
    embedding: int = 64
    buckets: int = 4096

    def __post_init__(self) -> None:
        if self.size % 32 or self.size < 64:
            raise ValueError(f"size is a multiple of 32, at least 64, not {self.size}")

    @property
    def heatmap(self) -> int:
        """Side of the heatmap in cells."""
        return self.size // 2

    def to_json(self) -> str:
        """Stable JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The inverse of :meth:`to_json`."""
        raw = json.loads(text)
        return cls(**{**raw, "widths": tuple(raw["widths"])})
