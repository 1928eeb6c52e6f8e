"""Pictures for telling views apart: frontal chests, lateral chests, and what is no chest at all."""

from __future__ import annotations

import numpy as np

from model.twin.anatomy import build
from model.twin.canvas import Canvas, Map
from model.twin.projection import exposure, picture_of
from model.twin.sample import sample


def view_sample(seed: int, *, size: int) -> tuple[Map, str]:
    """A picture, float32 (size, size) in [0, 1], and its view: "frontal", "lateral" or "other"."""
    rng = np.random.Generator(np.random.PCG64([seed, 1]))
    kind = int(rng.integers(5))
    if kind == 0:
        return sample(seed, size=size).pixels, "frontal"
    return _other(kind, rng, size=size)


def other_sample(seed: int, *, size: int) -> Map:
    """A picture of what is no frontal chest, float32 (size, size) in [0, 1]."""
    rng = np.random.Generator(np.random.PCG64([seed, 2]))
    return _other(int(rng.integers(1, 5)), rng, size=size)[0]


def _other(kind: int, rng: np.random.Generator, *, size: int) -> tuple[Map, str]:
    canvas = Canvas(size)
    if kind in (1, 2):
        return lateral(canvas, rng), "lateral"
    return (hand(canvas, rng), "other") if kind == 3 else (abdomen(canvas, rng), "other")


def lateral(canvas: Canvas, rng: np.random.Generator) -> Map:
    """A chest from the side: both lungs over each other, spine behind, heart in front."""
    front = 1 if rng.random() < 0.5 else -1
    scale, top = build(rng).scale, rng.uniform(-13, -10)
    base = top + rng.uniform(19, 24)
    body = canvas.ellipse((0, 2), (rng.uniform(12, 14.5) * scale, 26)) * rng.uniform(28, 36)
    mid = (top + base) / 2
    lungs = canvas.ellipse((0, mid), (rng.uniform(8.5, 10.5) * scale, (base - top) / 2), rng.normal(0, 4))
    dome = canvas.ellipse((front * 1.5, base + 3.0), (10 * scale, 6.5))
    air = np.clip(lungs * 17 * (1 - np.clip(dome * 3, 0, 1)), 0, None)
    heart = canvas.ellipse((front * 4.2 * scale, base - 5.5), (4.4 * scale, 5.2 * scale), front * 25)
    hilum = canvas.ellipse((0, mid - 1), (1.6, 2.0))
    bone = np.zeros_like(body)
    for y in np.arange(-18, 18, 2.4):
        bend = -front * (8.3 + 1.1 * np.sin((y + 6) / 7)) * scale
        corners = [(bend - 1.4, y), (bend + 1.4, y), (bend + 1.4, y + 1.9), (bend - 1.4, y + 1.9)]
        bone += canvas.polygon(corners) * 1.3
    for y in np.arange(top, base + 4, 2.5):
        x = np.linspace(-9, 9, 12) * scale
        bone += canvas.tube(np.stack([x, y + 4.0 * (x * front + 9) / 18 + rng.normal(0, 0.2)], axis=1), 0.8) * 0.3
    soft = body + heart * 5 + hilum * 2 + dome * 6
    return picture_of(canvas, np.clip(soft - air, 0.3, None), bone, exposure(rng), rng=rng)


def hand(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Rays of long bones in thin flesh."""
    soft, bone = np.zeros((canvas.size, canvas.size), np.float32), np.zeros((canvas.size, canvas.size), np.float32)
    wrist = np.array([rng.normal(0, 2), rng.uniform(6, 11)])
    for degrees in np.linspace(-38, 34, 5) + rng.normal(0, 3):
        heading = np.array([np.sin(np.deg2rad(degrees)), -np.cos(np.deg2rad(degrees))])
        start = wrist + heading * 2
        soft = np.maximum(soft, canvas.tube([start, start + heading * rng.uniform(17, 20)], rng.uniform(2.6, 3.4)) * 2)
        for length in (6.2, 4.6, 3.1, 2.2):
            end = start + heading * length * rng.uniform(0.95, 1.1)
            bone += canvas.tube([start, end], rng.uniform(0.8, 1.3)) * 1.4
            start = end + heading * 0.3
    soft = np.maximum(soft, canvas.ellipse((wrist[0], wrist[1] - 5), (5.5, 6.5)) * 3)
    return picture_of(canvas, soft + 0.05, bone, exposure(rng), rng=rng)


def abdomen(canvas: Canvas, rng: np.random.Generator) -> Map:
    """Soft tissue, spine, pelvis and bowel gas; no lung."""
    body = canvas.ellipse((0, 0), (rng.uniform(15, 19), 40)) * rng.uniform(20, 28)
    gas, bone = np.zeros_like(body), np.zeros_like(body)
    for _ in range(int(rng.integers(2, 12))):
        centre = (rng.uniform(-11, 11), rng.uniform(-13, 13))
        gas += canvas.ellipse(centre, (rng.uniform(0.8, 3.5), rng.uniform(0.6, 1.8)), rng.uniform(0, 180)) * 3
    for y in np.arange(-18, 12, 3.0):
        bone += canvas.polygon([(-2, y), (2, y), (2, y + 2.5), (-2, y + 2.5)]) * 1.2
    for side in (-1, 1):
        bone += canvas.ellipse((side * 8.5, 13), (5.5, 6), side * 30) * 1.0
    tissue = np.clip(body + canvas.clouds(rng, 3.0) * 0.8 - gas, 0.3, None)
    return picture_of(canvas, tissue.astype(np.float32), bone, exposure(rng), rng=rng)
