"""A made-up file of phrases and boxes, and a grounder that lights what is bright: what it answers can be foreseen."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from model.anatomy import Lungs
from model.geometry import letterbox_of
from model.regions import regions_of
from model.values import Grounding, Heatmap, ModelCard, State

SIDE, CELLS = 64, 32


def write_boxes(folder: Path, *, patients: int = 12) -> Path:
    """A JSONL file of the RSNA form: two thirds of the patients have a bright box, half of these one in each lung."""
    rng = np.random.default_rng(5)
    lines = []
    for number in range(patients):
        pixels = rng.uniform(0.2, 0.3, (SIDE, SIDE))
        box = {side: _box(rng, side) for side in _sides(number)}
        for left, top, width, height in box.values():
            pixels[top : top + height, left : left + width] = 0.95
        image = f"film-of-patient-{number}.png"
        cv2.imwrite(str(folder / image), np.round(pixels * 255).astype(np.uint8))
        lines += [_line(image, number, phrase, boxes) for phrase, boxes in _asked(box)]
    file = folder / "boxes.jsonl"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def _sides(number: int) -> tuple[str, ...]:
    return ((), ("left",), ("left", "right"), ("right",), (), ("right", "left"))[number % 6]


def _box(rng: np.random.Generator, side: str) -> tuple[int, int, int, int]:
    left = int(rng.integers(6, 12)) + (32 if side == "left" else 0)  # the patient's left is on the viewer's right
    return left, int(rng.integers(10, 36)), int(rng.integers(10, 16)), int(rng.integers(12, 20))


def _asked(box: dict[str, tuple[int, int, int, int]]) -> list[tuple[str, list[tuple[int, int, int, int]]]]:
    return [("lung opacity", list(box.values())), *((f"opacity in the {side} lung", [box[side]]) for side in box)]


def _line(image: str, number: int, phrase: str, boxes: list[tuple[int, int, int, int]]) -> str:
    row = {
        "image": image,
        "patient": f"patient-{number}",
        "view": ("AP", "PA")[number // 6 % 2],
        "source": "RSNA 2018",
        "finding": "Lung Opacity" if boxes else "Normal",
        "phrase": phrase,
        "boxes": boxes,
    }
    return json.dumps(row)


class Bright:
    """Lights what is bright on the named side; sure of what is there; another finding it does not see."""

    card = ModelCard("bright", "1", "0" * 64, threshold=0.5)

    def lungs(self, pixels, orientation):
        right = np.zeros((CELLS, CELLS), bool)
        right[4:28, 2:14] = True
        return Lungs(right, right[:, ::-1])

    def ground(self, pixels, orientation, queries):
        return tuple(self._answer(pixels, query) for query in queries)

    def _answer(self, pixels, query):
        box = letterbox_of(pixels)
        seen = np.clip(box.image(pixels, CELLS), 0, 1) * (query.finding == "opacity")
        seen[:, {"left": slice(0, CELLS // 2), "right": slice(CELLS // 2, CELLS)}.get(query.side, slice(0, 0))] = 0
        heatmap = Heatmap(seen.astype(np.float32), box)
        regions = regions_of(heatmap, self.card.threshold)
        state = State.FOUND if regions else State.NOT_FOUND
        return Grounding(query, state, float(min(1.0, seen.max())), regions, heatmap, None if regions else "not seen")


class Blind(Bright):
    """Finds no chest in any image."""

    def lungs(self, pixels, orientation):
        return Lungs(np.zeros((CELLS, CELLS), bool), np.zeros((CELLS, CELLS), bool))

    def ground(self, pixels, orientation, queries):
        return tuple(Grounding(query, State.NOT_GROUNDABLE, 0.0, reason="no chest") for query in queries)
