"""Where the figures go: files beside the weights always, and a tracker that the configuration names besides.

Without one nothing connects anywhere. Weights & Biases writes a run folder to be sent later unless the site switches
``offline`` off; MLflow writes into a folder unless the site names a server.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol
from uuid import NAMESPACE_URL, uuid5

from model.training.config import Tracking
from model.training.curves import write_curves

Figures = dict[str, float]
LOG = "log.jsonl"
CURVES = "curves.svg"
_ODD = re.compile(r"[^\w\-. ]")  # what MLflow refuses in a name, and what its folder cannot nest


class TrackingError(ValueError):
    """The tracker cannot be used; says what to install."""


class Tracker(Protocol):
    """Takes the figures of a training."""

    def log(self, step: int, figures: Figures) -> None:
        """Figures of one step; steps rise, and the last ones may come again after an interruption."""
        ...

    def finish(self, figures: Figures) -> None:
        """The figures of the end."""
        ...


class LocalLog:
    """One JSON object a line, the step and its figures; at each score a picture of the curves."""

    def __init__(self, folder: Path, *, after: int) -> None:
        """*after*: the step that training goes on from; later lines, of steps that will be done again, are dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        kept = [row for row in read_log(folder) if row["step"] <= after] if after else []
        (folder / LOG).write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")

    def log(self, step: int, figures: Figures) -> None:
        """Append a line."""
        with (self._folder / LOG).open("a", encoding="utf-8") as stream:
            stream.write(f"{json.dumps({'step': step, **figures})}\n")
        if "score" in figures:
            self._draw()

    def finish(self, figures: Figures) -> None:  # noqa: ARG002 (the figures of the end are in the manifest)
        """Draw the whole curves."""
        self._draw()

    def _draw(self) -> None:
        write_curves(read_log(self._folder), self._folder / CURVES)


def read_log(folder: Path) -> tuple[Figures, ...]:
    """The lines of a log; a last one that was cut off is left out."""
    rows = []
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ()
    for line in lines:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return tuple(rows)


class WandbTracker:
    """A run of Weights & Biases; one that was interrupted goes on under the same identifier."""

    def __init__(self, tracking: Tracking, folder: Path, *, name: str, recipe: dict[str, Any]) -> None:
        os.environ["WANDB_ERROR_REPORTING"] = "false"  # read at import; reports of its own errors go to its maker
        try:
            import wandb
        except ImportError as error:
            raise TrackingError("Weights & Biases is not installed: pip install 'sightline-cxr[wandb]'") from error
        self._teardown: Callable[[], None] = wandb.teardown
        quiet = wandb.Settings(
            console="off", silent=True, x_disable_stats=True, x_disable_meta=True, disable_git=True, save_code=False
        )
        self._run = wandb.init(
            project=tracking.project,
            dir=str(folder),
            mode="offline" if tracking.offline else "online",
            id=uuid5(NAMESPACE_URL, str(folder)).hex,
            resume="allow",
            name=name,
            config=recipe,
            settings=quiet,
        )

    def log(self, step: int, figures: Figures) -> None:
        """To the run's history."""
        self._run.log(figures, step=step)

    def finish(self, figures: Figures) -> None:
        """To the run's summary, and end it."""
        self._run.summary.update(figures)
        self._run.finish()
        self._teardown()  # waits for wandb's own process, which holds back the last figures until it ends


class MlflowTracker:
    """A run of MLflow, in a folder beside the results or on the site's server."""

    def __init__(self, tracking: Tracking, folder: Path, *, name: str, recipe: dict[str, Any]) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read at import
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"  # a folder needs no database
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param
        except ImportError as error:
            raise TrackingError("MLflow is not installed: pip install 'sightline-cxr[mlflow]'") from error
        self._metric = Metric
        self._client = MlflowClient(tracking_uri=tracking.uri or (folder / "mlruns").as_uri())
        known = self._client.get_experiment_by_name(tracking.project)
        experiment = known.experiment_id if known else self._client.create_experiment(tracking.project)
        self._run = self._client.create_run(experiment, run_name=name).info.run_id
        settings = [Param(key, str(value)[:6000]) for key, value in _flat(recipe)]
        self._client.log_batch(self._run, params=settings)

    def log(self, step: int, figures: Figures) -> None:
        """As metrics."""
        self._client.log_batch(self._run, metrics=self._metrics(figures, step))

    def finish(self, figures: Figures) -> None:
        """As metrics of the end, and end the run."""
        self._client.log_batch(self._run, metrics=self._metrics({f"final {k}": v for k, v in figures.items()}, 0))
        self._client.set_terminated(self._run)

    def _metrics(self, figures: Figures, step: int) -> list[Any]:
        now = int(time.time() * 1000)
        return [self._metric(_ODD.sub(" ", name), value, now, step) for name, value in figures.items()]


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{place}.{key}".strip("."))
    else:
        yield place, value


class Both:
    """Two trackers as one."""

    def __init__(self, one: Tracker, other: Tracker) -> None:
        self._trackers = (one, other)

    def log(self, step: int, figures: Figures) -> None:
        """To each."""
        for tracker in self._trackers:
            tracker.log(step, figures)

    def finish(self, figures: Figures) -> None:
        """Each."""
        for tracker in self._trackers:
            tracker.finish(figures)


def tracker_of(tracking: Tracking, folder: Path, *, after: int, name: str, recipe: dict[str, Any]) -> Tracker:
    """The trackers that the configuration names, with their files in *folder*.

    Parameters
    ----------
    after : the step that training goes on from.
    name, recipe : of the run.

    Raises
    ------
    TrackingError
        If the package of the named tracker is not installed.
    """
    local = LocalLog(folder, after=after)
    if tracking.to == "wandb":
        return Both(local, WandbTracker(tracking, folder, name=name, recipe=recipe))
    if tracking.to == "mlflow":
        return Both(local, MlflowTracker(tracking, folder, name=name, recipe=recipe))
    return local
