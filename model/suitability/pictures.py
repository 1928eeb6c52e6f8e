"""Pictures to learn suitability from: real films, the twin's chests from both directions, and what is no chest."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.geometry import letterbox_of
from model.suitability.network import KINDS, SIZE
from model.twin.view import view_sample

Plane = npt.NDArray[np.float32]
_STORED = 2 * SIZE  # room for turning and scaling before the network's own size


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One picture, upright as far as it is known.

    Parameters
    ----------
    pixels : uint8 (2 SIZE, 2 SIZE), letterboxed.
    kind : number in KINDS.
    patient : of a real film; empty for what was drawn.
    turned : whether its source says that it is stored turned by 90 degrees.
    """

    pixels: npt.NDArray[np.uint8]
    kind: int
    patient: str = ""
    turned: bool = False


def films(folder: Path) -> Iterator[Picture]:
    """The frontal films of *folder*: those of ``nih`` and of ``hannover``, each with a manifest.csv.

    Raises
    ------
    OSError
        If a manifest is missing.
    """
    for name in ("nih", "hannover"):
        with (folder / name / "manifest.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                file = folder / name / f"{row['file']}.jpg"
                if file.is_file():
                    yield Picture(
                        stored(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255),
                        KINDS.index("frontal"),
                        patient=row["patient"],
                        turned=bool(row.get("rotated90")),
                    )


def twins(seeds: range) -> Iterator[Picture]:
    """The twin's frontal and lateral chests, hands and bellies."""
    for seed in seeds:
        pixels, view = view_sample(seed, size=_STORED)
        yield Picture(stored(pixels), KINDS.index(view))


def strays(seeds: range) -> Iterator[Picture]:
    """Pictures that no X-ray tube made: noise, ramps, pages of text, shapes, charts."""
    makers = (_noise, _clouds, _ramp, _page, _shapes, _chart)
    for seed in seeds:
        rng = np.random.Generator(np.random.PCG64([seed, 7]))
        pixels = makers[seed % len(makers)](rng)
        if rng.random() < 0.3:
            pixels = pixels[:, ::-1].T
        yield Picture(stored(np.ascontiguousarray(pixels)), KINDS.index("other"))


def stored(pixels: Plane) -> npt.NDArray[np.uint8]:
    """*pixels* (rows, columns) in [0, 1], letterboxed to (2 SIZE, 2 SIZE)."""
    return np.asarray(np.round(letterbox_of(pixels).image(pixels, _STORED) * 255), np.uint8)


def _noise(rng: np.random.Generator) -> Plane:
    grain = rng.standard_normal((_STORED, _STORED)) * rng.uniform(0.05, 0.4) + rng.uniform(0.2, 0.8)
    return np.clip(grain, 0, 1).astype(np.float32)


def _clouds(rng: np.random.Generator) -> Plane:
    cells = int(rng.integers(3, 40))
    coarse = rng.random((cells, cells)).astype(np.float32)
    return np.asarray(np.clip(cv2.resize(coarse, (_STORED, _STORED), interpolation=cv2.INTER_CUBIC), 0, 1), np.float32)


def _ramp(rng: np.random.Generator) -> Plane:
    axis = np.linspace(-1, 1, _STORED, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    heading = rng.uniform(0, 2 * np.pi)
    plane = x * np.cos(heading) + y * np.sin(heading) if rng.random() < 0.5 else np.hypot(x, y)
    plane = np.sin(plane * rng.uniform(1, 20)) if rng.random() < 0.5 else plane
    return np.asarray((plane - plane.min()) / np.ptp(plane), np.float32)


def _page(rng: np.random.Generator) -> Plane:
    page = np.full((_STORED, _STORED), rng.uniform(0.7, 1), np.float32)
    height = int(rng.integers(8, 22))
    for y in range(height, _STORED, height):
        letters = "".join(chr(int(code)) for code in rng.integers(97, 123, int(rng.integers(0, 30))))
        cv2.putText(page, letters, (int(rng.integers(4, 40)), y), cv2.FONT_HERSHEY_SIMPLEX, height / 32, (0.1,), 1)
    return page if rng.random() < 0.7 else 1 - page


def _shapes(rng: np.random.Generator) -> Plane:
    plane = np.full((_STORED, _STORED), rng.random(), np.float32)
    for _ in range(int(rng.integers(1, 12))):
        centre = (int(rng.integers(_STORED)), int(rng.integers(_STORED)))
        axes = (int(rng.integers(4, 90)), int(rng.integers(4, 90)))
        if rng.random() < 0.5:
            cv2.ellipse(plane, centre, axes, float(rng.uniform(0, 180)), 0, 360, (float(rng.random()),), -1)
        else:
            corner = (centre[0] + axes[0], centre[1] + axes[1])
            cv2.rectangle(plane, centre, corner, (float(rng.random()),), -1)
    return plane


def _chart(rng: np.random.Generator) -> Plane:
    cells = 2 ** int(rng.integers(1, 6))
    board = np.indices((cells, cells)).sum(axis=0) % 2 * rng.uniform(0.3, 1)
    return np.asarray(cv2.resize(board.astype(np.float32), (_STORED, _STORED), interpolation=cv2.INTER_NEAREST))
