"""The synthetic twin as a data set: every finding of each sample with its exact mask, and one that is not there."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import track

from model.data.files import FileSet
from model.data.jsonl import line_of, samples_of
from model.data.pins import DataError
from model.data.sample import Sample
from model.data.store import FolderStore, write_whole
from model.twin.sample import CONCEPTS, VERSION, TwinSample, sample
from model.twin.words import absent_phrase, phrases_for

_SIDED = frozenset(CONCEPTS) - {"cardiomegaly", "pulmonary edema", "endotracheal tube"}
_STREAM = 11  # of the words' own draws, apart from those of the picture
_ALONE = 16  # fewer samples than this are rendered here, without starting other processes


def read_twin(seeds: range, *, cache: Path, size: int = 512) -> FileSet:
    """The samples of *seeds*; rendered into *cache* once, with progress, and read from there afterwards.

    Raises
    ------
    DataError
        If there are no seeds, or *size* is below 64.
    OSError
        If the cache cannot be written.
    """
    if not seeds or seeds.start < 0 or size < 64:
        raise DataError("a twin has seeds from 0 on, the first before the last, and at least 64 pixels: twin:0-100")
    folder = cache / f"twin-{VERSION}-{size}"
    missing = [seed for seed in seeds if not (folder / _labels(seed)).exists()]
    if len(missing) < _ALONE:
        for seed in missing:
            _render(folder, seed, size=size)
    else:
        _render_all(folder, missing, size=size)
    names = tuple(map(_labels, seeds))
    store = FolderStore(folder)
    rows = tuple(row for name in names for row in samples_of(store.read(name), name))
    return FileSet(f"twin-{seeds.start}-{seeds.stop}", store, names, rows)


def _labels(seed: int) -> str:
    return f"labels/{seed}.jsonl"


def _render_all(folder: Path, seeds: list[int], *, size: int) -> None:
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), mp_context=get_context("spawn")) as pool:
        done = pool.map(partial(_render, folder, size=size), seeds, chunksize=4)
        for _ in track(done, total=len(seeds), description="Rendering the twin", transient=True):
            pass


def _render(folder: Path, seed: int, *, size: int) -> None:
    """Write image and masks, and last the labels, which say that the rest is there."""
    made = sample(seed, size=size)
    write_whole(folder / _image(seed), _png(np.asarray(np.round(made.pixels * 255), np.uint8)))
    rows = _rows(made, seed)
    for row, finding in zip(rows, made.findings, strict=False):
        write_whole(folder / str(row.mask), _png(np.asarray(finding.mask * 255, np.uint8)))
    write_whole(folder / _labels(seed), "".join(map(line_of, rows)).encode())


def _rows(made: TwinSample, seed: int) -> tuple[Sample, ...]:
    rng = np.random.Generator(np.random.PCG64([seed, _STREAM]))
    view = "AP" if made.build.supine else "PA"

    def row(phrase: str, finding: str, mask: str | None) -> Sample:
        return Sample(_image(seed), f"twin-{seed}", phrase, mask=mask, finding=finding, view=view, source="twin")

    there = [
        row(phrases_for(finding, rng), finding.concept, f"masks/{seed}-{number}.png")
        for number, finding in enumerate(made.findings)
    ]
    absent = str(rng.choice([name for name in CONCEPTS if name not in {each.concept for each in made.findings}]))
    side = str(rng.choice(("left", "right"))) if absent in _SIDED else None
    return *there, row(absent_phrase(absent, rng, side=side), absent, None)


def _image(seed: int) -> str:
    return f"images/{seed}.png"


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()
