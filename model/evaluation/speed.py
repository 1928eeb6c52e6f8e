"""How long a study takes on this machine: two images and eight phrases, after warm-up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np

from model.evaluation.locators import FullModel
from model.twin.sample import sample
from model.values import Query

IMAGES, PHRASES = 2, 8
_FINDINGS = ("opacity", "pleural effusion", "atelectasis", "pulmonary nodule")


@dataclass(frozen=True, slots=True)
class Speed:
    """Medians in seconds, and *phrase_share*: what one more phrase on both images adds, as a share of a study."""

    study_s: float
    phrase_s: float
    phrase_share: float


def measure_speed(model: FullModel, *, rows: int = 2500, columns: int = 2048, repeats: int = 5) -> Speed:
    """Ground a study of the twin, with phrases never asked before in each repeat; decoding is not part of it."""
    images = [
        np.asarray(cv2.resize(sample(seed, size=256).pixels, (columns, rows)), np.float32) for seed in range(IMAGES)
    ]
    _timed(model, images, PHRASES, tag="warm")
    short, long = [], []
    for number in range(repeats):
        short.append(_timed(model, images, PHRASES, tag=f"short {number}"))
        long.append(_timed(model, images, 2 * PHRASES, tag=f"long {number}"))
    study, twice = median(short), median(long)
    phrase = max(0.0, twice - study) / PHRASES
    return Speed(study, phrase, phrase / study)


def _timed(
    model: FullModel, images: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]], phrases: int, *, tag: str
) -> float:
    queries = tuple(_query(number, tag) for number in range(phrases))
    began = time.perf_counter()
    for pixels in images:
        model.locate(pixels, queries)
    return time.perf_counter() - began


def _query(number: int, tag: str) -> Query:
    side = ("left", "right")[number % 2]
    finding = _FINDINGS[number % len(_FINDINGS)]
    return Query(f"{side} {finding} {tag} {number}", finding, side)
