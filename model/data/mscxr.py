"""MS-CXR (Boecking et al. 2022, PhysioNet): phrases of reports with boxes on MIMIC-CXR-JPG images, as published.

The table or the COCO file lies beside MIMIC-CXR-JPG's folder ``files``; the site has its own access to both. Several
boxes of one phrase on one image are one sample. docs/training-data.md describes the forms.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from model.data.files import FileSet
from model.data.sample import Box, Sample
from model.data.store import DataError, Store
from model.data.tables import number_of, rows_of

_COLUMNS = ("category_name", "label_text", "path", "x", "y", "w", "h", "image_width", "image_height")


@dataclass(frozen=True, slots=True)
class _Drawn:
    """One box with its phrase; *shape* (rows, columns) is what the image must have for the box to fit."""

    path: str
    category: str
    phrase: str
    box: Box
    shape: tuple[int, int]
    part: str


def read_mscxr(store: Store, name: str, *, split: str = "") -> FileSet:
    """The data set of MS-CXR's table (.csv) or COCO file (.json) *name*.

    Parameters
    ----------
    split : keep only the rows of this split, by the column ``split`` of the newer releases; all where empty.

    Raises
    ------
    DataError
        If the file is not of the published form, or has no row of *split*.
    OSError
        If it cannot be read.
    """
    drawn = tuple(_of_coco(store, name) if name.endswith(".json") else _of_table(store, name))
    kept = [each for each in drawn if split in ("", each.part)]
    if not kept:
        known = ", ".join(sorted({each.part for each in drawn if each.part})) or "none"
        raise DataError(f"{name} has no row of the split {split!r}; its splits: {known}")
    shapes = {each.path: each.shape for each in kept}
    return FileSet("ms-cxr" + (f"-{split}" if split else ""), store, (name,), _samples(kept), shapes=shapes)


def _samples(drawn: list[_Drawn]) -> tuple[Sample, ...]:
    """One sample for each image, category and phrase, in the order in which they first appear."""
    boxes: dict[tuple[str, str, str], list[Box]] = {}
    for each in drawn:
        boxes.setdefault((each.path, each.category, each.phrase), []).append(each.box)
    return tuple(
        Sample(path, _patient(path), phrase, tuple(dict.fromkeys(found)), finding=category, source="MS-CXR")
        for (path, category, phrase), found in boxes.items()
    )


def _patient(path: str) -> str:
    """The subject of ``files/p10/p10000032/s50414267/<dicom_id>.jpg``."""
    return PurePosixPath(path).parts[-3]


def _checked(path: str, where: str) -> str:
    parts = PurePosixPath(path).parts
    if len(parts) < 4 or ".." in parts or PurePosixPath(path).is_absolute():
        raise DataError(f"{where}: the path of an image is files/pXX/pXXXXXXXX/sXXXXXXXX/NAME.jpg, as in MIMIC-CXR-JPG")
    return path


def _of_table(store: Store, name: str) -> Iterator[_Drawn]:
    for line, row in enumerate(rows_of(store, name, *_COLUMNS), start=2):
        where = f"{name}, line {line}"
        x, y, width, height, columns, rows = (
            number_of(row, column, where) for column in ("x", "y", "w", "h", "image_width", "image_height")
        )
        yield _Drawn(
            path=_checked(row["path"], where),
            category=row["category_name"],
            phrase=row["label_text"],
            box=Box(x, y, width, height),
            shape=(int(rows), int(columns)),
            part=row.get("split", ""),
        )


def _of_coco(store: Store, name: str) -> Iterator[_Drawn]:
    try:
        held = json.loads(store.read(name))
        images = {image["id"]: image for image in held["images"]}
        categories = {category["id"]: str(category["name"]) for category in held["categories"]}
        for number, noted in enumerate(held["annotations"], start=1):
            image = images[noted["image_id"]]
            yield _of_annotation(noted, image, categories[noted["category_id"]], where=f"{name}, annotation {number}")
    except (KeyError, TypeError, json.JSONDecodeError):
        raise DataError(f"{name} is not MS-CXR's COCO file: expected images, categories and annotations") from None


def _of_annotation(noted: dict[str, Any], image: dict[str, Any], category: str, *, where: str) -> _Drawn:
    return _Drawn(
        path=_checked(str(image["path"]), where),
        category=category,
        phrase=str(noted["label_text"]),
        box=Box(*map(float, noted["bbox"])),
        shape=(int(image["height"]), int(image["width"])),
        part=str(image.get("split") or noted.get("split") or ""),
    )
