"""Training batches: cached examples, turned, lit and worded anew each time they are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.cache import Example
from model.config import Config
from model.lungs import Pair
from model.twin.findings import TwinFinding
from model.twin.sample import CONCEPTS
from model.twin.view import other_sample
from model.twin.words import phrases_for
from model.values import Query
from model.words import tokens_of

Maps = npt.NDArray[np.float32]
_OTHER_SIDE = {"left": "right", "right": "left"}
_SIDED = ("pleural effusion", "consolidation", "opacity", "pulmonary nodule", "mass", "atelectasis", "pneumothorax")


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A query with its truth.

    Parameters
    ----------
    mask : float32 (cells, cells), on the heatmap's grid; empty when absent, or when nobody drew where it is.
    present : whether the image shows it.
    drawn : whether *mask* says where; False for a label of the whole image, that trains presence alone.
    """

    query: Query
    mask: Maps
    present: bool
    drawn: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One augmented image.

    Parameters
    ----------
    pixels : float32 (size, size) in [0, 1].
    anatomy : float32 (3, cells, cells), or None where it is not known.
    name : which image of which source this is, for messages; nothing about the patient.
    """

    pixels: Maps
    anatomy: Maps | None
    asked: tuple[Asked, ...]
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """*Shape:* images (B, 1, s, s); anatomy (B, 3, h, h), its known (B,); tokens (T,), offsets (P,), image (P,) the
    image number of each phrase, masks (P, h, h), drawn (P,), present (P,).

    *names* are the B images' names, *queries* the P phrases.
    """

    images: Tensor
    anatomy: Tensor
    known: Tensor
    tokens: Tensor
    offsets: Tensor
    image: Tensor
    masks: Tensor
    drawn: Tensor
    present: Tensor
    names: tuple[str, ...] = ()
    queries: tuple[Query, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same on *device*."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        moved: dict[str, Any] = {name: each.to(device) for name, each in values.items() if isinstance(each, Tensor)}
        return replace(self, **moved)


def collate(items: list[Item], config: Config) -> Batch:
    """Items as one batch."""
    asked = [(number, each) for number, item in enumerate(items) for each in item.asked]
    tokens, offsets = tokens_of_all([each.query for _, each in asked], config)
    half = config.heatmap
    nothing = np.zeros((3, half, half), np.float32)
    masks = np.stack([each.mask for _, each in asked]) if asked else np.zeros((0, half, half), np.float32)
    return Batch(
        images=torch.from_numpy(np.stack([item.pixels for item in items])[:, None]),
        anatomy=torch.from_numpy(np.stack([nothing if item.anatomy is None else item.anatomy for item in items])),
        known=torch.tensor([item.anatomy is not None for item in items]),
        tokens=tokens,
        offsets=offsets,
        image=torch.tensor([number for number, _ in asked], dtype=torch.long),
        masks=torch.from_numpy(masks),
        drawn=torch.tensor([each.drawn for _, each in asked], dtype=torch.float32),
        present=torch.tensor([each.present for _, each in asked], dtype=torch.float32),
        names=tuple(item.name for item in items),
        queries=tuple(each.query for _, each in asked),
    )


def tokens_of_all(queries: Sequence[Query], config: Config) -> tuple[Tensor, Tensor]:
    """All queries' tokens (T,) in one list, and the start of each query in it (P,)."""
    rows = [tokens_of(query, config) for query in queries]
    starts = np.cumsum([0, *map(len, rows)])[:-1].astype(np.int64)
    return torch.tensor([token for row in rows for token in row], dtype=torch.long), torch.tensor(starts)


def item_of(example: Example, rng: np.random.Generator, *, augment: bool) -> Item:
    """One example as a training item: up to four findings that are there, and one or two that are not."""
    pixels = example.pixels.astype(np.float32) / 255
    anatomy, findings = example.anatomy, example.findings
    if augment and rng.random() < 0.5:
        pixels, anatomy, findings = mirrored(pixels, anatomy, findings)
    asked = [Asked(query_of(each, rng), each.mask.astype(np.float32), bool(each.mask.any())) for each in findings]
    asked += [Asked(query_of(each, rng), np.zeros_like(anatomy[0]), False) for each in absent(findings, rng)]
    item = Item(pixels, anatomy, tuple(asked))
    return augmented(item, rng) if augment else item


def augmented(item: Item, rng: np.random.Generator) -> Item:
    """Turned, scaled and shifted a little, and in another light. What leaves the picture is asked no more."""
    warp = affine(rng, item.pixels.shape[0])
    moved = []
    for each in item.asked:
        mask = (warp(each.mask) > 0.5).astype(np.float32)
        if mask.any() or not (each.present and each.drawn):
            moved.append(replace(each, mask=mask))
    anatomy = None if item.anatomy is None else np.stack([warp(plane) for plane in item.anatomy])
    return replace(item, pixels=relit(warp(item.pixels), rng), anatomy=anatomy, asked=tuple(moved))


def lung_item(pair: Pair, rng: np.random.Generator) -> Item:
    """A real radiograph with outlined lungs, (2, cells, cells); of the heart it says nothing."""
    pixels, lungs = pair
    if rng.random() < 0.5:
        pixels, lungs = pixels[:, ::-1], lungs[::-1, :, ::-1]
    warp = affine(rng, pixels.shape[0])
    planes = np.stack([*(warp(plane) for plane in lungs), np.full(lungs.shape[1:], -1, np.float32)])
    return Item(relit(warp(pixels), rng), planes, ())


def view_item(seed: int, rng: np.random.Generator, config: Config) -> Item:
    """A picture of what is no frontal chest, and has no lungs to outline."""
    pixels = other_sample(seed, size=config.size)
    warp = affine(rng, config.size)
    return Item(relit(warp(pixels), rng), np.zeros((3, config.heatmap, config.heatmap), np.float32), ())


def mirrored(
    pixels: Maps, anatomy: Maps, findings: tuple[TwinFinding, ...]
) -> tuple[Maps, Maps, tuple[TwinFinding, ...]]:
    """The mirror image, in which right and left change places in picture, anatomy and words."""
    swapped = tuple(
        replace(each, side=_OTHER_SIDE.get(each.side or "", each.side), mask=each.mask[:, ::-1]) for each in findings
    )
    return pixels[:, ::-1], anatomy[[1, 0, 2], :, ::-1], swapped


def query_of(finding: TwinFinding, rng: np.random.Generator) -> Query:
    """A wording of *finding*; the fields say what a reader would have understood of these words, or a little less."""
    text = phrases_for(finding, rng)
    side = finding.side if finding.side and finding.side in text else None
    if finding.side == "bilateral" and ("bibasilar" in text or "bilateral" in text):
        side = "bilateral"
    sites = finding.sites if rng.random() < 0.7 else ()
    return Query(text=text, finding=finding.concept, side=side, sites=sites)


def absent(findings: tuple[TwinFinding, ...], rng: np.random.Generator) -> tuple[TwinFinding, ...]:
    """One or two findings that are not there: of another kind, or of the kind that is there but on the other side."""
    blank = np.zeros((1, 1), bool)
    there = {finding.concept for finding in findings}
    missing = [concept for concept in CONCEPTS if concept not in there]
    chosen = [str(rng.choice(missing))]
    side = str(rng.choice(["left", "right"]))
    drawn = [TwinFinding(concept, side if concept in _SIDED else None, (), blank) for concept in chosen]
    swapped = [f for f in findings if f.side in _OTHER_SIDE and f.concept in _SIDED]
    if swapped and rng.random() < 0.4:
        other = swapped[int(rng.integers(len(swapped)))]
        drawn.append(replace(other, side=_OTHER_SIDE[str(other.side)], mask=blank))
    return tuple(drawn)


def affine(rng: np.random.Generator, size: int) -> Callable[[Maps], Maps]:
    """A small turn, scaling, stretching and shift, for planes of any size."""
    turn, scale, stretch = rng.normal(0, 4), rng.uniform(0.82, 1.16), rng.uniform(-0.06, 0.06)
    shift = rng.normal(0, 0.03, 2) * size
    matrix = np.asarray(cv2.getRotationMatrix2D((size / 2, size / 2), turn, scale), np.float64)
    wider = np.array([1 + stretch, 1 - stretch])
    matrix = matrix * wider[:, None]
    matrix[:, 2] += (1 - wider) * size / 2
    matrix[:, 2] = matrix[:, 2] + shift

    def warp(plane: Maps) -> Maps:
        fitted = matrix.copy()
        fitted[:, 2] = fitted[:, 2] * plane.shape[0] / size
        return np.asarray(cv2.warpAffine(np.ascontiguousarray(plane), fitted, plane.shape[::-1]), np.float32)

    return warp


def relit(pixels: Maps, rng: np.random.Generator) -> Maps:
    """Another exposure, processing and noise; sometimes letterboxed as a narrower film."""
    lit = np.clip(pixels, 0, 1) ** rng.uniform(0.6, 1.6)
    if rng.random() < 0.35:
        equaliser = cv2.createCLAHE(clipLimit=float(rng.uniform(1, 4)), tileGridSize=(4, 4))
        lit = equaliser.apply(np.round(lit * 255).astype(np.uint8)).astype(np.float32) / 255
    if rng.random() < 0.3:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), rng.uniform(0.4, 1.2)), np.float32)
    lit = lit * rng.uniform(0.75, 1.1) + rng.uniform(-0.05, 0.15)
    noise = rng.standard_normal(lit.shape).astype(np.float32) * 0.04
    lit = np.clip(lit + noise * rng.random() ** 3, 0, 1)  # mostly as fine as on films
    if rng.random() < 0.4:
        band = int(rng.uniform(0.02, 0.1) * len(lit))
        columns = rng.random() < 0.5
        (lit.T if columns else lit)[:band] = 0
        (lit.T if columns else lit)[-band:] = 0
    return np.asarray(lit, np.float32)
