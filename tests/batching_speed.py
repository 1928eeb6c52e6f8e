"""What sharing one model gains or costs: four jobs at once, each asking it by itself, and through the model worker.

    PYTHONPATH=. python tests/batching_speed.py [rounds]

Each study has two images of a detector's size and eight phrases. Asking directly from several threads is what the
grounder does not allow; PyTorch happens to bear it.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

from model.engines.choice import cores
from model.grounder import load_grounder
from model.speed import questions
from model.values import Question
from plugin.batching import Batching, SharedModel
from plugin.ports import Grounder, Priority

JOBS, STUDIES = 4, 3
SIZES = ((1, 16), (2, 32), (4, 64))


def studies() -> list[list[Question]]:
    """Each with images of its own, which nobody writes."""
    made = []
    for number in range(JOBS * STUDIES):
        films = [np.ascontiguousarray(each.pixels * np.float32(1 - number / 1000)) for each in questions(phrases=8)]
        for film in films:
            film.setflags(write=False)
        made.append(
            [
                Question(film, each.orientation, each.queries)
                for film, each in zip(films, questions(phrases=8), strict=True)
            ]
        )
    return made


def measured(ask: Callable[[], Grounder]) -> tuple[float, float, float]:
    """Studies a second, processor milliseconds a study, and seconds of the longest."""
    films, took = studies(), []

    def job(number: int) -> None:
        for study in films[number * STUDIES : (number + 1) * STUDIES]:
            began, grounder = time.perf_counter(), ask()
            for each in study:
                grounder.suitability(each.pixels, each.orientation)
            grounder.ground_all(study)
            took.append(time.perf_counter() - began)

    jobs = [threading.Thread(target=job, args=(number,)) for number in range(JOBS)]
    began, busy = time.perf_counter(), time.process_time()
    for each in jobs:
        each.start()
    for each in jobs:
        each.join()
    count = JOBS * STUDIES
    return count / (time.perf_counter() - began), 1000 * (time.process_time() - busy) / count, max(took)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    model = load_grounder(threads=cores())
    measured(lambda: model)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for _ in range(rounds):
        found.setdefault("each by itself", []).append(measured(lambda: model))
        for images, phrases in SIZES:
            shared = SharedModel(model, lambda: model, batching=Batching(images=images, phrases=phrases))
            turn = shared.at(Priority.NEW)
            name = f"shared, {images} images, {phrases} phrases"
            found.setdefault(name, []).append(measured(lambda turn=turn: turn))  # type: ignore[misc]
    for name, rows in found.items():
        rate, cpu, longest = (statistics.median(each) for each in zip(*rows, strict=True))
        print(f"{name}: {rate:.2f} studies a second, {cpu:.0f} ms of processor a study, longest {longest:.2f} s")


if __name__ == "__main__":
    main()
