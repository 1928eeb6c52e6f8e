"""A made-up miniature of MS-CXR, from the project's twin, in exactly the published form. Nothing of MIMIC is in it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.twin.findings import TwinFinding
from model.twin.sample import sample
from model.twin.words import phrases_for

CSV_NAME = "MS_CXR_Local_Alignment_v1.1.0.csv"
COCO_NAME = "MS_CXR_Local_Alignment_v1.1.0.json"
COLUMNS = (
    "category_name",
    "label_text",
    "dicom_id",
    "path",
    "x",
    "y",
    "w",
    "h",
    "image_width",
    "image_height",
    "split",
)
#: MS-CXR's categories of what the twin can show.
CATEGORIES = {
    "atelectasis": "Atelectasis",
    "cardiomegaly": "Cardiomegaly",
    "consolidation": "Consolidation",
    "opacity": "Lung Opacity",
    "pleural effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "pulmonary edema": "Edema",
}
Row = dict[str, Any]


def write_miniature(folder: Path, count: int, seed: int, *, size: int = 192) -> tuple[Row, ...]:
    """Write *count* images with phrases and boxes as MS-CXR's table, its COCO file and MIMIC-CXR-JPG's folders.

    Of each six images two are of one patient. Of each ten patients seven are of the split train, one of val, two test.

    Returns
    -------
    The rows of the table: one for each box.
    """
    rows: list[Row] = []
    written = attempt = 0
    while written < count:
        found = _image(folder, written, seed=seed * 1_000_000 + attempt, size=size)
        rows += found
        written += bool(found)
        attempt += 1
    with (folder / CSV_NAME).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    (folder / COCO_NAME).write_text(json.dumps(_coco(rows)))
    return tuple(rows)


def _image(folder: Path, number: int, *, seed: int, size: int) -> list[Row]:
    made = sample(seed, size=size)
    shown = [finding for finding in made.findings if finding.concept in CATEGORIES]
    if not shown:
        return []
    rng = np.random.Generator(np.random.PCG64([seed, 7]))
    patient = number - (number % 6 == 5)
    dicom_id = "-".join(f"{part:08x}" for part in rng.integers(2**32, size=5))
    path = f"files/p10/p{10_000_000 + patient}/s{50_000_000 + number}/{dicom_id}.jpg"
    cut = int(rng.integers(0, size // 16))  # like the originals, not square
    split = ("train",) * 7 + ("val", "test", "test")
    common = {"dicom_id": dicom_id, "path": path, "image_width": size, "image_height": size - cut}
    rows = [
        {
            "category_name": CATEGORIES[finding.concept],
            "label_text": text,
            **box,
            **common,
            "split": split[patient % 10],
        }
        for finding in shown
        for text in [phrases_for(finding, rng)]
        for box in _boxes(finding, size - cut)
    ]
    if rows:
        pixels = np.round(made.pixels[: size - cut] * 255).astype(np.uint8)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return rows


def _boxes(finding: TwinFinding, rows: int) -> list[dict[str, int]]:
    """One box for each part of the finding that lies on the image and is not tiny."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(finding.mask[:rows].astype(np.uint8))
    large = [stats[index] for index in range(1, count) if stats[index][4] >= 12]
    return [dict(zip("xywh", map(int, each[:4]), strict=True)) for each in large]


def _coco(rows: list[Row]) -> dict[str, Any]:
    names = sorted(set(CATEGORIES.values()))
    paths = list(dict.fromkeys(row["path"] for row in rows))
    first = {path: next(row for row in rows if row["path"] == path) for path in paths}
    return {
        "info": {"description": "made up"},
        "licenses": [],
        "categories": [{"id": index + 1, "name": name} for index, name in enumerate(names)],
        "images": [
            {
                "id": index + 1,
                "file_name": Path(path).name,
                "path": path,
                "width": first[path]["image_width"],
                "height": first[path]["image_height"],
                "split": first[path]["split"],
            }
            for index, path in enumerate(paths)
        ],
        "annotations": [
            {
                "id": index + 1,
                "image_id": paths.index(row["path"]) + 1,
                "category_id": names.index(row["category_name"]) + 1,
                "bbox": [row["x"], row["y"], row["w"], row["h"]],
                "area": row["w"] * row["h"],
                "iscrowd": 0,
                "label_text": row["label_text"],
            }
            for index, row in enumerate(rows)
        ],
    }
