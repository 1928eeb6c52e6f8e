"""A synthetic study: one or two frontal radiographs, sometimes a lateral, their report and the truth about both."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from model.twin.canvas import FIELD_CM, Canvas, Map, Mask
from model.twin.findings import TwinFinding
from model.twin.report import TwinReport, report
from model.twin.sample import TwinSample, sample
from model.twin.view import lateral

_FIRST_SAMPLE = 300_000  # away from the samples that the shipped weights were trained on (below 200000)
_SIZES = (1200, 1280, 1400)
_STREAM = 2  # of the study's own draws, apart from those of the sample


@dataclass(frozen=True, slots=True, eq=False)
class TwinImage:
    """One radiograph of a synthetic study.

    Parameters
    ----------
    pixels : float32 (rows, columns) in [0, 1]; bright is dense.
    view : "PA", "AP", "LL" or "RL" (DICOM ViewPosition).
    masks : bool (rows, columns), one per finding of the study in order; empty for a lateral.
    pixel_mm : side of a pixel in the patient; on the detector it is *magnification* times as large.
    """

    pixels: Map
    view: str
    masks: tuple[Mask, ...]
    pixel_mm: float
    magnification: float = 1.1


@dataclass(frozen=True, slots=True, eq=False)
class TwinStudy:
    """A synthetic study; *findings* carry their masks in the frame of the sample, *images* in that of each image."""

    seed: int
    images: tuple[TwinImage, ...]
    findings: tuple[TwinFinding, ...]
    report: TwinReport


def sample_seed(seed: int) -> int:
    """The seed of the sample that the study of *seed* shows; training uses others."""
    return _FIRST_SAMPLE + seed


def study(seed: int, *, size: int | None = None) -> TwinStudy:
    """The study of *seed*; equal arguments give equal bits.

    Parameters
    ----------
    seed : 0 to 9999.
    size : pixels along the detector's side; drawn from 1200, 1280 and 1400 when None.

    Raises
    ------
    ValueError
        If *seed* is outside its range, or *size* below 103 (a lateral needs 64 pixels).
    """
    if not 0 <= seed < 10_000:
        raise ValueError(f"the seed of a study is 0 to 9999, got {seed}")
    rng = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    drawn = int(rng.choice(_SIZES))
    size = size or drawn
    shown = sample(sample_seed(seed), size=size)
    frontal = _frontal(shown, rng)
    images = [_cropped(frontal, shown.lungs[0] | shown.lungs[1], rng)]
    more = rng.random()
    if more < 0.2:
        images.append(_again(frontal, rng))
    elif more < 0.5:
        images.append(_lateral(size * 5 // 8, rng))
    return TwinStudy(seed, tuple(images), shown.findings, report(shown.findings, rng, views=_technique(images)))


def _frontal(shown: TwinSample, rng: np.random.Generator) -> TwinImage:
    view = "AP" if shown.build.supine else "PA"
    masks = tuple(finding.mask for finding in shown.findings)
    magnification = rng.uniform(1.03, 1.08) if view == "PA" else rng.uniform(1.1, 1.2)
    return TwinImage(shown.pixels, view, masks, FIELD_CM * 10 / shown.pixels.shape[0], magnification)


def _cropped(image: TwinImage, keep: Mask, rng: np.random.Generator) -> TwinImage:
    """Portrait or landscape, with everything of *keep* and of the findings on it."""
    size, axis = image.pixels.shape[0], 0 if rng.random() < 0.35 else 1
    wanted = int(size * rng.uniform(0.78, 0.92))
    inner = np.logical_or.reduce((keep, *image.masks))
    used, margin = np.flatnonzero(inner.any(axis=1 - axis)), size // 60
    first, last = max(0, int(used[0]) - margin), min(size, int(used[-1]) + 1 + margin)
    length = max(wanted, last - first)
    start = min(max(0, (first + last - length) // 2), size - length)
    part = (slice(start, start + length), slice(None))[:: 1 if axis == 0 else -1]
    masks = tuple(np.ascontiguousarray(mask[part]) for mask in image.masks)
    return replace(image, pixels=np.ascontiguousarray(image.pixels[part]), masks=masks)


def _again(image: TwinImage, rng: np.random.Generator) -> TwinImage:
    """The same patient in a second, AP exposure: a little larger, turned, moved, and with noise of its own."""
    size = image.pixels.shape[0]
    turned = cv2.getRotationMatrix2D((size / 2, size / 2), rng.uniform(-2, 2), rng.uniform(1.0, 1.04))
    moved_by = np.zeros((2, 3))
    moved_by[:, 2] = rng.uniform(-0.012, 0.012, 2) * size
    matrix = np.asarray(turned, np.float64) + moved_by
    moved = cv2.warpAffine(image.pixels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    noise = rng.standard_normal(moved.shape).astype(np.float32) * np.float32(0.006)
    pixels = np.clip(np.power(moved, np.float32(rng.uniform(0.9, 1.1))) + noise, 0, 1).astype(np.float32)
    masks = tuple(
        cv2.warpAffine(mask.astype(np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST).astype(bool)
        for mask in image.masks
    )
    return replace(image, pixels=pixels, view="AP", masks=masks)


def _lateral(size: int, rng: np.random.Generator) -> TwinImage:
    own = int(rng.integers(2**31))
    # The first draw of a lateral says which way it faces: the front on the viewer's right in a right lateral.
    view = "RL" if np.random.Generator(np.random.PCG64(own)).random() < 0.5 else "LL"
    pixels = lateral(Canvas(size), np.random.Generator(np.random.PCG64(own)))
    return TwinImage(pixels, view, (), FIELD_CM * 10 / size)


def _technique(images: list[TwinImage]) -> str:
    views = {"PA": "PA", "AP": "AP", "LL": "lateral", "RL": "lateral"}
    named = " and ".join(dict.fromkeys(views[image.view] for image in images))
    plural = "s" if len(images) > 1 else ""
    return f"{named[0].upper()}{named[1:]} radiograph{plural} of the chest"
