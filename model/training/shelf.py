"""Letterboxed images and masks of a data set, made once: in memory, or in files that are mapped into memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track

from model.config import Config
from model.data.sample import Box
from model.geometry import letterbox_of

Pixels = npt.NDArray[np.float32]
_FORM = "1"


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """One image to be shelved.

    Parameters
    ----------
    pixels : reads float32 (rows, columns) in [0, 1].
    masks : each reads bool (rows, columns).
    boxes : of each mask, when it is made of boxes.
    """

    pixels: Callable[[], Pixels]
    masks: tuple[Callable[[], npt.NDArray[np.bool_]], ...] = ()
    boxes: tuple[tuple[Box, ...], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """*Shape:* pixels uint8 (N, size, size); masks uint8 (M, cells, cells), 1 inside, in the order of the sheets.

    *faults* holds (image, mask or -1, what is wrong) for what cannot be trained on.
    """

    pixels: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.uint8]
    faults: tuple[tuple[int, int, str], ...]


def shelve(sheets: tuple[Sheet, ...], *, config: Config, workers: int, cache: Path | None, version: str) -> Shelf:
    """The shelf of *sheets*; from *cache* when it was made there before for this *version*.

    Parameters
    ----------
    config : says the side of an image in pixels, and of a mask in cells of the heatmap.
    version : anything that changes when an image, a mask or their order does.
    """
    if cache is None:
        return _made(sheets, config, workers=workers, array=np.zeros)
    key = hashlib.sha256(f"{_FORM} {version} {config.size} {config.heatmap} {len(sheets)}".encode()).hexdigest()[:16]
    done, files = cache / f"{key}.json", (cache / f"{key}-pixels.npy", cache / f"{key}-masks.npy")
    if not done.exists():
        cache.mkdir(parents=True, exist_ok=True)
        names = iter(files)

        def mapped(shape: tuple[int, ...], kind: type[np.uint8]) -> npt.NDArray[np.uint8]:
            return _mapped(next(names), shape, kind)

        shelf = _made(sheets, config, workers=workers, array=mapped)
        for array in (shelf.pixels, shelf.masks):
            if isinstance(array, np.memmap):
                array.flush()
        # Written last and at once: a shelf that was interrupted has no such file and is made again.
        staged = done.with_suffix(f".{os.getpid()}.part")
        staged.write_text(json.dumps(shelf.faults), encoding="utf-8")
        staged.replace(done)
    pixels, masks = (np.load(file, mmap_mode="r") for file in files)
    faults = tuple((image, mask, said) for image, mask, said in json.loads(done.read_text(encoding="utf-8")))
    return Shelf(pixels, masks, faults)


def _mapped(file: Path, shape: tuple[int, ...], kind: type[np.uint8]) -> npt.NDArray[np.uint8]:
    if 0 in shape:
        np.save(file, np.zeros(shape, kind))
        return np.zeros(shape, kind)
    return np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=shape)  # type: ignore[no-untyped-call, no-any-return]


def _made(
    sheets: tuple[Sheet, ...],
    config: Config,
    *,
    workers: int,
    array: Callable[[tuple[int, ...], type[np.uint8]], npt.NDArray[np.uint8]],
) -> Shelf:
    starts = np.cumsum([0, *(len(sheet.masks) for sheet in sheets)])
    pixels = array((len(sheets), config.size, config.size), np.uint8)
    masks = array((int(starts[-1]), config.heatmap, config.heatmap), np.uint8)

    def fill(number: int) -> list[tuple[int, int, str]]:
        first, end = int(starts[number]), int(starts[number + 1])
        said = _fill(sheets[number], pixels[number], masks[first:end])
        return [(number, mask, what) for mask, what in said]

    with ThreadPoolExecutor(workers) as pool:
        done = pool.map(fill, range(len(sheets)))
        faults = [each for found in track(done, total=len(sheets), description="Reading images") for each in found]
    return Shelf(pixels, masks, tuple(faults))


def _fill(sheet: Sheet, pixels: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8]) -> Iterable[tuple[int, str]]:
    """Fill the rows of one image; what is wrong with it (-1) or with one of its masks."""
    try:
        stored = sheet.pixels()
    except (OSError, ValueError):
        return [(-1, "the image cannot be read")]
    if stored.ndim != 2 or not np.isfinite(stored).all() or stored.min() < 0 or stored.max() > 1:
        return [(-1, "the image does not hold (rows, columns) of numbers from 0 to 1")]
    box = letterbox_of(stored)
    pixels[:] = np.round(box.image(stored, pixels.shape[0]) * 255)
    faults = []
    for number, read in enumerate(sheet.masks):
        wrong = _boxes_fault(sheet.boxes[number], stored.shape) if sheet.boxes else None
        try:
            drawn = read()
        except (OSError, ValueError):
            faults.append((number, "the mask cannot be read"))
            continue
        if drawn.shape != stored.shape:
            wrong = wrong or "the mask is not of the image's size"
        elif not drawn.any():
            wrong = wrong or "the mask is empty"
        else:
            masks[number] = small_mask(drawn, masks.shape[1])
        if wrong:
            faults.append((number, wrong))
    return faults


def small_mask(drawn: npt.NDArray[np.bool_], size: int) -> npt.NDArray[np.bool_]:
    """*drawn* (rows, columns) on the letterboxed (size, size) grid; a finding smaller than a cell keeps one cell."""
    share = letterbox_of(drawn.astype(np.float32)).image(drawn.astype(np.float32), size)
    return np.asarray(share >= min(0.5, float(share.max())))


def _boxes_fault(boxes: tuple[Box, ...], shape: tuple[int, ...]) -> str | None:
    """Boxes may end at most one pixel outside, as rounding has them."""
    for box in boxes:
        if box.width <= 0 or box.height <= 0:
            return "a box has no area"
        if box.x < -1 or box.y < -1 or box.x + box.width > shape[1] + 1 or box.y + box.height > shape[0] + 1:
            return "a box lies outside the image"
    return None
