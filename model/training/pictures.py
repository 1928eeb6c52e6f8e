"""Images of data sets as a source of training: chosen evenly, mirrored, worded anew, and asked what is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.batches import Asked, Item, augmented
from model.data.split import fold_of, held_out
from model.training.config import Split
from model.training.shelf import Shelf
from model.training.wording import other_side, reworded
from model.values import Query

Odds = npt.NDArray[np.float64]
#: Steps in which a share of the patients is counted.
_FOLDS = 1000


@dataclass(frozen=True, slots=True)
class Truth:
    """A phrase and what is known of it.

    Parameters
    ----------
    mask : row of the shelf's masks, or None where the mask is empty or nobody drew.
    drawn : whether the place is known; False for a label of the whole image.
    """

    query: Query
    present: bool
    drawn: bool
    mask: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One image with everything that is known of it.

    Parameters
    ----------
    row : of the shelf's pixels.
    view : as in DICOM View Position, or empty.
    """

    row: int
    patient: str
    view: str
    truths: tuple[Truth, ...]


@dataclass(frozen=True, slots=True)
class Manner:
    """How pictures are drawn; see :class:`model.training.config.PhraseData`."""

    balance: tuple[str, ...] = ()
    swap_sides: float = 0.0
    reword: float = 0.0
    mirror: float = 0.0
    phrases: int = 6


@dataclass(frozen=True, slots=True, eq=False)
class PictureSource:
    """Pictures of one data set, some to train on, each with its odds, and some to validate on."""

    name: str
    weight: float
    score: float
    shelf: Shelf
    training: tuple[Picture, ...]
    odds: Odds
    checks: tuple[Picture, ...]
    manner: Manner
    about: dict[str, object]
    prior: bool = False

    def __len__(self) -> int:
        return len(self.training)

    def draw(self, rng: np.random.Generator) -> Item:
        """A picture, turned, lit and worded anew."""
        picture, manner = self.training[int(rng.choice(len(self.training), p=self.odds))], self.manner
        truths = list(picture.truths)
        if len(truths) > manner.phrases:
            truths = [truths[int(each)] for each in sorted(rng.permutation(len(truths))[: manner.phrases])]
        asked = [self._asked(truth) for truth in truths]
        asked += _elsewhere(picture.truths, asked, rng, often=manner.swap_sides)
        asked = [replace(a, query=reworded(a.query, rng)) if rng.random() < manner.reword else a for a in asked]
        item = self._item(picture, asked)
        return augmented(_mirrored(item) if rng.random() < manner.mirror else item, rng)

    def validation(self) -> tuple[Item, ...]:
        """Every validation picture as it is, in the words of the data set."""
        return self.still(self.checks)

    def still(self, pictures: Sequence[Picture]) -> tuple[Item, ...]:
        """*pictures* as they are, in the words of the data set."""
        return tuple(self._item(each, [self._asked(truth) for truth in each.truths]) for each in pictures)

    def _asked(self, truth: Truth) -> Asked:
        mask = np.zeros(self.shelf.masks.shape[1:], np.float32)
        if truth.mask is not None:
            mask = self.shelf.masks[truth.mask].astype(np.float32)
        return Asked(truth.query, mask, truth.present, truth.drawn)

    def _item(self, picture: Picture, asked: list[Asked]) -> Item:
        pixels = self.shelf.pixels[picture.row].astype(np.float32) / 255
        return Item(pixels, None, tuple(asked), f"{self.name}[{picture.row}]")


def odds_of(pictures: Sequence[Picture], balance: Sequence[str]) -> Odds:
    """How likely each picture is drawn: each combination of the traits in *balance* as often as any other."""
    traits = [tuple(_trait(picture, name) for name in balance) for picture in pictures]
    often = Counter(traits)
    return np.array([1 / (len(often) * often[trait]) for trait in traits])


def _trait(picture: Picture, name: str) -> str:
    if name == "view":
        return picture.view.upper()
    if name == "finding":
        return picture.truths[0].query.finding if picture.truths else ""
    return str(any(truth.present for truth in picture.truths))


def _elsewhere(
    truths: Sequence[Truth], asked: Sequence[Asked], rng: np.random.Generator, *, often: float
) -> list[Asked]:
    """The other side of what is on one side only, and one side of what is nowhere: both are absent."""
    told = {(truth.query.finding, truth.query.side) for truth in truths}
    more = []
    for each in asked:
        if not each.drawn or rng.random() >= often:
            continue
        query, blank = each.query, np.zeros_like(each.mask)
        if each.present and query.side in ("left", "right"):
            other = other_side(query)
            if not {(query.finding, other.side), (query.finding, "bilateral")} & told:
                more.append(Asked(other, blank, False))
        elif not each.present and query.side is None:
            side = "left" if rng.random() < 0.5 else "right"
            more.append(Asked(replace(query, text=f"{side} {query.text}", side=side), blank, False))
    return more


def _mirrored(item: Item) -> Item:
    """Picture, masks and words as in a mirror."""
    asked = tuple(replace(each, query=other_side(each.query), mask=each.mask[:, ::-1]) for each in item.asked)
    return replace(item, pixels=item.pixels[:, ::-1], asked=asked)


def part_of(patient: str, split: Split) -> str:
    """Which part a patient belongs to: "held out", "validation" or "training"; the same in every data set."""
    if split.held_out and held_out(patient):
        return "held out"
    if split.folds:
        return "validation" if fold_of(patient, split.folds) == split.fold else "training"
    return "validation" if fold_of(patient, _FOLDS) < split.validation * _FOLDS else "training"
