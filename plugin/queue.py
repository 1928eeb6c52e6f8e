"""The embedded job queue: one SQLite file. A job put is done once, whatever dies in between."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from plugin.errors import TransientError
from plugin.ports import Job, JobState
from plugin.values import ReportRef, StudyRef

# One column tells when a job may be taken: a queued one when it is due, a running one when its worker's lease ends.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    study TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    due TEXT NOT NULL,
    updated TEXT NOT NULL,
    error TEXT,
    report_id TEXT,
    report_version TEXT
);
CREATE INDEX IF NOT EXISTS jobs_due ON jobs (state, due);
CREATE INDEX IF NOT EXISTS jobs_updated ON jobs (updated);
"""
_COLUMNS = "job_id, study, state, attempts, updated, error, report_id, report_version"
_SELECT_ONE = f"SELECT {_COLUMNS} FROM jobs WHERE job_id = ?"  # noqa: S608 - constants of this module
_OLDEST = "SELECT number FROM jobs WHERE state IN ('queued', 'running') AND due <= :now ORDER BY number LIMIT 1"
_RUN = "UPDATE jobs SET state = 'running', attempts = attempts + 1, due = :lease, updated = :now"
_TAKE = f"{_RUN} WHERE number = ({_OLDEST}) RETURNING {_COLUMNS}"
_WORKER_DIED = "The worker ended in the middle of this job, as often as a job may be tried."


def retry_delay_s(attempts: int) -> float:
    """Seconds until a job is tried again after *attempts* failed ones: 30 s, doubling, at most an hour.

    Raises
    ------
    ValueError
        If *attempts* is below 1.
    """
    if attempts < 1:
        raise ValueError("a job is tried again after at least one attempt")
    return min(30.0 * 2.0 ** min(attempts - 1, 16), 3600.0)


def utc_now() -> datetime:
    """The wall clock in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class SqliteQueue:
    """:class:`plugin.ports.JobQueue` in the SQLite file *path*, shared by threads and processes of one machine.

    Parameters
    ----------
    path : the file; made with its folder when missing.
    max_attempts : tries of a job before it is failed for good.
    lease_s : how long a worker may take; after that the job is due again.
    clock : the time in UTC.

    Raises
    ------
    TransientError
        From every method, if the file cannot be used now (locked, disk full).
    """

    path: Path
    max_attempts: int = 5
    lease_s: float = 600.0
    clock: Callable[[], datetime] = field(default=utc_now)

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or self.lease_s <= 0:
            raise ValueError("a job has at least one attempt, and a lease takes time")
        with self._database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            known = {row[1] for row in database.execute("PRAGMA table_info(jobs)")}
            for column in ("report_id", "report_version"):  # a file of an earlier version has none
                if column not in known:
                    database.execute(f"ALTER TABLE jobs ADD COLUMN {column} TEXT")

    def put(self, job_id: str, study: StudyRef, report: ReportRef | None = None) -> Job:
        """Queue the job, or return it as it stands; a failed one is queued again with all its attempts."""
        now = _text(self.clock())
        report_id, version = (None, None) if report is None else (report.report_id, report.version)
        with self._database() as database:
            database.execute(
                "INSERT INTO jobs (job_id, study, state, due, updated, report_id, report_version) "
                "VALUES (:job, :study, 'queued', :now, :now, :report, :version) "
                "ON CONFLICT (job_id) DO UPDATE SET state = 'queued', attempts = 0, error = NULL, "
                "due = :now, updated = :now WHERE state = 'failed'",
                {
                    "job": job_id,
                    "study": study.study_instance_uid,
                    "now": now,
                    "report": report_id,
                    "version": version,
                },
            )
            return _job(database.execute(_SELECT_ONE, (job_id,)).fetchone())

    def take(self) -> Job | None:
        """The oldest job that is due, now running; one whose worker died too often is failed instead."""
        now = self.clock()
        values = {
            "now": _text(now),
            "lease": _text(now + timedelta(seconds=self.lease_s)),
            "most": self.max_attempts,
            "died": _WORKER_DIED,
        }
        with self._database() as database:
            database.execute(
                "UPDATE jobs SET state = 'failed', updated = :now, error = :died "
                "WHERE state = 'running' AND due <= :now AND attempts >= :most",
                values,
            )
            taken = database.execute(
                _TAKE,
                values,
            ).fetchone()
        return None if taken is None else _job(taken)

    def finish(self, job_id: str) -> None:
        """Mark a running job done."""
        with self._database() as database:
            database.execute(
                "UPDATE jobs SET state = 'done', error = NULL, updated = ? WHERE job_id = ? AND state = 'running'",
                (_text(self.clock()), job_id),
            )

    def fail(self, job_id: str, error: str, *, retryable: bool) -> None:
        """Record *error*; a retryable job is queued again after :func:`retry_delay_s` while attempts are left."""
        now = self.clock()
        with self._database() as database:
            row = database.execute(
                "SELECT attempts FROM jobs WHERE job_id = ? AND state = 'running'", (job_id,)
            ).fetchone()
            if row is None:
                return
            again = retryable and row[0] < self.max_attempts
            due = now + timedelta(seconds=retry_delay_s(row[0])) if again else now
            database.execute(
                "UPDATE jobs SET state = ?, error = ?, due = ?, updated = ? WHERE job_id = ? AND state = 'running'",
                (JobState.QUEUED if again else JobState.FAILED, error, _text(due), _text(now), job_id),
            )

    def get(self, job_id: str) -> Job | None:
        """The job, or None."""
        with self._database() as database:
            row = database.execute(_SELECT_ONE, (job_id,)).fetchone()
        return None if row is None else _job(row)

    def list(self, limit: int = 100) -> tuple[Job, ...]:
        """Jobs, the last changed first."""
        with self._database() as database:
            rows = database.execute(
                f"SELECT {_COLUMNS} FROM jobs ORDER BY updated DESC, number DESC LIMIT ?",  # noqa: S608 - as above
                (limit,),
            ).fetchall()
        return tuple(_job(row) for row in rows)

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction, closed afterwards; a connection per call is what makes threads safe."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                yield database
        except (sqlite3.OperationalError, OSError) as error:
            raise TransientError("The job queue cannot be used now: is its file locked, or the disk full?") from error


def _text(moment: datetime) -> str:
    # Fixed width, so that text order is time order.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _job(row: tuple[str, str, str, int, str, str | None, str | None, str | None]) -> Job:
    job_id, study, state, attempts, updated, error, report_id, version = row
    return Job(
        job_id=job_id,
        study=StudyRef(study),
        state=JobState(state),
        attempts=attempts,
        updated=datetime.fromisoformat(updated),
        error=error,
        report=ReportRef(report_id, version) if report_id and version else None,
    )
