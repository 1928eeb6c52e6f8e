"""Drawing in centimetres on a square detector. x runs to the viewer's right (the patient's left), y runs down."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

FIELD_CM = 36.0  # side of the detector; the origin is its centre
_SHIFT = 4  # fixed-point bits of cv2's sub-pixel drawing


@dataclass(frozen=True, slots=True)
class Canvas:
    """A detector of *size* x *size* pixels.

    Attributes
    ----------
    x, y : float32, shapes (1, size) and (size, 1); centres of the pixels in centimetres.
    """

    size: int
    x: Map = field(init=False, repr=False, compare=False)
    y: Map = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        centres = ((np.arange(self.size) + 0.5) / self.size - 0.5) * FIELD_CM
        object.__setattr__(self, "x", centres[None, :].astype(np.float32))
        object.__setattr__(self, "y", centres[:, None].astype(np.float32))

    @property
    def per_cm(self) -> float:
        """Pixels per centimetre."""
        return self.size / FIELD_CM

    def polygon(self, points: npt.ArrayLike) -> Mask:
        """Pixels inside the polygon of (x, y) vertices in centimetres."""
        plane = np.zeros((self.size, self.size), np.uint8)
        cv2.fillPoly(plane, [self._fixed(points)], (1,), shift=_SHIFT)
        return plane.astype(bool)

    def line(self, points: npt.ArrayLike, width_cm: float, *, plane: npt.NDArray[np.uint8], value: int = 255) -> None:
        """Draw a polyline of (x, y) vertices into *plane*; thinner than a pixel it grows fainter instead."""
        width = width_cm * self.per_cm
        shade = value if width >= 1 else round(value * width)
        cv2.polylines(plane, [self._fixed(points)], False, (shade,), max(1, round(width)), cv2.LINE_AA, _SHIFT)

    def tube(self, points: npt.ArrayLike, width_cm: float) -> Map:
        """Relative thickness in [0, 1] of a tube along (x, y) vertices, round in section."""
        plane = np.zeros((self.size, self.size), np.uint8)
        for part in (1.0, 0.8, 0.55, 0.3):
            self.line(points, width_cm * part, plane=plane, value=round(255 * np.sqrt(1 - (part * 0.95) ** 2)))
        return np.asarray(plane, np.float32) / np.float32(255)

    def ellipse(self, centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0) -> Map:
        """Relative chord length in [0, 1] through an ellipsoid."""
        turn = np.deg2rad(degrees)
        dx, dy = self.x - centre[0], self.y - centre[1]
        u = (dx * np.cos(turn) + dy * np.sin(turn)) / radii[0]
        v = (dy * np.cos(turn) - dx * np.sin(turn)) / radii[1]
        return np.asarray(np.sqrt(np.clip(1 - u * u - v * v, 0, None)), np.float32)

    def blur(self, plane: Map, sigma_cm: float) -> Map:
        """Gaussian blur."""
        sigma = sigma_cm * self.per_cm
        return plane if sigma < 0.3 else np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma), np.float32)

    def depth(self, mask: Mask) -> Map:
        """Distance of each pixel of *mask* from its border, in centimetres."""
        return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5) / self.per_cm, np.float32)

    def clouds(self, rng: np.random.Generator, grain_cm: float) -> Map:
        """Smooth noise of mean 0 and deviation about 1, in blobs of *grain_cm*; the same at any size."""
        cells = max(4, round(FIELD_CM / grain_cm))
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        return np.asarray(cv2.resize(coarse, (self.size, self.size), interpolation=cv2.INTER_CUBIC), np.float32)

    def _fixed(self, points: npt.ArrayLike) -> npt.NDArray[np.int32]:
        pixels = (np.asarray(points, np.float64) / FIELD_CM + 0.5) * self.size - 0.5
        return np.asarray(np.round(pixels * (1 << _SHIFT)), np.int32)
