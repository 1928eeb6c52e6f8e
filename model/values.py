"""The values that cross the border of ``model``: what is asked of an image and what is answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import numpy.typing as npt

from model.geometry import Letterbox, Orientation

#: Phrases of an image that are located in one go: sixteen share what is made once for their image, and their maps
#: nearly stay in the processor's cache; thirty do not.
PHRASES_AT_ONCE = 16


class State(StrEnum):
    """What became of a phrase on one image."""

    FOUND = "found"  # the image shows it: regions from image evidence
    REGION_ONLY = "region-only"  # only the area that the report names
    NOT_FOUND = "not-found"  # looked for, nothing above the threshold
    NOT_GROUNDABLE = "not-groundable"  # never asked, or the model cannot say


class View(StrEnum):
    """What kind of image this is, for the choice of images to ground."""

    FRONTAL = "frontal"
    LATERAL = "lateral"
    OTHER = "other"  # not a chest radiograph
    UNKNOWN = "unknown"


class Fault(StrEnum):
    """Why an image cannot be grounded."""

    BLANK = "nearly-blank"
    NOT_A_CHEST = "not-a-chest"
    LATERAL = "lateral"
    UNLIKE = "out-of-distribution"
    INVERTED = "inverted"
    TURNED = "turned"
    MIRRORED = "mirrored"


@dataclass(frozen=True, slots=True)
class Suitability:
    """Whether an image can be grounded as it is turned.

    Parameters
    ----------
    view : what kind of image it is, however it lies.
    fault : None exactly when it can be grounded.
    reason : one short sentence for a reader, exactly when there is a fault.
    orientation : how the stored pixels become upright: as given, unless *fault* is TURNED.
    """

    view: View
    orientation: Orientation
    fault: Fault | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.fault is None) != (self.reason is None):
            raise ValueError("a fault has a reason, and nothing else has one")


@dataclass(frozen=True, slots=True)
class Query:
    """One phrase as the model is asked about it.

    Parameters
    ----------
    text : the phrase, verbatim.
    finding : the lexicon's preferred name of the finding ("pleural effusion").
    side : "left", "right", "bilateral" (the patient's) or None when the report names none.
    sites : preferred names of anatomical sites ("left lower lobe", "apex"), most specific first.
    """

    text: str
    finding: str
    side: str | None = None
    sites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a query needs text")
        if self.side not in (None, "left", "right", "bilateral"):
            raise ValueError(f"side is left, right, bilateral or None, not {self.side!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """An image and what is asked of it.

    Parameters
    ----------
    pixels : float32 (rows, columns) in [0, 1], bright is dense.
    orientation : how *pixels* are turned upright.
    """

    pixels: npt.NDArray[np.float32]
    orientation: Orientation
    queries: tuple[Query, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """One connected area of the source image.

    Parameters
    ----------
    outline : closed polygon as (x, y) vertices in source coordinates (see :mod:`model.geometry`); the last
        vertex joins the first and is not repeated. At least three vertices. Regions have no holes.
    probability : peak probability inside, in [0, 1].
    """

    outline: tuple[tuple[float, float], ...]
    probability: float

    def __post_init__(self) -> None:
        if len(self.outline) < 3:
            raise ValueError("a region needs at least three vertices")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability lies in [0, 1]")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box (left, top, right, bottom) in source coordinates."""
        x, y = zip(*self.outline, strict=True)
        return min(x), min(y), max(x), max(y)

    def mask(self, rows: int, columns: int) -> npt.NDArray[np.bool_]:
        """The one rasterisation of this region: bool (rows, columns), True where a pixel's centre lies inside.

        A SEG frame, the page's overlay and every score use this, so they agree to the pixel.
        """
        inside = np.zeros((rows, columns), np.bool_)
        here = np.asarray(self.outline, np.float64)
        there = np.roll(here, -1, axis=0)
        # Rows whose centre each edge passes, half-open, so that a shared vertex counts once.
        ends = np.sort(np.stack([here[:, 1], there[:, 1]]), axis=0)
        first, last = np.clip(np.ceil(ends - 0.5), 0, rows).astype(int)
        edge = np.repeat(np.arange(len(here)), last - first)
        if not edge.size:
            return inside
        row = np.arange(edge.size) - np.repeat(np.cumsum(last - first) - last, last - first)
        (x0, y0), (x1, y1) = here[edge].T, there[edge].T
        x = x0 + (row + 0.5 - y0) * (x1 - x0) / (y1 - y0)
        column = np.clip(np.ceil(x - 0.5), 0, columns).astype(int)
        (top, left), (bottom, right) = (row.min(), column.min()), (row.max() + 1, column.max())
        crossings = np.zeros((bottom - top, right - left + 1), np.uint8)
        np.add.at(crossings, (row - top, column - left), 1)
        # A pixel is inside when an odd number of edges lies left of its centre; uint8 keeps that parity when it wraps.
        inside[top:bottom, left:right] = np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) & 1
        return inside


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """Probability per cell of the letterboxed square.

    Parameters
    ----------
    values : float32 (size, size) in [0, 1]; row 0 is the top, column 0 the viewer's left of the upright image.
    letterbox : where those cells lie in the source image.
    """

    values: npt.NDArray[np.float32]
    letterbox: Letterbox

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[0] != self.values.shape[1]:
            raise ValueError(f"a heatmap is square, got {self.values.shape}")
        if not (np.isfinite(self.values).all() and self.values.min() >= 0 and self.values.max() <= 1):
            raise ValueError("a heatmap holds probabilities in [0, 1]")
        self.values.setflags(write=False)

    def on_source(self) -> npt.NDArray[np.float32]:
        """The heatmap resampled bilinearly onto the source pixel matrix, float32 (rows, columns)."""
        box = self.letterbox
        side, (left, top), (rows, columns) = box.side, box.padding, box.upright_shape
        square = cv2.resize(self.values, (side, side), interpolation=cv2.INTER_LINEAR)
        upright = square[top : top + rows, left : left + columns]
        turn = box.orientation
        upright = upright[:: -1 if turn.reverse_rows else 1, :: -1 if turn.reverse_columns else 1]
        return np.ascontiguousarray(upright.T if turn.transpose else upright, np.float32)


@dataclass(frozen=True, slots=True)
class Grounding:
    """The model's answer to one query on one image.

    Parameters
    ----------
    regions : none, one or many; non-empty exactly when *state* is found or region-only.
    probability : that the image shows the finding, in [0, 1].
    heatmap : None when the model was not asked or cannot say.
    reason : one short sentence when *state* is not found.
    """

    query: Query
    state: State
    probability: float
    regions: tuple[Region, ...] = ()
    heatmap: Heatmap | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        if bool(self.regions) != (self.state in (State.FOUND, State.REGION_ONLY)):
            raise ValueError("regions are given exactly for the states found and region-only")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability lies in [0, 1]")


@dataclass(frozen=True, slots=True)
class ModelCard:
    """Which model answered: enough to reproduce it.

    Parameters
    ----------
    weights_sha256 : hex digest of the weights file.
    threshold : probability from which a cell belongs to a region; tuned by Dice on validation, bound to the weights.
    presence_threshold : probability from which a finding counts as found.
    judge_sha256 : likewise of the weights that judge whether an image can be grounded; empty when none do.
    """

    name: str
    version: str
    weights_sha256: str
    threshold: float
    presence_threshold: float = 0.5
    judge_sha256: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise ValueError("threshold lies in (0, 1)")
