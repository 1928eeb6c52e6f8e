"""Tables of labels: which findings an image shows, as far as someone labelled it, but not where."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from model.training.config import LabelData


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """One line of a table; *file* is relative to it."""

    file: str
    patient: str
    view: str
    labels: frozenset[str]


def read_labels(data: LabelData) -> tuple[LabelledImage, ...]:
    """The images that have a label, be it that there is no finding.

    Raises
    ------
    OSError
        If the table cannot be read.
    ValueError
        If a column is missing.
    """
    with data.table.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        wanted = [data.image, data.patient, data.labels, *([data.view] if data.view else [])]
        missing = sorted(set(wanted) - set(reader.fieldnames or ()))
        if missing:
            raise ValueError(f"{data.table.name} has no column {', '.join(missing)}")
        images = tuple(
            LabelledImage(
                file=f"{row[data.image]}{data.suffix}",
                patient=row[data.patient],
                view=row[data.view] if data.view else "",
                labels=frozenset(label.strip() for label in row[data.labels].split("|") if label.strip()),
            )
            for row in reader
        )
    return tuple(image for image in images if image.labels)


def read_pixels(file: Path) -> npt.NDArray[np.float32]:
    """An 8-bit image as float32 (rows, columns) in [0, 1].

    Raises
    ------
    ValueError
        If it is not an image.
    """
    stored = cv2.imdecode(np.frombuffer(file.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if stored is None:
        raise ValueError("the file is not an image")
    return np.asarray(stored, np.float32) / 255
