"""One training sample: a frontal chest with what was put into it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from model.twin import findings as make
from model.twin.anatomy import Build, Chest, build, chest
from model.twin.canvas import Canvas, Map, Mask
from model.twin.findings import ZONES, TwinFinding, shown
from model.twin.projection import Exposure, exposure, picture

#: Goes up when a seed gives another picture, so that what was rendered before is not taken for it.
VERSION = 2
CONCEPTS = (
    "pleural effusion",
    "consolidation",
    "opacity",
    "pulmonary nodule",
    "mass",
    "atelectasis",
    "pneumothorax",
    "cardiomegaly",
    "pulmonary edema",
    "pacemaker",
    "central venous line",
    "endotracheal tube",
)
_WEIGHTS = np.array([0.15, 0.12, 0.13, 0.11, 0.07, 0.10, 0.09, 0.08, 0.05, 0.04, 0.04, 0.02])
_SEVERITIES = ("small", "moderate", "large")


@dataclass(frozen=True, slots=True, eq=False)
class TwinSample:
    """A synthetic frontal radiograph and its truth.

    Parameters
    ----------
    pixels : float32 (size, size) in [0, 1]; bright is dense; the patient's right is on the viewer's left.
    lungs : (right, left), bool (size, size).
    heart : bool (size, size).
    findings : what is in the picture; at most one of a kind and side.
    """

    pixels: Map
    lungs: tuple[Mask, Mask]
    heart: Mask
    findings: tuple[TwinFinding, ...]
    build: Build
    exposure: Exposure


def sample(seed: int, *, size: int = 512) -> TwinSample:
    """The sample of *seed* at *size* x *size* pixels; the same patient at any size.

    Raises
    ------
    ValueError
        If *size* is below 64.
    """
    if size < 64:
        raise ValueError(f"a radiograph needs at least 64 pixels, got {size}")
    rng = np.random.Generator(np.random.PCG64(seed))
    patient, beam = build(rng), exposure(rng)
    wanted = _wanted(rng)
    canvas = Canvas(size)
    enlarged = rng.uniform(1.32, 1.6) if "cardiomegaly" in wanted else 1.0
    here = chest(canvas, patient, heart_scale=enlarged)
    found: list[TwinFinding] = []
    metal = np.zeros((size, size), np.float32)
    for concept in wanted:
        own = np.random.Generator(np.random.PCG64([seed, CONCEPTS.index(concept)]))
        here, finding, drawn = put(concept, here, own)
        if shown(canvas, finding.mask):
            found.append(finding)
            metal += drawn
    pixels = _marked(picture(here, beam, rng, metal=metal), rng)
    return TwinSample(pixels, here.lungs, here.heart, tuple(found), patient, beam)


def _wanted(rng: np.random.Generator) -> tuple[str, ...]:
    count = int(rng.choice(5, p=[0.12, 0.30, 0.30, 0.18, 0.10]))
    drawn = rng.choice(CONCEPTS, size=count, replace=False, p=_WEIGHTS / _WEIGHTS.sum())
    # Fluid and air are put in last: they lie outside the lung.
    return tuple(sorted(map(str, drawn), key=lambda name: (name in ("pneumothorax", "pleural effusion"), name)))


def _side(rng: np.random.Generator) -> str:
    return "right" if rng.random() < 0.5 else "left"


def put(concept: str, here: Chest, rng: np.random.Generator) -> tuple[Chest, TwinFinding, Map]:
    """Put one finding into the chest: the chest, the finding, and metal in the beam (centimetres)."""
    none = np.zeros_like(here.soft)
    side, zone = _side(rng), str(rng.choice(ZONES, p=[0.28, 0.24, 0.48]))
    if concept == "cardiomegaly":
        return here, TwinFinding(concept, None, ("heart",), here.heart), none
    if concept == "pulmonary edema":
        here, mask = make.edema(here, rng)
        return here, TwinFinding(concept, "bilateral", ("lung",), mask), none
    if concept in ("pacemaker", "central venous line"):
        side = "left" if concept == "pacemaker" and rng.random() < 0.8 else side
        draw = make.pacemaker if concept == "pacemaker" else make.central_line
        metal, mask = draw(here, rng, side)
        return here, TwinFinding(concept, side, (), mask), metal
    if concept == "endotracheal tube":
        metal, mask = make.tracheal_tube(here, rng)
        return here, TwinFinding(concept, None, ("trachea",), mask), metal
    both = rng.random() < 0.22 and concept not in ("pneumothorax", "mass")
    grade = int(rng.integers(3))
    sides = ("right", "left") if both else (side,)
    masks, size_mm, count = np.zeros(here.soft.shape, bool), None, 0
    for each in sides:
        here, mask, size_mm, number = _in_lung(concept, here, rng, side=each, zone=zone, grade=grade)
        masks |= mask
        count += number
    sites = (zone,) if concept not in ("pleural effusion", "pneumothorax") else ()
    finding = TwinFinding(
        concept=concept,
        side="bilateral" if both else side,
        sites=sites,
        mask=masks,
        severity=_SEVERITIES[grade] if concept in ("pleural effusion", "pneumothorax") else "",
        size_mm=size_mm if count == 1 else None,
        count=count,
    )
    return here, finding, none


def _in_lung(
    concept: str, here: Chest, rng: np.random.Generator, *, side: str, zone: str, grade: int
) -> tuple[Chest, Mask, float | None, int]:
    if concept == "pleural effusion":
        return *make.effusion(here, rng, side, (1.2, 3.0, 6.0)[grade] * rng.uniform(0.8, 1.35)), None, 1
    if concept == "pneumothorax":
        return *make.pneumothorax(here, rng, side, (0.9, 2.0, 4.2)[grade] * rng.uniform(0.8, 1.3)), None, 1
    if concept in ("pulmonary nodule", "mass"):
        radius = rng.uniform(0.45, 1.35) if concept == "pulmonary nodule" else rng.uniform(1.6, 3.4)
        number = int(rng.integers(2, 6)) if concept == "pulmonary nodule" and rng.random() < 0.3 else 1
        masks = np.zeros(here.soft.shape, bool)
        for _ in range(number):
            where = zone if number == 1 else str(rng.choice(ZONES))
            here, mask = make.round_lesion(here, rng, side, where, radius_cm=radius * rng.uniform(0.9, 1.0))
            masks |= mask
        return here, masks, round(radius * 20), number
    draw = {"consolidation": make.consolidation, "opacity": make.opacity, "atelectasis": make.atelectasis}[concept]
    return *draw(here, rng, side, zone), None, 1


def _marked(pixels: Map, rng: np.random.Generator) -> Map:
    """The side marker, a collimated border, sometimes cables and buttons on the skin."""
    size = pixels.shape[0]
    ink = np.zeros((size, size), np.uint8)
    for _ in range(int(rng.integers(0, 5)) if rng.random() < 0.4 else 0):
        ends = (rng.uniform(0, 1, (3, 2)) * size).astype(np.int32)
        cv2.polylines(ink, [ends], False, (int(rng.integers(190, 255)),), max(1, size // 200), cv2.LINE_AA)
    letter, x = ("R", rng.uniform(0.04, 0.12)) if rng.random() < 0.5 else ("L", rng.uniform(0.86, 0.94))
    if rng.random() < 0.8:
        at = (int(x * size), int(rng.uniform(0.08, 0.25) * size))
        cv2.putText(ink, letter, at, cv2.FONT_HERSHEY_SIMPLEX, size / 420, (255,), max(1, size // 160), cv2.LINE_AA)
    marked = np.maximum(pixels, ink.astype(np.float32) / 255)
    if rng.random() < 0.35:
        top, bottom, left, right = (rng.uniform(0, 0.06, 4) * size).astype(int)
        marked[:top] = marked[size - bottom :] = 0
        marked[:, :left] = marked[:, size - right :] = 0
    return marked
