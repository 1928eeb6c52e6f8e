"""``sightline jobs``, on a queue in memory."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from queues import MemoryQueue

from plugin.cli import main
from plugin.commands import jobs
from plugin.ports import JobState
from plugin.values import ReportRef, StudyRef

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> MemoryQueue:
    """One job of each state but running, as the command finds them."""
    queue = MemoryQueue()
    for number, name in enumerate(("waits", "done", "failed", "gone")):
        queue.put(name, StudyRef(f"1.2.{number}"), ReportRef("report-1", "2"))
    queue.change("done", JobState.DONE, error=None)
    queue.change("failed", JobState.FAILED, error="The study has no report.")
    queue.cancel("gone")
    monkeypatch.setattr(jobs, "load_settings", lambda: None)
    monkeypatch.setattr(jobs, "make_queue", lambda _: queue)
    monkeypatch.setenv("COLUMNS", "200")
    return queue


@pytest.mark.usefixtures("queue")
def test_the_list_shows_every_job_and_counts_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list"]) == 0

    told = capsys.readouterr().out
    assert all(name in told for name in ("waits", "done", "failed", "gone", "1.2.3", "report-1 2"))
    assert "The study has no report." in told
    assert "1 queued, 1 done, 1 failed, 1 cancelled" in told


@pytest.mark.usefixtures("queue")
def test_the_list_can_be_of_one_state(capsys: pytest.CaptureFixture[str]) -> None:
    main(["jobs", "list", "--state", "failed"])

    told = capsys.readouterr().out
    assert "1.2.2" in told
    assert "1.2.1" not in told


@pytest.mark.usefixtures("queue")
def test_one_job_is_shown_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["jobs", "show", "failed"])

    assert json.loads(capsys.readouterr().out) == {
        "job_id": "failed",
        "study": "1.2.2",
        "report": "report-1 2",
        "state": "failed",
        "attempts": 0,
        "updated": "2026-03-01T00:00:00+00:00",
        "error": "The study has no report.",
        "priority": "new",
    }


def test_named_jobs_are_replayed_and_cancelled(queue: MemoryQueue, capsys: pytest.CaptureFixture[str]) -> None:
    main(["jobs", "replay", "failed", "done"])
    main(["jobs", "cancel", "waits"])

    states = {job.job_id: job.state for job in queue.list()}
    assert states == {
        "failed": JobState.QUEUED,
        "done": JobState.QUEUED,
        "waits": JobState.CANCELLED,
        "gone": JobState.CANCELLED,
    }
    assert "failed is queued" in capsys.readouterr().out


def test_every_failed_job_is_replayed_at_once(queue: MemoryQueue) -> None:
    main(["jobs", "replay", "--state", "failed"])

    assert {job.job_id for job in queue.list(state=JobState.QUEUED)} == {"waits", "failed"}


def test_the_queue_is_held_and_let_go(queue: MemoryQueue, capsys: pytest.CaptureFixture[str]) -> None:
    main(["jobs", "pause"])
    held = queue.paused()
    main(["jobs", "list"])
    told = capsys.readouterr().out
    main(["jobs", "resume"])

    assert held
    assert "paused" in told
    assert not queue.paused()


@pytest.mark.usefixtures("queue")
@pytest.mark.parametrize(
    "arguments", [["show", "x"], ["replay", "x"], ["cancel", "x"], ["show"], ["replay"], ["cancel"]]
)
def test_a_job_that_is_not_there_or_not_named_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", *arguments]) == 65
    assert "sightline jobs list" in capsys.readouterr().err
