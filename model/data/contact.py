"""A contact sheet: samples with their boxes or masks on one picture, for a person to look at before training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.data.files import FileSet
from model.data.sample import DataSet, Sample
from model.data.store import FolderStore

_TILE, _LINE = 256, 18
_COLOUR = (64, 200, 255)  # blue, green, red
Picture = npt.NDArray[np.uint8]


def contact_sheet(folder: Path, samples: Sequence[Sample], *, count: int = 24, columns: int = 6) -> bytes:
    """*count* of the *samples* in *folder*, evenly taken, three of four with a finding where there are such; as PNG."""
    present = [sample for sample in samples if sample.present]
    absent = [sample for sample in samples if not sample.present]
    chosen = _evenly(present, max(count - count // 4, count - len(absent))) + _evenly(absent, count // 4)
    data = FileSet("contact sheet", FolderStore(folder), (), tuple(samples))
    tiles = [_tile(data, sample) for sample in chosen]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.hstack(tiles[start : start + columns]) for start in range(0, len(tiles), columns)]
    return cv2.imencode(".png", np.vstack(rows))[1].tobytes()


def _evenly(samples: list[Sample], count: int) -> list[Sample]:
    if len(samples) <= count:
        return samples
    return [samples[index * len(samples) // count] for index in range(count)]


def _tile(data: DataSet, sample: Sample) -> Picture:
    """The image on a square with the outline of its finding, and below it the phrase."""
    pixels, mask = data.pixels(sample.image), data.mask(sample)
    scale = _TILE / max(pixels.shape)
    shape = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
    shown = np.asarray(cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA) * 255, np.uint8)
    tile = np.zeros((_TILE + 2 * _LINE, _TILE, 3), np.uint8)
    tile[: shape[1], : shape[0]] = shown[..., None]
    lit = cv2.resize(mask.astype(np.uint8), shape, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(lit, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tile, outlines, -1, _COLOUR, 1)
    for row, text in enumerate(
        (sample.phrase, f"{sample.source} {sample.view}" + ("" if sample.present else " absent"))
    ):
        at = (2, _TILE + _LINE * (row + 1) - 5)
        plain = text.encode("ascii", "replace").decode()[:38]
        cv2.putText(tile, plain, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1, cv2.LINE_AA)
    return tile
