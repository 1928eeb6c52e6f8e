"""``sightline train CONFIG``: everything from the configuration file to weights with their manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from model.encoders.loading import CheckpointError
from model.network import GroundingNetwork, parameters_of, seeded_network
from model.training import checkpoint
from model.training.answers import Answered, Checks, answered
from model.training.config import Machine, Training, read_training
from model.training.distil import teachers_of
from model.training.gather import gather, patients_of
from model.training.loop import Figures, Hooks, fit, optimiser_of, steps_of
from model.training.pictures import PictureSource
from model.training.scores import checks_of
from model.training.sources import Source
from model.training.strangers import scores_of
from model.training.tracking import Tracker, tracker_of
from model.training.tuning import tuned
from model.weights import Manifest, WeightsError, load_weights, save_weights


def train(file: Path, *, overrides: Sequence[str] = (), console: Console) -> tuple[Manifest, Path]:
    """Train as *file* says, going on from its checkpoint if there is one: the manifest, and the folder of the weights.

    Raises
    ------
    ValueError
        If the configuration, the data or the checkpoint cannot be used.
    TrainingError
        If loss or gradient are not finite.
    """
    training = read_training(file, overrides)
    device = device_of(training.machine)
    strangers = _strangers(training, device, console)
    learnt = _learn(training, device, console)
    tuning = tuned(learnt.network, learnt.sources, training.measures(), strangers)
    figures = {**learnt.figures, **tuning.figures, **scores_of(strangers, tuning.made)}
    learnt.tracker.finish(figures)
    manifest = save_weights(
        learnt.network.cpu(),
        training.out,
        figures=figures,
        recipe=learnt.recipe,
        data={**_about(learnt.sources), **patients_of(learnt.sources)},
        name=training.name,
        joint=tuning.made.joint,
        scalings=tuning.scalings,
        operating_points=tuning.operating_points,
    )
    return manifest, training.out


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """A network after its last step.

    Parameters
    ----------
    recipe : everything that decided about the weights.
    figures : of the weights that were kept.
    tracker : yet to be told the figures of the end.
    """

    network: GroundingNetwork
    sources: tuple[Source, ...]
    recipe: dict[str, Any]
    figures: Figures
    tracker: Tracker


def _strangers(training: Training, device: torch.device, console: Console) -> Checks:
    """Every image that is scored, answered by the network that was trained without its patient; none without folds."""
    found: dict[str, tuple[float, tuple[Answered, ...]]] = {}
    for fold in range(training.split.folds if training.split.crossed else 0):
        console.print(f"fold {fold + 1} of {training.split.folds}: trained without its patients, to answer for them")
        folder, split = training.run_folder / f"fold-{fold}", replace(training.split, fold=fold)
        learnt = _learn(replace(training, run=folder, split=split), device, console)
        learnt.tracker.finish(learnt.figures)
        for source in learnt.sources:
            if source.score and isinstance(source, PictureSource):
                rows = answered(learnt.network, source.validation(), training.measures(), fold=fold)
                found[source.name] = (source.score, (*found.get(source.name, (0.0, ()))[1], *rows))
    return found


def _learn(training: Training, device: torch.device, console: Console) -> Learnt:
    """Train one network, from its checkpoint if there is one."""
    sources = gather(training, lambda said: console.print(said, highlight=False))
    network = seeded_network(training.measures(), training.seed)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    started = begun_from(network, training.start)
    began = checkpoint.learnt(network)
    state = checkpoint.begin(network, optimiser_of(network, training.recipe), average=training.recipe.average)
    recipe = {**training.recipe_of(), "start": started}
    identity = {"recipe": recipe, "data": _about(sources), "threads": torch.get_num_threads()}
    again = checkpoint.resume(state, training.run_folder, identity=identity)
    console.print(f"{parameters_of(network):,} parameters on {device.type}, {training.machine.precision}")
    for source in sources:
        console.print(f"  {source.name}: weight {source.weight:g}, {source.about}", highlight=False)
    if again:
        console.print(f"going on after step {state.step}")
    folder, kept = training.run_folder, training.recipe
    tracker = tracker_of(training.tracking, folder, after=state.step, name=training.name, recipe=training.recipe_of())
    teachers = None if training.distil is None else teachers_of(training.distil, device)
    with _progress(console) as progress:
        steps = steps_of(kept, sum(map(len, sources)))
        bar = progress.add_task("training", total=steps, completed=state.step, loss=float("nan"))
        hooks = Hooks(
            log=_shown(tracker, progress, bar),
            save=lambda state: checkpoint.save(state, folder, identity=identity),
        )
        checks = checks_of(sources, training.measures())
        fit(state, network, training, sources=sources, checks=checks, hooks=hooks, teachers=teachers)
    checkpoint.restore(network, checkpoint.mixed(began, checkpoint.learnt(network), share=kept.mix))
    figures = {"score": state.best, "best_step": state.best_step} if kept.keep == "best" else {}
    return Learnt(network, sources, recipe, figures, tracker)


def _about(sources: Sequence[Source]) -> dict[str, object]:
    return {source.name: source.about for source in sources}


def _shown(tracker: Tracker, progress: Progress, bar: TaskID) -> Callable[[int, Figures], None]:
    """Logs figures, moves the bar with each loss, and prints each score."""

    def log(step: int, figures: Figures) -> None:
        tracker.log(step, figures)
        if "loss" in figures:
            progress.update(bar, completed=step, loss=figures["loss"])
        if "score" in figures:
            said = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
            progress.console.print(f"step {step}: {said}", highlight=False)

    return log


def begun_from(network: GroundingNetwork, folder: Path | None) -> str:
    """Give *network* the weights of *folder*, or its encoders where it holds a published pair: their SHA-256.

    Raises
    ------
    WeightsError
        If they are missing, damaged, or of another network.
    """
    if folder is None:
        return ""
    weights, manifest = load_weights(folder)
    try:
        if weights.config.decoder == "similarity":
            from model.encoders.similarity import take_over

            take_over(network, weights)
        else:
            network.load_state_dict(weights.state_dict())
    except CheckpointError as error:
        raise WeightsError(f"the encoders to start from do not fit: {error}") from error
    except RuntimeError as error:
        raise WeightsError("the weights to start from are of a network with other measures") from error
    return manifest.sha256


def device_of(machine: Machine) -> torch.device:
    """The device, made ready: threads set, and on CUDA deterministic kernels where there are some.

    Raises
    ------
    ValueError
        If CUDA is asked for and not there.
    """
    if machine.threads:
        torch.set_num_threads(machine.threads)
    there = torch.cuda.is_available()
    if machine.device == "cuda" and not there:
        raise ValueError('machine.device is "cuda", but PyTorch finds no CUDA device: use "auto" or "cpu"')
    if machine.device == "cpu" or not there:
        return torch.device("cpu")
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    return torch.device("cuda")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
        console=console,
    )
