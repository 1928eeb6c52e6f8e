"""The promise of a job queue and its runner, kept in memory, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from queues import MemoryQueue
from servers import PostgresServer

from plugin.durable import Database, DurableQueue
from plugin.errors import ConformanceError, InputError, TransientError, UnavailableError, WithdrawnError
from plugin.policy import Policy
from plugin.ports import Job, JobQueue, JobState, Priority, Step, independent
from plugin.values import ReportRef, StudyRef

STUDY, OTHER = StudyRef("1.2.3"), StudyRef("1.2.4")
REPORT = ReportRef("report-1", "2")
SECRET = "Mrs Example"
QUICK = Policy(max_attempts=3, first_s=0.05, most_s=0.2)
SLOW = Policy(max_attempts=3, first_s=600, most_s=3600)
MakeQueue = Callable[[Policy], JobQueue]


@pytest.fixture(scope="session")
def prepared(postgresql: PostgresServer) -> str:
    """The name of a database with the tables of the jobs, to make others after."""
    address = postgresql.database()
    database = Database(address)
    DurableQueue(database).close()
    return address.rpartition("/")[2]


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def make_queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeQueue]:
    """An empty queue with a policy: one parameter per implementation."""
    made: list[JobQueue] = []

    def make(policy: Policy) -> JobQueue:
        if request.param == "memory":
            queue: JobQueue = MemoryQueue(lambda: datetime.now(UTC), policy)
        elif request.param == "sqlite":
            queue = DurableQueue(Database(f"sqlite:///{tmp_path}/new/jobs.sqlite"), policy, poll_s=0.02)
        else:
            server = request.getfixturevalue("postgresql")
            address = server.database(request.getfixturevalue("prepared"))
            queue = DurableQueue(Database(address), policy, poll_s=0.02)
        made.append(queue)
        return queue

    yield make
    for queue in made:
        queue.close()


@pytest.fixture
def queue(make_queue: MakeQueue) -> JobQueue:
    return make_queue(QUICK)


@dataclass
class Work:
    """Steps that fail as they are told, and remember what they did."""

    errors: dict[str, list[Exception]] = field(default_factory=dict)
    did: list[tuple[str, Job]] = field(default_factory=list)
    names: tuple[str, ...] = ("read", "write")

    @property
    def steps(self) -> tuple[Step, ...]:
        return tuple(Step(name, lambda job, name=name: self.do(name, job)) for name in self.names)

    def do(self, name: str, job: Job) -> None:
        self.did.append((name, job))
        errors = self.errors.get(name, [])
        if errors:
            raise errors.pop(0)

    def steps_done(self) -> list[str]:
        return [name for name, _ in self.did]


@contextmanager
def working(queue: JobQueue, *steps: Step) -> Iterator[None]:
    runner = queue.runner(independent(*steps))
    runner.start()
    try:
        yield
    finally:
        runner.stop(5)


def until(queue: JobQueue, job_id: str, *states: JobState, timeout_s: float = 30) -> Job:
    deadline = time.monotonic() + timeout_s
    while (job := queue.get(job_id)) is None or job.state not in states:
        assert time.monotonic() < deadline, job
        time.sleep(0.01)
    return job


ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class TestEveryQueue:
    def test_a_job_put_is_queued(self, queue: JobQueue) -> None:
        job = queue.put("a", STUDY, REPORT)

        assert (job.job_id, job.study, job.report) == ("a", STUDY, REPORT)
        assert (job.state, job.attempts, job.error) == (JobState.QUEUED, 0, None)
        assert abs(datetime.now(UTC) - job.updated) < timedelta(seconds=5)
        assert queue.get("a") == job
        assert queue.get("b") is None

    def test_putting_twice_is_one_job(self, queue: JobQueue) -> None:
        first = queue.put("a", STUDY)

        again = queue.put("a", STUDY)

        assert (again, queue.list()) == (first, (first,))

    def test_each_step_is_done_once_in_order_and_the_job_is_done(self, queue: JobQueue) -> None:
        queue.put("a", STUDY, REPORT)
        work = Work()

        with working(queue, *work.steps):
            job = until(queue, "a", *ENDED)

        assert (job.state, job.attempts, job.error) == (JobState.DONE, 1, None)
        assert [(name, done.job_id, done.study, done.report, done.state) for name, done in work.did] == [
            (name, "a", STUDY, REPORT, JobState.RUNNING) for name in ("read", "write")
        ]

    def test_a_job_that_is_done_stays_done_when_put_again(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        work = Work()
        with working(queue, *work.steps):
            until(queue, "a", JobState.DONE)

            again = queue.put("a", STUDY)
            queue.put("b", OTHER)
            until(queue, "b", JobState.DONE)

        assert again.state is JobState.DONE
        assert [job.job_id for _, job in work.did] == ["a", "a", "b", "b"]

    def test_a_passing_failure_is_tried_again_until_it_works(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        away = TransientError("The archive does not answer.")
        work = Work({"write": [away, away]})

        with working(queue, *work.steps):
            job = until(queue, "a", *ENDED)

        assert (job.state, job.attempts, job.error) == (JobState.DONE, 3, None)
        assert work.steps_done().count("write") == 3

    def test_a_job_that_waits_to_be_tried_again_says_why(self, make_queue: MakeQueue) -> None:
        queue = make_queue(SLOW)
        queue.put("a", STUDY)
        work = Work({"read": [TransientError("The archive does not answer.")]})

        with working(queue, *work.steps):
            deadline = time.monotonic() + 30
            while (job := queue.get("a")) is None or job.error is None:
                assert time.monotonic() < deadline
                time.sleep(0.01)

        assert (job.state, job.attempts, job.error) == (JobState.QUEUED, 1, "The archive does not answer.")

    def test_a_job_that_a_server_asked_to_wait_holds_no_place_and_waits_through_a_restart(
        self, make_queue: MakeQueue
    ) -> None:
        queue = make_queue(Policy(max_attempts=3, first_s=0.05, most_s=60))
        queue.put("a", STUDY)
        busy = TransientError("The archive is busy.", retry_after_s=2.5)
        work = Work({"read": [busy]})
        began = time.monotonic()

        with working(queue, *work.steps):
            queue.put("b", OTHER)
            until(queue, "b", JobState.DONE)
            waiting = queue.get("a")
        with working(queue, *work.steps):
            until(queue, "a", JobState.DONE)

        assert waiting is not None
        assert (waiting.state, waiting.error) == (JobState.QUEUED, "The archive is busy.")
        assert time.monotonic() - began >= 2.5

    def test_the_last_attempt_fails_for_good(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        away = TransientError("The archive does not answer.")
        work = Work({"read": [away] * 9})

        with working(queue, *work.steps):
            job = until(queue, "a", *ENDED)

        assert (job.state, job.attempts) == (JobState.FAILED, 3)
        assert job.error == "The archive does not answer. Given up after 3 attempts."

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (InputError("The study has no report."), "The study has no report."),
            (ConformanceError("The SEG is not valid."), "The SEG is not valid."),
            (ValueError(SECRET), "Unexpected ValueError; please report it."),
        ],
    )
    def test_what_trying_cannot_mend_is_not_tried_again(
        self, queue: JobQueue, error: Exception, told: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        queue.put("a", STUDY)
        work = Work({"read": [error]})

        with working(queue, *work.steps):
            job = until(queue, "a", *ENDED)

        assert (job.state, job.attempts, job.error) == (JobState.FAILED, 1, told)
        assert work.steps_done() == ["read"]
        assert SECRET not in caplog.text

    def test_a_job_whose_report_was_withdrawn_is_cancelled_says_why_and_is_done_when_put_again(
        self, queue: JobQueue
    ) -> None:
        queue.put("a", STUDY, REPORT)
        work = Work({"read": [WithdrawnError("The report was withdrawn.")]})

        with working(queue, *work.steps):
            job = until(queue, "a", *ENDED)
            failed, found = queue.list(state=JobState.FAILED), queue.page(10, words="was withdrawn")[0]
            queue.put("a", STUDY, REPORT)
            again = until(queue, "a", JobState.DONE)

        assert (job.state, job.attempts, job.error) == (JobState.CANCELLED, 1, "The report was withdrawn.")
        assert (failed, [each.job_id for each in found]) == ((), ["a"])
        assert (again.attempts, again.error) == (1, None)
        assert work.steps_done() == ["read", "read", "write"]

    def test_a_job_that_a_person_cancels_does_not_say_what_an_attempt_before_ran_into(
        self, make_queue: MakeQueue
    ) -> None:
        queue = make_queue(SLOW)
        queue.put("a", STUDY)
        with working(queue, *Work({"read": [TransientError("The archive does not answer.")]}).steps):
            while (job := queue.get("a")) is None or job.error is None:
                time.sleep(0.01)

        cancelled = queue.cancel("a")

        assert cancelled is not None
        assert (cancelled.state, cancelled.error) == (JobState.CANCELLED, None)

    def test_a_server_that_is_left_alone_costs_no_attempt(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        alone = UnavailableError("The archive is left alone.", retry_after_s=0.05)
        work = Work({"read": [alone] * 5})

        with working(queue, *work.steps):
            job = until(queue, "a", *ENDED)

        assert (job.state, job.attempts) == (JobState.DONE, 1)

    def test_a_failed_job_put_again_has_all_its_attempts(self, queue: JobQueue) -> None:
        queue.put("a", STUDY, REPORT)
        work = Work({"read": [InputError("The study has no report.")]})
        with working(queue, *work.steps):
            until(queue, "a", JobState.FAILED)

        again = queue.put("a", STUDY)

        assert (again.state, again.attempts, again.error, again.report) == (JobState.QUEUED, 0, None, REPORT)

    def test_a_failed_job_put_again_is_done(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        work = Work({"write": [InputError("The study has no report.")]})
        with working(queue, *work.steps):
            until(queue, "a", JobState.FAILED)

            queue.put("a", STUDY)
            job = until(queue, "a", JobState.DONE)

        assert (job.attempts, job.error) == (1, None)
        assert work.steps_done()[-2:] == ["read", "write"]

    def test_a_job_that_is_done_can_be_replayed_from_its_first_step(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        work = Work()
        with working(queue, *work.steps):
            until(queue, "a", JobState.DONE)

            replayed = queue.replay("a")
            deadline = time.monotonic() + 30
            while len(work.did) < 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            until(queue, "a", JobState.DONE)

        assert replayed is not None
        assert work.steps_done() == ["read", "write", "read", "write"]

    def test_what_is_not_there_is_neither_replayed_nor_cancelled(self, queue: JobQueue) -> None:
        assert queue.replay("a") is None
        assert queue.cancel("a") is None

    def test_a_cancelled_job_is_not_done_until_it_is_put_again(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        cancelled = queue.cancel("a")
        work = Work()
        with working(queue, *work.steps):
            queue.put("b", OTHER)
            until(queue, "b", JobState.DONE)
            before = [job.job_id for _, job in work.did]
            queue.put("a", STUDY)
            until(queue, "a", JobState.DONE)

        assert cancelled is not None
        assert cancelled.state is JobState.CANCELLED
        assert before == ["b", "b"]

    def test_a_job_that_is_cancelled_at_work_begins_no_further_step(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        begun, go_on, did = threading.Event(), threading.Event(), []

        def read(_: Job) -> None:
            begun.set()
            go_on.wait(30)

        with working(queue, Step("read", read), Step("write", did.append)):
            assert begun.wait(30)
            queue.cancel("a")
            go_on.set()
            queue.put("b", OTHER)
            until(queue, "b", JobState.DONE)

        job = queue.get("a")
        assert job is not None
        assert job.state is JobState.CANCELLED
        assert [job.job_id for job in did] == ["b"]

    def test_a_paused_queue_begins_nothing_until_it_is_resumed(self, queue: JobQueue) -> None:
        queue.pause()
        queue.put("a", STUDY)
        work = Work()
        with working(queue, *work.steps):
            time.sleep(0.5)
            held = (queue.paused(), queue.get("a"))
            queue.resume()
            until(queue, "a", JobState.DONE)

        assert held[0]
        assert held[1] is not None
        assert held[1].state is JobState.QUEUED
        assert not queue.paused()

    def test_a_person_goes_before_new_studies_and_these_before_the_backfill(self, queue: JobQueue) -> None:
        for number, priority in enumerate((Priority.BACKFILL, Priority.NEW, Priority.PERSON)):
            queue.put(f"job {number}", StudyRef(f"1.{number}"), priority=priority)
        queue.put("job 3", StudyRef("1.3"), priority=Priority.BACKFILL)
        queue.put("job 3", StudyRef("1.3"), priority=Priority.PERSON)
        work = Work(names=("read",))

        with working(queue, *work.steps):
            until(queue, "job 0", JobState.DONE)

        assert [job.job_id for _, job in work.did] == ["job 2", "job 3", "job 1", "job 0"]

    def test_the_backlog_counts_by_state_and_tells_how_long_the_oldest_waits(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        with working(queue, *Work({"read": [InputError("no")]}).steps):
            until(queue, "a", JobState.FAILED)
        empty = queue.backlog()
        queue.put("b", OTHER)
        time.sleep(0.05)

        backlog = queue.backlog()

        assert empty.oldest_s == 0
        assert 0.05 <= backlog.oldest_s < 10
        assert {state: number for state, number in backlog.jobs.items() if number} == {
            JobState.FAILED: 1,
            JobState.QUEUED: 1,
        }

    def test_the_list_has_the_last_changed_first_and_can_be_of_one_state(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        time.sleep(1.1)
        queue.put("b", OTHER)
        time.sleep(1.1)
        queue.cancel("a")

        assert [job.job_id for job in queue.list()] == ["a", "b"]
        assert [job.job_id for job in queue.list(1)] == ["a"]
        assert [job.job_id for job in queue.list(state=JobState.QUEUED)] == ["b"]

    def test_jobs_are_read_page_by_page_each_once_while_new_ones_come(self, queue: JobQueue) -> None:
        for number in range(7):
            queue.put(f"job {number}", StudyRef(f"1.2.{number}"))
        queue.cancel("job 3")

        first, before = queue.page(3)
        queue.put("later", STUDY)
        second, again = queue.page(3, before=before)
        third, end = queue.page(3, before=again)

        found = [job.job_id for job in (*first, *second, *third)]
        assert sorted(found) == [f"job {number}" for number in range(7)]
        assert end is None
        assert [job.updated for job in first] == sorted((job.updated for job in first), reverse=True)

    def test_jobs_are_found_by_state_and_by_words(self, queue: JobQueue) -> None:
        for number in range(3):
            queue.put(f"job-{number}", StudyRef(f"1.2.{number + 1}7"))
        queue.cancel("job-1")

        def found(**wanted: Any) -> list[str]:
            return sorted(job.job_id for job in queue.page(10, **wanted)[0])

        assert found(state=JobState.CANCELLED) == ["job-1"]
        assert found(words="JOB-2") == ["job-2"]
        assert found(words="2.17") == ["job-0"]
        assert found(words="%") == found(words="_") == found(state=JobState.DONE) == []
        assert found(words="1.2.", state=JobState.QUEUED) == ["job-0", "job-2"]

    @pytest.mark.parametrize("before", ["x", "1", "-1.a", "9" * 40 + ".a", "1.a; DROP TABLE workflow_status"])
    def test_a_page_that_begins_nowhere_is_no_failure(self, queue: JobQueue, before: str) -> None:
        queue.put("a", STUDY)

        assert queue.page(5, before=before)[1] is None

    def test_a_runner_that_ends_hands_its_job_back_without_losing_an_attempt(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        begun, did = threading.Event(), list[Job]()

        def read(_: Job) -> None:
            begun.set()
            time.sleep(0.2)

        runner = queue.runner(independent(Step("read", read), Step("write", did.append)))
        runner.start()
        assert begun.wait(30)
        runner.stop(10)
        job = queue.get("a")

        assert job is not None
        assert (job.state, job.attempts, did) == (JobState.QUEUED, 0, [])

    def test_a_thousand_askers_at_once_make_one_job(self, queue: JobQueue) -> None:
        rounds = 25

        def ask(priority: Priority) -> None:
            for number in range(rounds):
                gate.wait()
                queue.put(f"job {number}", StudyRef(f"1.{number}"), priority=priority)

        gate = threading.Barrier(4)
        askers = (Priority.NEW, Priority.NEW, Priority.BACKFILL, Priority.PERSON)
        threads = [threading.Thread(target=ask, args=(priority,)) for priority in askers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert queue.backlog().jobs[JobState.QUEUED] == rounds
