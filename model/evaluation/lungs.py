"""How well the model outlines the lungs of patients that it was not trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.evaluation.locators import FullModel
from model.evaluation.measures import dice
from model.lungs import read_lungs


def lungs_dice(model: FullModel, folder: Path, *, held_out: bool = True) -> tuple[float, ...]:
    """Dice of both lungs together, image by image, on the heatmap's grid.

    Parameters
    ----------
    folder : of the Hannover form; see :func:`model.lungs.read_lungs`.
    held_out : the patients kept for measuring, or those that training may have seen.

    Raises
    ------
    OSError
        If the folder is not of that form.
    """
    size = 2 * len(model.lungs(np.zeros((64, 64), np.float32)).right)
    found = []
    for pixels, truth in read_lungs(folder, size=size, held_out=held_out):
        lungs = model.lungs(pixels)
        found.append(dice(lungs.right | lungs.left, (truth > 0.5).any(axis=0)))
    return tuple(found)
