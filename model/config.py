"""The network's measures, as one frozen value that is stored beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

IMAGE_ENCODERS = ("small", "biovil", "biovil-t")
TEXT_ENCODERS = ("small", "cxr-bert")
DECODERS = ("trained", "similarity")


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
    image_encoder : ``small``, or a site's ``biovil`` or ``biovil-t``.
    text_encoder : ``small``, or a site's ``cxr-bert``.
    frozen : whether a site's encoders stay as they are while the rest is trained.
    decoder : ``trained``, or ``similarity`` for a published pair of encoders without any training.
    """

    size: int = 256
    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 192)
    pyramid: int = 48
    embedding: int = 64
    buckets: int = 4096
    image_encoder: str = "small"
    text_encoder: str = "small"
    frozen: bool = True
    decoder: str = "trained"

    def __post_init__(self) -> None:
        if self.size % 32 or self.size < 64:
            raise ValueError(f"size is a multiple of 32, at least 64, not {self.size}")
        if self.image_encoder not in IMAGE_ENCODERS:
            raise ValueError(f"image_encoder is one of {', '.join(IMAGE_ENCODERS)}, not {self.image_encoder!r}")
        if self.text_encoder not in TEXT_ENCODERS:
            raise ValueError(f"text_encoder is one of {', '.join(TEXT_ENCODERS)}, not {self.text_encoder!r}")
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder is one of {', '.join(DECODERS)}, not {self.decoder!r}")
        if self.decoder == "similarity" and "small" in (self.image_encoder, self.text_encoder):
            raise ValueError("a similarity map needs a published pair of encoders")

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
