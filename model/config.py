"""The network's measures, as one frozen value that is stored beside its weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

IMAGE_ENCODERS = ("small", "biovil", "biovil-t")
TEXT_ENCODERS = ("small", "cxr-bert")
DECODERS = ("trained", "similarity")
STRIDES = (2, 4)


@dataclass(frozen=True, slots=True)
class Config:
    """Sizes of the network.

    Parameters
    ----------
    size : side of the square input in pixels; a multiple of 16 times *stride*.
    stride : pixels along a side of a cell of the heatmap. A stride of 4 shows thin tubes to the image encoder without
        making every phrase dearer, for a phrase is answered on the heatmap's grid.
    blocks : residual blocks at each scale.
    widths : channels at 1, 2, 4, 8 and 16 cells of the heatmap.
    pyramid : channels of the feature pyramid.
    embedding : dimensions shared by phrase and image, in which their cosine is taken.
    buckets : rows of the hashed word table.
    image_encoder : ``small``, or a site's ``biovil`` or ``biovil-t``.
    text_encoder : ``small``, or a site's ``cxr-bert``.
    frozen : whether a site's encoders stay as they are while the rest is trained.
    decoder : ``trained``, or ``similarity`` for a published pair of encoders without any training.
    """

    size: int = 256
    stride: int = 2
    blocks: int = 1
    widths: tuple[int, int, int, int, int] = (16, 32, 64, 128, 192)
    pyramid: int = 48
    embedding: int = 64
    buckets: int = 4096
    image_encoder: str = "small"
    text_encoder: str = "small"
    frozen: bool = True
    decoder: str = "trained"

    def __post_init__(self) -> None:
        if self.stride not in STRIDES:
            raise ValueError(f"stride is 2 or 4, not {self.stride}")
        if self.size % (16 * self.stride) or self.size < 32 * self.stride:
            least = 32 * self.stride
            raise ValueError(f"size is a multiple of {16 * self.stride}, at least {least}, not {self.size}")
        if self.image_encoder not in IMAGE_ENCODERS:
            raise ValueError(f"image_encoder is one of {', '.join(IMAGE_ENCODERS)}, not {self.image_encoder!r}")
        if self.text_encoder not in TEXT_ENCODERS:
            raise ValueError(f"text_encoder is one of {', '.join(TEXT_ENCODERS)}, not {self.text_encoder!r}")
        if self.decoder not in DECODERS:
            raise ValueError(f"decoder is one of {', '.join(DECODERS)}, not {self.decoder!r}")
        if self.image_encoder != "small" and self.stride != 2:
            raise ValueError("a site's image encoder has a heatmap of half its input's side: stride is 2")
        if self.decoder == "similarity" and "small" in (self.image_encoder, self.text_encoder):
            raise ValueError("a similarity map needs a published pair of encoders")

    @property
    def heatmap(self) -> int:
        """Side of the heatmap in cells."""
        return self.size // self.stride

    def to_json(self) -> str:
        """Stable JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Config:
        """The inverse of :meth:`to_json`."""
        raw = json.loads(text)
        return cls(**{**raw, "widths": tuple(raw["widths"])})
