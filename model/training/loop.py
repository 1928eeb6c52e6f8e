"""The loop: a batch, a step, a look at the validation images, a checkpoint; deterministic by seed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from model.batches import Batch
from model.network import GroundingNetwork
from model.training.ahead import batches
from model.training.checkpoint import State, learnt, restore
from model.training.config import Recipe, Training
from model.training.distil import Teachers
from model.training.objective import answer_of, parts_of
from model.training.scores import Checks, score_of, total
from model.training.sources import Source

Figures = dict[str, float]


class TrainingError(RuntimeError):
    """Training cannot go on; the message names step and batch."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """What happens beside the loop.

    Parameters
    ----------
    log : takes the step and its figures.
    save : keeps a checkpoint.
    """

    log: Callable[[int, Figures], None]
    save: Callable[[State], None]


def optimiser_of(network: GroundingNetwork, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW over what is not frozen (Loshchilov and Hutter 2019)."""
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(learning, recipe.learning_rate, weight_decay=recipe.weight_decay)


def steps_of(recipe: Recipe, images: int) -> int:
    """Batches in all, for a number of training *images*."""
    return recipe.steps or max(1, math.ceil(recipe.epochs * images / recipe.batch))


def rate_of(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate of *step* in 1 to *steps*: up from 1/25 along a cosine, then constant or down to zero."""
    warm = recipe.warm_up * steps
    if step <= warm:
        return recipe.learning_rate * (1 / 25 + 24 / 25 * (1 - math.cos(math.pi * step / warm)) / 2)
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * (1 + math.cos(math.pi * (step - warm) / (steps + 1 - warm))) / 2


def fit(
    state: State,
    network: GroundingNetwork,
    training: Training,
    *,
    sources: Sequence[Source],
    checks: Sequence[Checks],
    hooks: Hooks,
    teachers: Teachers | None = None,
) -> None:
    """Train from ``state.step`` to the end, leaving the weights that the recipe keeps in *network*.

    Raises
    ------
    TrainingError
        If loss or gradient are not finite.
    """
    recipe, began = training.recipe, time.monotonic()
    steps = steps_of(recipe, sum(map(len, sources)))
    left = range(state.step + 1, steps + 1) if not state.stopped else range(0)
    config, workers = training.measures(), training.machine.workers
    made = batches(sources, config, seed=training.seed, steps=left, count=recipe.batch, workers=workers)
    if not state.step:
        hooks.log(0, look(state, training, checks))
    for step, batch in zip(left, made, strict=True):
        hooks.log(step, step_of(state, network, batch, training=training, step=step, steps=steps, teachers=teachers))
        if state.average is not None:
            state.average.update_parameters(network)
        state.step = step
        late = bool(recipe.minutes) and time.monotonic() - began > recipe.minutes * 60
        if step % recipe.check_every == 0 or step == steps or late:
            hooks.log(step, look(state, training, checks))
        if step % recipe.checkpoint_every == 0 or step == steps or late or state.stopped:
            hooks.save(state)
        if late or state.stopped:
            break
    restore(network, state.best_state if recipe.keep == "best" else learnt(state.scored))


def step_of(
    state: State,
    network: GroundingNetwork,
    batch: Batch,
    *,
    training: Training,
    step: int,
    steps: int,
    teachers: Teachers | None = None,
) -> Figures:
    """One step of the optimiser, and its figures."""
    device = next(network.parameters()).device
    torch.manual_seed(training.seed * 1_000_003 + step)
    rate = rate_of(training.recipe, step, steps)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    network.train()
    there = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=training.machine.precision == "bf16"):
        answer = answer_of(network, there)
    parts = parts_of(answer, there, training.loss)
    if teachers is not None:
        parts["teachers"] = teachers.loss(answer, there)
    loss = torch.stack(list(parts.values())).sum()
    figures = {"loss": loss.item(), **{f"loss/{name}": value.item() for name, value in parts.items()}}
    _finite(figures, step, batch)
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    learning = [parameter for group in state.optimiser.param_groups for parameter in group["params"]]
    norm = float(torch.nn.utils.clip_grad_norm_(learning, training.recipe.clip))
    _finite({"gradient norm": norm}, step, batch)
    state.optimiser.step()
    return {**figures, "gradient norm": norm, "learning rate": rate}


def look(state: State, training: Training, checks: Sequence[Checks]) -> Figures:
    """Score the validation images; keep the best weights, and stop early when they are long past."""
    recipe, scored = training.recipe, cast(GroundingNetwork, state.scored)
    scores = [score_of(scored, check) for check in checks]
    score = total(scores, [check.weight for check in checks], presence=recipe.presence_score)
    if score > state.best:
        state.best, state.best_step, state.best_state = score, state.step, learnt(scored)
    waited = (state.step - state.best_step) // recipe.check_every
    state.stopped = bool(recipe.patience) and waited >= recipe.patience
    figures = {"score": score}
    for check, each in zip(checks, scores, strict=True):
        figures[f"{check.name}/average precision"] = each.average_precision
        figures[f"{check.name}/presence AUC"] = each.presence_auc
    return {name: value for name, value in figures.items() if not math.isnan(value)}


def _finite(figures: Figures, step: int, batch: Batch) -> None:
    wrong = [name for name, value in figures.items() if not math.isfinite(value)]
    if wrong:
        raise TrainingError(
            f"step {step}: {', '.join(wrong)} not finite, in the batch of {', '.join(batch.names)}. "
            "Look at these images, lower the learning rate, or train in fp32"
        )
