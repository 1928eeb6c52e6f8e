"""Regions that people accepted, redrew or rejected, as the service exports them: one decision a line.

Accepted and redrawn regions say where; a rejected one says that the finding is absent when its reason is "not there",
and nothing otherwise. Decisions on one phrase of one image are one sample. docs/training-data.md describes the form.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from model.data.files import Drawn, FileSet
from model.data.jsonl import box_of, lines_of, text_of
from model.data.pins import DataError
from model.data.sample import Box, Sample
from model.data.store import Store
from model.values import Region

DECISIONS = ("accepted", "redrawn", "rejected")
NOT_THERE = "not there"


@dataclass(slots=True)
class _Gathered:
    """What was decided on one phrase of one image so far."""

    sample: Sample
    regions: list[Region] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)

    @property
    def present(self) -> bool:
        return bool(self.regions or self.boxes or self.masks)


def recognise_regions(content: bytes) -> bool:
    """Whether the first line of a JSONL file is a decision."""
    first = next((line for line in content.decode("utf-8-sig", "replace").splitlines() if line.strip()), "")
    try:
        return "decision" in json.loads(first)
    except (ValueError, TypeError):
        return False


def read_regions(store: Store, name: str) -> FileSet:
    """The data set of the decisions in the file *name*.

    Raises
    ------
    DataError
        If a line is not as documented; names the file and the line.
    OSError
        If the file cannot be read.
    """
    gathered: dict[tuple[str, str], _Gathered] = {}
    for where, row in lines_of(store.read(name), name):
        try:
            _gather(gathered, row)
        except (ValueError, TypeError, KeyError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise DataError(f"{where}: {reason}; see docs/training-data.md for the form") from None
    samples, drawn = [], {}
    for number, each in enumerate(gathered.values()):
        simple = not each.regions and len(each.masks) + bool(each.boxes) <= 1
        key = (each.masks[0] if each.masks else None) if simple else f"{name}#{number}"
        if key and not simple:
            drawn[key] = Drawn(tuple(each.regions), tuple(each.boxes), tuple(each.masks))
        boxes = tuple(each.boxes) if simple else ()
        samples.append(replace(each.sample, boxes=boxes, mask=key))
    return FileSet("regions", store, (name,), tuple(samples), drawn=drawn)


def _gather(gathered: dict[tuple[str, str], _Gathered], row: Mapping[str, Any]) -> None:
    decision = row["decision"]
    if decision not in DECISIONS:
        raise ValueError(f"a decision is one of {', '.join(DECISIONS)}")
    rejected = decision == "rejected"
    if rejected and row.get("reason") != NOT_THERE:
        return
    sample = Sample(
        image=text_of(row, "image"),
        patient=text_of(row, "patient"),
        phrase=text_of(row, "phrase"),
        finding=str(row.get("finding") or ""),
        view=str(row.get("view") or ""),
        source=str(row.get("source") or "service"),
    )
    here = gathered.setdefault((sample.image, sample.phrase), _Gathered(sample))
    if rejected:
        return
    regions = [_region(polygon) for polygon in row.get("polygons") or ()]
    boxes = [box_of(box) for box in row.get("boxes") or ()]
    masks = [text_of(row, "mask")] if row.get("mask") else []
    if not (regions or boxes or masks):
        raise ValueError(f"what was {decision} has polygons, boxes or a mask")
    here.regions += regions
    here.boxes += boxes
    here.masks += masks


def _region(polygon: Any) -> Region:
    if not isinstance(polygon, list) or len(polygon) < 3:
        raise ValueError("a polygon has at least three [x, y] vertices in pixels")
    if not all(isinstance(vertex, list) and len(vertex) == 2 for vertex in polygon):
        raise ValueError("a vertex is [x, y] in pixels")
    vertices = [(x, y) for x, y in polygon]
    if not all(isinstance(number, int | float) and math.isfinite(number) for vertex in vertices for number in vertex):
        raise ValueError("a vertex has two finite numbers")
    return Region(tuple((float(x), float(y)) for x, y in vertices), probability=1.0)
