"""NIH ChestX-ray14 images with radiologists' boxes: NIH's own (2017) and RSNA's Pneumonia Detection Challenge's (2018).

A folder with ``images``, a table of the images (``manifest.csv``, or NIH's own ``Data_Entry_2017*.csv``), and tables of
boxes (``boxes.csv`` or NIH's own ``BBox_List_2017.csv``; ``rsna_boxes.csv``) in pixels of the 1024 x 1024 originals.
The stored images may be smaller, all by the same factor. docs/training-data.md describes the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch

from model.data.files import FileSet
from model.data.pictures import shape_of
from model.data.sample import Box, Sample
from model.data.store import DataError, Store
from model.data.tables import Row, number_of, rows_of

_ORIGINAL = 1024  # side of NIH's images, in whose pixels all boxes are given
_RSNA, _NIH = "RSNA 2018", "NIH 2017"
_IMAGES = ("manifest.csv", "Data_Entry_2017*.csv")
_BOXES = ((_RSNA, "rsna_boxes.csv"), (_NIH, "boxes.csv"), (_NIH, "BBox_List_2017.csv"))
_FREE = ("Normal", "No Lung Opacity / Not Normal")  # RSNA's classes of images without an opacity
_MIDDLE = 0.08  # share of the width; a box centred as near to the middle of the image lies on neither side
_ALIKE = {"Image Index": "file", "Patient ID": "patient", "View Position": "view"}  # NIH's own columns


@dataclass(frozen=True, slots=True)
class _Image:
    """A row of the table of images; *turned* by 90 degrees, so that boxes miss their places."""

    name: str
    patient: str
    view: str
    read_as: str
    turned: bool


@dataclass(frozen=True, slots=True, order=True)
class _Found:
    """One finding on one image, in the order of the data set: by image, RSNA first, by finding."""

    image: str
    rank: int
    finding: str


def recognise_nih(names: tuple[str, ...]) -> bool:
    """Whether a folder with these names at its top is one."""
    return "images" in names and bool(_images_table(names) and _box_tables(names))


def read_nih(store: Store) -> FileSet:
    """The data set of the folder of *store*.

    Each finding on an image is asked for without a side ("lung opacity") and once for each side on which it has boxes
    ("opacity in the left lung"), unless a box lies in the middle; the patient's right is on the viewer's left. Images
    turned by 90 degrees are left out. Then, for each image that RSNA's readers called free of opacities, "lung opacity"
    with no box.

    Raises
    ------
    DataError
        If a table is missing or not of the form.
    OSError
        If a file cannot be read.
    """
    names = store.names()
    table, boxed = _images_table(names), _box_tables(names)
    if not table or not boxed:
        raise DataError(f"no NIH data: expected {' or '.join(_IMAGES)}, and {' or '.join(name for _, name in _BOXES)}")
    images = _images(store, table)
    found: dict[_Found, list[Box]] = {}
    for rank, (_, name) in enumerate(boxed):
        for image, finding, box in _boxes(store, name):
            found.setdefault(_Found(image, rank, finding), []).append(box)
    samples = [
        sample
        for each in sorted(found)
        if each.image in images and not images[each.image].turned
        for sample in _present(images[each.image], each, found[each], source=boxed[each.rank][0])
    ]
    samples += [_absent(image) for image in images.values() if image.read_as in _FREE]
    shape = shape_of(store.read(samples[0].image)) if samples else (_ORIGINAL, _ORIGINAL)
    return FileSet(
        "nih-rsna",
        store,
        (table, *(name for _, name in boxed)),
        tuple(_scaled(sample, shape[1] / _ORIGINAL) for sample in samples),
        shapes={sample.image: shape for sample in samples},
    )


def _images_table(names: tuple[str, ...]) -> str:
    return next((name for pattern in _IMAGES for name in names if fnmatch(name, pattern)), "")


def _box_tables(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((source, name) for source, name in _BOXES if name in names)


def _images(store: Store, table: str) -> dict[str, _Image]:
    """The table's images that are there, by NIH's file name ("00000061_012.png"), in its order."""
    own = table != _IMAGES[0]
    rows = rows_of(store, table, *(_ALIKE if own else _ALIKE.values()))
    images = {}
    for row in rows:
        values = {_ALIKE.get(key, key): value for key, value in row.items()}
        bare = values["file"].removeprefix("images/")
        # The development data hold JPEG copies under the originals' names and one more suffix.
        stored = next((name for name in (f"images/{bare}", f"images/{bare}.jpg") if store.has(name)), None)
        if stored:
            classes = values.get("rsna_class", "").split("|")
            turned = values.get("rotated90") == "yes"
            images[bare] = _Image(stored, values["patient"], values["view"], classes[0], turned)
    return images


def _boxes(store: Store, name: str) -> Iterator[tuple[str, str, Box]]:
    """Image, finding and box of each row."""
    if name == "BBox_List_2017.csv":
        # NIH's header ends in three unnamed columns: Image Index,Finding Label,Bbox [x,y,w,h],,,
        for line, row in enumerate(
            rows_of(store, name, "Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"), start=2
        ):
            numbers = (number_of(row, column, f"{name}, line {line}") for column in ("Bbox [x", "y", "w", "h]"))
            yield row["Image Index"], row["Finding Label"], Box(*numbers)
        return
    for line, row in enumerate(rows_of(store, name, "image", "finding", "x", "y", "w", "h"), start=2):
        yield row["image"], row["finding"], _box(row, f"{name}, line {line}")


def _box(row: Row, where: str) -> Box:
    return Box(*(number_of(row, column, where) for column in "xywh"))


def _present(image: _Image, found: _Found, boxes: list[Box], *, source: str) -> Iterator[Sample]:
    finding = found.finding
    opacity = finding == "Lung Opacity"

    def sample(phrase: str, these: list[Box]) -> Sample:
        return Sample(image.name, image.patient, phrase, tuple(these), finding=finding, view=image.view, source=source)

    yield sample(finding.lower(), boxes)
    offsets = [box.x + box.width / 2 - _ORIGINAL / 2 for box in boxes]
    if any(abs(offset) <= _MIDDLE * _ORIGINAL for offset in offsets):
        return
    for side, sign in (("right", -1), ("left", 1)):
        here = [box for box, offset in zip(boxes, offsets, strict=True) if offset * sign > 0]
        if here:
            yield sample(f"opacity in the {side} lung" if opacity else f"{side} {finding.lower()}", here)


def _absent(image: _Image) -> Sample:
    return Sample(image.name, image.patient, "lung opacity", finding=image.read_as, view=image.view, source=_RSNA)


def _scaled(sample: Sample, scale: float) -> Sample:
    """*sample* with its boxes in pixels of the stored image, to a tenth."""
    boxes = tuple(
        Box(*(round(number * scale, 1) for number in (box.x, box.y, box.width, box.height))) for box in sample.boxes
    )
    return replace(sample, boxes=boxes)
