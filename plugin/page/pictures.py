"""What is seen of the pixels: the upright image as JPEG, and the model's maps as one PNG for each image."""

from __future__ import annotations

import base64
import re

import cv2
import numpy as np

from plugin.values import Evidence, Radiograph

LONGEST_SIDE_PX = 1600
JPEG_QUALITY = 90
# Browsers draw no image that is taller than this.
MAX_MAPS_PX = 16_384


def jpeg_of(image: Radiograph) -> bytes:
    """The upright image as an 8-bit JPEG of at most LONGEST_SIDE_PX."""
    upright = np.ascontiguousarray(image.orientation.apply(image.pixels))
    scale = LONGEST_SIDE_PX / max(upright.shape)
    if scale < 1:
        rows, columns = (max(1, round(length * scale)) for length in upright.shape)
        upright = np.asarray(cv2.resize(upright, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)
    grey = np.rint(upright * 255).astype(np.uint8)
    _, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


def maps_of(evidence: Evidence, image: Radiograph) -> bytes | None:
    """The heatmaps on *image*, one below the other, as an 8-bit PNG: of every phrase with placements, in their order.

    255 is probability 1; a phrase without a map has a black one. None where there is no map, or too many to be drawn.
    """
    placed = [place for phrase in evidence.phrases for place in phrase.placements if place.image == image.ref]
    maps = [place.heatmap for place in placed]
    side = next((len(each.values) for each in maps if each is not None), 0)
    if not side or side * len(maps) > MAX_MAPS_PX:
        return None
    stacked = np.zeros((side * len(maps), side), np.uint8)
    for row, each in enumerate(maps):
        if each is not None:
            stacked[row * side : (row + 1) * side] = np.rint(each.values * 255)
    _, encoded = cv2.imencode(".png", stacked)
    return encoded.tobytes()


def data_uri(content: bytes, media_type: str) -> str:
    """*content* as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def pictures_in(page: bytes) -> tuple[bytes, ...]:
    """The images that a self-contained page holds, in its order: a result keeps each picture once, in its page."""
    found = re.findall(rb'href="data:image/jpeg;base64,([A-Za-z0-9+/=]+)"', page)
    return tuple(base64.b64decode(each) for each in found)
