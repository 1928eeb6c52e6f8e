"""The job queue in DBOS's tables.

A job is one workflow, and its id is the job's: the same work is one row, whoever asks. The row holds references (study,
report, version), states, times and one sentence of error; never pixels, never words of a report.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from dbos import DBOSClient, DBOSPortableJSONSerializer, Queue, error

from plugin.durable.database import SCHEMA, Database, quiet, usable
from plugin.policy import Policy
from plugin.ports import Backlog, Job, JobState, Priority, Work
from plugin.values import ReportRef, StudyRef

if TYPE_CHECKING:
    from plugin.durable.runner import DurableRunner

APPLICATION = "sightline"
# Raised only when the steps of a running job can no longer be taken over by the new release.
VERSION = "1"
WORKFLOW = "job"
QUEUE = "jobs"
SERIALIZER = DBOSPortableJSONSerializer()  # JSON, where the default is pickle
WORKER_DIED = "The worker ended in the middle of this job, as often as a job may be tried."
_HELD = {"limit": 0, "period": 1.0}
_STATES = {
    "DELAYED": JobState.QUEUED,
    "ENQUEUED": JobState.QUEUED,
    "PENDING": JobState.RUNNING,
    "SUCCESS": JobState.DONE,
    "ERROR": JobState.FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
}
_ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True)
class DurableQueue:
    """:class:`plugin.ports.JobQueue` in a database, shared by threads, processes and, on PostgreSQL, machines.

    Parameters
    ----------
    at_once : jobs that one runner works on at the same time.
    poll_s : seconds between two looks of a runner for work; a job waits so long at most before it begins.
    keep_days : for how long jobs that are done or cancelled are remembered; failed ones stay four times as long.
    usual : who waits for a job that is put without a word of it.
    observe : told of every step and every attempt, with identifiers and durations.

    Raises
    ------
    TransientError
        From every method, and at once, if the database cannot be used now.
    """

    database: Database
    policy: Policy = field(default_factory=Policy)
    at_once: int = 1
    poll_s: float = 0.2
    keep_days: float = 30.0
    usual: Priority = Priority.NEW
    observe: Callable[[Mapping[str, Any]], object] = field(default=lambda _: None)
    _client: DBOSClient = field(init=False, repr=False)
    _one: sa.Select[Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.at_once < 1 or self.poll_s <= 0 or self.keep_days <= 0:
            raise ValueError("a runner does at least one job at once, and looks and memories take time")
        quiet()
        self.database.prepare()
        status = self.database.status
        one = sa.select(status).where(status.c.workflow_uuid == sa.bindparam("job"), status.c.name == WORKFLOW)
        object.__setattr__(self, "_one", one)
        with usable():
            client = DBOSClient(
                system_database_engine=self.database.engine,
                dbos_system_schema=SCHEMA if self.database.on_postgresql else None,
                serializer=SERIALIZER,
                application_name=APPLICATION,
                retry_connection_errors=False,
            )
            object.__setattr__(self, "_client", client)
            self._register()
            self._take_over()

    def put(
        self, job_id: str, study: StudyRef, report: ReportRef | None = None, *, priority: Priority | None = None
    ) -> Job:
        """Queue the job, or return it as it stands; one that failed or was cancelled begins again."""
        priority = self.usual if priority is None else priority
        attributes: dict[str, Any] = {"study": study.study_instance_uid, "since": time.time()}
        if report is not None:
            attributes |= {"report": report.report_id, "version": report.version}
        with usable():
            self._client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": job_id,
                    "app_version": VERSION,
                    "priority": int(priority),
                    "attributes": attributes,
                }
            )
            row = self._row(job_id)
            job = job_of(row)
            if job.state in (JobState.FAILED, JobState.CANCELLED):
                return self._again(job_id)
            if job.state is JobState.QUEUED and row.priority > priority:
                self._forward(job_id, priority)
        return job

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        with usable(), self.database.engine.connect() as connection:
            row = connection.execute(self._one, {"job": job_id}).one_or_none()
        return None if row is None else job_of(row)

    def list(self, limit: int = 100, *, state: JobState | None = None) -> tuple[Job, ...]:
        """Jobs, the last changed first."""
        status = self.database.status
        chosen = sa.select(status).where(status.c.name == WORKFLOW)
        if state is not None:
            chosen = chosen.where(status.c.status.in_([name for name, its in _STATES.items() if its is state]))
        return self._rows(chosen.order_by(status.c.updated_at.desc(), status.c.created_at.desc()).limit(limit))

    def page(
        self, limit: int, *, state: JobState | None = None, words: str = "", before: str | None = None
    ) -> tuple[tuple[Job, ...], str | None]:
        """Jobs, the last changed first, and where the next page begins."""
        status = self.database.status
        key = (status.c.updated_at, status.c.workflow_uuid)
        chosen = sa.select(status).where(status.c.name == WORKFLOW)
        if state is not None:
            chosen = chosen.where(status.c.status.in_([name for name, its in _STATES.items() if its is state]))
        if words := words.replace("\0", ""):
            told = (status.c.workflow_uuid, *(status.c.attributes[name].as_string() for name in ("study", "error")))
            chosen = chosen.where(sa.or_(*(each.icontains(words, autoescape=True) for each in told)))
        if (begin := _key_of(before)) is not None:
            chosen = chosen.where(sa.tuple_(*key) < begin)
        jobs = self._rows(chosen.order_by(*(each.desc() for each in key)).limit(limit + 1))
        shown = jobs[:limit]
        return shown, _key_text(shown[-1]) if len(jobs) > limit else None

    def replay(self, job_id: str) -> Job | None:
        """Do a job that ended once more, with all its attempts."""
        job = self.get(job_id)
        if job is None or job.state not in _ENDED:
            return job
        with usable():
            return self._again(job_id)

    def cancel(self, job_id: str) -> Job | None:
        """Let go of a job that has not ended."""
        job = self.get(job_id)
        if job is None or job.state in _ENDED:
            return job
        with usable():
            self._client.cancel_workflow(job_id)
        return self.get(job_id)

    def pause(self) -> None:
        """Let no further job begin."""
        with usable():
            self._queue().set_limiter(_HELD)  # type: ignore[arg-type]

    def resume(self) -> None:
        """Let jobs begin again."""
        with usable():
            self._queue().set_limiter(None)

    def paused(self) -> bool:
        """Whether jobs are held back."""
        with usable():
            return self._queue().limiter is not None

    def backlog(self) -> Backlog:
        """Numbers by state; jobs that ended count while they are remembered."""
        status = self.database.status
        waiting = status.c.status.in_(("ENQUEUED", "DELAYED"))
        since = sa.func.min(sa.case((waiting, status.c.attributes["since"].as_float())))
        chosen = sa.select(status.c.status, sa.func.count(), since).where(status.c.name == WORKFLOW)
        with usable(), self.database.engine.connect() as connection:
            rows = connection.execute(chosen.group_by(status.c.status)).all()
        jobs = dict.fromkeys(JobState, 0)
        for name, number, _ in rows:
            jobs[_STATES[name]] += number
        oldest = min((moment for _, _, moment in rows if moment is not None), default=None)
        return Backlog(jobs, 0.0 if oldest is None else max(0.0, time.time() - oldest))

    def runner(self, work: Work) -> DurableRunner:
        """What does the jobs here; one of them per process."""
        from plugin.durable.runner import DurableRunner

        return DurableRunner(self, work)

    def forget(self, now: datetime, *, most: int = 500) -> int:
        """Delete at most *most* of the jobs that ended too long ago, with all that is kept of them; how many."""
        status = self.database.status
        now_ms, day_ms = now.timestamp() * 1000, 86_400_000
        done = sa.and_(
            status.c.status.in_(("SUCCESS", "CANCELLED")), status.c.completed_at < now_ms - self.keep_days * day_ms
        )
        failed = sa.and_(
            status.c.status.in_(("ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")),
            status.c.completed_at < now_ms - 4 * self.keep_days * day_ms,
        )
        chosen = sa.select(status.c.workflow_uuid).where(status.c.name == WORKFLOW, sa.or_(done, failed)).limit(most)
        with usable():
            with self.database.engine.connect() as connection:
                old = list(connection.execute(chosen).scalars())
            if old:
                self._client.delete_workflows(old)
        return len(old)

    def close(self) -> None:
        """Let go of the database."""
        self._client.destroy()
        self.database.close()

    def _register(self) -> None:
        """Whether it is paused stays as it is."""
        queue = self._client.retrieve_queue(QUEUE)
        if queue is None:
            self._client.register_queue(
                QUEUE, worker_concurrency=self.at_once, polling_interval_sec=self.poll_s, on_conflict="never_update"
            )

    def _take_over(self) -> None:
        """Queue what an earlier release of Sightline left undone in the same file, in a table of its own."""
        if self.database.on_postgresql or not sa.inspect(self.database.engine).has_table("jobs"):
            return
        with self.database.engine.connect() as connection:
            left = connection.execute(
                sa.text("SELECT * FROM jobs WHERE state IN ('queued', 'running') ORDER BY number")
            )
            jobs = [row._mapping for row in left]
        for job in jobs:
            report, version = job.get("report_id"), job.get("report_version")
            self.put(job["job_id"], StudyRef(job["study"]), ReportRef(report, version) if report and version else None)
        with self.database.engine.begin() as connection:
            connection.execute(sa.text("DROP TABLE jobs"))

    def _queue(self) -> Queue:
        queue = self._client.retrieve_queue(QUEUE)
        if queue is None:
            raise error.DBOSException("the queue was not registered")
        return queue

    def _again(self, job_id: str) -> Job:
        self._client.update_workflow_attributes(job_id, {"since": time.time()}, merge=True)
        with contextlib.suppress(error.DBOSException):  # somebody else did it at the same moment
            self._client.rewind_workflow(job_id, start_step=1, queue_name=QUEUE, application_version=VERSION)
        return job_of(self._row(job_id))

    def _forward(self, job_id: str, priority: Priority) -> None:
        status = self.database.status
        better = sa.and_(status.c.status.in_(("ENQUEUED", "DELAYED")), status.c.priority > int(priority))
        with self.database.engine.begin() as connection:
            connection.execute(
                sa.update(status).where(status.c.workflow_uuid == job_id, better).values(priority=int(priority))
            )

    def _row(self, job_id: str) -> sa.Row[Any]:
        with self.database.engine.connect() as connection:
            return connection.execute(self._one, {"job": job_id}).one()

    def _rows(self, chosen: sa.Select[Any]) -> tuple[Job, ...]:
        with usable(), self.database.engine.connect() as connection:
            return tuple(job_of(row) for row in connection.execute(chosen))


def job_of(row: sa.Row[Any]) -> Job:
    """The job that *row* of the table is."""
    told = row.attributes or {}
    report = ReportRef(told["report"], told["version"]) if "report" in told else None
    return Job(
        job_id=row.workflow_uuid,
        study=StudyRef(told["study"]),
        state=_STATES[row.status],
        attempts=row.recovery_attempts or 0,
        updated=datetime.fromtimestamp(row.updated_at / 1000, UTC),
        error=_error(row, told),
        report=report,
        priority=Priority(row.priority) if row.priority in set(Priority) else Priority.NEW,
    )


def _key_text(job: Job) -> str:
    return f"{round(job.updated.timestamp() * 1000)}.{job.job_id}"


def _key_of(text: str | None) -> tuple[int, str] | None:
    moment, _, job_id = (text or "").partition(".")
    return (int(moment), job_id) if moment.isdecimal() and len(moment) < 16 else None


def _error(row: sa.Row[Any], told: Mapping[str, Any]) -> str | None:
    """What stands in the row may be of an attempt before the job was put again."""
    match row.status:
        case "MAX_RECOVERY_ATTEMPTS_EXCEEDED":
            return WORKER_DIED
        case "CANCELLED" if row.queue_name is None:  # by a person: it is of an attempt before
            return None
        case "SUCCESS":
            return None
        case "ENQUEUED" if not row.recovery_attempts:
            return None
        case "PENDING" if row.recovery_attempts == 1:
            return None
        case _:
            return told.get("error")
