"""Batches made ahead by a few threads, each from seed and step alone: how many threads there are changes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from model.batches import Batch, collate
from model.config import Config
from model.training.sources import Source, drawn_from


def batch_of(sources: Sequence[Source], config: Config, *, seed: int, step: int, count: int) -> Batch:
    """The batch of *step*: *count* images."""
    rng = np.random.Generator(np.random.PCG64([seed, step]))
    return collate(drawn_from(sources, rng, count=count), config)


def batches(
    sources: Sequence[Source], config: Config, *, seed: int, steps: range, count: int, workers: int
) -> Iterator[Batch]:
    """The batches of *steps*, in order."""
    waiting: deque[Future[Batch]] = deque()
    left = iter(steps)
    with ThreadPoolExecutor(workers) as pool:
        try:
            while True:
                while len(waiting) < 2 * workers and (step := next(left, None)) is not None:
                    waiting.append(pool.submit(batch_of, sources, config, seed=seed, step=step, count=count))
                if not waiting:
                    return
                yield waiting.popleft().result()
        finally:
            for each in waiting:
                each.cancel()
