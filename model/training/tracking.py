"""Where the figures go: a file beside the weights. Nothing connects anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

Figures = dict[str, float]
LOG = "log.jsonl"


class Tracker(Protocol):
    """Takes the figures of a training."""

    def log(self, step: int, figures: Figures) -> None:
        """Figures of one step; steps rise, and the last ones may come again after an interruption."""
        ...

    def finish(self, figures: Figures) -> None:
        """The figures of the end."""
        ...


class LocalLog:
    """One JSON object a line: the step and its figures."""

    def __init__(self, folder: Path, *, after: int) -> None:
        """*after*: the step that training goes on from; later lines, of steps that will be done again, are dropped."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / LOG
        kept = [row for row in read_log(folder) if row["step"] <= after] if after else []
        self._file.write_text("".join(f"{json.dumps(row)}\n" for row in kept), encoding="utf-8")

    def log(self, step: int, figures: Figures) -> None:
        """Append a line."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(f"{json.dumps({'step': step, **figures})}\n")

    def finish(self, figures: Figures) -> None:
        """Nothing more: the figures of the end are in the manifest."""


def read_log(folder: Path) -> tuple[dict[str, float], ...]:
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


@contextmanager
def tracked(folder: Path, *, after: int) -> Iterator[Tracker]:
    """The log of *folder*, going on after a step."""
    yield LocalLog(folder, after=after)
