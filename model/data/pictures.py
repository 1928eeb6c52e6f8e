"""Stored images and boxes as arrays: the one place that decodes and rasterises for every data set."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from model.data.sample import Box, Pixels

Mask = npt.NDArray[np.bool_]
_ENDS = ((b"\xff\xd8\xff", b"\xff\xd9"), (b"\x89PNG", b"IEND"))  # OpenCV fills up what is cut off, and says nothing
_DEEP = (0.1, 99.9)  # percentiles that become 0 and 1 where a file has more than 8 bits and seldom uses all of them


def decode(content: bytes) -> Pixels:
    """A PNG, JPEG or TIFF as grey values.

    Returns
    -------
    float32 (rows, columns) in [0, 1]: 8-bit values over 255; deeper ones between their 0.1 and 99.9 percentiles.
    Colour becomes grey, an alpha channel is left out, and a turn in the file's EXIF data is not applied.

    Raises
    ------
    ValueError
        If *content* is not a whole image.
    """
    stored = _stored(content)
    if stored.ndim == 3:
        stored = np.asarray(cv2.cvtColor(stored[..., :3], cv2.COLOR_BGR2GRAY))
    if stored.dtype == np.uint8:
        return stored.astype(np.float32) / 255
    return stretched(stored.astype(np.float32), *_DEEP)


def decode_mask(content: bytes) -> Mask:
    """An 8-bit image as bool (rows, columns), True where any channel but alpha is not 0.

    Raises
    ------
    ValueError
        If *content* is not a whole image.
    """
    stored = _stored(content)
    return np.asarray(stored != 0 if stored.ndim == 2 else stored[..., :3].any(axis=2))


def stretched(pixels: Pixels, low: float, high: float) -> Pixels:
    """*pixels* with their percentiles *low* and *high* at 0 and 1, cut there; zeros where those are equal."""
    first, last = np.percentile(pixels, (low, high))
    if not last > first:
        return np.zeros(pixels.shape, np.float32)
    return np.asarray(np.clip((pixels - first) / (last - first), 0, 1), np.float32)


def shape_of(content: bytes) -> tuple[int, int]:
    """(rows, columns), from the header alone.

    Raises
    ------
    ValueError
        If *content* is not an image.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            return image.height, image.width
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError("the file is not an image") from error


def boxes_mask(boxes: Iterable[Box], shape: tuple[int, int]) -> Mask:
    """Union of *boxes* as bool (rows, columns); edges go to the nearest pixel border, and what is outside is cut."""
    mask = np.zeros(shape, np.bool_)
    for box in boxes:
        top, left = max(0, round(box.y)), max(0, round(box.x))
        mask[top : max(0, round(box.y + box.height)), left : max(0, round(box.x + box.width))] = True
    return mask


def _stored(content: bytes) -> npt.NDArray[np.integer[Any]]:
    if not content:
        raise ValueError("the file is empty")
    if any(content.startswith(start) and content.rfind(end) < 0 for start, end in _ENDS):
        raise ValueError("the file is cut off")
    stored = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if stored is None:
        raise ValueError("the file is not an image, or not a whole one")
    return np.asarray(stored, stored.dtype)
