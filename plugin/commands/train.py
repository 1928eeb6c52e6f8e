"""``sightline train``: train the grounding model from a configuration file."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from model.training.loop import TrainingError
from model.training.run import train
from plugin.errors import InputError


def run(config: Path, *, overrides: tuple[str, ...]) -> None:
    """Train as *config* says, and say where the weights lie; an interrupted training goes on where it was.

    Raises
    ------
    InputError
        If configuration, data or checkpoint cannot be used, or loss or gradient stopped being finite.
    """
    console = Console()
    try:
        manifest, folder = train(config, overrides=overrides, console=console)
    except (TrainingError, ValueError) as error:
        raise InputError(str(error)) from error
    console.print(f"{manifest.name}: {manifest.figures}", highlight=False)
    console.print(f"weights and manifest: {folder}", highlight=False)
