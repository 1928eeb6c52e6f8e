"""After the last step: the prior learnt, joined to the evidence, thresholds tuned and presence calibrated.

Everything is fitted in the order in which the grounder applies it, and nothing on patients kept for measuring. Presence
is calibrated on validation patients. Real sets have too few of them for the rest: prior, fusion and threshold use those
trained on, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from model.anatomy import Lungs, lungs_of
from model.batches import Item, collate
from model.calibration import Scaling, calibrated, fit_scaling, logit, mean_by, operating_points
from model.config import Config
from model.network import GroundingNetwork
from model.prior import EVIDENCE_ALONE, Drawn, Joint, Maps, fit_fusion, learn_prior
from model.training.objective import answer_of
from model.training.pictures import PictureSource
from model.training.sources import Source
from model.values import Query

#: A report affirms what it names far more often than not: what is there weighs so many times what is not.
ODDS_OF_PRESENCE = 3
THRESHOLDS = tuple(round(0.025 * step, 3) for step in range(2, 37))
_LEVELS = tuple(round(0.01 * step, 2) for step in range(1, 100))
_AT_ONCE = 20
#: Rows of a finding from which its level is tuned.
FEWEST = 6
#: Of the pull towards presence as it is: what a few dozen images say of it is uncertain.
_CAUTION = 1.0
_SMOOTH = np.array([1, 2, 3, 2, 1]) / 9


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """One phrase of one image, as the network answers it, with its truth.

    Parameters
    ----------
    image : which image of its source.
    values, truth : probabilities and mask, (size, size).
    drawn : whether the truth says where.
    """

    image: int
    query: Query
    values: Maps
    presence: float
    lungs: Lungs
    truth: npt.NDArray[np.bool_]
    present: bool
    drawn: bool

    @property
    def outlined(self) -> bool:
        """Whether it is there and the truth says where."""
        return self.drawn and self.present and bool(self.truth.any())


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """What belongs to the weights besides them."""

    joint: Joint
    threshold: float
    presence_threshold: float
    dice: float
    scalings: dict[str, Scaling]
    operating_points: dict[str, float]

    @property
    def figures(self) -> dict[str, float]:
        """For the manifest."""
        return {"threshold": self.threshold, "presence_threshold": self.presence_threshold, "dice": self.dice}


def tuned(network: GroundingNetwork, sources: Sequence[Source], config: Config) -> Tuning:
    """Everything that is fitted once the weights stand; each source counts by the weight of its score."""
    checks = {
        source.name: (source.score, tuple(answered(network, source.validation(), config)))
        for source in sources
        if source.score
    }
    teachers = [source for source in sources if isinstance(source, PictureSource) and source.prior]
    taught = {each.name: tuple(answered(network, each.still(each.training), config)) for each in teachers}
    real = {source.name for source in sources if isinstance(source, PictureSource)}
    scalings = scalings_of(checks, real)
    joint = _joint(checks, taught)
    threshold, _ = _threshold(checks, taught, joint)
    joint = replace(joint, shifts=levels_of(checks, taught, joint, threshold=threshold, real=real))
    dice = _threshold(checks, taught, joint)[1]
    return Tuning(
        joint=joint,
        threshold=threshold,
        presence_threshold=_presence_threshold(checks, scalings),
        dice=dice,
        scalings=scalings,
        operating_points=_points([row for name, (_, rows) in checks.items() if name in real for row in rows], joint),
    )


#: Weight and validation phrases of each source; training phrases of each that teaches a prior.
Checks = dict[str, tuple[float, tuple[Answered, ...]]]
Taught = dict[str, tuple[Answered, ...]]


@torch.inference_mode()
def answered(network: GroundingNetwork, items: Sequence[Item], config: Config) -> Iterator[Answered]:
    """Every phrase of *items*, in order."""
    network.eval()
    device = next(network.parameters()).device
    for start in range(0, len(items), _AT_ONCE):
        batch = collate(list(items[start : start + _AT_ONCE]), config)
        answer = answer_of(network, batch.to(device))
        maps, presence = answer.logits.sigmoid().cpu().numpy(), answer.presence.sigmoid().cpu().tolist()
        lungs = [lungs_of(each) for each in answer.encoded.anatomy[:, :2].float().sigmoid().cpu().numpy()]
        for row, query in enumerate(batch.queries):
            number = int(batch.image[row])
            yield Answered(
                image=start + number,
                query=query,
                values=maps[row],
                presence=presence[row],
                lungs=lungs[number],
                truth=batch.masks[row].numpy() > 0.5,
                present=bool(batch.present[row]),
                drawn=bool(batch.drawn[row]),
            )


def _joint(checks: Checks, taught: Taught) -> Joint:
    """The prior of all sources that teach one, and its fusion, fitted where the prior says something.

    The fusion is fitted on training and validation patients together: validation alone has too few images.
    """
    prior = learn_prior([Drawn(row.query, row.truth, row.lungs) for row in _outlined(*taught.values())])
    told = _outlined(*taught.values(), *(checks[name][1] for name in taught if name in checks))
    pairs = [(row, expected) for row in told if (expected := prior.of(row.query, row.lungs)) is not None]
    if not pairs:
        return EVIDENCE_ALONE
    seen, laid = [row.values for row, _ in pairs], [each for _, each in pairs]
    return Joint(prior, fit_fusion(seen, laid, [row.truth for row, _ in pairs]))


def _outlined(*sources: tuple[Answered, ...]) -> list[Answered]:
    return [row for rows in sources for row in rows if row.outlined]


def scalings_of(checks: Checks, real: set[str]) -> dict[str, Scaling]:
    """Of presence: one for all findings that real images tell of, since each alone has too few, and "" for all others.

    Drawn images do not count for the former: what is there is easier to see in them. A phrase that names a side is left
    out where the image was asked without one, so that each image counts once.
    """
    films = [row for name, (_, rows) in checks.items() if name in real for row in rows]
    bare = {row.image for row in films if row.query.side is None}
    films = [row for row in films if row.query.side is None or row.image not in bare]
    told = {row.query.finding for row in films}
    drawn = [row for name, (_, rows) in checks.items() if name not in real for row in rows]
    fitted: dict[str, Scaling] = {}
    for names, rows in (
        (sorted(told), films),
        ([""], [row for row in drawn if row.query.finding not in told] or films),
    ):
        if len({row.present for row in rows}) == 2:
            scaling = fit_scaling([row.presence for row in rows], [row.present for row in rows], weight=_CAUTION)
            fitted |= dict.fromkeys(names, scaling)
    return fitted


def _threshold(checks: Checks, taught: Taught, joint: Joint) -> tuple[float, float]:
    """The threshold with the best mean Dice over what is there, and that Dice.

    Phrases with and without a side count alike, since maps of the latter are less certain; so do the training patients
    of sources that teach a prior, as in the fusion.
    """
    sums, weights = np.zeros(len(THRESHOLDS)), 0.0
    for name, (weight, rows) in checks.items():
        there = _outlined(rows, taught.get(name, ()))
        for sided in (True, False):
            chosen = [row for row in there if (row.query.side is not None) is sided]
            if chosen:
                scores = [_dice(joint(row.values, row.query, row.lungs), row.truth) for row in chosen]
                sums += weight * np.mean(scores, axis=0)
                weights += weight
    best = int(sums.argmax())
    return THRESHOLDS[best], float(sums[best] / weights) if weights else 0.0


def levels_of(checks: Checks, taught: Taught, joint: Joint, *, threshold: float, real: set[str]) -> dict[str, float]:
    """How far the maps of each finding are moved on the scale of log-odds, so that *threshold* is the best for each.

    Where real images tell of a finding, drawn ones do not count for it. A finding with few rows stays as it is.
    """
    curves: dict[str, list[npt.NDArray[np.float64]]] = {}
    rows = [(name, row) for name, (_, each) in checks.items() for row in (*each, *taught.get(name, ()))]
    told = {row.query.finding for name, row in rows if name in real and row.outlined}
    for name, row in rows:
        if row.outlined and (name in real or row.query.finding not in told):
            curve = _dice(joint(row.values, row.query, row.lungs), row.truth)
            curves.setdefault(row.query.finding, []).append(curve)
    return {
        finding: float(logit(threshold) - logit(_best(np.mean(found, axis=0))))
        for finding, found in sorted(curves.items())
        if len(found) >= FEWEST
    }


def _best(curve: npt.NDArray[np.float64]) -> float:
    """The threshold at the top of a smoothed *curve*: few rows make a ragged one."""
    return THRESHOLDS[int(np.convolve(np.pad(curve, 2, mode="edge"), _SMOOTH, mode="valid").argmax())]


def _dice(values: Maps, truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """At each threshold."""
    lit = values[None] >= np.array(THRESHOLDS)[:, None, None]
    return np.asarray(2 * (lit & truth).sum(axis=(1, 2)) / np.maximum(lit.sum(axis=(1, 2)) + truth.sum(), 1))


def _presence_threshold(checks: Checks, scalings: dict[str, Scaling]) -> float:
    """The one with the best accuracy, where what is there weighs :data:`ODDS_OF_PRESENCE` times what is not."""
    right = np.zeros(len(THRESHOLDS))
    for weight, rows in checks.values():
        said = np.array([calibrated(row.presence, row.query.finding, scalings) for row in rows])
        there = np.array([row.present for row in rows], bool)
        seen = said[:, None] >= np.array(THRESHOLDS)
        if there.any() and not there.all():
            right += weight * (ODDS_OF_PRESENCE * seen[there].mean(axis=0) + (~seen[~there]).mean(axis=0))
    return THRESHOLDS[int(right.argmax())]


def _points(rows: Sequence[Answered], joint: Joint) -> dict[str, float]:
    """Named thresholds for a promised share of each finding's cells; images are what is exchangeable, not phrases.

    A promise that so few images cannot keep with any threshold is not made.
    """
    told = [row for row in rows if row.outlined]
    if not told:
        return {}
    recalls = [
        [(joint(row.values, row.query, row.lungs)[row.truth] >= level).mean() for level in _LEVELS] for row in told
    ]
    points = operating_points(mean_by(recalls, [str(row.image) for row in told]), _LEVELS)
    return {name: level for name, level in points.items() if level > 0}
