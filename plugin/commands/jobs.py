"""``sightline jobs``: look at the jobs, do one again, let one go, hold them all."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from plugin.errors import InputError
from plugin.ports import Job, JobQueue, JobState
from plugin.settings import load_settings
from plugin.wiring import make_queue

MOST_REPLAYED = 10_000


def run(action: str, *, job_ids: tuple[str, ...] = (), state: str | None = None, limit: int = 50) -> int:
    """Do *action*: list, show, replay, cancel, pause or resume.

    Raises
    ------
    InputError
        If there is no such job, or none was named.
    """
    queue = make_queue(load_settings())
    try:
        act(action, queue, job_ids=job_ids, state=JobState(state) if state else None, limit=limit)
    finally:
        queue.close()
    return 0


def act(action: str, queue: JobQueue, *, job_ids: tuple[str, ...], state: JobState | None, limit: int) -> None:
    """As :func:`run`, on *queue*."""
    console = Console()
    match action:
        case "list":
            console.print(table_of(queue.list(limit, state=state)), f"[dim]{_summary(queue)}[/dim]", sep="\n")
        case "show":
            for job_id in _named(job_ids):
                console.print_json(json.dumps(told(_found(queue.get(job_id), job_id))))
        case "replay":
            names = job_ids or tuple(job.job_id for job in queue.list(MOST_REPLAYED, state=state) if state)
            for job_id in _named(names):
                _say(console, _found(queue.replay(job_id), job_id))
        case "cancel":
            for job_id in _named(job_ids):
                _say(console, _found(queue.cancel(job_id), job_id))
        case "pause":
            queue.pause()
            console.print("No further job begins, in any process, until `sightline jobs resume`.")
        case "resume":
            queue.resume()
            console.print("Jobs begin again.")


def table_of(jobs: tuple[Job, ...]) -> Table:
    """For people."""
    table = Table("job", "study", "report", "state", "tries", "changed (UTC)", "error", box=None)
    for job in jobs:
        report = f"{job.report.report_id} {job.report.version}" if job.report else ""
        changed = job.updated.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
        cells = (job.job_id, job.study.study_instance_uid, report, job.state, str(job.attempts), changed)
        table.add_row(*cells, job.error or "")
    return table


def told(job: Job) -> dict[str, object]:
    """For programs: JSON values alone."""
    return asdict(job) | {
        "study": job.study.study_instance_uid,
        "report": f"{job.report.report_id} {job.report.version}" if job.report else None,
        "updated": _moment(job.updated),
        "priority": job.priority.name.lower(),
    }


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def _summary(queue: JobQueue) -> str:
    backlog = queue.backlog()
    numbers = ", ".join(f"{number} {state}" for state, number in backlog.jobs.items() if number) or "no jobs"
    waited = f"; the oldest has waited {backlog.oldest_s:.0f} s" if backlog.oldest_s else ""
    return f"{numbers}{waited}{'; paused' if queue.paused() else ''}"


def _named(job_ids: tuple[str, ...]) -> tuple[str, ...]:
    if not job_ids:
        raise InputError("name a job (`sightline jobs list` shows them), or with replay a state: --state failed")
    return job_ids


def _found(job: Job | None, job_id: str) -> Job:
    if job is None:
        raise InputError(f"there is no job {job_id}; `sightline jobs list` shows those there are")
    return job


def _say(console: Console, job: Job) -> None:
    console.print(f"{job.job_id} is {job.state}", highlight=False, soft_wrap=True)
