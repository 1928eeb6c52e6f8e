"""A worker process for the tests that kill it: its steps write files, as an archive that takes the same object twice.

Run as a program: URL of the database, folder of its results, and how it is to behave (JSON of :class:`Orders`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from servers import OUTPUT, Part

from plugin.durable import Database, DurableQueue
from plugin.policy import Policy
from plugin.ports import Job, JobState, Step, independent
from plugin.values import StudyRef

# Those of plugin.flow, without all that it imports: workers have to start fast.
STEPS = ("match", "fetch", "read", "ground", "write-dicom", "write-fhir", "verify", "finish")
MOMENTS = ("before", "within", "after")


@dataclass(frozen=True)
class Orders:
    """How a worker behaves.

    Parameters
    ----------
    dies : jobs that kill it, once each, by "step moment".
    sleep_s : how long each step takes.
    writes : whether steps write anything; where the cost of the queue is measured, theirs is none of it.
    """

    steps: tuple[str, ...] = STEPS
    dies: tuple[tuple[str, str], ...] = ()
    sleep_s: float = 0.0
    at_once: int = 1
    poll_s: float = 0.02
    max_attempts: int = 5
    writes: bool = True


@dataclass(frozen=True)
class Results:
    """What the steps of all workers did in a folder."""

    folder: Path

    def write(self, job: str, step: str) -> None:
        """As a PUT: the same again changes nothing, half of it is never seen."""
        part = self.folder / f".{job} {step} {os.getpid()} {threading.get_ident()}"
        part.write_text(job)
        part.rename(self.folder / f"{job} {step}")

    def note(self, job: str, step: str) -> None:
        """That a step began."""
        with (self.folder / "ledger").open("a") as ledger:
            ledger.write(f"{job} {step}\n")

    def begun(self) -> Counter[str]:
        """How often each "job step" began."""
        ledger = self.folder / "ledger"
        return Counter(ledger.read_text().splitlines()) if ledger.exists() else Counter()

    def written(self) -> list[str]:
        """Every "job step" that was written, and nothing else."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != "ledger" and path.name[0] != ".")

    def first(self, mark: str) -> bool:
        """Whether nobody asked for *mark* before, whoever died in between."""
        try:
            (self.folder / f".mark {mark}").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


def steps_of(results: Results, orders: Orders) -> tuple[Step, ...]:
    dies = dict(orders.dies)

    def die(job: Job, step: str, moment: str) -> None:
        if dies.get(job.job_id) == f"{step} {moment}" and results.first(f"{job.job_id} {step} {moment}"):
            os.kill(os.getpid(), signal.SIGKILL)

    def run(job: Job, step: str) -> None:
        die(job, step, "before")
        results.note(job.job_id, step)
        time.sleep(orders.sleep_s / 2)
        die(job, step, "within")
        time.sleep(orders.sleep_s / 2)
        results.write(job.job_id, step)
        die(job, step, "after")

    if not orders.writes:
        return tuple(Step(name, lambda _: time.sleep(orders.sleep_s)) for name in orders.steps)
    return tuple(Step(name, lambda job, name=name: run(job, name)) for name in orders.steps)


def queue_at(url: str, orders: Orders | None = None) -> DurableQueue:
    orders = orders or Orders()
    policy = Policy(max_attempts=orders.max_attempts, first_s=0.05, most_s=0.5)
    return DurableQueue(Database(url), policy, at_once=orders.at_once, poll_s=orders.poll_s)


def worker_on(url: str, results: Results, orders: Orders | None = None) -> Part:
    """This program as a process."""
    told = json.dumps(asdict(orders or Orders()))
    return Part([sys.executable, str(Path(__file__)), url, str(results.folder), told], OUTPUT / "job-worker.log")


def put(queue: DurableQueue, count: int) -> list[str]:
    """So many jobs, each about a study of its own."""
    names = [f"job{number}" for number in range(count)]
    for number, name in enumerate(names):
        queue.put(name, StudyRef(f"1.2.{number + 1}"))
    return names


def done(queue: DurableQueue) -> int:
    jobs = queue.backlog().jobs
    assert not jobs[JobState.FAILED], queue.list(state=JobState.FAILED)
    return jobs[JobState.DONE]


def wait_until_done(queue: DurableQueue, count: int, *workers: Part, timeout_s: float = 300) -> None:
    """Until so many jobs are done; *workers* that died are started again, as a service manager does it."""
    deadline = time.monotonic() + timeout_s
    while done(queue) < count:
        assert time.monotonic() < deadline, queue.list()
        for worker in workers:
            worker.up()
        time.sleep(0.05)


def main() -> None:
    url, folder, told = sys.argv[1:]
    given = json.loads(told)
    orders = Orders(**given | {"steps": tuple(given["steps"]), "dies": tuple(map(tuple, given["dies"]))})
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    queue = queue_at(url, orders)
    runner = queue.runner(independent(*steps_of(Results(Path(folder)), orders)))
    runner.start()
    while not ended:  # a wait without a limit may miss a signal that comes just before it
        time.sleep(0.05)
    runner.stop(5)
    queue.close()


if __name__ == "__main__":
    main()
