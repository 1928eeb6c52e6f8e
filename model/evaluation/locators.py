"""What can be measured: anything that answers pixels and queries with maps. Three of them stand side by side.

The full model; the model's own prior, which sees the anatomy and the words but no image evidence; and the words alone,
which see no pixel at all. A figure of the first says little without the same figure of the others beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from model.anatomy import Lungs
from model.geometry import UPRIGHT, Orientation, letterbox_of
from model.prior import Drawn, Prior, learn_prior
from model.regions import regions_of
from model.values import Grounding, Heatmap, ModelCard, Query, Region, State

Pixels = npt.NDArray[np.float32]
#: Cells along a side of the words' own maps; a box of real data spans ten or more of them.
CELLS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """One answer.

    Parameters
    ----------
    heatmap : probabilities over the letterboxed square.
    presence : that the image shows the finding, in [0, 1]; 0.5 where the locator cannot say.
    regions : what would be shown to a person; none where the finding counts as not found.
    state : what became of the phrase.
    """

    heatmap: Heatmap
    presence: float
    regions: tuple[Region, ...]
    state: State


class Locator(Protocol):
    """Anything that answers (pixels, queries) with maps."""

    @property
    def threshold(self) -> float:
        """From this probability on a cell is lit; tuned on validation, never on what is measured."""
        ...

    def locate(self, pixels: Pixels, queries: tuple[Query, ...]) -> tuple[Located, ...]:
        """One answer per query, in order, of an upright image, float32 (rows, columns) in [0, 1]."""
        ...


class Groundable(Protocol):
    """A grounder of any engine; see :class:`model.grounder.EngineGrounder`."""

    @property
    def card(self) -> ModelCard:
        """Which model this is."""
        ...

    def ground(self, pixels: Pixels, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        """One answer per query, in order."""
        ...

    def lungs(self, pixels: Pixels, orientation: Orientation) -> Lungs:
        """Both lungs on the heatmap's grid."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FullModel:
    """The grounder as the service uses it."""

    grounder: Groundable

    @property
    def threshold(self) -> float:
        """That of the manifest."""
        return self.grounder.card.threshold

    def locate(self, pixels: Pixels, queries: tuple[Query, ...]) -> tuple[Located, ...]:
        """The image is encoded once for all its phrases; what is refused has an empty map and presence 0."""
        return tuple(_located(answer, pixels) for answer in self.grounder.ground(pixels, UPRIGHT, queries))

    def lungs(self, pixels: Pixels) -> Lungs:
        """The model's lungs, which give the patient's midline."""
        return self.grounder.lungs(pixels, UPRIGHT)


def _located(answer: Grounding, pixels: Pixels) -> Located:
    nothing = Heatmap(np.zeros((CELLS, CELLS), np.float32), letterbox_of(pixels))
    shown = answer.regions if answer.state is State.FOUND else ()
    return Located(answer.heatmap or nothing, answer.probability, shown, answer.state)


Key = tuple[str, str]
_THRESHOLDS = np.arange(1, 40) / 40


@dataclass(frozen=True, slots=True, eq=False)
class WordsOnly:
    """Where boxes of a finding and side lay in other patients: knows the shape of the image and the words, no pixels.

    Parameters
    ----------
    maps : mean truth, float32 (CELLS, CELLS), by finding and side; ``""`` stands for all findings, or no side.
    threshold : with the best mean Dice over the rows that the maps were learnt from.
    """

    maps: Mapping[Key, Pixels]
    threshold: float

    def locate(self, pixels: Pixels, queries: tuple[Query, ...]) -> tuple[Located, ...]:
        """The same answer for every image of one shape; it cannot say what is present."""
        box = letterbox_of(pixels)
        found = []
        for query in queries:
            heatmap = Heatmap(self.map_of(query).copy(), box)
            found.append(Located(heatmap, 0.5, regions_of(heatmap, self.threshold), State.FOUND))
        return tuple(found)

    def map_of(self, query: Query) -> Pixels:
        """What was learnt for the finding and side of *query*, or for as much of them as was seen often enough."""
        return next((self.maps[key] for key in _keys(query) if key in self.maps), np.zeros((CELLS, CELLS), np.float32))


def _keys(query: Query) -> tuple[Key, ...]:
    """The most telling first: finding and side, finding, side, nothing."""
    side = query.side or ""
    return (query.finding, side), ("", side), (query.finding, ""), ("", "")


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """What a reader drew: *truth*, float32 (CELLS, CELLS), the share of each cell of the square that was marked.

    *lungs* are the model's, on the grid of its heatmaps.
    """

    query: Query
    truth: Pixels
    lungs: Lungs


def shown(query: Query, truth: npt.NDArray[np.bool_], lungs: Lungs) -> Shown:
    """From a truth at source resolution, bool (rows, columns)."""
    marked = truth.astype(np.float32)
    return Shown(query, letterbox_of(marked).image(marked, CELLS), lungs)


def learn_words(rows: Sequence[Shown], *, fewest: int = 3) -> WordsOnly:
    """The mean truth of each finding and side with at least *fewest* rows, and of all rows.

    The maps are smoothed by one cell, so that one reader's box leaves no edge.
    """
    groups: dict[Key, list[Pixels]] = {}
    for row in rows:
        for key in dict.fromkeys(_keys(row.query)):
            groups.setdefault(key, []).append(row.truth)
    kept = {key: _mean(truths) for key, truths in groups.items() if len(truths) >= fewest or key == ("", "")}
    unfit = WordsOnly(kept, 0.5)
    return WordsOnly(kept, _best_threshold([unfit.map_of(row.query) for row in rows], rows))


def _mean(truths: Sequence[Pixels]) -> Pixels:
    return np.asarray(cv2.GaussianBlur(np.mean(truths, axis=0), (0, 0), 1.0).clip(0, 1), np.float32)


def _best_threshold(maps: Sequence[Pixels], rows: Sequence[Shown]) -> float:
    """With the best mean Dice of *maps*, (CELLS, CELLS) each, over *rows*."""
    scores = np.zeros(len(_THRESHOLDS))
    for values, row in zip(maps, rows, strict=True):
        lit = values[None] >= _THRESHOLDS[:, None, None]
        shared = (lit * row.truth).sum(axis=(1, 2))
        scores += 2 * shared / np.maximum(lit.sum(axis=(1, 2)) + row.truth.sum(), 1e-6)
    return float(_THRESHOLDS[int(scores.argmax())])


@dataclass(frozen=True, slots=True, eq=False)
class PriorOnly:
    """The model's prior without image evidence: boxes of other patients in the frame of this patient's lungs.

    Parameters
    ----------
    words : answer where the prior knows no table, or no lungs are found.
    """

    prior: Prior
    lungs: Lungs
    words: WordsOnly
    threshold: float

    def locate(self, pixels: Pixels, queries: tuple[Query, ...]) -> tuple[Located, ...]:
        """Of *pixels* only the shape is used; what they show of the lungs is :attr:`lungs`."""
        box = letterbox_of(pixels)
        found = []
        for query in queries:
            laid = self.prior.of(query, self.lungs)
            heatmap = Heatmap((self.words.map_of(query) if laid is None else laid).clip(0, 1), box)
            found.append(Located(heatmap, 0.5, regions_of(heatmap, self.threshold), State.FOUND))
        return tuple(found)


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What boxes of some patients teach, for use on others."""

    words: WordsOnly
    prior: Prior
    threshold: float

    def prior_on(self, lungs: Lungs) -> PriorOnly:
        """The prior laid over the lungs of one image."""
        return PriorOnly(self.prior, lungs, self.words, self.threshold)


def learn(rows: Sequence[Shown]) -> Learnt:
    """From rows that show something."""
    words, prior = learn_words(rows), learn_prior([_drawn(row) for row in rows])
    laid = [prior.of(row.query, row.lungs) for row in rows]
    maps = [
        words.map_of(row.query) if each is None else np.asarray(cv2.resize(each, (CELLS, CELLS)), np.float32)
        for row, each in zip(rows, laid, strict=True)
    ]
    return Learnt(words, prior, _best_threshold(maps, rows))


def _drawn(row: Shown) -> Drawn:
    size = len(row.lungs.right)
    return Drawn(row.query, np.asarray(cv2.resize(row.truth, (size, size)) >= 0.5), row.lungs)
