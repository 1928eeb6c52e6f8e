"""From thickness to a picture: attenuation, scatter, quantum noise, detector, and the maker's processing."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from model.twin.anatomy import Chest
from model.twin.canvas import FIELD_CM, Canvas, Map

# Linear attenuation per centimetre at about 60 keV effective energy (NIST XCOM, rounded).
SOFT_PER_CM, BONE_PER_CM, METAL_PER_CM = 0.205, 0.55, 6.0
#: Where the shoulder of the display curve is white: bone behind the heart is a light grey on films, not white.
_WHITE = 0.9


@dataclass(frozen=True, slots=True)
class Exposure:
    """How the picture was taken and processed.

    Parameters
    ----------
    photons : detected quanta per square centimetre where nothing is in the beam.
    scatter : scattered share of the primary.
    gamma : of the display curve.
    local : 0 to 1, share of the maker's local contrast enhancement.
    low, high : percentiles of the field at the foot (black) and the shoulder of the display curve.
    """

    photons: float
    scatter: float
    gamma: float
    local: float
    low: float
    high: float


def exposure(rng: np.random.Generator) -> Exposure:
    """One technique and processing.

    Behind the lungs, through which about a tenth of the beam comes, a detector is given 0.5 to 8 microgray, each of
    3 million quanta per square centimetre (IEC 62220-1, RQA5), and counts about two thirds of them.
    """
    return Exposure(
        photons=10 ** rng.uniform(7.0, 8.2),
        scatter=rng.uniform(0.15, 0.6),
        gamma=rng.uniform(0.8, 1.8),
        local=rng.uniform(0.2, 0.8),
        low=rng.uniform(0.2, 2.5),
        high=rng.uniform(97.5, 99.8),
    )


def picture(chest: Chest, beam: Exposure, rng: np.random.Generator, *, metal: Map | None = None) -> Map:
    """The radiograph of *chest*, float32 (size, size) in [0, 1], bright is dense; *metal* in centimetres."""
    air = np.clip(chest.air - chest.vessels, 0, None)
    tissue = np.clip(chest.soft - air, 0.3, None)
    return picture_of(chest.canvas, tissue, chest.bone, beam, rng=rng, metal=metal)


def picture_of(
    canvas: Canvas, tissue: Map, bone: Map, beam: Exposure, *, rng: np.random.Generator, metal: Map | None = None
) -> Map:
    """The radiograph of thicknesses in centimetres, float32 (size, size) in [0, 1], bright is dense."""
    along = SOFT_PER_CM * tissue + BONE_PER_CM * bone
    primary = np.exp(-(along if metal is None else along + METAL_PER_CM * metal)).astype(np.float32)
    seen = primary + beam.scatter * canvas.blur(primary, 3.0)
    quanta = beam.photons * (FIELD_CM / canvas.size) ** 2
    noise = rng.standard_normal(seen.shape).astype(np.float32) * np.sqrt(seen / quanta)
    seen = canvas.blur(np.clip(seen + noise, 1e-6, None).astype(np.float32), 0.03)
    dense = -np.log(seen)
    if beam.local:
        dense = dense - beam.local * (canvas.blur(dense, 4.0) - float(dense.mean()))
    return _display(dense, beam)


def _display(dense: Map, beam: Exposure) -> Map:
    thin = dense[:: max(1, dense.shape[0] // 128), :: max(1, dense.shape[1] // 128)]
    low, high = np.percentile(thin, [beam.low, beam.high])
    above = np.clip((dense - low) / max(high - low, 1e-3), 0, None)
    shown = np.clip(np.tanh(above) / _WHITE, 0, 1)
    return np.asarray(cv2.pow(shown.astype(np.float32), beam.gamma), np.float32)
