"""A clock that stands still, and a job queue in memory that keeps the promise of the port."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from plugin.ports import Job, JobState
from plugin.queue import retry_delay_s
from plugin.values import ReportRef, StudyRef


@dataclass(slots=True)
class StandingClock:
    """A clock that only :meth:`advance` moves."""

    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(slots=True)
class MemoryQueue:
    """The port's whole promise, without a disk."""

    clock: StandingClock = field(default_factory=StandingClock)
    max_attempts: int = 5
    lease_s: float = 600.0
    jobs: dict[str, Job] = field(default_factory=dict)
    due: dict[str, datetime] = field(default_factory=dict)

    def _change(self, job: Job, *, due: datetime) -> Job:
        self.jobs[job.job_id], self.due[job.job_id] = replace(job, updated=self.clock.now), due
        return self.jobs[job.job_id]

    def put(self, job_id: str, study: StudyRef, report: ReportRef | None = None) -> Job:
        job = self.jobs.get(job_id)
        if job is not None and job.state is not JobState.FAILED:
            return job
        return self._change(Job(job_id, study, JobState.QUEUED, 0, self.clock.now, report=report), due=self.clock.now)

    def take(self) -> Job | None:
        now = self.clock.now
        for job in tuple(self.jobs.values()):
            if job.state not in (JobState.QUEUED, JobState.RUNNING) or self.due[job.job_id] > now:
                continue
            if job.state is JobState.RUNNING and job.attempts >= self.max_attempts:
                self._change(replace(job, state=JobState.FAILED, error="The worker ended."), due=now)
                continue
            taken = replace(job, state=JobState.RUNNING, attempts=job.attempts + 1)
            return self._change(taken, due=now + timedelta(seconds=self.lease_s))
        return None

    def finish(self, job_id: str) -> None:
        job = self.jobs[job_id]
        if job.state is JobState.RUNNING:
            self._change(replace(job, state=JobState.DONE, error=None), due=self.clock.now)

    def fail(self, job_id: str, error: str, *, retryable: bool) -> None:
        job = self.jobs[job_id]
        if job.state is not JobState.RUNNING:
            return
        again = retryable and job.attempts < self.max_attempts
        delay = timedelta(seconds=retry_delay_s(job.attempts)) if again else timedelta()
        state = JobState.QUEUED if again else JobState.FAILED
        self._change(replace(job, state=state, error=error), due=self.clock.now + delay)

    def get(self, job_id: str) -> Job | None:
        return self.jobs.get(job_id)

    def list(self, limit: int = 100) -> tuple[Job, ...]:
        newest = sorted(self.jobs.values(), key=lambda job: job.updated, reverse=True)
        return tuple(newest[:limit])
