"""The reference form: one JSON object a line, one phrase on one image each. docs/training-data.md describes it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from model.data.files import FileSet
from model.data.sample import Box, Sample
from model.data.store import DataError, Store


def read_jsonl(store: Store, *names: str) -> FileSet:
    """The data set of the files *names* of *store*, one after the other.

    Raises
    ------
    DataError
        If a line is not as documented; names the file and the line.
    OSError
        If a file cannot be read.
    """
    rows = [sample for name in names for sample in samples_of(store.read(name), name)]
    return FileSet("+".join(PurePosixPath(name).stem for name in names), store, names, tuple(rows))


def samples_of(content: bytes, name: str) -> tuple[Sample, ...]:
    """The samples of a JSONL file; blank lines are skipped.

    Raises
    ------
    DataError
        As :func:`read_jsonl`.
    """
    samples = []
    for where, row in lines_of(content, name):
        try:
            samples.append(_sample(row))
        except (ValueError, TypeError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise DataError(f"{where}: {reason}; see docs/training-data.md for the form") from None
    return tuple(samples)


def lines_of(content: bytes, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each line that is not blank: where it stands, for messages, and its object.

    Raises
    ------
    DataError
        If a line is not a JSON object.
    """
    for number, line in enumerate(content.decode("utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # its message would show what stands there, which may name a patient
            raise DataError(f"{where}: not JSON; see docs/training-data.md for the form") from None
        if not isinstance(row, dict):
            raise DataError(f"{where}: not a JSON object; see docs/training-data.md for the form")
        yield where, row


def line_of(sample: Sample) -> str:
    """*sample* as a line, with its line break; :func:`samples_of` gives it back."""
    row: dict[str, Any] = {
        "image": sample.image,
        "patient": sample.patient,
        "view": sample.view,
        "source": sample.source,
        "finding": sample.finding,
        "phrase": sample.phrase,
        "boxes": [[box.x, box.y, box.width, box.height] for box in sample.boxes],
    }
    if sample.mask is not None:
        row["mask"] = sample.mask
    return json.dumps(row, ensure_ascii=False) + "\n"


def _sample(row: Mapping[str, Any]) -> Sample:
    mask = row.get("mask")
    return Sample(
        image=text_of(row, "image"),
        patient=text_of(row, "patient"),
        phrase=text_of(row, "phrase"),
        boxes=tuple(box_of(box) for box in row.get("boxes") or ()),
        mask=None if mask is None else text_of(row, "mask"),
        finding=str(row.get("finding") or ""),
        view=str(row.get("view") or ""),
        source=str(row.get("source") or ""),
    )


def box_of(numbers: Any) -> Box:
    """A box from [left, top, width, height].

    Raises
    ------
    ValueError
        If these are not four finite numbers, the last two above 0.
    """
    if not isinstance(numbers, list | tuple) or len(numbers) != 4:
        raise ValueError("a box is [left, top, width, height] in pixels")
    if not all(isinstance(number, int | float) for number in numbers):
        raise ValueError("a box has four finite numbers")
    box = Box(*map(float, numbers))
    if not all(map(math.isfinite, (box.x, box.y, box.width, box.height))) or min(box.width, box.height) <= 0:
        raise ValueError("a box has four finite numbers, with width and height above 0")
    return box


def text_of(row: Mapping[str, Any], key: str) -> str:
    """The text at *key*; a whole number becomes text, since patients' identifiers often are numbers.

    Raises
    ------
    KeyError
        If there is nothing.
    ValueError
        If it is not text, or empty.
    """
    value = row[key]
    if isinstance(value, int):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{key!r} must be text that is not empty")
    return value
