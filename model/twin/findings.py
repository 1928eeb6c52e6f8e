"""Findings put into a chest: each changes what the beam meets, and leaves its exact mask."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from model.twin.anatomy import LEFT, RIGHT, Build, Chest, place, placed
from model.twin.canvas import Canvas, Map, Mask

SIDES = {"right": RIGHT, "left": LEFT}
ZONES = ("upper lobe", "mid lung", "lower lobe")


@dataclass(frozen=True, slots=True, eq=False)
class TwinFinding:
    """One finding that is really in the picture.

    Parameters
    ----------
    concept : the lexicon's preferred name.
    side : "left", "right", "bilateral" or None where none is said (heart, tube in the midline).
    sites : lexicon names of the place, most specific first; may be empty.
    mask : bool (size, size), what a reader would outline.
    severity : "small", "moderate", "large" or "".
    size_mm : greatest diameter of a nodule or mass, else None.
    count : how many there are ("multiple nodules").
    """

    concept: str
    side: str | None
    sites: tuple[str, ...]
    mask: Mask
    severity: str = ""
    size_mm: float | None = None
    count: int = 1


Effect = tuple[Chest, Mask]


def lung_of(chest: Chest, side: str) -> Mask:
    """The lung mask of a side."""
    return chest.lungs[0] if side == "right" else chest.lungs[1]


def _zone_point(chest: Chest, rng: np.random.Generator, side: str, zone: str) -> tuple[float, float]:
    """A point of the lung in the upper, middle or lower third, away from the border."""
    canvas, lung = chest.canvas, lung_of(chest, side)
    rows = np.flatnonzero(lung.any(axis=1))
    third = ZONES.index(zone)
    edges = rows[0] + (rows[-1] - rows[0]) * np.array([0.06, 0.36, 0.66, 0.97])
    inside = canvas.depth(lung) > 0.9
    inside[: int(edges[third])] = False
    inside[int(edges[third + 1]) :] = False
    candidates = np.argwhere(inside if inside.any() else lung)
    row, column = candidates[rng.integers(len(candidates))]
    return float(canvas.x[0, column]), float(canvas.y[row, 0])


def _filled(chest: Chest, weight: Map, *, vessels: float = 1.0) -> Chest:
    """Replace the share *weight* (0 to 1) of the air by tissue; vessels drown in it."""
    return replace(chest, air=chest.air * (1 - weight), vessels=chest.vessels * (1 - weight * vessels))


def _blob(chest: Chest, rng: np.random.Generator, centre: tuple[float, float], radii: tuple[float, float]) -> Map:
    """An irregular patch, 0 to 1, soft at its edge."""
    canvas = chest.canvas
    chord = canvas.ellipse(centre, radii, rng.uniform(-40, 40))
    return np.clip(chord * 1.5 + 0.28 * canvas.clouds(rng, 1.6) * (chord > 0) - 0.25, 0, 1).astype(np.float32)


def airspace(chest: Chest, rng: np.random.Generator, side: str, zone: str, *, dense: bool) -> Effect:
    """Consolidation (*dense*) or a hazy opacity."""
    centre = _zone_point(chest, rng, side, zone)
    radii = (rng.uniform(1.9, 4.2) * chest.build.scale, rng.uniform(1.8, 4.0) * chest.build.scale)
    patch = _blob(chest, rng, centre, radii) * lung_of(chest, side)
    patch = chest.canvas.blur(patch, 0.12 if dense else 0.4)
    strength = rng.uniform(0.55, 0.9) if dense else rng.uniform(0.3, 0.55)
    texture = np.clip(1 + 0.18 * chest.canvas.clouds(rng, 0.5), 0.3, 1.4)
    return _filled(chest, np.clip(patch * strength * texture, 0, 0.95)), (patch > 0.3) & lung_of(chest, side)


def consolidation(chest: Chest, rng: np.random.Generator, side: str, zone: str) -> Effect:
    """Dense filling of a part of the lung."""
    return airspace(chest, rng, side, zone, dense=True)


def opacity(chest: Chest, rng: np.random.Generator, side: str, zone: str) -> Effect:
    """Hazy filling of a part of the lung."""
    return airspace(chest, rng, side, zone, dense=False)


def round_lesion(chest: Chest, rng: np.random.Generator, side: str, zone: str, *, radius_cm: float) -> Effect:
    """A nodule or mass: a ball of tissue in the lung."""
    canvas = chest.canvas
    centre = _zone_point(chest, rng, side, zone)
    radii = (radius_cm, radius_cm * rng.uniform(0.8, 1.0))
    chord = canvas.ellipse(centre, radii, rng.uniform(0, 180))
    if radius_cm > 1.5:
        chord = chord * np.clip(1 + 0.15 * canvas.clouds(rng, 1.0), 0.5, 1.3)
    tissue = canvas.blur(chord.astype(np.float32), 0.05) * radius_cm * rng.uniform(2.2, 3.4)
    return replace(chest, air=np.clip(chest.air - tissue, 0, None)), (chord > 0.12) & lung_of(chest, side)


def effusion(chest: Chest, rng: np.random.Generator, side: str, depth_cm: float) -> Effect:
    """Fluid at the base with a meniscus that climbs towards the chest wall."""
    canvas, lung, sign = chest.canvas, lung_of(chest, side), SIDES[side]
    rows = np.flatnonzero(lung.any(axis=1))
    lowest = float(canvas.y[rows[-1], 0])
    columns = np.flatnonzero(lung[rows[len(rows) * 3 // 4] :].any(axis=0))
    inner, outer = float(canvas.x[0, columns[0]]), float(canvas.x[0, columns[-1]])
    across = (canvas.x - inner) / max(outer - inner, 1e-3)
    lateral = across if sign == LEFT else 1 - across
    level = lowest - depth_cm - depth_cm * 0.7 * np.clip(lateral, 0, 1) ** 2.5
    wet = np.clip((canvas.y - level) / (0.25 + 0.1 * depth_cm), 0, 1) * lung
    weight = canvas.blur(wet.astype(np.float32), 0.15) * rng.uniform(0.8, 0.97)
    return _filled(chest, np.clip(weight, 0, 1)), (wet > 0.35) & lung


def pneumothorax(chest: Chest, rng: np.random.Generator, side: str, gap_cm: float) -> Effect:
    """Air between chest wall and lung: no vessels out there, and the thin line of the pleura."""
    canvas, lung, sign = chest.canvas, lung_of(chest, side), SIDES[side]
    rows = np.flatnonzero(lung.any(axis=1))
    top, height = float(canvas.y[rows[0], 0]), max(float(canvas.y[rows[-1], 0] - canvas.y[rows[0], 0]), 1.0)
    down = np.clip((canvas.y - top) / height, 0, 1)
    retreat = gap_cm * np.clip(1.25 - down * rng.uniform(0.9, 1.3), 0.08, None)
    reach = np.broadcast_to(canvas.x * sign, lung.shape)
    wall = np.where(lung, reach, -99).max(axis=1, keepdims=True)
    outer = np.clip((reach - (wall - retreat)) / 0.12, 0, 1)
    cap = np.clip((top + gap_cm * 0.8 - canvas.y) / 0.12, 0, 1)
    free = np.maximum(outer, cap) * lung
    inside = lung & (free < 0.5)
    line = (
        np.exp(-((canvas.depth(inside) - 0.06) ** 2) / 0.004)
        * inside
        * (canvas.blur(free.astype(np.float32), 0.3) > 0.02)
    )
    air = chest.air * (1 + 0.22 * free) * (1 - 0.18 * inside) - 0.55 * line
    return replace(chest, air=np.clip(air, 0, None).astype(np.float32), vessels=chest.vessels * (1 - free)), (
        free > 0.5
    ) & lung


def atelectasis(chest: Chest, rng: np.random.Generator, side: str, zone: str) -> Effect:
    """Plates of collapsed lung, mostly horizontal."""
    canvas = chest.canvas
    centre = _zone_point(chest, rng, side, zone)
    band = np.zeros((canvas.size, canvas.size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        length, slope = rng.uniform(2.0, 4.5), rng.normal(0, 0.25)
        x, y = centre[0] + rng.normal(0, 0.5), centre[1] + rng.normal(0, 0.9)
        ends = [(x - length / 2, y - slope), (x, y + rng.normal(0, 0.15)), (x + length / 2, y + slope)]
        band = np.maximum(band, canvas.tube(ends, rng.uniform(0.3, 0.9)))
    band = canvas.blur(band, 0.08) * lung_of(chest, side)
    weight = band * rng.uniform(0.45, 0.8)
    return _filled(chest, weight), (canvas.blur(band, 0.15) > 0.18) & lung_of(chest, side)


def edema(chest: Chest, rng: np.random.Generator) -> Effect:
    """Perihilar haze of both lungs and thick vessels."""
    canvas, lungs = chest.canvas, chest.lungs[0] | chest.lungs[1]
    haze = np.zeros((canvas.size, canvas.size), np.float32)
    for side in ("right hilum", "left hilum"):
        radii = (rng.uniform(5, 7) * chest.build.scale, rng.uniform(6.5, 9) * chest.build.scale)
        haze = np.maximum(haze, canvas.ellipse(chest.landmarks[side], radii))
    haze = canvas.blur(haze * np.clip(1 + 0.3 * canvas.clouds(rng, 1.1), 0, 1.6) * lungs, 0.4)
    hazy = _filled(chest, np.clip(haze * rng.uniform(0.4, 0.65), 0, 0.9), vessels=0.0)
    wet = replace(hazy, vessels=hazy.vessels * rng.uniform(1.3, 1.7))
    return wet, (haze > 0.45) & lungs


def pacemaker(chest: Chest, rng: np.random.Generator, side: str) -> tuple[Map, Mask]:
    """The can below the clavicle and its leads to the heart: (metal in centimetres, mask of can and leads)."""
    canvas, patient, sign = chest.canvas, chest.build, SIDES[side]
    x, y = sign * rng.uniform(8.3, 10.2), patient.lung_top + rng.uniform(4.2, 6.2)
    can = canvas.ellipse(place(patient, x, y), (2.2, 1.9), rng.uniform(-30, 30)) > 0
    vein = (-1.9, patient.lung_top + 7.5)
    tip = (rng.uniform(1.5, 4.0), patient.diaphragm_left - rng.uniform(1.2, 2.5))
    path = [(x, y - 1.5), (sign * 5.5, patient.lung_top + 2.4), (-1.0, patient.lung_top + 3.8), vein, (-2.2, 2.5), tip]
    lead = canvas.tube(_curve(patient, path), 0.2)
    metal = can * 0.45 + lead * 0.12
    return metal.astype(np.float32), can | _band(canvas, lead)


def central_line(chest: Chest, rng: np.random.Generator, side: str) -> tuple[Map, Mask]:
    """A catheter from the neck or below the clavicle to the superior vena cava."""
    patient, sign = chest.build, SIDES[side]
    top = patient.lung_top
    entry = (sign * rng.uniform(2.8, 3.6), top - 5.0) if rng.random() < 0.6 else (sign * 9.0, top + 3.0)
    middle = (sign * rng.uniform(2.2, 3.0), top + 1.5)
    path = [entry, middle, (-1.7, top + 5.5), (-2.0 + rng.normal(0, 0.2), top + rng.uniform(9.0, 12.0))]
    return _catheter(chest, path, 0.22, 0.08)


def tracheal_tube(chest: Chest, rng: np.random.Generator) -> tuple[Map, Mask]:
    """An endotracheal tube that ends above the carina, with the line that makes it visible."""
    patient = chest.build
    tip = (patient.rotation * 0.8, patient.lung_top + rng.uniform(3.5, 6.8))
    path = [(patient.rotation * 0.2, -22.0), (patient.rotation * 0.4, -15.5), tip]
    metal, mask = _catheter(chest, path, 0.75, 0.035)
    line, _ = _catheter(chest, [(x + 0.25, y) for x, y in path], 0.18, 0.1)
    return metal + line, mask


def _catheter(chest: Chest, path: list[tuple[float, float]], width: float, metal_cm: float) -> tuple[Map, Mask]:
    canvas = chest.canvas
    tube = canvas.tube(_curve(chest.build, path), width)
    return (tube * metal_cm).astype(np.float32), _band(canvas, tube)


def _band(canvas: Canvas, tube: Map) -> Mask:
    """A thin tube with about 4 mm on either side: a highlight as thin as a catheter is not seen."""
    return np.asarray(canvas.blur(tube, 0.3) > 0.04)


def _curve(patient: Build, points: list[tuple[float, float]]) -> npt.NDArray[np.float64]:
    """An open smooth curve through body points, in detector centimetres."""
    p = np.asarray([points[0], *points, points[-1]], np.float64)
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    pieces = []
    for a, b, c, d in zip(p, p[1:], p[2:], p[3:], strict=False):
        pieces.append(0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3))
    return placed(patient, np.concatenate([*pieces, p[-1:]]))


def shown(canvas: Canvas, mask: Mask) -> bool:
    """Whether enough of a finding lies on the detector to be called visible."""
    return float(mask.sum()) / canvas.per_cm**2 > 0.15
