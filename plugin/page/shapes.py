"""Regions as SVG paths on the upright image."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from model.geometry import Letterbox, Orientation
from plugin.page.document import ImagePart
from plugin.page.pictures import LONGEST_SIDE_PX

# An outline may leave its true line by a quarter of a pixel of the image shown.
SIMPLIFIED_PX = 0.25

Outline = tuple[tuple[float, float], ...]


def letterbox_of_part(image: ImagePart) -> Letterbox:
    """The geometry of an image of ``evidence.json``."""
    turn = image.orientation
    return Letterbox(image.rows, image.columns, Orientation(turn.transpose, turn.reverse_rows, turn.reverse_columns))


def outline_on_upright(outline: Outline, letterbox: Letterbox) -> npt.NDArray[np.float64]:
    """*outline*, float64 (n, 2) as (x, y), in pixels of the upright image; (0, 0) is its top-left corner."""
    unit = letterbox.to_unit(np.asarray(outline, np.float64))
    return np.asarray(unit * letterbox.side - np.asarray(letterbox.padding, np.float64))


def path_of(outline: Outline, letterbox: Letterbox) -> tuple[str, float]:
    """SVG path data of *outline* on the upright image, simplified below what a screen shows, and its area in pixels."""
    points = outline_on_upright(outline, letterbox).astype(np.float32)
    tolerance = SIMPLIFIED_PX * max(1.0, letterbox.side / LONGEST_SIDE_PX)
    kept = cv2.approxPolyDP(points[:, None], tolerance, closed=True)[:, 0]
    drawn = kept if len(kept) >= 3 else points
    path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in drawn.tolist()) + "Z"
    return path, float(cv2.contourArea(points))
