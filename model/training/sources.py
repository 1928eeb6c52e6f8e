"""Where training images come from: each source draws one augmented image for a generator of random numbers.

What a source draws depends on nothing else than that generator, so that a batch is a function of seed and step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from model.batches import Item, item_of, lung_item, view_item
from model.cache import Example, examples
from model.config import Config
from model.data.split import digest
from model.lungs import Pair, is_measured, read_lungs
from model.training.config import LungData, TwinData
from model.twin.sample import VERSION


class Source(Protocol):
    """A source of training images."""

    @property
    def name(self) -> str:
        """For the log and the manifest."""
        ...

    @property
    def weight(self) -> float:
        """Share of the images of a batch, relative to the other sources."""
        ...

    @property
    def score(self) -> float:
        """Weight of its validation images in the score that chooses the best weights."""
        ...

    @property
    def about(self) -> dict[str, object]:
        """What it holds, for the manifest: counts and versions, JSON values only."""
        ...

    def __len__(self) -> int:
        """How many training images there are."""
        ...

    def draw(self, rng: np.random.Generator) -> Item:
        """A training image, augmented."""
        ...

    def validation(self) -> tuple[Item, ...]:
        """Images of patients that are not trained on, the same every time."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TwinSource:
    """Rendered samples of the synthetic twin."""

    weight: float
    score: float
    training: tuple[Example, ...]
    odds: npt.NDArray[np.float64]
    checks: tuple[Example, ...]
    about: dict[str, object]
    name: str = "twin"

    def __len__(self) -> int:
        return len(self.training)

    def draw(self, rng: np.random.Generator) -> Item:
        """A sample, turned, lit and worded anew."""
        return item_of(self.training[int(rng.choice(len(self.training), p=self.odds))], rng, augment=True)

    def validation(self) -> tuple[Item, ...]:
        """Every validation sample as rendered, always in the same words."""
        rng = np.random.Generator(np.random.PCG64(0))
        return tuple(item_of(example, rng, augment=False) for example in self.checks)


def twin_source(data: TwinData, *, config: Config, workers: int) -> TwinSource:
    """The twin's samples, rendered now where the cache has none."""
    seeds = [range(*data.training), range(*data.validation)]
    training, checks = (
        examples(data.cache, each, size=config.size, cells=config.heatmap, workers=workers) for each in seeds
    )
    about: dict[str, object] = {
        "version": VERSION,
        "seeds": list(data.training),
        "validation seeds": list(data.validation),
    }
    odds = np.array([data.small if _has_small(example) else 1.0 for example in training])
    return TwinSource(data.weight, data.score, training, odds / odds.sum(), checks, about)


def _has_small(example: Example) -> bool:
    """Whether a finding covers less than a hundredth of the picture: nodules, tubes, thin atelectasis."""
    return any(finding.mask.mean() < 0.01 for finding in example.findings)


@dataclass(frozen=True, slots=True, eq=False)
class LungSource:
    """Real radiographs with outlined lungs; they teach the anatomy alone."""

    weight: float
    pairs: tuple[Pair, ...]
    patients: tuple[str, ...]
    name: str = "lungs"
    score: float = 0.0

    @property
    def about(self) -> dict[str, object]:
        """How many there are, and of whom, as digests."""
        return {"images": len(self.pairs), "patients": sorted({digest(patient) for patient in self.patients})}

    def __len__(self) -> int:
        return len(self.pairs)

    def draw(self, rng: np.random.Generator) -> Item:
        """A radiograph, turned and lit anew."""
        return lung_item(self.pairs[int(rng.integers(len(self.pairs)))], rng)

    def validation(self) -> tuple[Item, ...]:
        """None: held-out lungs are measured, never tuned on."""
        return ()


def lung_source(data: LungData, config: Config) -> LungSource:
    """The radiographs of the folder, without the patients that are kept for measuring."""
    pairs, patients = read_lungs(
        data.folder, size=config.size, cells=config.heatmap, wanted=lambda patient: not is_measured(patient)
    )
    return LungSource(data.weight, pairs, patients)


@dataclass(frozen=True, slots=True)
class ViewSource:
    """Drawn pictures of what is no frontal chest, and has no lungs to outline."""

    weight: float
    config: Config
    name: str = "views"
    score: float = 0.0

    @property
    def about(self) -> dict[str, object]:
        """They are drawn without end."""
        return {"images": "drawn"}

    def __len__(self) -> int:
        return 0

    def draw(self, rng: np.random.Generator) -> Item:
        """Another picture every time."""
        return view_item(int(rng.integers(2**31)), rng, self.config)

    def validation(self) -> tuple[Item, ...]:
        """None."""
        return ()


def drawn_from(sources: Sequence[Source], rng: np.random.Generator, *, count: int) -> list[Item]:
    """*count* images, each source within one of its exact share (systematic sampling)."""
    edges = np.cumsum([source.weight for source in sources])
    places = (np.arange(count) + rng.random()) / count * edges[-1]
    chosen = np.searchsorted(edges, places, side="right")
    return [sources[int(number)].draw(rng) for number in chosen]
