"""Real lung outlines for training the anatomy: the Hannover radiographs (CC BY 3.0) with V7's masks (CC BY 4.0)."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt

from model.geometry import letterbox_of

Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]


def is_measured(patient: str) -> bool:
    """Whether the outlines of *patient* are kept for measuring: one in five, by a hash."""
    return crc32(patient.encode()) % 5 == 0


def read_lungs(folder: Path, *, size: int, wanted: Callable[[str], bool]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """Every radiograph with a mask: pixels (size, size) in [0, 1] and lungs (2, size/2, size/2), right first.

    Parameters
    ----------
    folder : with ``manifest.csv``, ``images`` and ``v7_lung_masks``.
    wanted : which patients.

    Returns
    -------
    The pairs, and the patient of each.
    """
    with (folder / "manifest.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["file"].startswith("images/")]
    pairs, patients = [], []
    for row in rows:
        name = Path(row["file"]).name
        mask_file = folder / "v7_lung_masks" / name
        if mask_file.exists() and wanted(row["patient"]):
            pairs.append(_pair(folder / "images" / f"{name}.jpg", mask_file, size=size))
            patients.append(row["patient"])
    return tuple(pairs), tuple(patients)


def whole_lungs(lungs: npt.NDArray[np.float32], heart: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Lungs (2, h, w), right first, with what lies before and behind the *heart* (h, w), as V7 outlines them.

    At the heart a lung reaches as far to the middle as it does anywhere above.
    """
    whole = lungs.copy()
    for number, lung in enumerate(lungs > 0.5):
        if lung.any():
            rows, columns = np.nonzero(lung)
            across, down = np.arange(lung.shape[1])[None, :], np.arange(lung.shape[0])[:, None]
            lateral = across >= columns.min() if number else across <= columns.max()
            whole[number] = np.maximum(whole[number], (heart > 0.5) & lateral & (down <= rows.max()))
    return whole


def _pair(image_file: Path, mask_file: Path, *, size: int) -> Pair:
    image = cv2.imread(str(image_file), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255
    mask = cv2.imread(str(mask_file), cv2.IMREAD_GRAYSCALE)
    mask = cv2.resize(mask, image.shape[::-1], interpolation=cv2.INTER_NEAREST)
    box = letterbox_of(image)
    halves = np.stack([box.image(half.astype(np.float32), size // 2) for half in _halves(mask > 127)])
    return box.image(image, size), (halves > 0.5).astype(np.float32)


def _halves(lungs: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """The patient's right and left lung: the components left and right of the middle of all of them."""
    count, labels, _, centres = cv2.connectedComponentsWithStats(lungs.astype(np.uint8))
    middle = np.argwhere(lungs)[:, 1].mean()
    right = np.isin(labels, [number for number in range(1, count) if centres[number][0] < middle])
    return right, lungs & ~right
