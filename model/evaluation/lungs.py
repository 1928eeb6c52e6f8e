"""How well the model outlines the lungs of patients that it was not trained on."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from model.data.split import digest
from model.evaluation.locators import FullModel
from model.evaluation.measures import dice
from model.lungs import read_lungs


def lungs_dice(model: FullModel, folder: Path, *, seen: Collection[str] = ()) -> tuple[float, ...]:
    """Dice of both lungs together, image by image, on the heatmap's grid.

    Parameters
    ----------
    folder : of the Hannover form; see :func:`model.lungs.read_lungs`.
    seen : digests of patients that the weights were trained on; they are left out.

    Raises
    ------
    OSError
        If the folder is not of that form.
    """
    cells = len(model.lungs(np.zeros((64, 64), np.float32)).right)
    found = []
    pairs, _ = read_lungs(folder, size=512, cells=cells, wanted=lambda patient: digest(patient) not in seen)
    for pixels, truth in pairs:
        lungs = model.lungs(pixels)
        found.append(dice(lungs.right | lungs.left, (truth > 0.5).any(axis=0)))
    return tuple(found)
