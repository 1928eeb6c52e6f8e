"""A clock that stands still, and a job queue in memory that keeps the promise of the port."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from plugin.policy import GiveUp, LetGo, Policy, Refuse, Retry, failure_of, judge
from plugin.ports import Backlog, Job, JobState, Priority, Work
from plugin.values import ReportRef, StudyRef

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(slots=True)
class StandingClock:
    """A clock that only :meth:`advance` moves."""

    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass(slots=True)
class Entry:
    """A job with what the queue knows besides: when it may begin, since when it is wanted, how badly, what is done."""

    job: Job
    due: datetime
    since: datetime
    priority: Priority
    done: set[str] = field(default_factory=set)


@dataclass(slots=True)
class MemoryQueue:
    """The port's whole promise, without a disk."""

    clock: Callable[[], datetime] = field(default_factory=StandingClock)
    policy: Policy = field(default_factory=Policy)
    entries: dict[str, Entry] = field(default_factory=dict)
    held: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(
        self, job_id: str, study: StudyRef, report: ReportRef | None = None, *, priority: Priority | None = None
    ) -> Job:
        priority = Priority.NEW if priority is None else priority
        with self.lock:
            now, entry = self.clock(), self.entries.get(job_id)
            if entry is None or entry.job.state in (JobState.FAILED, JobState.CANCELLED):
                report = report if entry is None else entry.job.report
                job = Job(job_id, study, JobState.QUEUED, 0, now, report=report)
                self.entries[job_id] = Entry(job, now, now, priority if entry is None else entry.priority)
            elif entry.job.state is JobState.QUEUED:
                entry.priority = min(entry.priority, priority)
            return self.entries[job_id].job

    def get(self, job_id: str) -> Job | None:
        with self.lock:
            entry = self.entries.get(job_id)
            return None if entry is None else entry.job

    def list(self, limit: int = 100, *, state: JobState | None = None) -> tuple[Job, ...]:
        with self.lock:
            jobs = [entry.job for entry in self.entries.values() if state in (None, entry.job.state)]
            return tuple(sorted(jobs, key=lambda job: job.updated, reverse=True)[:limit])

    def page(
        self, limit: int, *, state: JobState | None = None, words: str = "", before: str | None = None
    ) -> tuple[tuple[Job, ...], str | None]:
        found = sorted(self.list(len(self.entries), state=state), key=_key, reverse=True)
        found = [job for job in found if words.lower() in _words(job).lower()]
        found = [job for job in found if before is None or _key(job) < before]
        return tuple(found[:limit]), _key(found[limit - 1]) if len(found) > limit else None

    def replay(self, job_id: str) -> Job | None:
        with self.lock:
            entry = self.entries.get(job_id)
            if entry is not None and entry.job.state in ENDED:
                now = self.clock()
                entry.due, entry.since = now, now
                entry.done.clear()
                entry.job = replace(entry.job, state=JobState.QUEUED, attempts=0, updated=now, error=None)
            return self.get(job_id)

    def cancel(self, job_id: str) -> Job | None:
        with self.lock:
            entry = self.entries.get(job_id)
            if entry is not None and entry.job.state not in ENDED:
                self.change(job_id, JobState.CANCELLED, error=None)
            return self.get(job_id)

    def pause(self) -> None:
        self.held = True

    def resume(self) -> None:
        self.held = False

    def paused(self) -> bool:
        return self.held

    def backlog(self) -> Backlog:
        with self.lock:
            jobs = dict.fromkeys(JobState, 0)
            for entry in self.entries.values():
                jobs[entry.job.state] += 1
            waiting = [entry.since for entry in self.entries.values() if entry.job.state is JobState.QUEUED]
            return Backlog(jobs, (self.clock() - min(waiting)).total_seconds() if waiting else 0.0)

    def runner(self, work: Work) -> MemoryRunner:
        return MemoryRunner(self, work)

    def close(self) -> None:
        """Nothing to let go of."""

    def take(self) -> Job | None:
        """The most urgent job that is due, now running."""
        with self.lock:
            now = self.clock()
            due = [each for each in self.entries.values() if each.job.state is JobState.QUEUED and each.due <= now]
            if self.held or not due:
                return None
            entry = min(due, key=lambda each: each.priority)
            entry.job = replace(
                entry.job,
                state=JobState.RUNNING,
                attempts=entry.job.attempts + 1,
                updated=now,
                priority=entry.priority,
            )
            return entry.job

    def change(
        self, job_id: str, state: JobState, *, error: str | None, after_s: float = 0.0, counts: bool = True
    ) -> None:
        """Settle a job that has not ended."""
        with self.lock:
            entry, now = self.entries[job_id], self.clock()
            if entry.job.state in ENDED:
                return
            attempts = entry.job.attempts - (0 if counts else 1)
            entry.job = replace(entry.job, state=state, error=error, attempts=attempts, updated=now)
            entry.due = now + timedelta(seconds=after_s)


def _words(job: Job) -> str:
    return f"{job.job_id} {job.study.study_instance_uid} {job.error or ''}"


def _key(job: Job) -> str:
    return f"{job.updated.isoformat()} {job.job_id}"


@dataclass(slots=True)
class MemoryRunner:
    """One thread that does the jobs; :meth:`once` does one without it."""

    queue: MemoryQueue
    what: Work
    ending: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def start(self) -> None:
        self.thread = threading.Thread(target=self.run, name="memory-runner", daemon=True)
        self.thread.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        self.ending.set()
        if self.thread is not None:
            self.thread.join(timeout_s)

    def run(self) -> None:
        while not self.ending.is_set():
            if self.once() is None:
                self.ending.wait(0.01)

    def once(self) -> Job | None:
        """Do the most urgent job; as it was taken, or None when none is due."""
        job = self.queue.take()
        if job is not None:
            self.work(job)
        return job

    def work(self, job: Job) -> None:
        queue, done = self.queue, self.queue.entries[job.job_id].done
        with self.what(job) as steps:
            for step in steps:
                if step.name in done:
                    continue
                current = queue.get(job.job_id)
                if current is None or current.state is not JobState.RUNNING:
                    return
                if self.ending.is_set():
                    queue.change(job.job_id, JobState.QUEUED, error=job.error, counts=False)
                    return
                try:
                    step.run(job)
                except Exception as error:  # noqa: BLE001 - as the runner does
                    self.failed(job, error)
                    return
                done.add(step.name)
        queue.change(job.job_id, JobState.DONE, error=None)

    def failed(self, job: Job, error: Exception) -> None:
        failure, queue = failure_of(error), self.queue
        age_s = (queue.clock() - queue.entries[job.job_id].since).total_seconds()
        match judge(failure, attempt=job.attempts, age_s=age_s, policy=queue.policy):
            case Retry(after_s, counts):
                queue.change(job.job_id, JobState.QUEUED, error=failure.reason, after_s=after_s, counts=counts)
            case GiveUp(reason) | Refuse(reason):
                queue.change(job.job_id, JobState.FAILED, error=reason)
            case LetGo(reason):
                queue.change(job.job_id, JobState.CANCELLED, error=reason)
