"""What the queue costs, and whether workers add up; the full numbers stand in docs/operations.md.

``SIGHTLINE_JOBS=10000`` takes the number of jobs of the promise instead of one that suits every test run.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from job_worker import STEPS, Orders, Results, done, put, queue_at, worker_on
from servers import PostgresServer
from sqlalchemy import event

from plugin.durable import DurableQueue
from plugin.ports import JobState, Step, independent

JOBS = int(os.environ.get("SIGHTLINE_JOBS", "120"))
# The promise is 15 ms on a machine of its own; processor time counts more where cores are shared.
CPU_MS = 25


@pytest.mark.slow
@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_a_job_costs_little_processor_time_and_room(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    if server == "postgresql":
        url = request.getfixturevalue("postgresql").database()
    queue = queue_at(url, Orders(at_once=8, poll_s=0.2))
    empty = size_of(queue)
    began = time.process_time()

    put(queue, JOBS)
    runner = queue.runner(independent(*(Step(name, lambda _: None) for name in STEPS)))
    runner.start()
    while queue.backlog().jobs[JobState.DONE] < JOBS:
        time.sleep(0.5)
    cpu_ms = 1000 * (time.process_time() - began) / JOBS
    runner.stop()

    assert cpu_ms < CPU_MS
    assert (size_of(queue) - empty) / JOBS < 8192
    queue.close()


def test_a_step_costs_one_statement_and_an_idle_runner_asks_one_question(tmp_path: Path) -> None:
    queue = queue_at(f"sqlite:///{tmp_path}/jobs.sqlite", Orders(at_once=4, poll_s=0.05))
    did: list[tuple[str, str]] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        did.append((threading.current_thread().name, statement))

    for engine in {queue.database.working, queue.database.noting}:
        event.listen(engine, "before_cursor_execute", note)
    put(queue, 5)
    runner = queue.runner(independent(*(Step(name, lambda _: None) for name in STEPS)))
    runner.start()
    while queue.backlog().jobs[JobState.DONE] < 5:
        time.sleep(0.05)
    steps = [statement for _, statement in did if "operation_outputs" in statement and "INSERT" in statement]
    looks = [statement for _, statement in did if "operation_outputs" in statement and "SELECT" in statement[:10]]
    did.clear()
    while sum("'ENQUEUED'" in statement for _, statement in did) < 10:
        time.sleep(0.05)
    asked = {statement for name, statement in did if "queue_worker" in name}
    runner.stop()
    queue.close()

    assert len(steps) == 5 * len(STEPS)
    assert len(looks) == 5
    assert len(asked) == 1


def size_of(queue: DurableQueue) -> int:
    """Bytes of all tables of the jobs, with their indices."""
    asked = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    if queue.database.on_postgresql:
        asked = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = "
        asked += "'sightline'::regnamespace"
    with queue.database.engine.connect() as connection:
        return int(connection.execute(sa.text(asked)).scalar_one())


@pytest.mark.slow
def test_two_workers_do_nearly_twice_as_much_as_one(postgresql: PostgresServer, tmp_path: Path) -> None:
    rates = [rate_of(workers, postgresql.database(), tmp_path / str(workers)) for workers in (1, 2)]

    assert rates[1] >= 1.8 * rates[0], rates


def rate_of(workers: int, url: str, folder: Path) -> float:
    """Jobs a second, while the model sleeps for two seconds."""
    folder.mkdir()
    count = workers * max(16, JOBS // 8)
    orders = Orders(steps=("ground", "verify"), sleep_s=1.0, at_once=2, poll_s=0.2)
    queue = queue_at(url, orders)
    queue.pause()
    put(queue, count)
    with ExitStack() as running:
        for _ in range(workers):
            running.enter_context(worker_on(url, Results(folder), orders))
        time.sleep(10)  # until all of them are up
        queue.resume()
        began = time.monotonic()
        while done(queue) < count:
            time.sleep(0.1)
        took_s = time.monotonic() - began
    queue.close()
    return count / took_s
