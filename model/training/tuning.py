"""After the last step: the prior learnt, joined to the evidence, thresholds tuned and presence calibrated.

Everything is fitted in the order in which the grounder applies it, and nothing on patients kept for measuring. Real
sets have few patients: with folds each is answered by a network that never saw it, and all of them tell (cross-fitting,
Chernozhukov et al. 2018). Without folds presence is calibrated on validation patients, and prior, fusion and threshold
use those trained on, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.calibration import Floats, Scaling, calibrated, fit_scaling, logit, mean_by, operating_points
from model.config import Config
from model.network import GroundingNetwork
from model.prior import EVIDENCE_ALONE, Drawn, Joint, Maps, Prior, fit_fusion, learn_prior
from model.training.answers import Answered, Checks, Taught, answered, outlined, telling
from model.training.pictures import PictureSource
from model.training.sources import Source

#: A report affirms what it names far more often than not: what is there weighs so many times what is not.
ODDS_OF_PRESENCE = 3
THRESHOLDS = tuple(round(0.025 * step, 3) for step in range(2, 37))
LEVELS = np.array([round(0.01 * step, 2) for step in range(1, 100)])
#: Rows of a finding from which its level is tuned.
FEWEST = 6
#: Of the pull towards presence as it is: what a few dozen images say of it is uncertain.
_CAUTION = 1.0
_SMOOTH = np.array([1, 2, 3, 2, 1]) / 9


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """What a row's map of evidence becomes by *joint*; by the prior without its fold where the row has one."""

    joint: Joint
    priors: Mapping[int | None, Prior]

    def __call__(self, row: Answered) -> Maps:
        """Probabilities (size, size)."""
        joint = replace(self.joint, prior=self.priors[row.fold]) if row.fold in self.priors else self.joint
        return joint(row.values, row.query, row.lungs)

    def shifted(self, shifts: dict[str, float]) -> Made:
        """With the maps of each finding moved."""
        return replace(self, joint=replace(self.joint, shifts=shifts))


@dataclass(frozen=True, slots=True, eq=False)
class Tuning:
    """What belongs to the weights besides them."""

    made: Made
    threshold: float
    presence_threshold: float
    dice: float
    scalings: dict[str, Scaling]
    operating_points: dict[str, float]

    @property
    def figures(self) -> dict[str, float]:
        """For the manifest."""
        return {"threshold": self.threshold, "presence_threshold": self.presence_threshold, "dice": self.dice}


#: What the map of a row becomes.
Maker = Callable[[Answered], Maps]


def tuned(network: GroundingNetwork, sources: Sequence[Source], config: Config, strangers: Checks) -> Tuning:
    """Everything that is fitted once the weights stand; each source counts by the weight of its score.

    Parameters
    ----------
    strangers : what networks without the patient answered, by source; empty without folds.
    """
    own = {s.name: (s.score, tuple(answered(network, s.validation(), config))) for s in sources if s.score}
    checks = {**own, **strangers}
    pictures = [source for source in sources if isinstance(source, PictureSource)]
    teachers = [source for source in pictures if source.prior]
    taught = {
        each.name: tuple(answered(network, each.still(each.training), config))
        for each in teachers
        if each.name not in strangers
    }
    real = {source.name for source in pictures}
    scalings = scalings_of(checks, real)
    made = made_of(checks, taught, {each.name for each in teachers})
    threshold, _ = _threshold(checks, taught, made)
    made = made.shifted(levels_of(checks, taught, made, threshold=threshold, real=real))
    films = outlined(*(rows for name, (_, rows) in checks.items() if name in real))
    return Tuning(
        made=made,
        threshold=threshold,
        presence_threshold=_presence_threshold(checks, scalings),
        dice=_threshold(checks, taught, made)[1],
        scalings=scalings,
        operating_points=points_of(recalls_of(films, made)),
    )


def made_of(checks: Checks, taught: Taught, teachers: set[str]) -> Made:
    """The prior of all sources that teach one, and its fusion, fitted where the prior says something.

    With folds both are of all patients. Without, the prior is of training patients, and the fusion of those and of
    validation patients: the latter alone have too few images.
    """
    measured = outlined(*(checks[name][1] for name in sorted(teachers & set(checks))))
    shown = outlined(*taught.values())
    learnt = [*shown, *(row for row in measured if row.fold is not None)]
    prior = _prior(learnt)
    folds = {row.fold for row in measured} - {None}
    priors = {fold: _prior([row for row in learnt if row.fold != fold]) for fold in folds}
    pairs = [
        (row, expected)
        for row in (*shown, *measured)
        if (expected := priors.get(row.fold, prior).of(row.query, row.lungs)) is not None
    ]
    if not pairs:
        return Made(EVIDENCE_ALONE, {})
    seen, laid = [row.values for row, _ in pairs], [each for _, each in pairs]
    return Made(Joint(prior, fit_fusion(seen, laid, [row.truth for row, _ in pairs])), priors)


def _prior(rows: Sequence[Answered]) -> Prior:
    return learn_prior([Drawn(row.query, row.truth, row.lungs) for row in rows])


def scalings_of(checks: Checks, real: set[str]) -> dict[str, Scaling]:
    """Of presence: one for all findings that real images tell of, since each alone has too few, and "" for all others.

    Drawn images do not count for the former: what is there is easier to see in them.
    """
    films = [row for name, (_, rows) in checks.items() if name in real for row in rows]
    told, counted = {row.query.finding for row in films}, telling(films)
    drawn = [row for name, (_, rows) in checks.items() if name not in real for row in rows]
    fitted: dict[str, Scaling] = {}
    for names, rows in (
        (sorted(told), counted),
        ([""], [row for row in drawn if row.query.finding not in told] or counted),
    ):
        if len({row.present for row in rows}) == 2:
            scaling = fit_scaling([row.presence for row in rows], [row.present for row in rows], weight=_CAUTION)
            fitted |= dict.fromkeys(names, scaling)
    return fitted


def _threshold(checks: Checks, taught: Taught, made: Maker) -> tuple[float, float]:
    """The threshold with the best mean Dice over what is there, and that Dice.

    Phrases with and without a side count alike, since maps of the latter are less certain; so do the training patients
    of sources that teach a prior, as in the fusion.
    """
    sums, weights = np.zeros(len(THRESHOLDS)), 0.0
    for name, (weight, rows) in checks.items():
        there = outlined(rows, taught.get(name, ()))
        for sided in (True, False):
            chosen = [row for row in there if (row.query.side is not None) is sided]
            if chosen:
                scores = [_dice(made(row), row.truth) for row in chosen]
                sums += weight * np.mean(scores, axis=0)
                weights += weight
    best = int(sums.argmax())
    return THRESHOLDS[best], float(sums[best] / weights) if weights else 0.0


def levels_of(checks: Checks, taught: Taught, made: Maker, *, threshold: float, real: set[str]) -> dict[str, float]:
    """How far the maps of each finding are moved on the scale of log-odds, so that *threshold* is the best for each.

    Where real images tell of a finding, drawn ones do not count for it. A finding with few rows stays as it is.
    """
    curves: dict[str, list[npt.NDArray[np.float64]]] = {}
    rows = [(name, row) for name, (_, each) in checks.items() for row in (*each, *taught.get(name, ()))]
    told = {row.query.finding for name, row in rows if name in real and row.outlined}
    for name, row in rows:
        if row.outlined and (name in real or row.query.finding not in told):
            curve = _dice(made(row), row.truth)
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


def points_of(recalls: Floats) -> dict[str, float]:
    """Named thresholds for a promised share of each finding's cells.

    A promise that so few images cannot keep with any threshold is not made.
    """
    points = operating_points(recalls, LEVELS) if len(recalls) else {}
    return {name: level for name, level in points.items() if level > 0}


def recalls_of(rows: Sequence[Answered], made: Maker) -> Floats:
    """*Shape:* (images, levels), in the order of their names; images are what is exchangeable, not phrases."""
    if not rows:
        return np.empty((0, len(LEVELS)))
    each = [(made(row)[row.truth][:, None] >= LEVELS).mean(axis=0) for row in rows]
    return mean_by(each, [row.image for row in rows])
