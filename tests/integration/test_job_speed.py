"""What the queue costs, and whether workers add up; the full numbers stand in docs/operations.md.

``SIGHTLINE_JOBS=10000`` takes the number of jobs of the promise, at 1, 2 and 4 workers, instead of one that suits every
test run.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from job_worker import Orders, Results, done, put, queue_at, worker_on
from servers import Part, PostgresServer

from plugin.durable import DurableQueue
from plugin.flow import STEPS
from plugin.ports import JobState, Step, independent

JOBS = int(os.environ.get("SIGHTLINE_JOBS", "112"))
MANY = JOBS > 1000
# The promise is 15 ms on a machine of its own; processor time counts more where cores are shared.
CPU_MS = 40


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


def size_of(queue: DurableQueue) -> int:
    """Bytes of all tables of the jobs, with their indices."""
    asked = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    if queue.database.on_postgresql:
        asked = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relnamespace = "
        asked += "'sightline'::regnamespace"
    with queue.database.engine.connect() as connection:
        return int(connection.execute(sa.text(asked)).scalar_one())


@dataclass(frozen=True)
class Figures:
    """What so many workers did.

    Parameters
    ----------
    rate : jobs a second.
    cpu_ms : processor time of the workers per job.
    memory_mib : of a worker on average, when a tenth of the jobs were done and at the end.
    room, cleaned : bytes in the database per job, and after all of them were forgotten.
    """

    workers: int
    jobs: int
    rate: float
    cpu_ms: float
    memory_mib: tuple[float, float]
    room: float
    cleaned: float


@pytest.mark.slow
def test_two_workers_do_nearly_twice_as_much_as_one_and_do_not_grow(postgresql: PostgresServer, tmp_path: Path) -> None:
    levels = (1, 2, 4) if MANY else (1, 2)

    found = [figures_of(workers, postgresql.database(), tmp_path / str(workers)) for workers in levels]

    print(*found, sep="\n")
    assert found[1].rate >= 1.8 * found[0].rate, found
    for each in found:
        assert each.memory_mib[1] < 1.15 * each.memory_mib[0] + 5, found
        assert not MANY or each.cpu_ms < 15, found
        assert not MANY or each.cleaned < each.room * 2 / 3, found  # indices keep their pages for the next jobs


def figures_of(workers: int, url: str, folder: Path) -> Figures:
    """A seventh of the jobs for each worker, while the model sleeps for two seconds."""
    folder.mkdir()
    count = workers * max(16, JOBS // 7)
    steps = tuple(STEPS) if MANY else ("ground", "verify")
    at_once = 16 if MANY else 2
    orders = Orders(steps=steps, sleep_s=2.0 / len(steps), at_once=at_once, poll_s=0.2, writes=False)
    queue = queue_at(url, orders)
    empty = size_of(queue)
    queue.pause()
    put(queue, count)
    with ExitStack() as stack:
        running = [stack.enter_context(worker_on(url, Results(folder), orders)) for _ in range(workers)]
        time.sleep(15)  # until all of them are up
        cpu_s = sum(map(cpu_s_of, running))
        queue.resume()
        began = time.monotonic()
        wait_for(queue, count // 10)
        early = sum(map(memory_of, running)) / workers
        wait_for(queue, count)
        rate = count / (time.monotonic() - began)
        cpu_s = sum(map(cpu_s_of, running)) - cpu_s
        late = sum(map(memory_of, running)) / workers
    full = size_of(queue)
    while queue.forget(datetime.now(UTC) + timedelta(days=31)):
        pass
    with queue.database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.exec_driver_sql("VACUUM")
    cleaned = size_of(queue)
    queue.close()
    return Figures(
        workers,
        count,
        round(rate, 3),
        round(1000 * cpu_s / count, 1),
        (round(early), round(late)),
        round((full - empty) / count),
        round((cleaned - empty) / count),
    )


def wait_for(queue: DurableQueue, count: int) -> None:
    while done(queue) < count:
        time.sleep(0.1)


def cpu_s_of(worker: Part) -> float:
    """Processor time of its process."""
    fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()  # type: ignore[union-attr]
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(worker: Part) -> float:
    """MiB that its process holds."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()  # type: ignore[union-attr]
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
