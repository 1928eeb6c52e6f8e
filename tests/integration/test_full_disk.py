"""A disk that is really full, as jobs are put and as one is worked on: nothing is lost, and nothing half written."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from disks import WAYS, filled, limited, mounted
from small_site import SmallSite, wait_for_end
from step_worker import worker_on

from plugin.durable import Database, DurableQueue
from plugin.errors import TransientError
from plugin.ports import JobState
from plugin.values import StudyRef

FULL_S = 5.0


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    site = SmallSite(tmp_path_factory.mktemp("undisturbed"), 1)
    with site.intake() as intake, worker_on(site.settings, site.folder / "marks") as worker:
        intake.take_study(site.studies[0])
        wait_for_end(intake.queue, 1, timeout_s=240, meanwhile=worker.up)
    return site


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """How it will be full, and a folder on it."""
    way, folder = str(request.param), tmp_path / "disk"
    folder.mkdir()
    with ExitStack() as stack:
        if way == "file system":
            stack.enter_context(mounted(folder))
        yield way, folder


def is_whole(file: Path) -> bool:
    with closing(sqlite3.connect(file)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone() == ("ok",))


@pytest.mark.parametrize("disk", WAYS, indirect=True)
def test_jobs_that_find_no_room_are_refused_and_those_that_found_it_are_kept(disk: tuple[str, Path]) -> None:
    way, folder = disk
    queue = DurableQueue(Database(f"sqlite:///{folder}/jobs.sqlite"))
    taken = [queue.put("before", StudyRef("1.2")).job_id]

    with (
        filled(folder) if way == "file system" else limited(os.getpid()),
        pytest.raises(TransientError, match="job queue cannot be used now"),
    ):
        taken.extend(queue.put(f"job {number}", StudyRef(f"1.3.{number}")).job_id for number in range(2000))
    taken.append(queue.put("after", StudyRef("1.4")).job_id)

    assert sorted(job.job_id for job in queue.list(5000)) == sorted(taken)
    assert queue.backlog().jobs[JobState.QUEUED] == len(taken)
    queue.close()
    assert is_whole(folder / "jobs.sqlite")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("disk", WAYS, indirect=True)
@pytest.mark.parametrize("full", ["jobs and results", "results alone"])
def test_a_job_that_finds_no_room_ends_well_once_there_is_some(
    disk: tuple[str, Path], full: str, undisturbed: SmallSite, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    way, folder = disk
    url = "" if full == "jobs and results" else str(request.getfixturevalue("postgresql").database())
    site = SmallSite(folder, 1, url)

    with site.intake() as intake, worker_on(site.settings, tmp_path / "marks") as worker:
        intake.take_study(site.studies[0])
        while not intake.queue.list(state=JobState.RUNNING):
            assert not intake.queue.list(state=JobState.DONE)
            time.sleep(0.02)
        assert worker.process is not None
        with filled(folder) if way == "file system" else limited(worker.process.pid):
            time.sleep(FULL_S)
            (meanwhile,) = intake.queue.list()
        (job,) = wait_for_end(intake.queue, 1, timeout_s=240, meanwhile=lambda: None)
        assert worker.process.poll() is None

    print({"way": way, "full": full, "meanwhile": f"{meanwhile.state}: {meanwhile.error}", "attempts": job.attempts})
    assert meanwhile.state in (JobState.RUNNING, JobState.QUEUED)
    assert job.state is JobState.DONE
    assert site.written() == undisturbed.written()
    assert [
        path for path in site.folder.rglob(".*") if path.name != ".locks" and not path.name.startswith(".nfs")
    ] == []
    if not url:
        assert is_whole(site.folder / "data" / "jobs.sqlite")
