"""From pixels to a verdict: can this image be grounded, and if not, why not, in words for a reader."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from model.geometry import Orientation, letterbox_of
from model.suitability.network import POSES, SIZE, SuitabilityNetwork
from model.values import Fault, Suitability, View

SHIPPED = Path(__file__).parent / "weights"
FILE_NAME = "suitability.safetensors"

Plane = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

#: Spread of grey values (5th to 95th percentile, of the whole scale) below which a picture shows nothing.
_FLAT = 0.04
_QUARTER: Final = "the image lies on its side (turned by 90 degrees)"
_HALF: Final = "the image is upside down (turned by 180 degrees)"
REASONS: Final = {
    Fault.BLANK: "the image is nearly blank",
    Fault.NOT_A_CHEST: "the image does not look like a chest radiograph",
    Fault.LATERAL: "the image looks like a lateral view; only frontal views are searched",
    Fault.UNLIKE: "the image is unlike the radiographs that the model learnt from",
    Fault.INVERTED: "the grey scale looks inverted (air is bright)",
    Fault.MIRRORED: "the image looks mirrored (left and right exchanged), or the heart lies on the right",
}


class SuitabilityError(ValueError):
    """The weights are missing, damaged, or not those of their manifest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on a score counts, chosen on patients that nothing was learnt from.

    Parameters
    ----------
    turned : by how much another turn's uprightness exceeds that of the image as it lies.
    mirrored : likewise of its mirror image.
    inverted : log-odds of inversion.
    other, lateral : log-odds of that kind against frontal.
    distance : squared Mahalanobis distance to the nearest group of pictures learnt from.
    """

    turned: float
    mirrored: float
    inverted: float
    other: float
    lateral: float
    distance: float


@dataclass(frozen=True, slots=True)
class Scores:
    """What the network says of one picture; compared with :class:`Limits` name by name.

    Parameters
    ----------
    pose : the most upright of the four turns, a number in POSES; never a mirrored one.
    """

    turned: float
    mirrored: float
    inverted: float
    other: float
    lateral: float
    distance: float
    pose: int


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Where the features of what was learnt from lie: centres (groups, C) and one precision matrix (C, C)."""

    centres: Floats
    precision: Floats

    def distance(self, features: Floats) -> float:
        """Squared Mahalanobis distance of *features* (C,) to the nearest centre (Lee et al., NeurIPS 2018)."""
        apart = self.centres - features
        return float(np.einsum("gc,cd,gd->g", apart, self.precision, apart).min())


#: Poses without a mirror, and for each the one that mirrors its result, left for right.
TURNS: Final = tuple(number for number, pose in enumerate(POSES) if sum(pose) % 2 == 0)
MIRRORED: Final = {number: POSES.index((*POSES[number][:2], not POSES[number][2])) for number in range(len(POSES))}


class Judge:
    """Looks at pictures; safe to use from one thread at a time."""

    def __init__(self, network: SuitabilityNetwork, known: Known, limits: Limits, *, sha256: str) -> None:
        self._network, self._known, self._limits = network, known, limits
        self.sha256 = sha256

    def look(self, pixels: Plane, orientation: Orientation) -> Suitability:
        """The verdict on *pixels*, float32 (rows, columns) in [0, 1], as *orientation* turns them."""
        if is_blank(pixels):
            return Suitability(View.UNKNOWN, orientation, Fault.BLANK, REASONS[Fault.BLANK])
        square = letterbox_of(pixels, orientation).image(pixels, SIZE)
        (scores,) = scores_of(self._network, self._known, square[None])
        return verdict(scores, self._limits, orientation)


def is_blank(pixels: Plane) -> bool:
    """Whether hardly anything differs in the middle of the picture, where collimation and padding do not reach."""
    rows, columns = pixels.shape
    middle = pixels[rows // 6 : rows - rows // 6, columns // 6 : columns - columns // 6]
    step = max(1, max(rows, columns) // 512)
    low, high = np.percentile(middle[::step, ::step], (5, 95))
    return bool(high - low < _FLAT)


def scores_of(network: SuitabilityNetwork, known: Known, squares: Plane) -> tuple[Scores, ...]:
    """What *network* says of pictures, float32 (N, SIZE, SIZE) in [0, 1]."""
    with torch.inference_mode():
        upright, kind, inverted, features = network(torch.from_numpy(squares)[:, None])
    rows = zip(upright.tolist(), kind.tolist(), inverted.tolist(), features.double().numpy(), strict=True)
    return tuple(_scores(*row, known=known) for row in rows)


def _scores(upright: list[float], kind: list[float], inverted: float, features: Floats, *, known: Known) -> Scores:
    frontal, lateral, other = kind
    best = {turn: max(upright[turn], upright[MIRRORED[turn]]) for turn in TURNS}
    pose = max(TURNS, key=lambda turn: best[turn])
    return Scores(
        turned=best[pose] - best[TURNS[0]],
        mirrored=upright[MIRRORED[TURNS[0]]] - upright[TURNS[0]],
        inverted=inverted,
        other=other - max(frontal, lateral),
        lateral=lateral - max(frontal, other),
        distance=known.distance(features),
        pose=pose,
    )


def verdict(scores: Scores, limits: Limits, orientation: Orientation) -> Suitability:
    """The first thing that stands against grounding, from the gravest on."""
    view, fault = View.FRONTAL, None
    if scores.other > limits.other:
        view, fault = View.OTHER, Fault.NOT_A_CHEST
    elif scores.distance > limits.distance:
        view, fault = View.UNKNOWN, Fault.UNLIKE
    elif scores.lateral > limits.lateral:
        view, fault = View.LATERAL, Fault.LATERAL
    elif scores.inverted > limits.inverted:
        fault = Fault.INVERTED
    elif scores.turned > limits.turned:
        turn = Orientation(*POSES[scores.pose])
        reason = _QUARTER if turn.transpose else _HALF
        return Suitability(view, orientation.then(turn), Fault.TURNED, reason)
    elif scores.mirrored > limits.mirrored:
        fault = Fault.MIRRORED
    return Suitability(view, orientation, fault, None if fault is None else REASONS[fault])


def save_judge(
    network: SuitabilityNetwork, known: Known, limits: Limits, *, folder: Path, figures: dict[str, Any]
) -> None:
    """Write weights (half precision) and manifest into *folder*; *figures* say how they were made and measured."""
    state = {name: value.half() if value.is_floating_point() else value for name, value in network.state_dict().items()}
    fitted = {name: torch.from_numpy(getattr(known, name)).float() for name in ("centres", "precision")}
    content = save({name: value.contiguous() for name, value in (state | fitted).items()})
    digest = hashlib.sha256(content).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_bytes(content)
    manifest = {"sha256": digest, "limits": asdict(limits), **figures}
    (folder / "manifest.json").write_text(f"{json.dumps(manifest, indent=1)}\n", encoding="utf-8")


def load_judge(folder: Path = SHIPPED) -> Judge:
    """The judge of *folder*; the shipped one by default.

    Raises
    ------
    SuitabilityError
        If a file is missing or damaged, or the weights are not those of the manifest.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        content = (folder / FILE_NAME).read_bytes()
        digest, limits = manifest["sha256"], Limits(**manifest["limits"])
        if hashlib.sha256(content).hexdigest() != digest:
            raise SuitabilityError("the suitability weights are not those of their manifest (SHA-256 differs)")
        state = {name: value.float() if value.is_floating_point() else value for name, value in load(content).items()}
        known = Known(*(state.pop(name).double().numpy() for name in ("centres", "precision")))
        network = SuitabilityNetwork()
        network.load_state_dict(state)
    except OSError as error:
        raise SuitabilityError(f"the suitability weights cannot be read ({error.strerror})") from error
    except (KeyError, TypeError, RuntimeError, SafetensorError, json.JSONDecodeError) as error:
        raise SuitabilityError("the suitability weights or their manifest are damaged") from error
    return Judge(network.eval(), known, limits, sha256=digest)
