"""An image as a request brings it (DICOM, PNG or JPEG) as pixels for the model."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from model.geometry import UPRIGHT, Orientation
from plugin.errors import InputError
from plugin.values import Radiograph

MAX_PIXELS = 64_000_000
MIN_SIDE = 32
# Mean difference of colour channels, of 255, above which an image is a colour picture and not a JPEG of a grey one.
_COLOUR = 6.0
_EIGHT_BIT = {"L", "1", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"}

Pixels = npt.NDArray[np.float32]


def decoded(content: str) -> bytes:
    """The bytes of base64 *content*, which may be a data URI.

    Raises
    ------
    InputError
        If it is not base64.
    """
    if content.startswith("data:"):
        content = content.partition(",")[2]
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError("image is not base64: send the bytes of a PNG, JPEG or DICOM file in base64.") from None


def pixels_of(content: bytes, read_dicom: Callable[[bytes], Radiograph]) -> tuple[Pixels, Orientation]:
    """Pixels float32 (rows, columns) in [0, 1], bright is dense, and how they are turned upright.

    A PNG or JPEG is taken as it is stored: upright, bright is dense.

    Raises
    ------
    InputError
        If it is neither DICOM nor a usable grey PNG or JPEG.
    """
    if content[128:132] == b"DICM":
        radiograph = read_dicom(content)
        return radiograph.pixels, radiograph.orientation
    return _grey(_opened(content)), UPRIGHT


def _opened(content: bytes) -> Image.Image:
    """The picture, its size checked before it is decoded."""
    try:
        picture = Image.open(BytesIO(content), formats=("PNG", "JPEG"))
        if picture.width * picture.height > MAX_PIXELS or min(picture.size) < MIN_SIDE:
            raise InputError(f"image must have at least {MIN_SIDE} rows and columns and at most {MAX_PIXELS} pixels.")
        picture.load()
    except UnidentifiedImageError:
        raise InputError("image is neither DICOM, PNG nor JPEG.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise InputError(f"image must have at most {MAX_PIXELS} pixels.") from None
    except (OSError, SyntaxError, ValueError):
        raise InputError("image cannot be decoded: the file is damaged or cut short.") from None
    return picture


def _grey(picture: Image.Image) -> Pixels:
    if picture.mode in _EIGHT_BIT:
        values = _without_colour(np.asarray(picture.convert("RGB"), np.float32))
        low, high = 0.0, 255.0
    else:
        # More than 8 bits do not say how many are used: the range that the pixels fill, but for a thousandth.
        values = np.asarray(picture, np.float32)
        low, high = (float(bound) for bound in np.percentile(values, (0.1, 99.9)))
    if values.max() <= values.min() or high <= low:
        raise InputError("image is flat: every pixel has the same value.")
    return np.clip((values - low) / (high - low), 0, 1).astype(np.float32)


def _without_colour(values: Pixels) -> Pixels:
    spread = values.max(axis=2) - values.min(axis=2)
    if float(spread.mean()) > _COLOUR:
        raise InputError("image is a colour picture; a radiograph in shades of grey was expected.")
    return np.asarray(values.mean(axis=2), np.float32)
