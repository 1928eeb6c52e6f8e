"""Does the model look, and does it read? The same image with other words, and the same words with a destroyed image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.evaluation import measures
from model.evaluation.locators import Located
from model.values import Query, State

Pixels = npt.NDArray[np.float32]
PATCHES = 8


@dataclass(frozen=True, slots=True)
class Control:
    """One row under other conditions; NaN where a number has no meaning for the row.

    Parameters
    ----------
    named_mass, swapped_mass : share of the map on the side that the row names, asked as it is and with the other side
        named instead.
    swapped_presence : that of the other side.
    wrong_dice, wrong_presence : of another finding's map, beside this row's truth.
    scrambled_* : of the image with its patches in disorder; *refused* where the model says that it is no frontal chest.
    likeness, scrambled_likeness : correlation over the image of the model's map with its prior's; NaN when refused.
    """

    named_mass: float
    swapped_mass: float
    swapped_presence: float
    wrong_dice: float
    wrong_presence: float
    scrambled_dice: float
    scrambled_cnr: float
    scrambled_presence: float
    scrambled_refused: bool
    likeness: float
    scrambled_likeness: float


def scrambled(pixels: Pixels, *, seed: int) -> Pixels:
    """*pixels* (rows, columns) cut into 8 x 8 patches that are put back in another order.

    The same grey values and the same texture within each patch, but no anatomy. Rows and columns that do not divide by
    eight stay where they are.
    """
    rows, columns = (length // PATCHES for length in pixels.shape)
    inner = pixels[: rows * PATCHES, : columns * PATCHES]
    patches = inner.reshape(PATCHES, rows, PATCHES, columns).swapaxes(1, 2).reshape(-1, rows, columns)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(patches))
    mixed = patches[order].reshape(PATCHES, PATCHES, rows, columns).swapaxes(1, 2)
    result = pixels.copy()
    result[: rows * PATCHES, : columns * PATCHES] = mixed.reshape(inner.shape)
    return result


def control_of(
    query: Query,
    truth: npt.NDArray[np.bool_],
    asked: Located,
    *,
    swapped: Located,
    wrong: Located,
    destroyed: Located,
    prior: Located,
    midline: float,
    threshold: float,
) -> Control:
    """The control of one row; *midline* in source columns, *threshold* of the model."""
    unknown = float("nan")
    there, sided = bool(truth.any()), query.side in ("left", "right")
    refused = destroyed.state is State.NOT_GROUNDABLE
    maps = [each.heatmap.on_source() for each in (asked, swapped, wrong, destroyed, prior)]
    plain, other, elsewhere, mixed, before = maps
    side = str(query.side)
    return Control(
        named_mass=measures.mass_on_side(plain, midline, side=side) if sided and there else unknown,
        swapped_mass=measures.mass_on_side(other, midline, side=side) if sided and there else unknown,
        swapped_presence=swapped.presence if sided and there else unknown,
        wrong_dice=measures.dice(elsewhere >= threshold, truth) if there else unknown,
        wrong_presence=wrong.presence if there else unknown,
        scrambled_dice=measures.dice(mixed >= threshold, truth) if there else unknown,
        scrambled_cnr=measures.cnr(mixed, truth) if there else unknown,
        scrambled_presence=destroyed.presence,
        scrambled_refused=refused,
        likeness=_likeness(plain, before),
        scrambled_likeness=unknown if refused else _likeness(mixed, before),
    )


def _likeness(one: Pixels, other: Pixels) -> float:
    """Pearson's correlation of two maps; NaN where one is constant."""
    first, second = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    if first.std() < 1e-9 or second.std() < 1e-9:
        return float("nan")
    return float(np.corrcoef(first, second)[0, 1])
