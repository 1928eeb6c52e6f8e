"""Train the grounding network on the synthetic twin, and write weights with their manifest.

    python -m model.train --cache FOLDER --out FOLDER [--lungs FOLDER]

Deterministic for a seed and a number of threads. The best weights are those with the highest mean average precision of
cells on validation samples, a score that needs no threshold; the threshold is then tuned on the same samples by Dice.
Measuring happens elsewhere, on samples that neither training nor tuning has seen (:mod:`model.evaluate`).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from model.batches import Batch, Item, collate, item_of, lung_item, view_item
from model.cache import Example, make_cache, read_example
from model.config import Config
from model.losses import dice_loss, focal_loss
from model.lungs import Pair, read_lungs
from model.network import GroundingNetwork, parameters_of, seeded_network
from model.weights import save_weights

TRAINING_SEEDS = range(100_000, 104_000)
VALIDATION_SEEDS = range(104_000, 104_200)
ODDS_OF_PRESENCE = 3
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(2, 18))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Parameters
    ----------
    steps : batches in all; the learning rate warms up and falls to zero over them.
    images, lungs, views : of the twin, with real lung outlines, and for telling views, in each batch.
    alpha, gamma : of the focal loss.
    check_every : steps between looks at the validation samples.
    """

    seed: int = 1
    steps: int = 1400
    images: int = 9
    lungs: int = 1
    views: int = 1
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    alpha: float = 0.6
    gamma: float = 2.0
    check_every: int = 100
    minutes: float = 60.0


def train(
    config: Config,
    recipe: Recipe,
    *,
    examples: list[Example],
    validation: list[Example],
    lungs: tuple[Pair, ...],
    console: Console,
) -> tuple[GroundingNetwork, dict[str, float]]:
    """The network with the best weights, and its figures on *validation*."""
    network = seeded_network(config, recipe.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    console.print(f"{parameters_of(network):,} parameters, {len(examples)} samples, {len(lungs)} real lung outlines")
    rng = np.random.Generator(np.random.PCG64(recipe.seed))
    optimiser = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.steps + 1, pct_start=0.08)
    checks = collate_all(validation, config)
    best, best_state, began = -1.0, network.state_dict(), time.monotonic()
    for step in range(1, recipe.steps + 1):
        batch = collate(_items(examples, lungs, recipe=recipe, config=config, rng=rng), config)
        network.train()
        loss = loss_of(network, batch, recipe)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        late = time.monotonic() - began > recipe.minutes * 60
        if step % recipe.check_every == 0 or step == recipe.steps or late:
            score = average_precision(network, checks)
            console.print(f"step {step}: loss {loss.item():.3f}, average precision {score:.3f}", highlight=False)
            if score > best:
                best = score
                best_state = {name: value.clone() for name, value in network.state_dict().items()}
        if late:
            break
    network.load_state_dict(best_state)
    return network.eval(), {"average_precision": best, **tuned(network, checks)}


def _items(
    examples: list[Example], lungs: tuple[Pair, ...], *, recipe: Recipe, config: Config, rng: np.random.Generator
) -> list[Item]:
    chosen = rng.integers(len(examples), size=recipe.images)
    items = [item_of(examples[number], rng, augment=True) for number in chosen]
    if lungs:
        items += [lung_item(lungs[number], rng) for number in rng.integers(len(lungs), size=recipe.lungs)]
    views = rng.integers(2**31, size=recipe.views)
    return items + [view_item(int(seed), rng, config) for seed in views]


def loss_of(network: GroundingNetwork, batch: Batch, recipe: Recipe) -> Tensor:
    """Masks (Dice where present, focal everywhere), presence, anatomy where known, and view."""
    encoded = network.encode(batch.images)
    phrases = network.phrase(batch.tokens, batch.offsets)
    logits, presence = network.locate(encoded, phrases, batch.image)
    focal = focal_loss(logits, batch.masks, alpha=recipe.alpha, gamma=recipe.gamma).mean() * 10
    dice = (dice_loss(logits, batch.masks) * batch.present).sum() / batch.present.sum().clamp(min=1)
    there = F.binary_cross_entropy_with_logits(presence, batch.present)
    outlined = (batch.anatomy >= 0).float() * batch.known[:, None, None, None]
    anatomy = F.binary_cross_entropy_with_logits(encoded.anatomy, batch.anatomy.clamp(min=0), weight=outlined)
    view = F.cross_entropy(encoded.view, batch.view)
    return focal + dice + 0.5 * there + 2 * anatomy + 0.2 * view


def collate_all(examples: list[Example], config: Config) -> list[Batch]:
    """Validation examples without augmentation, with the same words every time."""
    rng = np.random.Generator(np.random.PCG64(0))
    items = [item_of(example, rng, augment=False) for example in examples]
    return [collate(items[start : start + 20], config) for start in range(0, len(items), 20)]


@torch.inference_mode()
def predict(network: GroundingNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """*Shape:* -> mask probabilities (P, s/2, s/2), presence probabilities (P,)."""
    network.eval()
    encoded = network.encode(batch.images)
    phrases = network.phrase(batch.tokens, batch.offsets)
    logits, presence = network.locate(encoded, phrases, batch.image)
    return logits.sigmoid(), presence.sigmoid()


def average_precision(network: GroundingNetwork, batches: list[Batch]) -> float:
    """Mean over present phrases of the average precision of cells at a quarter of the heatmap's resolution."""
    scores: list[float] = []
    for batch in batches:
        probability, _ = predict(network, batch)
        small = F.avg_pool2d(probability[:, None], 2)[:, 0].flatten(1)
        wanted = (F.avg_pool2d(batch.masks[:, None], 2)[:, 0] > 0.5).float().flatten(1)
        order = small.argsort(dim=1, descending=True)
        hits = wanted.gather(1, order)
        precision = hits.cumsum(dim=1) / torch.arange(1, hits.shape[1] + 1)
        counted = wanted.sum(dim=1)
        scores += ((precision * hits).sum(dim=1)[counted > 0] / counted[counted > 0]).tolist()
    return float(np.mean(scores))


def tuned(network: GroundingNetwork, batches: list[Batch]) -> dict[str, float]:
    """The threshold with the best mean Dice over present phrases, and that of presence with the best accuracy.

    Present phrases weigh :data:`ODDS_OF_PRESENCE` times as much: the model is asked only what a report affirms.
    """
    dice: list[list[float]] = [[] for _ in THRESHOLDS]
    present: list[float] = []
    absent: list[float] = []
    for batch in batches:
        probability, presence = predict(network, batch)
        there = batch.present > 0
        present += presence[there].tolist()
        absent += presence[~there].tolist()
        wanted = batch.masks[there].flatten(1)
        for scores, threshold in zip(dice, THRESHOLDS, strict=True):
            lit = (probability[there].flatten(1) >= threshold).float()
            scores.extend((2 * (lit * wanted).sum(1) / (lit.sum(1) + wanted.sum(1)).clamp(min=1)).tolist())
    means = [float(np.mean(scores)) for scores in dice]
    best = int(np.argmax(means))
    seen, unseen = np.array(present), np.array(absent)
    cut = max(THRESHOLDS, key=lambda cut: ODDS_OF_PRESENCE * np.mean(seen >= cut) + np.mean(unseen < cut))
    return {"threshold": THRESHOLDS[best], "dice": means[best], "presence_threshold": cut}


def main() -> None:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(description="Train the grounding network on the synthetic twin.")
    parser.add_argument("--cache", type=Path, required=True, help="folder for rendered samples (about 150 MB)")
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and manifest")
    parser.add_argument("--lungs", type=Path, help="Hannover radiographs with V7 lung masks, if at hand")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--minutes", type=float, default=Recipe().minutes)
    parser.add_argument("--workers", type=int, default=2)
    parsed = parser.parse_args()
    config, recipe, console = Config(), Recipe(steps=parsed.steps, minutes=parsed.minutes), Console()
    torch.set_num_threads(parsed.workers)
    for seeds in (TRAINING_SEEDS, VALIDATION_SEEDS):
        make_cache(parsed.cache, seeds, size=config.size, workers=parsed.workers)
    lungs = read_lungs(parsed.lungs, size=config.size, held_out=False) if parsed.lungs else ()
    network, figures = train(
        config,
        recipe,
        examples=[read_example(parsed.cache, seed) for seed in TRAINING_SEEDS],
        validation=[read_example(parsed.cache, seed) for seed in VALIDATION_SEEDS],
        lungs=lungs,
        console=console,
    )
    data = {"twin": [TRAINING_SEEDS.start, TRAINING_SEEDS.stop], "real lung outlines": len(lungs)}
    manifest = save_weights(network, parsed.out, figures=figures, recipe=asdict(recipe), data=data)
    console.print(json.dumps(asdict(manifest), indent=1), highlight=False)


if __name__ == "__main__":
    main()
