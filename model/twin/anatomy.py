"""A chest: its measures drawn at random, and what they put into the beam."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.twin.canvas import Canvas, Map, Mask

RIGHT, LEFT = -1, 1  # the patient's right is on the viewer's left


@dataclass(frozen=True, slots=True)
class Build:
    """The measures of one patient and pose, in centimetres unless named otherwise.

    Parameters
    ----------
    supine : AP on a stretcher: larger heart, higher diaphragm, scapulae over the lungs.
    rotation : of the patient about the long axis, -1 to 1; moves the mediastinum and evens one lung out.
    """

    supine: bool
    centre: tuple[float, float]
    scale: float
    chest_width: float
    lung_top: float
    diaphragm_right: float
    diaphragm_left: float
    thickness: float
    heart: float
    rotation: float
    tilt_degrees: float
    breast: float
    vessels: float
    seed: int


def build(rng: np.random.Generator) -> Build:
    """One patient and pose."""
    supine = bool(rng.random() < 0.45)
    base = rng.uniform(5.5, 10.0) - (1.5 if supine else 0.0)
    return Build(
        supine=supine,
        centre=(rng.normal(0, 0.8), rng.normal(0.3, 0.9)),
        scale=rng.uniform(0.86, 1.13),
        chest_width=rng.uniform(12.2, 14.4),
        lung_top=rng.uniform(-14.6, -12.4),
        diaphragm_right=base,
        diaphragm_left=base + rng.uniform(0.3, 1.8),
        thickness=rng.uniform(17, 27),
        heart=rng.uniform(0.85, 1.02) * (1.1 if supine else 1.0),
        rotation=float(np.clip(rng.normal(0, 0.35), -1, 1)),
        tilt_degrees=rng.normal(0, 2.5),
        breast=rng.uniform(0, 1) if rng.random() < 0.5 else 0.0,
        vessels=rng.uniform(0.7, 1.3),
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Chest:
    """What a beam meets: float32 (size, size) maps of thickness in centimetres, and the truth masks.

    Parameters
    ----------
    soft : soft tissue without what the lungs displace.
    air : air in the lungs, as thickness of displaced tissue.
    bone : mineralised bone.
    vessels : blood vessels within the lungs.
    lungs : (right, left) lung masks, without the heart's shadow.
    landmarks : named points (x, y) in centimetres.
    """

    canvas: Canvas
    build: Build
    soft: Map
    air: Map
    bone: Map
    vessels: Map
    lungs: tuple[Mask, Mask]
    heart: Mask
    landmarks: dict[str, tuple[float, float]]


def chest(canvas: Canvas, patient: Build, *, heart_scale: float = 1.0) -> Chest:
    """The chest of *patient*; *heart_scale* over about 1.3 is cardiomegaly."""
    rng = np.random.default_rng(patient.seed)
    heart_map, heart_thickness = _heart(canvas, patient, heart_scale)
    outlines = tuple(_lung_outline(patient, side) for side in (RIGHT, LEFT))
    full = tuple(canvas.polygon(placed(patient, outline)) for outline in outlines)
    middle = _mediastinum(canvas, patient, rng)
    heart_mask = heart_map > 0.12
    opaque = heart_mask | (middle > 0.6)
    lungs = (full[0] & ~opaque, full[1] & ~opaque)
    air = sum((_air(canvas, patient, mask) for mask in full), np.zeros((canvas.size, canvas.size), np.float32))
    air = air * (1 - 0.62 * np.clip(heart_map * 1.5, 0, 1)) * (1 - 0.8 * np.clip(middle, 0, 1))
    soft = _body(canvas, patient) + heart_thickness * 0.22 + 1.6 * middle
    soft = soft + _abdomen(canvas, patient, full, rng) - _airways(canvas, patient)
    return Chest(
        canvas=canvas,
        build=patient,
        soft=np.clip(soft, 0, None).astype(np.float32),
        air=air.astype(np.float32),
        bone=_bones(canvas, patient, rng),
        vessels=_vessels(canvas, patient, rng, lungs),
        lungs=lungs,
        heart=heart_mask,
        landmarks=_landmarks(patient),
    )


def placed(patient: Build, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Body coordinates as detector coordinates: scaled, tilted, moved."""
    turn = np.deg2rad(patient.tilt_degrees)
    matrix = patient.scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(np.asarray(points, np.float64) @ matrix.T + np.asarray(patient.centre))


def place(patient: Build, x: float, y: float) -> tuple[float, float]:
    """One body point as a detector point."""
    moved = placed(patient, [(x, y)])[0]
    return float(moved[0]), float(moved[1])


def _landmarks(patient: Build) -> dict[str, tuple[float, float]]:
    w, top = patient.chest_width, patient.lung_top
    base = {RIGHT: patient.diaphragm_right, LEFT: patient.diaphragm_left}
    points = {"carina": (patient.rotation, top + 9.0), "superior vena cava": (-1.8 + patient.rotation, top + 10.5)}
    for side, name in ((RIGHT, "right"), (LEFT, "left")):
        points |= {
            f"{name} hilum": (side * 4.0 + patient.rotation, top + 10.5),
            f"{name} apex": (side * 4.6, top + 1.2),
            f"{name} base": (side * w * 0.55, base[side] - 1.0),
            f"{name} angle": (side * w * 0.93, base[side] + 2.2),
        }
    return {name: place(patient, *point) for name, point in points.items()}


def _smooth(points: list[tuple[float, float]], count: int = 90) -> npt.NDArray[np.float64]:
    """A closed smooth curve through *points* (periodic Catmull-Rom)."""
    p = np.asarray(points, np.float64)
    t = np.linspace(0, len(p), count, endpoint=False)
    i, f = t.astype(int), (t - t.astype(int))[:, None]
    a, b, c, d = (p[(i + k) % len(p)] for k in (-1, 0, 1, 2))
    curve = 2 * b + (c - a) * f + (2 * a - 5 * b + 4 * c - d) * f**2 + (3 * b - a - 3 * c + d) * f**3
    return np.asarray(curve / 2)


def _lung_outline(patient: Build, side: int) -> npt.NDArray[np.float64]:
    w, top, shift = patient.chest_width, patient.lung_top, patient.rotation
    base = patient.diaphragm_right if side == RIGHT else patient.diaphragm_left
    inner = 2.4
    points = [
        (side * 4.4, top),
        (side * 7.2, top + 1.3),
        (side * w * 0.80, top + 5.0),
        (side * w * 0.94, top + 10.0),
        (side * w, base - 3.5),
        (side * w * 0.99, base + 1.2),
        (side * w * 0.93, base + 2.6),
        (side * w * 0.80, base + 0.9),
        (side * w * 0.55, base - 0.6),
        (side * 4.4, base - 0.2),
        (side * inner + shift, base + 0.4),
        (side * inner + shift, top + 12.0),
        (side * inner + shift, top + 6.0),
        (side * 2.6 + shift * 0.5, top + 2.0),
    ]
    return _smooth(points)


def _air(canvas: Canvas, patient: Build, lung: Mask) -> Map:
    depth = canvas.depth(lung) / patient.scale
    return np.asarray(patient.thickness * 0.62 * np.sqrt(1 - (1 - np.clip(depth / 4.2, 0, 1)) ** 2), np.float32)


def _body(canvas: Canvas, patient: Build) -> Map:
    """Trunk, neck and shoulders as one flattened solid."""
    w = patient.chest_width + 2.4
    right = [(-3.6, -21), (-3.9, -17.2), (-8, -15.6), (-14, -14.0), (-21, -11.5), (-24, -4), (-19.5, -2), (-w - 0.6, 1)]
    left = [(-x, y) for x, y in reversed(right)]
    outline = [*right, (-w, 8), (-w - 0.4, 22), (w + 0.4, 22), (w, 8), *left]
    depth = canvas.depth(canvas.polygon(placed(patient, _smooth(outline, 160)))) / patient.scale
    trunk = patient.thickness * np.sqrt(1 - (1 - np.clip(depth / 8.5, 0, 1)) ** 2)
    for side in (RIGHT, LEFT):
        centre = place(patient, side * 7.3, patient.lung_top + 16.5)
        radius = 5.5 * patient.scale
        trunk = trunk + 5.0 * patient.breast * canvas.ellipse(centre, (radius, radius * 0.85))
    return np.asarray(canvas.blur(trunk.astype(np.float32), 0.25), np.float32)


def _heart(canvas: Canvas, patient: Build, scale: float) -> tuple[Map, Map]:
    size = patient.heart * scale * patient.scale
    base = (patient.diaphragm_right + patient.diaphragm_left) / 2
    centre = place(patient, 1.6 * scale**0.7 + patient.rotation * 1.4, base - 3.6 * patient.heart)
    main = canvas.ellipse(centre, (5.7 * size, 4.6 * size * 0.97), degrees=28)
    atrium = canvas.ellipse(place(patient, -1.5 + patient.rotation, base - 4.2), (3.2 * size, 4.2 * size))
    relative = np.maximum(main, atrium * 0.85)
    return canvas.blur(relative, 0.12), np.asarray(relative * 9.5 * size, np.float32)


def _mediastinum(canvas: Canvas, patient: Build, rng: np.random.Generator) -> Map:
    top, shift = patient.lung_top, patient.rotation
    wide = rng.uniform(0.9, 1.15) * (1.12 if patient.supine else 1.0)
    outline = [
        (-3.0 * wide, top - 4),
        (-2.6 * wide + shift * 0.4, top + 2),
        (-2.7 * wide + shift, top + 8),
        (-3.0 * wide + shift, top + 12),
        (-2.4 + shift, top + 22),
        (2.2 + shift, top + 22),
        (3.1 * wide + shift, top + 12),
        (3.0 * wide + shift, top + 9.4),
        (3.5 * wide + shift, top + 6.6),
        (2.6 * wide + shift * 0.6, top + 3.5),
        (2.8 * wide, top - 4),
    ]
    mask = canvas.polygon(placed(patient, _smooth(outline, 120)))
    knob = canvas.ellipse(place(patient, 2.4 * wide + shift, top + 6.6), (1.9 * patient.scale, 1.8 * patient.scale))
    return canvas.blur(np.maximum(mask.astype(np.float32), knob), 0.18)


def _abdomen(canvas: Canvas, patient: Build, lungs: tuple[Mask, ...], rng: np.random.Generator) -> Map:
    """Liver and spleen behind and below the domes, and the gas of the stomach."""
    solid = np.zeros((canvas.size, canvas.size), np.float32)
    for side, base, dense in ((RIGHT, patient.diaphragm_right, 2.4), (LEFT, patient.diaphragm_left, 1.7)):
        centre = place(patient, side * patient.chest_width * 0.5, base + 9.5)
        radii = (patient.chest_width * 0.55 * patient.scale, 10.4 * patient.scale)
        solid = solid + dense * canvas.ellipse(centre, radii)
    solid = solid * ~(lungs[0] | lungs[1])
    if rng.random() < 0.7:
        centre = place(patient, rng.uniform(4.5, 7.5), patient.diaphragm_left + rng.uniform(2.2, 3.6))
        solid = solid - 6 * canvas.ellipse(centre, (rng.uniform(1.5, 3.2), rng.uniform(0.9, 1.8)), rng.uniform(-20, 20))
    return canvas.blur(solid, 0.15)


def _airways(canvas: Canvas, patient: Build) -> Map:
    top, shift = patient.lung_top, patient.rotation
    carina = (shift, top + 9.0)
    trachea = [(shift * 0.3, top - 8), (shift * 0.5, top), carina]
    air = 2.0 * canvas.tube(placed(patient, trachea), 1.8 * patient.scale)
    for side, reach, drop in ((RIGHT, 3.0, 2.2), (LEFT, 4.2, 2.5)):
        bronchus = [carina, (shift + side * reach, carina[1] + drop)]
        air = np.maximum(air, 1.4 * canvas.tube(placed(patient, bronchus), 1.2 * patient.scale))
    return canvas.blur(air.astype(np.float32), 0.1)


def _bones(canvas: Canvas, patient: Build, rng: np.random.Generator) -> Map:
    bone = np.zeros((canvas.size, canvas.size), np.float32)
    bone += _spine(canvas, patient, rng)
    for line, width, dense in (*_ribs(patient, rng), *_shoulders(patient, rng)):
        bone += _hollow(canvas, placed(patient, line), width * patient.scale) * dense
    for side in (RIGHT, LEFT):
        inward = 2.2 if patient.supine else 0.0
        blade = [(14.5, -13), (11.2 - inward, -11.5), (11.5 - inward, -4.5), (12.8 - inward, -2.5), (15.5, -9)]
        mask = canvas.polygon(placed(patient, _smooth([(side * x, y) for x, y in blade], 60)))
        bone += 0.45 * canvas.blur(mask.astype(np.float32), 0.12)
    return np.asarray(canvas.blur(bone, 0.05), np.float32)


def _hollow(canvas: Canvas, line: npt.NDArray[np.float64], width: float) -> Map:
    """A bone: dense at its edges, where the beam runs along the cortex."""
    plane = np.zeros((canvas.size, canvas.size), np.uint8)
    canvas.line(line, width, plane=plane)
    canvas.line(line, width * 0.62, plane=plane, value=175)
    return plane.astype(np.float32) / 255


def _spine(canvas: Canvas, patient: Build, rng: np.random.Generator) -> Map:
    column = np.zeros((canvas.size, canvas.size), np.float32)
    bend = rng.normal(0, 0.5)
    for number, y in enumerate(np.arange(-20, 21, 2.35)):
        half = 1.45 + 0.025 * number
        x = bend * np.sin(number / 5)
        corners = [(x - half, y), (x + half, y), (x + half, y + 1.9), (x - half, y + 1.9)]
        column += canvas.polygon(placed(patient, corners)) * 1.0
    return canvas.blur(column, 0.14)


def _ribs(patient: Build, rng: np.random.Generator) -> list[tuple[npt.NDArray[np.float64], float, float]]:
    ribs = []
    w, top = patient.chest_width, patient.lung_top
    gap, slope = rng.uniform(2.25, 2.7), rng.uniform(0.8, 1.5)
    for side in (RIGHT, LEFT):
        for number in range(10):
            y = top - 0.6 + gap * number
            reach = min(w * 1.03, 5.6 + 2.9 * number) if number < 3 else w * 1.03
            t = np.linspace(0, 1, 18)
            x = side * (1.2 + (reach - 1.2) * np.sin(t * np.pi / 2))
            line = np.stack([x, y - 0.9 * np.sin(t * np.pi) + (0.6 + 0.28 * number) * slope * t**2.2], axis=1)
            ribs.append((line, rng.uniform(0.7, 0.95), rng.uniform(0.5, 0.85)))
            if number < 7:
                end = line[-1]
                inner = (side * rng.uniform(5.2, 6.6), end[1] + 3.1 + 0.45 * number)
                x = end[0] + (inner[0] - end[0]) * t
                front = np.stack([x, end[1] + (inner[1] - end[1]) * t**0.75], axis=1)
                ribs.append((front, rng.uniform(0.85, 1.1), rng.uniform(0.25, 0.5)))
    return ribs


def _shoulders(patient: Build, rng: np.random.Generator) -> list[tuple[npt.NDArray[np.float64], float, float]]:
    top, lift = patient.lung_top, rng.uniform(-0.8, 1.2)
    bones = []
    for side in (RIGHT, LEFT):
        t = np.linspace(0, 1, 16)
        x = side * (1.8 + 13.0 * t) + patient.rotation
        clavicle = np.stack([x, top + 3.2 - lift - 2.4 * t + 0.7 * np.sin(t * 2 * np.pi)], axis=1)
        bones.append((clavicle, 1.15, 1.1))
        humerus = np.array([(side * 17.4, top + 1.5), (side * 19.5, top + 8.0), (side * 20.5, top + 14.0)])
        bones.append((humerus, 2.6, 1.6))
    return bones


def _vessels(canvas: Canvas, patient: Build, rng: np.random.Generator, lungs: tuple[Mask, Mask]) -> Map:
    """Arteries and veins that branch from the hila and taper towards the pleura."""
    plane = np.zeros((canvas.size, canvas.size), np.float32)
    for side, lung in zip((RIGHT, LEFT), lungs, strict=True):
        layer = np.zeros((canvas.size, canvas.size), np.uint8)
        start = (side * 3.3 + patient.rotation, patient.lung_top + 10.6)
        for degrees in np.linspace(-78, 82, 13) + rng.normal(0, 6, 13):
            trunk = 0.62 if degrees > 20 else 0.45
            for line, width in _branches(rng, start, (side, float(np.deg2rad(degrees))), width=trunk, depth=3):
                canvas.line(
                    placed(patient, line), width * patient.scale, plane=layer, value=round(255 * min(1, width * 1.7))
                )
        plane += layer.astype(np.float32) / 255 * lung
        hilum = canvas.ellipse(place(patient, *start), (1.5 * patient.scale, 2.3 * patient.scale), side * 15)
        plane += 1.3 * hilum
    return np.asarray(canvas.blur(plane, 0.06) * 2.0 * patient.vessels, np.float32)


Branch = tuple[list[tuple[float, float]], float]


def _branches(
    rng: np.random.Generator, start: tuple[float, float], heading: tuple[int, float], *, width: float, depth: int
) -> list[Branch]:
    """A vessel and what grows from its end: (vertices, width) in body centimetres."""
    side, angle = heading
    length = rng.uniform(2.4, 4.0) * (0.75 + 0.12 * depth) / 2
    bend = angle + rng.normal(0, 0.18)
    middle = (start[0] + side * math.cos(angle) * length, start[1] + math.sin(angle) * length)
    end = (middle[0] + side * math.cos(bend) * length, middle[1] + math.sin(bend) * length)
    grown: list[Branch] = [([start, middle, end], width)]
    if depth:
        for turn in (rng.uniform(0.15, 0.55), -rng.uniform(0.15, 0.55)):
            thinner = width * rng.uniform(0.58, 0.74)
            grown += _branches(rng, end, (side, bend + turn), width=thinner, depth=depth - 1)
    return grown
