"""``sightline train CONFIG``: everything from the configuration file to weights with their manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from torch import Tensor

from model.encoders.loading import CheckpointError
from model.network import GroundingNetwork, parameters_of, seeded_network
from model.training import checkpoint
from model.training.checkpoint import State
from model.training.config import Machine, Training, read_training
from model.training.distil import teachers_of
from model.training.gather import gather, patients_of
from model.training.loop import Figures, Hooks, fit, optimiser_of, steps_of
from model.training.scores import checks_of
from model.training.sources import Source
from model.training.tracking import Tracker, tracker_of
from model.training.tuning import Tuning, tuned
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
    sources = gather(training, lambda said: console.print(said, highlight=False))
    network = seeded_network(training.measures(), training.seed)
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    started = begun_from(network, training.start)
    began = checkpoint.learnt(network)
    state = checkpoint.begin(network, optimiser_of(network, training.recipe), average=training.recipe.average)
    about = {source.name: source.about for source in sources}
    recipe = {**training.recipe_of(), "start": started}
    identity = {"recipe": recipe, "data": about, "threads": torch.get_num_threads()}
    again = checkpoint.resume(state, training.run_folder, identity=identity)
    console.print(f"{parameters_of(network):,} parameters on {device.type}, {training.machine.precision}")
    for source in sources:
        console.print(f"  {source.name}: weight {source.weight:g}, {source.about}", highlight=False)
    if again:
        console.print(f"going on after step {state.step}")
    fitted = _fitted(state, network, training, sources=sources, identity=identity, console=console, began=began)
    figures, tuning = fitted
    manifest = save_weights(
        network.cpu(),
        training.out,
        figures=figures,
        recipe=recipe,
        data={**about, **patients_of(sources)},
        name=training.name,
        joint=tuning.joint,
        scalings=tuning.scalings,
        operating_points=tuning.operating_points,
    )
    return manifest, training.out


def _fitted(
    state: State,
    network: GroundingNetwork,
    training: Training,
    *,
    sources: Sequence[Source],
    identity: dict[str, object],
    console: Console,
    began: dict[str, Tensor],
) -> tuple[Figures, Tuning]:
    """Train, and tune what belongs to the weights; the figures of the end."""
    folder, recipe = training.run_folder, training.recipe
    checks = checks_of(sources, training.measures())
    steps = steps_of(recipe, sum(map(len, sources)))
    said = training.recipe_of()
    tracker = tracker_of(training.tracking, folder, after=state.step, name=training.name, recipe=said)
    teachers = None if training.distil is None else teachers_of(training.distil, next(network.parameters()).device)
    with _progress(console) as progress:
        bar = progress.add_task("training", total=steps, completed=state.step, loss=float("nan"))
        hooks = Hooks(
            log=_shown(tracker, progress, bar),
            save=lambda state: checkpoint.save(state, folder, identity=identity),
        )
        fit(state, network, training, sources=sources, checks=checks, hooks=hooks, teachers=teachers)
        kept = checkpoint.mixed(began, checkpoint.learnt(network), share=recipe.mix)
        checkpoint.restore(network, kept)
        tuning = tuned(network, sources, training.measures())
        chosen = {"score": state.best, "best_step": state.best_step} if recipe.keep == "best" else {}
        figures = {**chosen, **tuning.figures}
        tracker.finish(figures)
    return figures, tuning


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
