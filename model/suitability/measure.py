"""Fitting what lies in the distribution, choosing limits, and the confusion that results. Pure but for the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from model.geometry import UPRIGHT
from model.suitability.judge import Floats, Known, Limits, Plane, Scores, scores_of, verdict
from model.suitability.network import POSES, SIZE, SuitabilityNetwork, posed
from model.suitability.pictures import Picture

#: Share of upright films of other patients that a limit may refuse; each is set a little beyond what that share needs.
FALSE_ALARMS = 0.005
#: What each film is measured as, beside as it is: the pose to see it in, and whether it is inverted.
AS_IT_IS, MIRROR = POSES[0], (False, False, True)
SHOWN = {
    "upright": (AS_IT_IS, False),
    "turned by 90 degrees": ((True, False, True), False),
    "turned by 270 degrees": ((True, True, False), False),
    "turned by 180 degrees": ((False, True, True), False),
    "mirrored": (MIRROR, False),
    "inverted": (AS_IT_IS, True),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What became of pictures of one kind: how many, and how many of each verdict ("suitable" or the fault)."""

    pictures: int
    verdicts: dict[str, int]


def plane_of(picture: Picture, pose: tuple[bool, bool, bool] = AS_IT_IS, *, inverted: bool = False) -> Plane:
    """*picture* as the network is shown it, float32 (SIZE, SIZE) in [0, 1]."""
    small = cv2.resize(picture.pixels.astype(np.float32) / 255, (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    turned = posed(torch.from_numpy(1 - small if inverted else small), POSES.index(pose))
    return np.ascontiguousarray(turned.numpy())


def known_of(network: SuitabilityNetwork, groups: Iterable[Sequence[Picture]]) -> Known:
    """Centres and shared covariance of the features of each group as it is, and inverted."""
    centres, spread = [], []
    for pictures in groups:
        for inverted in (False, True):
            planes = [plane_of(each, inverted=inverted) for each in pictures]
            features = np.concatenate([_features(network, some) for some in _parts(planes)])
            centres.append(features.mean(axis=0))
            spread.append(features - centres[-1])
    every = np.concatenate(spread)
    covariance = every.T @ every / len(every)
    ridge = 0.01 * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return Known(np.stack(centres), np.linalg.inv(covariance + ridge))


def _parts(planes: Sequence[Plane]) -> Iterator[Plane]:
    """*planes* in stacks that bound the memory."""
    for start in range(0, len(planes), 32):
        yield np.stack(planes[start : start + 32])


def _features(network: SuitabilityNetwork, planes: Plane) -> Floats:
    with torch.inference_mode():
        features: torch.Tensor = network(torch.from_numpy(planes)[:, None])[3]
    return np.asarray(features.double().numpy())


def limits_of(upright: Sequence[Scores]) -> Limits:
    """Limits from the scores of upright frontal films that nothing was learnt from.

    Each is the value that :data:`FALSE_ALARMS` of them exceed, and a quarter of the way from their median beyond it,
    for films of other places. None lies below 1, which is odds of e.
    """

    def limit(of: Callable[[Scores], float], *, least: float = 1.0) -> float:
        values = np.array([of(each) for each in upright])
        high, middle = np.quantile(values, 1 - FALSE_ALARMS), np.median(values)
        return round(max(least, float(high + (high - middle) / 4)), 3)

    return Limits(
        turned=limit(lambda each: each.turned),
        mirrored=limit(lambda each: each.mirrored),
        inverted=limit(lambda each: each.inverted),
        other=limit(lambda each: each.other),
        lateral=limit(lambda each: each.lateral),
        distance=limit(lambda each: each.distance),
    )


def scores_as(network: SuitabilityNetwork, known: Known, pictures: Iterable[Picture], shown: str) -> list[Scores]:
    """Scores of *pictures*, each shown as SHOWN says."""
    pose, inverted = SHOWN[shown]
    planes = [plane_of(each, pose, inverted=inverted) for each in pictures]
    return [scores for some in _parts(planes) for scores in scores_of(network, known, some)]


def told(scores: Sequence[Scores], limits: Limits) -> Told:
    """The verdicts on *scores*."""
    verdicts: dict[str, int] = {}
    for each in scores:
        fault = verdict(each, limits, UPRIGHT).fault
        name = "suitable" if fault is None else fault.value
        verdicts[name] = verdicts.get(name, 0) + 1
    return Told(len(scores), dict(sorted(verdicts.items())))
