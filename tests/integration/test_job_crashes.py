"""Whatever dies, and when: every job is done, its finished steps are not repeated, nothing is written twice.

``SIGHTLINE_CHAOS=200`` (``make chaos``) kills at every boundary of every step, and at so many random moments.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from job_worker import (
    MOMENTS,
    STEPS,
    Orders,
    Results,
    done,
    put,
    queue_at,
    wait_until_done,
    worker_on,
)
from servers import run_postgresql

from plugin.ports import JobState
from plugin.values import StudyRef

CHAOS = int(os.environ.get("SIGHTLINE_CHAOS", "0"))
KILLS = CHAOS or 5


@pytest.fixture
def results(tmp_path: Path) -> Results:
    folder = tmp_path / "results"
    folder.mkdir()
    return Results(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/jobs.sqlite"
    return str(request.getfixturevalue("postgresql").database())


def everything(names: list[str], steps: tuple[str, ...] = STEPS) -> list[str]:
    return sorted(f"{name} {step}" for name in names for step in steps)


@pytest.mark.slow
def test_a_kill_at_any_boundary_of_a_step_repeats_that_step_alone(url: str, results: Results) -> None:
    steps = STEPS if CHAOS else (STEPS[0], STEPS[3], STEPS[-1])
    boundaries = [f"{step} {moment}" for step in steps for moment in MOMENTS]
    queue = queue_at(url)
    names = put(queue, len(boundaries))
    orders = Orders(dies=tuple(zip(names, boundaries, strict=True)))

    with worker_on(url, results, orders) as worker:
        wait_until_done(queue, len(names), worker, timeout_s=120 + 60 * len(names))

    begun = results.begun()
    assert worker.starts == len(boundaries) + 1
    assert results.written() == everything(names)
    for name, boundary in orders.dies:
        step, moment = boundary.split()
        assert begun.pop(f"{name} {step}") == (1 if moment == "before" else 2)
    assert set(begun.values()) == {1}
    # A job that was taken as another one killed the worker has lost an attempt, too.
    assert {job.attempts for job in queue.list()} <= {2, 3}
    queue.close()


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing(url: str, results: Results) -> None:
    queue, chance = queue_at(url), random.Random(7)
    names = put(queue, 4 * KILLS)
    orders = Orders(sleep_s=0.02, at_once=2, max_attempts=1000)

    with worker_on(url, results, orders) as one, worker_on(url, results, orders) as two:
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.5, 2.5))
            worker = chance.choice((one, two))
            worker.kill()
            worker.up()
        wait_until_done(queue, len(names), one, two, timeout_s=300 + 3 * len(names))

    assert results.written() == everything(names)
    assert queue.backlog().jobs[JobState.RUNNING] == 0
    queue.close()


@pytest.mark.slow
def test_the_jobs_of_a_worker_that_died_are_taken_over_by_the_living(url: str, results: Results) -> None:
    queue = queue_at(url)
    names = put(queue, 6)

    with worker_on(url, results, Orders(sleep_s=60, at_once=6)) as dead:
        while queue.backlog().jobs[JobState.RUNNING] < 6:
            time.sleep(0.05)
        with worker_on(url, results) as living:
            time.sleep(3)
            assert done(queue) == 0  # not while the other lives
            dead.kill()
            wait_until_done(queue, len(names), living, timeout_s=240)

    assert results.written() == everything(names)
    queue.close()


@pytest.mark.slow
def test_a_worker_that_is_ended_hands_its_jobs_back_at_once(url: str, results: Results) -> None:
    queue = queue_at(url)
    put(queue, 2)

    with worker_on(url, results, Orders(sleep_s=600, at_once=2)) as worker:
        while queue.backlog().jobs[JobState.RUNNING] < 2:
            time.sleep(0.05)
        began = time.monotonic()
        status = worker.end()

    assert status == 0
    assert time.monotonic() - began < 20
    assert [(job.state, job.attempts) for job in queue.list()] == [(JobState.QUEUED, 0)] * 2
    queue.close()


@pytest.mark.slow
def test_a_job_that_kills_its_workers_is_set_aside_and_says_so(url: str, results: Results) -> None:
    queue = queue_at(url)
    put(queue, 1)
    worker = worker_on(url, results, Orders(max_attempts=2, sleep_s=600))

    for _ in range(2):
        worker.up()
        while not results.first(f"seen {worker.starts}") or sum(results.begun().values()) < worker.starts:
            (results.folder / f".mark seen {worker.starts}").unlink(missing_ok=True)
            time.sleep(0.05)
        worker.kill()
    worker.up()
    deadline = time.monotonic() + 60
    while not queue.list(state=JobState.FAILED):
        assert time.monotonic() < deadline, queue.list()
        time.sleep(0.05)
    worker.kill()

    (job,) = queue.list()
    assert job.error is not None
    assert "worker ended" in job.error
    queue.close()


@pytest.mark.slow
def test_a_database_server_that_restarts_under_work_loses_nothing(results: Results) -> None:
    with run_postgresql() as server:
        queue = queue_at(server.database())
        names = put(queue, 40)
        orders = Orders(sleep_s=0.02, at_once=2)

        with worker_on(queue.database.url, results, orders) as one, ExitStack() as others:
            while not results.begun():
                time.sleep(0.05)
            others.enter_context(worker_on(queue.database.url, results, orders))
            for _ in range(max(2, CHAOS // 20)):
                server.restart()
                time.sleep(1)
            queue.close()
            queue = queue_at(queue.database.url)
            wait_until_done(queue, len(names), one, timeout_s=400)

        assert one.starts == 1
        assert results.written() == everything(names)
        queue.close()


@pytest.mark.slow
def test_two_jobs_of_one_study_are_never_worked_on_together(url: str, results: Results) -> None:
    queue = queue_at(url)
    for number in range(4):
        queue.put(f"job{number}", StudyRef("1.2.3"))
    orders = Orders(steps=("ground",), sleep_s=0.3, at_once=4)

    with worker_on(url, results, orders) as one, worker_on(url, results, orders) as two:
        seen = 0
        while done(queue) < 4:
            seen = max(seen, len(overlapping(results)))
            time.sleep(0.01)
            one.up(), two.up()

    assert seen <= 1
    assert results.written() == everything([f"job{number}" for number in range(4)], ("ground",))
    queue.close()


def overlapping(results: Results) -> set[str]:
    """Steps that began and were not written yet."""
    written = set(results.written())
    return {name for name in results.begun() if name not in written}
