"""How long a study takes: two images and eight phrases, after warm-up, and what one more phrase costs.

    python -m model.speed [--engine NAME] [--threads N] [--cache FOLDER]

The images are of a detector's size (2,500 x 2,048); decoding them is not the model's work and not counted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.engines.choice import ENGINES, cores
from model.geometry import UPRIGHT
from model.grounder import load_grounder
from model.twin.sample import sample
from model.values import Query, Question

PHRASES = tuple(
    Query(f"{side} {finding}", finding, side)
    for side in ("left", "right")
    for finding in ("pleural effusion", "consolidation", "opacity", "pulmonary nodule", "mass", "atelectasis",
                    "pneumothorax", "pulmonary edema")
)  # fmt: skip
_ROWS, _COLUMNS = 2500, 2048
#: For instance :meth:`model.grounder.EngineGrounder.ground_all`.
Ground = Callable[[Sequence[Question]], object]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds, the least of several runs: a run can be slowed by others, never hastened.

    Parameters
    ----------
    study : two images, eight phrases.
    phrase : what each phrase beyond these costs.
    """

    study: float
    phrase: float

    @property
    def share(self) -> float:
        """Of a study, that one more phrase costs."""
        return self.phrase / self.study


def questions(*, phrases: int) -> tuple[Question, ...]:
    """Two films of the twin at a detector's size, each asked the same *phrases*, at most 16."""
    films = []
    for seed in (800_000, 800_001):
        square = np.repeat(np.repeat(sample(seed, size=256).pixels, 10, axis=0), 8, axis=1)
        films.append(np.ascontiguousarray(square[:_ROWS, :_COLUMNS]))
    return tuple(Question(film, UPRIGHT, PHRASES[:phrases]) for film in films)


def times(ground: Ground, *, runs: int, clock: Callable[[], float] = time.perf_counter) -> Times:
    """Times of *ground* by *clock*, in new words each time, after one run of each kind that is not counted."""
    few, many = questions(phrases=8), questions(phrases=16)
    study = _least(ground, few, runs=runs, clock=clock)
    more = _least(ground, many, runs=runs, clock=clock)
    return Times(study, max(0.0, more - study) / 8)


def _least(ground: Ground, asked: Sequence[Question], *, runs: int, clock: Callable[[], float]) -> float:
    ground(asked)
    spent = []
    for _ in range(runs):
        new = _worded_anew(asked)
        began = clock()
        ground(new)
        spent.append(clock() - began)
    return min(spent)


def _worded_anew(asked: Sequence[Question]) -> list[Question]:
    """The same in words never asked before, of every image alike: a grounder need not embed what it knows."""
    word = time.perf_counter_ns()
    return [
        replace(each, queries=tuple(replace(query, text=f"{query.text} {word}") for query in each.queries))
        for each in asked
    ]


def main() -> None:
    """The command of the module's docstring."""
    parser = argparse.ArgumentParser(description="Time the grounding of a study.")
    parser.add_argument("--engine", default="torch", choices=ENGINES)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--cache", type=Path, default=Path("sightline-data/engines"))
    parsed = parser.parse_args()
    grounder = load_grounder(engine=parsed.engine, threads=parsed.threads, cache=parsed.cache)
    wall = times(grounder.ground_all, runs=parsed.runs)
    busy = times(grounder.ground_all, runs=parsed.runs, clock=time.process_time)
    print(f"{grounder.engine}, {parsed.threads} threads: a study (2 images, 8 phrases) {wall.study * 1000:.0f} ms")
    print(f"one more phrase {wall.phrase * 1000:.1f} ms, {wall.share:.1%} of a study")
    print(f"processor time: study {busy.study * 1000:.0f} ms, phrase {busy.phrase * 1000:.1f} ms, {busy.share:.1%}")


if __name__ == "__main__":
    main()
