"""What a data set gives: images with phrases, and the boxes or the mask that each phrase speaks of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the stored image, origin at the top left corner of the first pixel."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One phrase on one image.

    Parameters
    ----------
    image : key of the image within its data set: a path relative to its root.
    patient : who is shown; data are split by this and by nothing else.
    boxes : empty when a reader looked and found nothing, unless there is a mask.
    mask : key of an 8-bit image of the same size, non-zero inside; None where boxes say where.
    view : DICOM View Position (AP, PA), or empty.
    source : who drew: for instance "RSNA 2018".
    """

    image: str
    patient: str
    phrase: str
    boxes: tuple[Box, ...] = ()
    mask: str | None = None
    finding: str = ""
    view: str = ""
    source: str = ""

    @property
    def present(self) -> bool:
        """Whether the image shows what the phrase says."""
        return bool(self.boxes) or self.mask is not None


class DataSet(Protocol):
    """A source of samples.

    The version is pinned: it changes with any byte of images or labels, and two sets of one version are equal.
    """

    @property
    def name(self) -> str:
        """For instance ``nih-rsna``."""
        ...

    @property
    def version(self) -> str:
        """SHA-256 over the list of files and their digests, in hexadecimal."""
        ...

    def samples(self) -> tuple[Sample, ...]:
        """All samples, in a fixed order."""
        ...

    def pixels(self, image: str) -> Pixels:
        """The stored image.

        Returns
        -------
        float32 (rows, columns) in [0, 1], bright is dense.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is not an image.
        """
        ...

    def mask(self, sample: Sample) -> npt.NDArray[np.bool_]:
        """*Shape:* (rows, columns) of the stored image; from the mask or, where there is none, from the boxes."""
        ...
