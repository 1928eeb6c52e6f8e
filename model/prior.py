"""Where a finding lies in other patients, by the words alone: readers' boxes laid over each other. Pure.

They are averaged in the frame of the lungs. An image adds evidence: both are pooled (:class:`Fusion`) with a weight
that is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.anatomy import Lungs, field_of, third_of
from model.values import Query

Maps = npt.NDArray[np.float32]
#: Finding, side and third; empty where the words do not say.
Key = tuple[str, str, str]

CELLS = 64
#: The box around both lungs lies between these cells of the frame, so that boxes may reach beyond it.
_FIRST, _LAST = 8, 56
#: Findings that readers box alike share their tables.
_ALIKE = {"consolidation": "opacity"}
_OTHER = {"left": "right", "right": "left"}
#: What a mirrored box of the other side counts: chests are not symmetric.
_MIRRORED = 0.3
_LEAST, _MOST = 1e-3, 1 - 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What a reader drew for a query: *mask* bool (size, size) on the upright square, and the lungs there."""

    query: Query
    mask: npt.NDArray[np.bool_]
    lungs: Lungs


@dataclass(frozen=True, slots=True, eq=False)
class Prior:
    """Probability of each place given that the finding is there.

    Parameters
    ----------
    tables : float32 (CELLS, CELLS) in (0, 1) by finding, side and third, in the frame of the lungs.
    """

    tables: Mapping[Key, Maps]

    def of(self, query: Query, lungs: Lungs) -> Maps | None:
        """The most telling table for *query*, laid over *lungs*: float32 (size, size), or None where none is known."""
        table = next((self.tables[key] for key in _keys(query) if key in self.tables), None)
        if table is None or not lungs.plausible:
            return None
        size = len(lungs.right)
        flags = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
        laid = cv2.warpAffine(table, _frame(lungs), (size, size), flags=flags, borderValue=(_LEAST,))
        return np.asarray(laid, np.float32)


def learn_prior(drawn: Sequence[Drawn], *, fewest: int = 8, blur: float = 2.0) -> Prior:
    """Mean masks of each finding, side and third that has at least *fewest* examples, smoothed by *blur* cells."""
    sums: dict[Key, Maps] = {}
    counts: dict[Key, float] = {}
    own: dict[Key, int] = {}

    def add(keys: Sequence[Key], laid: Maps, weight: float) -> None:
        for key in keys:
            sums[key] = sums.get(key, np.zeros((CELLS, CELLS), np.float32)) + weight * laid
            counts[key] = counts.get(key, 0.0) + weight

    for each in drawn:
        if not each.lungs.plausible:
            continue
        laid = np.asarray(cv2.warpAffine(each.mask.astype(np.float32), _frame(each.lungs), (CELLS, CELLS)), np.float32)
        finding, side = _named(each.query), each.query.side or ""
        third = _third(laid)
        for key in (keys := ((finding, side, third), (finding, side, ""))):
            own[key] = own.get(key, 0) + 1
        add(keys, laid, 1.0)
        other = _OTHER.get(side, side)
        add(((finding, other, third), (finding, other, "")), laid[:, ::-1], _MIRRORED)
    kept = [key for key in sums if own.get(key, 0) >= fewest]
    return Prior({key: _smooth(sums[key] / counts[key], blur) for key in sorted(kept)})


def _smooth(mean: Maps, blur: float) -> Maps:
    return np.asarray(np.clip(cv2.GaussianBlur(mean, (0, 0), blur), _LEAST, _MOST), np.float32)


def _named(query: Query) -> str:
    return _ALIKE.get(query.finding, query.finding)


def _keys(query: Query) -> tuple[Key, ...]:
    """The most telling first."""
    finding, side, third = _named(query), query.side or "", third_of(query)
    said = "" if third is None else str(third)
    return tuple(dict.fromkeys(((finding, side, said), (finding, side, ""), (finding, "", said), (finding, "", ""))))


def _third(laid: Maps) -> str:
    """The third of the lungs in which the middle of a mask lies."""
    rows = laid.sum(axis=1)
    middle = float((rows * np.arange(CELLS)).sum() / max(float(rows.sum()), 1e-6))
    return str(int(np.clip((middle - _FIRST) * 3 // (_LAST - _FIRST), 0, 2)))


@lru_cache(maxsize=16)
def _frame(lungs: Lungs) -> npt.NDArray[np.float64]:
    """Matrix from the square's cells to the frame: the box around both lungs, stretched to one size.

    Kept, since every phrase on an image asks for it.
    """
    rows, columns = np.nonzero(lungs.right | lungs.left)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    across, down = (_LAST - _FIRST) / (right - left), (_LAST - _FIRST) / (bottom - top)
    return np.array([[across, 0, _FIRST - across * left], [0, down, _FIRST - down * top]], np.float64)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Image evidence e and prior p as a logarithmic opinion pool (Genest and Zidek 1986), on the scale of log-odds.

    logit = *weight* e + (1 - *weight*) p: one opinion, not two that confirm each other, so that the evidence of images
    that a network has trained on makes nothing too certain.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight <= 1:
            raise ValueError("the weight of the evidence lies in [0, 1]")

    def __call__(self, seen: Maps, expected: Maps | None) -> Maps:
        """Probabilities of one shape, joined; *seen* itself where nothing was expected."""
        if expected is None:
            return seen
        logit = self.weight * _logit(seen) + (1 - self.weight) * _logit(expected)
        return np.asarray(1 / (1 + np.exp(-logit)), np.float32)


def fit_fusion(seen: Sequence[Maps], expected: Sequence[Maps], truth: Sequence[npt.NDArray[np.bool_]]) -> Fusion:
    """The pool that makes the cells of phrases that are there most likely."""
    evidence, prior = (torch.tensor(np.stack([_logit(each) for each in maps])) for maps in (seen, expected))
    wanted = torch.tensor(np.stack(truth), dtype=torch.float32)
    free = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        weight = free.sigmoid()
        pooled = weight * evidence + (1 - weight) * prior
        loss = F.binary_cross_entropy_with_logits(pooled, wanted)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return Fusion(float(free.detach()[0].sigmoid()))


def _logit(probability: Maps) -> Maps:
    clipped = np.clip(probability, _LEAST, _MOST)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Joint:
    """Prior, fusion and levels as one: what a map of image evidence becomes.

    Parameters
    ----------
    shifts : of the log-odds by finding, so that one threshold fits all: a map of thin lines is best cut at another
        level than one of clouds.
    """

    prior: Prior
    fusion: Fusion
    shifts: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, seen: Maps, query: Query, lungs: Lungs) -> Maps:
        """*Shape:* probabilities (size, size) -> the same, where a finding as *query* names it can lie.

        Lungs that were not found limit nothing: a network that was never shown any is still tuned.
        """
        joined = shifted(self.fusion(seen, self.prior.of(query, lungs)), self.shifts.get(query.finding, 0.0))
        if not lungs.plausible:
            return joined
        return np.where(field_of(lungs, query), joined, np.float32(0))


def shifted(probability: Maps, shift: float) -> Maps:
    """Probabilities whose log-odds are *shift* higher."""
    if not shift:
        return probability
    odds = np.float32(np.exp(shift))
    return np.asarray(probability * odds / (1 + probability * (odds - 1)), np.float32)


#: Without a prior: the evidence alone.
EVIDENCE_ALONE = Joint(Prior({}), Fusion())
