"""Training samples on disk, so that one rendering of the twin serves every epoch.

One ``.npz`` per sample, in a folder for the version of the twin and the sizes: ``pixels`` uint8 (size, size); ``lungs``
and ``heart`` bool, and ``masks`` bool (findings, cells, cells), on the heatmap's grid; ``findings`` JSON text with the
words' ingredients.
"""

from __future__ import annotations

import io
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from model.data.store import write_whole
from model.lungs import whole_lungs
from model.twin.findings import TwinFinding
from model.twin.sample import VERSION, sample


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One cached sample.

    Parameters
    ----------
    pixels : uint8 (size, size).
    anatomy : float32 (3, cells, cells): right lung, left lung, heart.
    findings : with masks on the same grid.
    """

    pixels: npt.NDArray[np.uint8]
    anatomy: npt.NDArray[np.float32]
    findings: tuple[TwinFinding, ...]


def examples(cache: Path, seeds: range, *, size: int, cells: int, workers: int) -> tuple[Example, ...]:
    """The samples of *seeds*, truth on a grid of *cells* squared; rendered now, with progress, where *cache* has none.

    Raises
    ------
    OSError
        If the cache cannot be written.
    """
    folder = cache / f"twin-{VERSION}-{size}-{cells}"
    missing = [seed for seed in seeds if not _path(folder, seed).exists()]
    if missing:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            done = pool.map(partial(_render, folder, size=size, cells=cells), missing, chunksize=8)
            for _ in track(done, total=len(missing), description="Rendering the twin"):
                pass
    return tuple(_read(_path(folder, seed)) for seed in seeds)


def _read(path: Path) -> Example:
    with np.load(path) as stored:
        said = json.loads(str(stored["findings"]))
        masks = stored["masks"]
        heart = stored["heart"].astype(np.float32)
        anatomy = np.concatenate([whole_lungs(stored["lungs"].astype(np.float32), heart), heart[None]])
        findings = tuple(
            TwinFinding(mask=mask, **{**each, "sites": tuple(each["sites"])})
            for each, mask in zip(said, masks, strict=True)
        )
        return Example(stored["pixels"], anatomy, findings)


def _path(folder: Path, seed: int) -> Path:
    return folder / f"{seed}.npz"


def _render(folder: Path, seed: int, *, size: int, cells: int) -> None:
    cv2.setNumThreads(1)
    made = sample(seed, size=size)
    content = io.BytesIO()
    np.savez_compressed(
        content,
        pixels=np.round(made.pixels * 255).astype(np.uint8),
        lungs=np.stack([_on_grid(mask, cells) for mask in made.lungs]),
        heart=_on_grid(made.heart, cells),
        masks=np.stack([_on_grid(each.mask, cells) for each in made.findings])
        if made.findings
        else np.zeros((0, cells, cells), bool),
        findings=np.array(json.dumps([_ingredients(each) for each in made.findings])),
    )
    write_whole(_path(folder, seed), content.getvalue())


def _on_grid(mask: npt.NDArray[np.bool_], cells: int) -> npt.NDArray[np.bool_]:
    return np.asarray(cv2.resize(mask.astype(np.float32), (cells, cells), interpolation=cv2.INTER_AREA) >= 0.5)


def _ingredients(finding: TwinFinding) -> dict[str, object]:
    names = ("concept", "side", "sites", "severity", "size_mm", "count")
    return {name: getattr(finding, name) for name in names}
