"""Opacities and consolidations put into real radiographs of normal chests, with their exact masks.

What is put in thickens what the beam meets: it lifts the lung towards the grey of soft tissue and keeps ribs, noise and
the film's own tone; a consolidation also hides the vessels behind it. It is cloudy within, soft or sharp at its border,
and ends at the lung's. Such lesions teach that training works, not that patients are served: a network trained on
nothing else scored below the prior on real boxes (Dice .389 against .449).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.data.pins import DataError, digest_of, version_of
from model.data.sample import DataSet, Pixels, Sample
from model.twin.findings import ZONES, TwinFinding
from model.twin.words import phrases_for

Mask = npt.NDArray[np.bool_]
LungsOf = Callable[[Pixels], tuple[Mask, Mask]]

_KINDS = ("opacity", "consolidation")
_BOTH = 0.15  # share of lesions that lie in both lungs
_SMALLEST_LUNG = 0.01  # share of the image; less is no lung to put anything into
_OUTLINE = 0.4  # of the weight at its thickest, where a reader would draw the border
_TRIES = 12


@dataclass(frozen=True, slots=True, eq=False)
class Lesion:
    """A radiograph with something put in.

    Parameters
    ----------
    pixels : float32 (rows, columns) in [0, 1].
    mask : bool (rows, columns), what a reader would outline; within the lungs.
    finding : "opacity" or "consolidation".
    side : "left", "right" (the patient's) or "bilateral".
    """

    pixels: Pixels
    mask: Mask
    phrase: str
    finding: str
    side: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is put in, chosen before the image is looked at."""

    finding: str
    side: str
    zone: str
    phrase: str


def synthesise(pixels: Pixels, lungs: tuple[Mask, Mask], seed: int) -> Lesion:
    """The normal radiograph *pixels* with one lesion; equal arguments give equal bits.

    Parameters
    ----------
    pixels : float32 (rows, columns) in [0, 1], bright is dense.
    lungs : the patient's right and left lung, bool (rows, columns).

    Raises
    ------
    DataError
        If the masks are not of the image's size, or hold no lung to put anything into.
    """
    if any(lung.shape != pixels.shape for lung in lungs):
        raise DataError("the lung masks are not as large as the image: both must be (rows, columns) of it")
    if any(lung.mean() < _SMALLEST_LUNG for lung in lungs):
        raise DataError(
            "a lung covers less than a hundredth of the image: give masks of the patient's right and left lung"
        )
    wanted = _wanted(seed)
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    sides = {"right": lungs[:1], "left": lungs[1:]}.get(wanted.side, lungs)
    weight = np.zeros(pixels.shape, np.float32)
    mask = np.zeros(pixels.shape, bool)
    for lung in sides:
        envelope = _envelope(lung, wanted.zone, rng)
        weight = np.maximum(weight, envelope)
        mask |= _without_islands((envelope > _OUTLINE * envelope.max()) & lung)
    lit = _thickened(pixels, weight, lungs, dense=wanted.finding == "consolidation", rng=rng)
    return Lesion(lit, mask, wanted.phrase, wanted.finding, wanted.side)


def _wanted(seed: int) -> _Wanted:
    rng = np.random.Generator(np.random.PCG64([seed, 0]))
    finding = str(rng.choice(_KINDS, p=[0.6, 0.4]))
    side = "bilateral" if rng.random() < _BOTH else str(rng.choice(("right", "left")))
    zone = str(rng.choice(ZONES, p=[0.2, 0.3, 0.5]))
    said = TwinFinding(finding, side, (zone,), np.zeros((1, 1), bool), count=2 if side == "bilateral" else 1)
    return _Wanted(finding, side, zone, phrases_for(said, rng))


def _envelope(lung: Mask, zone: str, rng: np.random.Generator) -> Pixels:
    """Where and how thick: an ellipse in a third of the lung, its border bent by clouds. float32 in [0, 1]."""
    rows = np.flatnonzero(lung.any(axis=1))
    height = float(rows[-1] - rows[0] + 1)
    y, x = np.mgrid[: lung.shape[0], : lung.shape[1]].astype(np.float32)
    inner = lung & (cv2.distanceTransform(lung.astype(np.uint8), cv2.DIST_L2, 3) > 0.05 * height)
    best = np.zeros(lung.shape, np.float32)
    for _ in range(_TRIES):
        third = (ZONES.index(zone) + np.array([0.15, 0.85])) / 3 * height + rows[0]
        places = np.argwhere(inner & (y >= third[0]) & (y <= third[1]))
        row, column = (places if len(places) else np.argwhere(lung))[rng.integers(len(places) or int(lung.sum()))]
        radii = height * rng.uniform(0.09, 0.26) * np.array([rng.uniform(0.6, 1.0), 1.0])
        turn = rng.uniform(-0.6, 0.6)
        across = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
        down = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        bent = 1 + 0.35 * _clouds(lung.shape, 0.18 * height, rng) + 0.15 * _clouds(lung.shape, 0.06 * height, rng)
        distance = np.hypot(across / radii[0], down / radii[1]) * np.clip(bent, 0.4, 1.8)
        soft = rng.uniform(0.25, 0.75)  # width of the border, in radii
        shape = 1 / (1 + np.exp(np.clip((distance - 1) / (0.35 * soft), -30, 30)))
        best = np.asarray(shape * _inside(lung, 0.012 * height), np.float32)
        if (best > 0.5).sum() > 0.03 * lung.sum():
            break
    return best


def _without_islands(mask: Mask) -> Mask:
    """The parts of *mask* that are at least a tenth as large as the largest."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    areas = stats[:, cv2.CC_STAT_AREA]
    kept = [part for part in range(1, count) if areas[part] * 10 >= areas[1:].max()]
    return np.asarray(np.isin(labels, kept))


def _inside(lung: Mask, width: float) -> Pixels:
    """1 within the lung and 0 outside, with a border of *width* pixels within it."""
    depth = cv2.distanceTransform(lung.astype(np.uint8), cv2.DIST_L2, 3)
    return np.asarray(np.clip(depth / max(width, 1.0), 0, 1), np.float32)


def _clouds(shape: tuple[int, ...], scale: float, rng: np.random.Generator) -> Pixels:
    """Smooth noise of mean 0 and standard deviation 1, with bumps about *scale* pixels wide."""
    step = max(1.0, scale / 3)
    small = rng.standard_normal([max(4, int(np.ceil(side / step)) + 2) for side in shape]).astype(np.float32)
    noise = cv2.resize(cv2.GaussianBlur(small, (0, 0), 1.3), shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-6), np.float32)


def _thickened(
    pixels: Pixels, weight: Pixels, lungs: tuple[Mask, Mask], *, dense: bool, rng: np.random.Generator
) -> Pixels:
    """*pixels* lifted towards the grey of soft tissue by *weight*, with a texture of its own."""
    both = lungs[0] | lungs[1]
    height = float(np.ptp(np.flatnonzero(both.any(axis=1))) + 1)
    tissue = _tissue(pixels, both)
    texture = np.zeros(pixels.shape, np.float32)
    for share, scale in ((0.5, 0.10), (0.35, 0.045), (0.25, 0.02)):
        texture += share * _clouds(pixels.shape, scale * height, rng)
    rough = rng.uniform(0.1, 0.2) if dense else rng.uniform(0.2, 0.4)
    strength = rng.uniform(0.7, 0.95) if dense else rng.uniform(0.4, 0.65)
    thick = np.clip(weight * strength * np.clip(1 + rough * texture, 0.2, 1.5), 0, 0.97)
    base = cv2.GaussianBlur(pixels, (0, 0), 0.012 * height)
    detail = pixels - base
    hidden = 0.55 if dense else 0.15  # of ribs and vessels, where it is thickest
    lifted = base + thick * np.clip(tissue - base, 0.05, None)
    lit = lifted + detail * (1 - hidden * thick)
    return np.asarray(np.where(weight > 0.002, np.clip(lit, 0, 1), pixels), np.float32)


def _tissue(pixels: Pixels, lungs: Mask) -> float:
    """The grey of soft tissue: that of the middle between the lungs."""
    rows, columns = np.flatnonzero(lungs.any(axis=1)), np.flatnonzero(lungs.any(axis=0))
    around = np.zeros(lungs.shape, bool)
    around[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return float(np.percentile(pixels[around & ~lungs], 60))


class LesionSet:
    """Normal radiographs of a data set, each with one lesion put in; see :class:`model.data.sample.DataSet`.

    Parameters
    ----------
    normals : where the radiographs come from; those whose samples are all absent are taken.
    lungs_of : right and left lung of an image, for instance from the anatomy network.
    lungs_version : what tells one *lungs_of* from another, for instance the digest of its weights.
    rounds : how many lesions each image is given, one at a time.
    """

    def __init__(
        self, normals: DataSet, lungs_of: LungsOf, *, lungs_version: str, rounds: int = 1, seed: int = 0
    ) -> None:
        self._normals, self._lungs_of, self._rounds, self._seed = normals, lungs_of, rounds, seed
        self._lungs_version = lungs_version
        self._lesion = lru_cache(maxsize=4)(self._made)

    @property
    def name(self) -> str:
        """Of the normal images, and that lesions were put in."""
        return f"lesions-on-{self._normals.name}"

    @property
    def version(self) -> str:
        """Over the normal images, this file, the lungs and the seeds."""
        parts = (self._normals.version, digest_of(Path(__file__).read_bytes()), self._lungs_version)
        return version_of((str(index), part) for index, part in enumerate((*parts, f"{self._seed}x{self._rounds}")))

    def samples(self) -> tuple[Sample, ...]:
        """One for each normal image and round; the patient is that of the image, so that splits hold."""
        return tuple(self._rows())

    def pixels(self, image: str) -> Pixels:
        """As :class:`model.data.sample.DataSet`; *image* is the normal image's key and ``#SEED``."""
        return self._lesion(image).pixels

    def mask(self, sample: Sample) -> Mask:
        """As :class:`model.data.sample.DataSet`."""
        return self._lesion(sample.image).mask

    def _rows(self) -> Iterator[Sample]:
        sick = {row.image for row in self._normals.samples() if row.present}
        normal = {row.image: row for row in self._normals.samples() if row.image not in sick}
        for index, (image, row) in enumerate(normal.items()):
            for turn in range(self._rounds):
                seed = (self._seed * 1_000_003 + index) * self._rounds + turn
                wanted, key = _wanted(seed), f"{image}#{seed}"
                yield Sample(
                    key, row.patient, wanted.phrase, mask=key, finding=wanted.finding, view=row.view, source="put in"
                )

    def _made(self, image: str) -> Lesion:
        key, _, seed = image.rpartition("#")
        pixels = self._normals.pixels(key)
        return synthesise(pixels, self._lungs_of(pixels), int(seed))
