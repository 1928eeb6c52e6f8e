"""Training batches: cached examples, turned, lit and worded anew each time they are seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.cache import Example
from model.config import Config
from model.lungs import Pair
from model.network import VIEWS
from model.twin.findings import TwinFinding
from model.twin.sample import CONCEPTS
from model.twin.view import view_sample
from model.twin.words import phrases_for
from model.values import Query
from model.words import tokens_of

Maps = npt.NDArray[np.float32]
_OTHER_SIDE = {"left": "right", "right": "left"}
_SIDED = ("pleural effusion", "consolidation", "opacity", "pulmonary nodule", "mass", "atelectasis", "pneumothorax")


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """One augmented image.

    Parameters
    ----------
    pixels : float32 (size, size) in [0, 1].
    anatomy : float32 (3, size/2, size/2), or None where it is not known.
    asked : each query with its mask, float32 (size/2, size/2); an empty one means absent.
    """

    pixels: Maps
    anatomy: Maps | None
    asked: tuple[tuple[Query, Maps], ...]
    view: int


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """*Shape:* images (B, 1, s, s); anatomy (B, 3, s/2, s/2), its known (B,); view (B,); tokens (T,), offsets (P,),
    image (P,) the image number of each phrase, masks (P, s/2, s/2), present (P,).
    """

    images: Tensor
    anatomy: Tensor
    known: Tensor
    view: Tensor
    tokens: Tensor
    offsets: Tensor
    image: Tensor
    masks: Tensor
    present: Tensor


def collate(items: list[Item], config: Config) -> Batch:
    """Items as one batch."""
    asked = [(number, query, mask) for number, item in enumerate(items) for query, mask in item.asked]
    rows = [tokens_of(query, config.buckets) for _, query, _ in asked]
    half = config.heatmap
    nothing = np.zeros((3, half, half), np.float32)
    masks = np.stack([mask for _, _, mask in asked]) if asked else np.zeros((0, half, half), np.float32)
    return Batch(
        images=torch.from_numpy(np.stack([item.pixels for item in items])[:, None]),
        anatomy=torch.from_numpy(np.stack([nothing if item.anatomy is None else item.anatomy for item in items])),
        known=torch.tensor([item.anatomy is not None for item in items]),
        view=torch.tensor([item.view for item in items]),
        tokens=torch.tensor([token for row in rows for token in row], dtype=torch.long),
        offsets=torch.tensor(np.cumsum([0, *map(len, rows)])[:-1].astype(np.int64)),
        image=torch.tensor([number for number, _, _ in asked], dtype=torch.long),
        masks=torch.from_numpy(masks),
        present=torch.from_numpy(masks.reshape(len(masks), -1).any(axis=1).astype(np.float32)),
    )


def item_of(example: Example, rng: np.random.Generator, *, augment: bool) -> Item:
    """One example as a training item: up to four findings that are there, and one or two that are not."""
    pixels = example.pixels.astype(np.float32) / 255
    anatomy, findings = example.anatomy, example.findings
    if augment and rng.random() < 0.5:
        pixels, anatomy, findings = mirrored(pixels, anatomy, findings)
    asked = [(query_of(finding, rng), finding.mask.astype(np.float32)) for finding in findings]
    asked += [(query_of(finding, rng), np.zeros_like(anatomy[0])) for finding in absent(findings, rng)]
    if augment:
        warp = affine(rng, pixels.shape[0])
        pixels = warp(pixels)
        anatomy = np.stack([warp(plane) for plane in anatomy])
        asked = [(query, (warp(mask) > 0.5).astype(np.float32)) for query, mask in asked]
        pixels = relit(pixels, rng)
    return Item(pixels, anatomy, tuple(asked), VIEWS.index("frontal"))


def lung_item(pair: Pair, rng: np.random.Generator) -> Item:
    """A real radiograph with outlined lungs, (2, size/2, size/2); of the heart it says nothing."""
    pixels, lungs = pair
    if rng.random() < 0.5:
        pixels, lungs = pixels[:, ::-1], lungs[::-1, :, ::-1]
    warp = affine(rng, pixels.shape[0])
    planes = np.stack([*(warp(plane) for plane in lungs), np.full(lungs.shape[1:], -1, np.float32)])
    return Item(relit(warp(pixels), rng), planes, (), VIEWS.index("frontal"))


def view_item(seed: int, rng: np.random.Generator, config: Config) -> Item:
    """A picture of a known view; what is no frontal chest has no lungs to outline."""
    pixels, view = view_sample(seed, size=config.size)
    anatomy = None if view == "frontal" else np.zeros((3, config.heatmap, config.heatmap), np.float32)
    warp = affine(rng, config.size)
    return Item(relit(warp(pixels), rng), anatomy, (), VIEWS.index(view))


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
    """A small turn, scaling and shift, for planes of any size."""
    turn, scale = rng.normal(0, 4), rng.uniform(0.82, 1.16)
    shift = rng.normal(0, 0.03, 2) * size
    matrix = np.asarray(cv2.getRotationMatrix2D((size / 2, size / 2), turn, scale), np.float64)
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
    lit = lit + rng.standard_normal(lit.shape).astype(np.float32) * rng.uniform(0, 0.04)
    lit = np.clip(lit, 0, 1)
    if rng.random() < 0.4:
        band = int(rng.uniform(0.02, 0.1) * len(lit))
        columns = rng.random() < 0.5
        (lit.T if columns else lit)[:band] = 0
        (lit.T if columns else lit)[-band:] = 0
    return np.asarray(lit, np.float32)
