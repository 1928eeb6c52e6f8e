"""Train the suitability network, fit what lies in its distribution, choose its limits, and measure them.

    python -m model.suitability.train --films FOLDER --out model/suitability/weights

*FOLDER* holds ``nih`` and ``hannover``. Patients are split three ways by a hash of their number: one in five is kept
for measuring, one in eight of the others sets the limits, the rest is learnt from. Films that their source calls turned
are kept out of learning and of the limits. Five minutes on one core; deterministic for a seed and one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.batches import affine, relit
from model.data.split import fold_of, held_out
from model.suitability.judge import Known, Limits, save_judge
from model.suitability.measure import SHOWN, known_of, limits_of, scores_as, told
from model.suitability.network import KINDS, POSES, SIZE, SuitabilityNetwork, posed
from model.suitability.pictures import Picture, films, strays, twins

FIRST_TWIN, FIRST_FRESH = 500_000, 510_000  # seeds of the drawn pictures: learnt from, and never
PARTS = ("learnt", "limits", "held out")
MIRROR = POSES.index((False, False, True))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train: pictures of each kind in a batch, and how often one is shown inverted."""

    seed: int = 1
    steps: int = 800
    films: int = 12
    twins: int = 4
    laterals: int = 6
    bodies: int = 4
    strays: int = 4
    inverted: float = 0.25
    learning_rate: float = 3e-3
    weight_decay: float = 0.03


@dataclass(frozen=True, slots=True)
class Pools:
    """Pictures by what they teach."""

    films: tuple[Picture, ...]
    twins: tuple[Picture, ...]
    laterals: tuple[Picture, ...]
    bodies: tuple[Picture, ...]
    strays: tuple[Picture, ...]


def part_of(patient: str) -> str:
    """``held out``, ``limits`` or ``learnt``: what the films of *patient* are used for."""
    if held_out(patient):
        return "held out"
    return "limits" if fold_of(patient, 8) == 0 else "learnt"


def pools_of(real: tuple[Picture, ...], drawn: tuple[Picture, ...], stray: tuple[Picture, ...]) -> Pools:
    """What is learnt from."""
    frontal, lateral, other = (tuple(each for each in drawn if each.kind == kind) for kind in range(len(KINDS)))
    return Pools(real or frontal, frontal, lateral, other, stray)


def train(pools: Pools, recipe: Recipe, *, console: Console) -> SuitabilityNetwork:
    """The trained network."""
    torch.manual_seed(recipe.seed)
    rng = np.random.Generator(np.random.PCG64(recipe.seed))
    network = SuitabilityNetwork()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.steps + 1, pct_start=0.1)
    began = time.monotonic()
    for step in range(1, recipe.steps + 1):
        loss = loss_of(network, *_batch(pools, recipe, rng), rng=rng)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 0:
            console.print(f"step {step}: loss {loss.item():.3f}, {time.monotonic() - began:.0f} s", highlight=False)
    return network.eval()


def _batch(pools: Pools, recipe: Recipe, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, int]:
    """Images (B, 1, s, s), kind (B,), inverted (B,), and how many of the first are frontal."""
    chosen: list[Picture] = []
    for name in ("films", "twins", "laterals", "bodies", "strays"):
        pool = getattr(pools, name)
        chosen += [pool[number] for number in rng.integers(len(pool), size=getattr(recipe, name))]
    inverted = (rng.random(len(chosen)) < recipe.inverted).astype(np.float32)
    planes = [_augmented(each, rng) for each in chosen]
    images = np.stack([1 - plane if turned else plane for plane, turned in zip(planes, inverted, strict=True)])
    kinds = torch.tensor([each.kind for each in chosen])
    return torch.from_numpy(images)[:, None], kinds, torch.from_numpy(inverted), recipe.films + recipe.twins


def _augmented(picture: Picture, rng: np.random.Generator) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    plane = affine(rng, len(picture.pixels))(picture.pixels.astype(np.float32) / 255)
    if picture.kind == KINDS.index("lateral") and rng.random() < 0.5:
        plane = plane[:, ::-1]
    lit = relit(np.ascontiguousarray(plane), rng)
    return np.asarray(cv2.resize(lit, (SIZE, SIZE), interpolation=cv2.INTER_AREA))


def loss_of(
    network: SuitabilityNetwork,
    images: Tensor,
    kinds: Tensor,
    inverted: Tensor,
    frontal: int,
    *,
    rng: np.random.Generator,
) -> Tensor:
    """Of each frontal picture the upright view must beat its mirror image and one more; and kind, and inversion."""
    films_, rest = images[:frontal], images[frontal:]
    other = [int(pose) for pose in rng.choice([n for n in range(1, len(POSES)) if n != MIRROR], frontal)]
    third = torch.stack([posed(film, pose) for film, pose in zip(films_, other, strict=True)])
    turned = torch.stack(
        [posed(image, int(pose)) for image, pose in zip(rest, rng.integers(8, size=len(rest)), strict=True)]
    )
    what, where = network.features(torch.cat([films_, posed(films_, MIRROR), third, turned]))
    upright = network.upright(where[: 3 * frontal])[:, 0].unflatten(0, (3, frontal)).T
    pose = F.cross_entropy(upright, torch.zeros(frontal, dtype=torch.long), label_smoothing=0.02)
    repeated = torch.cat([torch.arange(frontal).repeat(3), torch.arange(frontal, len(images))])
    kind = F.cross_entropy(network.kind(what), kinds[repeated], label_smoothing=0.02)
    flipped = F.binary_cross_entropy_with_logits(network.inverted(what)[:, 0], inverted[repeated])
    return pose + kind + 0.5 * flipped


def finished(network: SuitabilityNetwork, pools: Pools, limits_from: tuple[Picture, ...]) -> tuple[Known, Limits]:
    """What lies in the distribution, from what was learnt, and limits from *limits_from*: upright frontal films."""
    known = known_of(network, (pools.films, pools.twins, pools.laterals))
    return known, limits_of(scores_as(network, known, limits_from, "upright"))


def confusion(
    network: SuitabilityNetwork, known: Known, limits: Limits, *, kept: tuple[Picture, ...], stray: tuple[Picture, ...]
) -> dict[str, dict[str, object]]:
    """Verdicts on *kept* films shown in each way, on those that their source calls turned, and on *stray* ones."""
    upright = tuple(each for each in kept if not each.turned)
    found = {shown: told(scores_as(network, known, upright, shown), limits) for shown in SHOWN}
    turned = tuple(each for each in kept if each.turned)
    found["turned, says the source"] = told(scores_as(network, known, turned, "upright"), limits)
    found["no radiograph"] = told(scores_as(network, known, stray, "upright"), limits)
    return {name: asdict(each) for name, each in found.items()}


def main() -> None:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(description="Train the network that judges whether an image can be grounded.")
    parser.add_argument("--films", type=Path, help="folder with nih and hannover; without it, on the twin alone")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and manifest")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument(
        "--drawn", type=int, default=1500, help="how many pictures of the twin; strays are four fifths of that"
    )
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    console, recipe = Console(), Recipe(steps=parsed.steps)
    every = tuple(films(parsed.films)) if parsed.films else ()
    parts = {part: tuple(each for each in every if part_of(each.patient) == part) for part in PARTS}
    drawn = range(FIRST_TWIN, FIRST_TWIN + parsed.drawn)
    unseen = range(FIRST_FRESH, FIRST_FRESH + parsed.drawn // 5)
    learnt = tuple(each for each in parts["learnt"] if not each.turned)
    pools = pools_of(learnt, tuple(twins(drawn)), tuple(strays(range(parsed.drawn * 4 // 5))))
    network = train(pools, recipe, console=console)
    fresh = tuple(each for each in twins(unseen) if each.kind == KINDS.index("frontal"))
    known, limits = finished(network, pools, (*(e for e in parts["limits"] if not e.turned), *fresh))
    figures = confusion(network, known, limits, kept=parts["held out"] or fresh, stray=tuple(strays(unseen)))
    made = {"films": len(learnt), "twin": [drawn.start, drawn.stop], "limits": len(parts["limits"])}
    save_judge(
        network, known, limits, folder=parsed.out, figures={"recipe": asdict(recipe), "data": made, "kept": figures}
    )
    console.print(json.dumps({"limits": asdict(limits), **figures}, indent=1), highlight=False)


if __name__ == "__main__":
    main()
