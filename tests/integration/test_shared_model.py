"""The shipped model, asked by several jobs at once: every answer is the one that it gives to each alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from model.batches import query_of
from model.geometry import UPRIGHT
from model.grounder import EngineGrounder, load_grounder
from model.twin.sample import sample
from model.values import PHRASES_AT_ONCE, Grounding, Question
from plugin.batching import Batching, SharedModel
from plugin.ports import Priority


@pytest.fixture(scope="module")
def jobs() -> list[list[Question]]:
    """Four studies of one to two films, with few phrases and with more than go through the network at once."""
    rng, films = np.random.default_rng(0), [sample(seed, size=256) for seed in range(700_000, 700_006)]
    questions = []
    for number, film in enumerate(films):
        queries = tuple(query_of(finding, rng) for finding in film.findings) * (PHRASES_AT_ONCE if number == 1 else 1)
        pixels = film.pixels.copy()
        pixels.setflags(write=False)
        questions.append(Question(pixels, UPRIGHT, queries))
    return [questions[:2], questions[2:3], questions[3:5], questions[5:]]


@pytest.fixture(scope="module")
def alone(jobs: list[list[Question]]) -> list[Any]:
    model = load_grounder(threads=2)
    return [[model.suitability(each.pixels, UPRIGHT) for each in job] + compared(model.ground_all(job)) for job in jobs]


def compared(answers: tuple[tuple[Grounding, ...], ...]) -> list[Any]:
    """All that was answered, to the last bit."""
    return [
        (each.state, each.probability, each.regions, None if each.heatmap is None else each.heatmap.values.tobytes())
        for some in answers
        for each in some
    ]


@pytest.fixture
def model() -> EngineGrounder:
    return load_grounder(threads=2)


@pytest.mark.parametrize("bounds", [{"images": 1, "phrases": 16}, {"images": 8, "phrases": 256}], ids=str)
def test_company_changes_no_bit_of_an_answer_and_images_are_encoded_once(
    jobs: list[list[Question]], alone: list[Any], model: EngineGrounder, bounds: dict[str, int]
) -> None:
    encoded: list[int] = []
    model._engine._network.image.register_forward_hook(lambda *_: encoded.append(1))
    shared = SharedModel(model, lambda: model, batching=Batching(wait_s=0.02, **bounds))  # type: ignore[arg-type]

    def done(job: list[Question], priority: Priority) -> list[Any]:
        turn = shared.at(priority)
        return [turn.suitability(each.pixels, UPRIGHT) for each in job] + compared(turn.ground_all(job))

    with ThreadPoolExecutor(len(jobs)) as pool:
        priorities = (Priority.BACKFILL, Priority.PERSON, Priority.NEW, Priority.NEW)
        together = list(pool.map(done, jobs, priorities))

    assert together == alone
    assert any(state[0] == "found" for job in alone for state in job if isinstance(state, tuple))
    looked_at = [each for job in jobs for each in job if each.queries]
    assert len(encoded) == sum(model.suitability(each.pixels, UPRIGHT).fault is None for each in looked_at) > 3
