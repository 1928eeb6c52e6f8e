"""A miniature of real training data, made from the synthetic twin: images, phrases and boxes as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from model.twin.sample import sample

TINY = """
out = "weights"
[network]
size = 64
widths = [8, 16, 16, 16, 16]
pyramid = 16
embedding = 16
buckets = 512
[machine]
device = "cpu"
threads = 1
[recipe]
steps = 12
batch = 4
check_every = 4
checkpoint_every = 1
[split]
held_out = false
validation = 0.3
[[data]]
kind = "phrases"
open = "phrases.jsonl"
weight = 3
[[data]]
kind = "views"
weight = 1
"""


def write_miniature(folder: Path, *, count: int, size: int = 96, first: int = 0) -> Path:
    """*count* images with their phrases in *folder*, and a configuration beside them: the configuration's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(first, first + count):
        made = sample(number, size=size)
        cv2.imwrite(str(folder / f"{number}.png"), np.round(made.pixels * 255).astype(np.uint8))
        for finding in made.findings:
            rows, columns = np.nonzero(finding.mask)
            box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
            lines.append(_line(number, f"{finding.side or ''} {finding.concept}".strip(), [[int(n) for n in box]]))
        if "cardiomegaly" not in {finding.concept for finding in made.findings}:
            lines.append(_line(number, "cardiomegaly", []))
    (folder / "phrases.jsonl").write_text("\n".join(lines))
    (folder / "train.toml").write_text(TINY)
    return folder / "train.toml"


def _line(number: int, phrase: str, boxes: list[list[int]]) -> str:
    return json.dumps({"image": f"{number}.png", "patient": f"p{number}", "phrase": phrase, "boxes": boxes})
