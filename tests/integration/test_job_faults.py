"""What a database can do to the jobs in it: full, read-only, away, with a clock that jumped, of an earlier release."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from servers import PostgresServer, free_port, postgresql_program, run_postgresql
from sqlalchemy import event

from plugin.durable import Database, DurableQueue
from plugin.durable.runner import DurableRunner
from plugin.errors import InputError, TransientError
from plugin.flow import STEPS
from plugin.policy import DAY_S, Policy
from plugin.ports import Job, JobState, Step, independent
from plugin.values import ReportRef, StudyRef

STUDY = StudyRef("1.2.3")
OLD_TABLE = """
CREATE TABLE jobs (number INTEGER PRIMARY KEY AUTOINCREMENT, job_id TEXT NOT NULL UNIQUE, study TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due TEXT NOT NULL, updated TEXT NOT NULL, error TEXT
"""


@pytest.fixture
def sqlite_queue(tmp_path: Path) -> Iterator[DurableQueue]:
    queue = DurableQueue(Database(f"sqlite:///{tmp_path}/jobs.sqlite"), poll_s=0.02)
    yield queue
    queue.close()


@pytest.fixture
def postgresql_queue(postgresql: PostgresServer) -> Iterator[DurableQueue]:
    queue = DurableQueue(Database(postgresql.database()), poll_s=0.02)
    yield queue
    queue.close()


@contextmanager
def pragma(queue: DurableQueue, name: str, value: object, usual: object) -> Iterator[None]:
    """Every connection of *queue* under this pragma, until the block ends."""
    values = [value]

    def set_it(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA {name} = {values[0]}")

    event.listen(queue.database.engine, "checkout", set_it)
    yield
    values[0] = usual


def works(queue: DurableQueue, *job_ids: str, timeout_s: float = 30) -> list[str]:
    """The jobs that a runner does until *job_ids* are done, in order."""
    did: list[str] = []
    runner = queue.runner(independent(Step("ground", lambda job: did.append(job.job_id))))
    runner.start()
    try:
        deadline = time.monotonic() + timeout_s
        while not all(is_done(queue.get(name)) for name in job_ids):
            assert time.monotonic() < deadline, queue.list()
            time.sleep(0.02)
    finally:
        runner.stop(5)
    return did


def is_done(job: Job | None) -> bool:
    return job is not None and job.state is JobState.DONE


def test_a_full_disk_refuses_new_jobs_and_keeps_those_it_has(sqlite_queue: DurableQueue) -> None:
    sqlite_queue.put("before", STUDY)
    with closing(sqlite3.connect(sqlite_queue.database.file)) as file:
        pages = file.execute("PRAGMA page_count").fetchone()[0]

    with pragma(sqlite_queue, "max_page_count", pages + 3, 2**30):
        with pytest.raises(TransientError, match="disk full"):
            fill(sqlite_queue)
        kept = sqlite_queue.list(1000)

    assert is_queued(sqlite_queue.get("before"))
    assert works(sqlite_queue, *(job.job_id for job in kept))[0] == "before"


def fill(queue: DurableQueue) -> None:
    for number in range(500):
        queue.put(f"job {number}", StudyRef(f"1.{number}"))


def is_queued(job: Job | None) -> bool:
    return job is not None and job.state is JobState.QUEUED


def test_a_read_only_file_refuses_new_jobs_and_works_again_once_it_is_mended(sqlite_queue: DurableQueue) -> None:
    sqlite_queue.put("before", STUDY)

    with pragma(sqlite_queue, "query_only", "ON", "OFF"):
        with pytest.raises(TransientError, match="job queue cannot be used now"):
            sqlite_queue.put("a", STUDY)
        seen = sqlite_queue.get("before")

    assert is_queued(seen)
    sqlite_queue.put("a", STUDY)
    assert works(sqlite_queue, "before", "a") == ["before", "a"]


def test_a_read_only_server_refuses_new_jobs_and_works_again_once_it_is_mended(
    postgresql_queue: DurableQueue,
) -> None:
    def read_only(value: str) -> None:
        name = sa.make_url(postgresql_queue.database.url).database
        with psycopg.connect(postgresql_queue.database.url, autocommit=True) as session:
            session.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")  # type: ignore[arg-type]
        postgresql_queue.database.engine.dispose()

    postgresql_queue.put("before", STUDY)
    with psycopg.connect(postgresql_queue.database.url) as session:
        assert session.execute("SHOW transaction_read_only").fetchone() == ("off",)
    read_only("on")
    with pytest.raises(TransientError, match="job queue cannot be used now"):
        postgresql_queue.put("a", STUDY)
    seen = postgresql_queue.get("before")
    with psycopg.connect(postgresql_queue.database.url, options="-c default_transaction_read_only=off") as session:
        session.autocommit = True
        name = sa.make_url(postgresql_queue.database.url).database
        session.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")  # type: ignore[arg-type]
    postgresql_queue.database.engine.dispose()

    assert is_queued(seen)
    postgresql_queue.put("a", STUDY)
    assert works(postgresql_queue, "before", "a") == ["before", "a"]


@contextmanager
def refused_by_the_server(queue: DurableQueue) -> Iterator[None]:
    """The server takes no writes until the block ends, also from those who are connected."""

    def turn(value: str) -> None:
        name = sa.make_url(queue.database.url).database
        with psycopg.connect(
            queue.database.url, autocommit=True, options="-c default_transaction_read_only=off"
        ) as session:
            session.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")  # type: ignore[arg-type]
            session.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    turn("on")
    yield
    turn("off")


REFUSALS = {
    "full disk": ("sqlite_queue", lambda queue: pragma(queue, "max_page_count", 1, 2**30)),
    "read-only file": ("sqlite_queue", lambda queue: pragma(queue, "query_only", "ON", "OFF")),
    "read-only server": ("postgresql_queue", refused_by_the_server),
}


@pytest.mark.parametrize("trouble", REFUSALS)
def test_a_database_that_refuses_writes_under_a_worker_loses_no_job(
    trouble: str, request: pytest.FixtureRequest
) -> None:
    make, refusing = REFUSALS[trouble]
    queue: DurableQueue = request.getfixturevalue(make)
    begun, may_end, did = threading.Event(), threading.Event(), []

    def ground(job: Job) -> None:
        did.append(f"ground {job.job_id}")
        begun.set()
        may_end.wait(60)

    for name in ("a", "b"):
        queue.put(name, StudyRef(f"1.{ord(name)}"))
    runner = queue.runner(independent(Step("ground", ground), Step("verify", lambda job: did.append(job.job_id))))
    runner.start()
    try:
        assert begun.wait(60)
        with refusing(queue):
            with pytest.raises(TransientError, match="job queue cannot be used now"):
                fill(queue)
            may_end.set()
            time.sleep(2)
            assert queue.list(state=JobState.FAILED) == ()
        wait_until(lambda: all(is_done(queue.get(name)) for name in ("a", "b")), queue)
    finally:
        runner.stop(5)

    assert {"a", "b", "ground a", "ground b"} <= set(did)
    assert works(queue, queue.put("c", STUDY).job_id)[-1] == "c"


def test_a_job_whose_end_could_not_be_written_is_done_again(
    sqlite_queue: DurableQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plugin.durable.runner.LOST_S", 0.2)
    did: list[str] = []
    runner = DurableRunner(sqlite_queue, independent(Step("ground", lambda job: did.append(job.job_id))), look_s=0.1)
    runner.start()
    try:
        sqlite_queue.put("a", STUDY)
        wait_until(lambda: is_done(sqlite_queue.get("a")), sqlite_queue)
        status = sqlite_queue.database.status
        with sqlite_queue.database.engine.begin() as connection:  # as the row stands when nothing more is written
            connection.execute(sa.update(status).values(status="PENDING", owner_xid="of the end"))
        assert not is_done(sqlite_queue.get("a"))

        wait_until(lambda: is_done(sqlite_queue.get("a")), sqlite_queue)
    finally:
        runner.stop(5)

    assert did == ["a"]  # the finished step is kept


def wait_until(said: Callable[[], bool], queue: DurableQueue, timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not said():
        assert time.monotonic() < deadline, queue.list()
        time.sleep(0.05)


def test_a_server_that_is_away_is_a_passing_trouble_without_its_password() -> None:
    with pytest.raises(TransientError, match="job queue") as caught:
        DurableQueue(Database(f"postgresql://sightline:hidden@127.0.0.1:{free_port()}/jobs"))

    assert "hidden" not in str(caught.value)


def test_a_server_that_went_away_refuses_new_jobs_and_takes_them_when_it_is_back() -> None:
    with run_postgresql() as server:
        queue = DurableQueue(Database(server.database()))
        server.end()
        with pytest.raises(TransientError, match="job queue"):
            queue.put("a", STUDY)
        server.restart()

        assert is_queued(queue.put("a", STUDY))
        queue.close()


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/name", "postgresql://host", "sqlite://"])
def test_an_address_of_no_such_database_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="SIGHTLINE_DATABASE_URL"):
        Database(url)


@pytest.mark.parametrize("make", ["sqlite_queue", "postgresql_queue"])
def test_a_clock_that_ran_a_day_ahead_holds_up_no_job(make: str, request: pytest.FixtureRequest) -> None:
    queue: DurableQueue = request.getfixturevalue(make)
    queue.put("a", STUDY)
    status, tomorrow_ms = queue.database.status, int((time.time() + DAY_S) * 1000)
    with queue.database.engine.begin() as connection:  # as a failed attempt leaves it at that clock
        connection.execute(sa.update(status).values(status="DELAYED", delay_until_epoch_ms=tomorrow_ms))
        connection.execute(sa.update(status).values(created_at=tomorrow_ms, updated_at=tomorrow_ms))
    quick = DurableQueue(queue.database, Policy(first_s=0.1, most_s=0.5), poll_s=0.02)

    assert works(quick, "a") == ["a"]


def test_a_clock_that_was_a_day_behind_gives_no_job_up_early(sqlite_queue: DurableQueue) -> None:
    sqlite_queue.put("a", STUDY)
    status = sqlite_queue.database.status
    yesterday = {"study": STUDY.study_instance_uid, "since": time.time() - DAY_S}
    with sqlite_queue.database.engine.begin() as connection:
        connection.execute(sa.update(status).values(attributes=yesterday))

    assert works(sqlite_queue, "a") == ["a"]
    assert sqlite_queue.backlog().oldest_s == 0


@pytest.mark.parametrize("columns", ["", ", report_id TEXT, report_version TEXT"])
def test_the_jobs_of_an_earlier_release_are_taken_over_once(tmp_path: Path, columns: str) -> None:
    path = tmp_path / "jobs.sqlite"
    states = ("queued", "running", "done", "failed")
    with closing(sqlite3.connect(path)) as file, file:
        file.execute(f"{OLD_TABLE}{columns})")
        for state in states:
            file.execute(
                "INSERT INTO jobs (job_id, study, state, due, updated) VALUES (?, '1.2.3', ?, '', '')", (state, state)
            )
        if columns:
            file.execute("UPDATE jobs SET report_id = 'report-1', report_version = '2'")

    queue = DurableQueue(Database(f"sqlite:///{path}"), poll_s=0.02)
    taken = queue.list()
    queue.close()
    again = DurableQueue(Database(f"sqlite:///{path}"), poll_s=0.02)

    report = ReportRef("report-1", "2") if columns else None
    assert {(job.job_id, job.state, job.study, job.report) for job in taken} == {
        (name, JobState.QUEUED, STUDY, report) for name in ("queued", "running")
    }
    assert len(again.list()) == 2
    again.close()


@pytest.mark.parametrize("make", ["sqlite_queue", "postgresql_queue"])
def test_what_is_done_is_forgotten_in_time_and_what_failed_later(make: str, request: pytest.FixtureRequest) -> None:
    queue: DurableQueue = request.getfixturevalue(make)
    for name in ("done", "cancelled", "waiting"):
        queue.put(name, STUDY)
    queue.cancel("cancelled")
    queue.cancel("waiting")
    works(queue, "done")
    queue.pause()
    queue.put("waiting", STUDY)
    now = datetime.now(UTC)

    early = queue.forget(now + timedelta(days=29))
    late = queue.forget(now + timedelta(days=31))

    assert (early, late) == (0, 2)
    assert [job.job_id for job in queue.list()] == ["waiting"]
    assert rows_of(queue, "operation_outputs") == 0
    assert rows_of(queue, "workflow_input") == 1


def rows_of(queue: DurableQueue, table: str) -> int:
    name = sa.table(table, schema=queue.database.status.schema)
    with queue.database.engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(name)).scalar_one())


def test_failed_jobs_stay_four_times_as_long(sqlite_queue: DurableQueue) -> None:
    sqlite_queue.put("a", STUDY)
    failing = sqlite_queue.runner(independent(Step("ground", refuse)))
    failing.start()
    while not sqlite_queue.list(state=JobState.FAILED):
        time.sleep(0.02)
    failing.stop(5)
    now = datetime.now(UTC)

    assert sqlite_queue.forget(now + timedelta(days=119)) == 0
    assert sqlite_queue.forget(now + timedelta(days=121)) == 1


@pytest.mark.parametrize("server", ["sqlite", "postgresql"])
def test_a_job_that_an_earlier_release_began_with_other_steps_begins_again(
    server: str, request: pytest.FixtureRequest
) -> None:
    queue: DurableQueue = request.getfixturevalue(f"{server}_queue")
    queue.put("a", STUDY)
    begun, over, did = threading.Event(), threading.Event(), list[str]()

    def hang(_: Job) -> None:
        begun.set()
        over.wait(60)

    before = queue.runner(independent(Step("ground", lambda _: None), Step("verify", hang)))
    before.start()
    assert begun.wait(30)
    before.stop(0)
    over.set()

    after = queue.runner(independent(*(Step(name, lambda _, name=name: did.append(name)) for name in STEPS)))
    after.start()
    deadline = time.monotonic() + 60
    while not is_done(queue.get("a")):
        assert time.monotonic() < deadline, queue.list()
        time.sleep(0.02)
    after.stop(5)

    assert did == list(STEPS)
    assert [job.attempts for job in queue.list()] == [1]


def refuse(_: Job) -> None:
    raise InputError("The study has no report.")


def test_one_runner_works_per_process(sqlite_queue: DurableQueue) -> None:
    one, two = sqlite_queue.runner(independent()), sqlite_queue.runner(independent())
    one.start()

    with pytest.raises(RuntimeError, match="one runner"):
        two.start()

    one.stop()


@pytest.mark.parametrize("wrong", [{"at_once": 0}, {"poll_s": 0}, {"keep_days": 0}])
def test_a_queue_that_cannot_be_is_refused(tmp_path: Path, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least one job"):
        DurableQueue(Database(f"sqlite:///{tmp_path}/jobs.sqlite"), **wrong)  # type: ignore[arg-type]


def test_neither_names_nor_words_of_reports_are_in_the_database(sqlite_queue: DurableQueue) -> None:
    sqlite_queue.put("a", STUDY, ReportRef("report-1", "2"))

    def find(_: Job) -> str:
        return "Large left pleural effusion."

    runner = sqlite_queue.runner(independent(Step("read", find)))
    runner.start()
    while not is_done(sqlite_queue.get("a")):
        time.sleep(0.02)
    runner.stop(5)

    with closing(sqlite3.connect(sqlite_queue.database.file)) as file:
        dump = "\n".join(file.iterdump())
    assert "report-1" in dump
    assert "effusion" not in dump
    assert "gASV" not in dump  # the beginning of a pickle in base64


def test_jobs_go_on_from_a_copy_of_the_file(sqlite_queue: DurableQueue, tmp_path: Path) -> None:
    sqlite_queue.put("a", STUDY)
    with closing(sqlite3.connect(sqlite_queue.database.file)) as file:
        file.execute("VACUUM INTO ?", (str(tmp_path / "copy.sqlite"),))
    sqlite_queue.put("later", STUDY)

    restored = DurableQueue(Database(f"sqlite:///{tmp_path}/copy.sqlite"), poll_s=0.02)

    assert works(restored, "a") == ["a"]
    assert restored.get("later") is None
    restored.close()


def test_jobs_go_on_from_a_dump_of_the_database(postgresql: PostgresServer, postgresql_queue: DurableQueue) -> None:
    postgresql_queue.put("a", STUDY)
    dump = subprocess.run(
        [postgresql_program("pg_dump"), postgresql_queue.database.url], capture_output=True, check=True
    ).stdout
    address = postgresql.database()
    subprocess.run(
        [postgresql_program("psql"), "-q", "-v", "ON_ERROR_STOP=1", address],
        input=dump,
        check=True,
        stdout=subprocess.DEVNULL,
    )

    restored = DurableQueue(Database(address), poll_s=0.02)

    assert works(restored, "a") == ["a"]
    restored.close()


def test_the_tables_of_a_file_are_made_by_one_process_at_a_time(tmp_path: Path) -> None:
    made = threading.Event()
    maker = threading.Thread(target=lambda: (Database(f"sqlite:///{tmp_path}/jobs.sqlite").prepare(), made.set()))
    folder = os.open(tmp_path, os.O_RDONLY)  # as another process that makes them
    fcntl.flock(folder, fcntl.LOCK_EX)

    maker.start()
    waited = not made.wait(3)
    empty = not any(tmp_path.iterdir())
    os.close(folder)
    maker.join(60)

    assert waited
    assert empty
    assert made.is_set()
