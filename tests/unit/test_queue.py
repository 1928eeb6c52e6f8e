"""The promise of a job queue, kept by every implementation."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from queues import MemoryQueue, StandingClock

from plugin.errors import TransientError
from plugin.ports import Job, JobQueue, JobState
from plugin.queue import SqliteQueue, retry_delay_s, utc_now
from plugin.values import ReportRef, StudyRef

STUDY, OTHER = StudyRef("1.2.3"), StudyRef("1.2.4")
REPORT = ReportRef("report-1", "2")
LEASE_S = 600.0
MakeQueue = Callable[[StandingClock, int], JobQueue]


@pytest.fixture(params=["sqlite", "memory"])
def make_queue(request: pytest.FixtureRequest, tmp_path: Path) -> MakeQueue:
    """An empty queue on a clock with so many attempts per job: one parameter per implementation."""

    def make(clock: StandingClock, max_attempts: int) -> JobQueue:
        if request.param == "memory":
            return MemoryQueue(clock, max_attempts=max_attempts, lease_s=LEASE_S)
        return SqliteQueue(tmp_path / "new" / "jobs.sqlite", max_attempts=max_attempts, lease_s=LEASE_S, clock=clock)

    return make


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def queue(make_queue: MakeQueue, clock: StandingClock) -> JobQueue:
    return make_queue(clock, 3)


def taken(queue: JobQueue) -> Job:
    job = queue.take()
    assert job is not None
    return job


class TestEveryQueue:
    def test_a_job_put_is_queued(self, queue: JobQueue, clock: StandingClock) -> None:
        job = queue.put("a", STUDY)

        assert job == Job("a", STUDY, JobState.QUEUED, 0, clock.now)
        assert queue.get("a") == job

    def test_a_job_keeps_the_report_it_is_about(self, queue: JobQueue) -> None:
        queue.put("a", STUDY, REPORT)

        assert taken(queue).report == REPORT
        assert queue.list()[0].report == REPORT

    def test_an_unknown_job_is_none(self, queue: JobQueue) -> None:
        assert queue.get("a") is None

    def test_an_empty_queue_gives_nothing(self, queue: JobQueue) -> None:
        assert queue.take() is None

    def test_putting_twice_is_one_job(self, queue: JobQueue) -> None:
        first = queue.put("a", STUDY)

        again = queue.put("a", STUDY)

        assert again == first
        assert queue.list() == (first,)

    def test_a_job_is_taken_once(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)

        job = taken(queue)

        assert (job.job_id, job.study, job.state, job.attempts) == ("a", STUDY, JobState.RUNNING, 1)
        assert queue.take() is None

    def test_the_oldest_job_is_taken_first(self, queue: JobQueue, clock: StandingClock) -> None:
        for name in ("b", "a", "c"):
            queue.put(name, STUDY)
            clock.advance(1)

        assert [taken(queue).job_id for _ in range(3)] == ["b", "a", "c"]

    def test_a_finished_job_is_done_and_put_again_stays_done(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        queue.take()
        clock.advance(5)

        queue.finish("a")

        assert queue.get("a") == Job("a", STUDY, JobState.DONE, 1, clock.now)
        assert queue.put("a", STUDY).state is JobState.DONE
        assert queue.take() is None

    def test_a_retryable_failure_is_due_again_after_its_delay(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        queue.take()

        queue.fail("a", "The archive does not answer.", retryable=True)

        waiting = queue.get("a")
        assert waiting == Job("a", STUDY, JobState.QUEUED, 1, clock.now, "The archive does not answer.")
        clock.advance(retry_delay_s(1) - 0.001)
        assert queue.take() is None
        clock.advance(0.001)
        assert taken(queue).attempts == 2

    def test_the_last_attempt_fails_for_good(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        for _ in range(3):
            clock.advance(3600)
            taken(queue)
            queue.fail("a", "The archive does not answer.", retryable=True)

        clock.advance(7200)

        assert queue.take() is None
        failed = queue.get("a")
        assert failed is not None
        assert (failed.state, failed.attempts) == (JobState.FAILED, 3)

    def test_a_refused_job_is_not_tried_again(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        queue.take()

        queue.fail("a", "The study has no frontal image.", retryable=False)

        clock.advance(7200)
        assert queue.take() is None
        assert queue.get("a") == Job(
            "a", STUDY, JobState.FAILED, 1, clock.now.replace(hour=0), "The study has no frontal image."
        )

    def test_a_failed_job_put_again_has_all_its_attempts(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        queue.take()
        queue.fail("a", "The study has no report.", retryable=False)

        again = queue.put("a", STUDY)

        assert again == Job("a", STUDY, JobState.QUEUED, 0, clock.now)
        assert taken(queue).attempts == 1

    def test_a_job_whose_worker_died_is_due_again(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        queue.take()

        clock.advance(LEASE_S - 0.001)
        assert queue.take() is None
        clock.advance(0.001)

        assert taken(queue).attempts == 2

    def test_a_job_that_kills_its_workers_is_failed(self, queue: JobQueue, clock: StandingClock) -> None:
        queue.put("a", STUDY)
        for _ in range(3):
            taken(queue)
            clock.advance(LEASE_S)

        assert queue.take() is None
        dead = queue.get("a")
        assert dead is not None
        assert dead.state is JobState.FAILED
        assert dead.error

    def test_a_late_worker_changes_nothing_that_is_settled(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)
        queue.take()
        queue.finish("a")

        queue.fail("a", "too late", retryable=False)

        settled = queue.get("a")
        assert settled is not None
        assert (settled.state, settled.error) == (JobState.DONE, None)

    def test_a_job_that_waits_is_not_finished_by_mistake(self, queue: JobQueue) -> None:
        queue.put("a", STUDY)

        queue.finish("a")

        waiting = queue.get("a")
        assert waiting is not None
        assert waiting.state is JobState.QUEUED

    def test_the_list_has_the_last_changed_first(self, queue: JobQueue, clock: StandingClock) -> None:
        for name in ("a", "b", "c"):
            clock.advance(1)
            queue.put(name, OTHER)
        clock.advance(1)
        queue.take()

        assert [job.job_id for job in queue.list()] == ["a", "c", "b"]
        assert [job.job_id for job in queue.list(limit=2)] == ["a", "c"]


@pytest.mark.parametrize(
    ("attempts", "delay_s"),
    [(1, 30), (2, 60), (3, 120), (4, 240), (5, 480), (6, 960), (7, 1920), (8, 3600), (99, 3600)],
)
def test_the_delay_doubles_up_to_an_hour(attempts: int, delay_s: float) -> None:
    assert retry_delay_s(attempts) == delay_s


def test_no_delay_before_the_first_attempt() -> None:
    with pytest.raises(ValueError, match="at least one attempt"):
        retry_delay_s(0)


class TestSqliteQueue:
    def test_jobs_outlive_the_process(self, tmp_path: Path) -> None:
        SqliteQueue(tmp_path / "jobs.sqlite").put("a", STUDY)

        reopened = SqliteQueue(tmp_path / "jobs.sqlite")

        assert taken(reopened).study == STUDY

    def test_a_file_of_an_earlier_version_is_taken_over(self, tmp_path: Path) -> None:
        queue = SqliteQueue(tmp_path / "jobs.sqlite")
        queue.put("a", STUDY)
        with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as database, database:
            for column in ("report_id", "report_version"):
                database.execute(f"ALTER TABLE jobs DROP COLUMN {column}")

        reopened = SqliteQueue(tmp_path / "jobs.sqlite")

        assert (taken(reopened).study, reopened.put("b", STUDY, REPORT).report) == (STUDY, REPORT)

    def test_many_workers_take_each_job_once(self, tmp_path: Path) -> None:
        path = tmp_path / "jobs.sqlite"
        for number in range(40):
            SqliteQueue(path).put(f"job {number}", STUDY)
        names: list[str] = []

        def work() -> None:
            queue = SqliteQueue(path)
            while (job := queue.take()) is not None:
                names.append(job.job_id)
                queue.finish(job.job_id)

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

        assert sorted(names) == sorted(f"job {number}" for number in range(40))

    def test_the_file_is_in_write_ahead_mode(self, tmp_path: Path) -> None:
        SqliteQueue(tmp_path / "jobs.sqlite")

        with sqlite3.connect(tmp_path / "jobs.sqlite") as database:
            mode = database.execute("PRAGMA journal_mode").fetchone()
        database.close()

        assert mode == ("wal",)

    def test_a_file_that_cannot_be_used_is_a_passing_trouble(self, tmp_path: Path) -> None:
        with pytest.raises(TransientError, match="job queue"):
            SqliteQueue(tmp_path)

    @pytest.mark.parametrize("wrong", [{"max_attempts": 0}, {"lease_s": 0.0}])
    def test_limits_that_cannot_be_are_refused(self, tmp_path: Path, wrong: dict[str, float]) -> None:
        with pytest.raises(ValueError, match="at least one attempt"):
            SqliteQueue(tmp_path / "jobs.sqlite", **wrong)  # type: ignore[arg-type]

    def test_the_clock_is_in_utc(self) -> None:
        assert utc_now().utcoffset() is not None
