"""What does the jobs: one DBOS executor per process, which leaves a failed job in the table as the policy says."""

from __future__ import annotations

import json
import logging
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import sqlalchemy as sa
from dbos import DBOS
from dbos._queue import queue_worker_thread

from plugin.durable.database import SCHEMA, usable
from plugin.durable.presence import presence_of
from plugin.durable.pulse import Pulse, Question
from plugin.durable.queue import APPLICATION, QUEUE, SERIALIZER, VERSION, WORKFLOW, job_of
from plugin.errors import SightlineError, TransientError
from plugin.policy import GiveUp, LetGo, Refuse, Retry, Verdict, failure_of, judge
from plugin.ports import Job, Step, Work

if TYPE_CHECKING:
    from plugin.durable.queue import DurableQueue

LOOK_S = 2.0
# After a break in the database every runner takes its lock again; nobody is called gone before.
GRACE_S = 10.0
FORGET_S = 3600.0
# Two jobs of one study are never worked on together: the later waits.
SAME_STUDY_S = 1.0
# A job that nobody works on though its row says so, for so long, was lost.
LOST_S = 30.0
_QUEUED: dict[str, Any] = {"status": "ENQUEUED", "owner_xid": None, "started_at_epoch_ms": None}
# How often DBOS looks into its queue of workflows that were put in none; ours are all in one.
IDLE_S = 60.0
# So long DBOS takes at most to write that a job is done, before it counts as room for another. Where many are done at
# once, one look for several costs less than one for each.
SETTLED_S = 0.02
WAITS = """
SELECT 1 FROM {status} WHERE queue_name = 'jobs' AND status = 'ENQUEUED' AND status IN ('ENQUEUED', 'PENDING') LIMIT 1
"""
# One statement, where DBOS's own takes seven. Nothing is written once the job is somebody else's, or was cancelled.
FINISHED = """
INSERT INTO {done} (workflow_uuid, function_id, function_name, started_at_epoch_ms, completed_at_epoch_ms,
    application_name, retention_timestamp)
SELECT workflow_uuid, CAST(:number AS INTEGER), :step, CAST(:began AS BIGINT), CAST(:ended AS BIGINT),
    application_name, CAST(:ended AS BIGINT)
FROM {status} WHERE workflow_uuid = :job AND owner_xid = :owner AND status = 'PENDING'
ON CONFLICT (workflow_uuid, function_id) DO UPDATE SET completed_at_epoch_ms = excluded.completed_at_epoch_ms
"""
_log = logging.getLogger(__name__)
_jobs = logging.getLogger("sightline.jobs")
_running: list[DurableRunner] = []
Answer = TypeVar("Answer")


class Left(BaseException):
    """The row says already what becomes of the job; this execution has nothing to add."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A job as this process took it.

    Parameters
    ----------
    owner : DBOS's token: a write with it fails once the job is somebody else's.
    done : how long the steps took that were finished before, in order.
    """

    job: Job
    owner: str
    since: float
    told: Mapping[str, Any]
    began: float
    done: Mapping[str, float]


class DurableRunner:
    """:class:`plugin.ports.JobRunner` on DBOS, which runs one executor per process.

    Parameters
    ----------
    look_s : seconds between two looks for runners that are gone.
    """

    def __init__(self, queue: DurableQueue, work: Work, *, look_s: float = LOOK_S) -> None:
        self._queue = queue
        self._what = work
        self._look_s = look_s
        self._database = queue.database
        self._presence = presence_of(queue.database)
        status, done = self._database.status, self._database.done
        steps = (
            done.c.function_name,
            done.c.started_at_epoch_ms.label("began"),
            done.c.completed_at_epoch_ms.label("ended"),
        )
        self._one = (
            sa.select(status, *steps)
            .select_from(sa.outerjoin(status, done, status.c.workflow_uuid == done.c.workflow_uuid))
            .where(status.c.workflow_uuid == sa.bindparam("job"))
            .order_by(done.c.function_id)
        )
        self._finished = sa.text(FINISHED.format(done=done.fullname, status=status.fullname))
        self._waits = Question(self._database.working, WAITS.format(status=status.fullname))
        self._name = f"{socket.gethostname()}-{secrets.token_hex(6)}"
        self._ending = threading.Event()
        self._at_work: set[Future[None]] = set()
        self._jobs: set[str] = set()
        self._idle: dict[tuple[str, str], float] = {}
        # DBOS counts what it started only once it runs, and may start one too many.
        self._room = threading.BoundedSemaphore(queue.at_once)
        self._lock = threading.Lock()
        self._pulse = Pulse(self._due)
        self._keeper = threading.Thread(target=self._keep, name="sightline-keeper", daemon=True)
        self._taker: threading.Thread | None = None

    def start(self) -> None:
        """Begin to work.

        Raises
        ------
        TransientError
            If the database does not answer.
        RuntimeError
            If another runner works in this process.
        """
        if _running:
            raise RuntimeError("one runner works per process")
        _running.append(self)
        self._presence.hold(self._name)
        with usable():
            most = self._queue.policy.max_attempts - 1
            DBOS.workflow(name=WORKFLOW, max_recovery_attempts=most)(partial(self._work))
            executor = DBOS(
                config={
                    "name": APPLICATION,
                    "system_database_engine": self._database.working,
                    "dbos_system_schema": SCHEMA if self._database.on_postgresql else None,
                    "executor_id": self._name,
                    "application_version": VERSION,
                    "serializer": SERIALIZER,
                    "run_migrations": False,
                    "log_level": "WARNING",
                    "enable_otlp": False,
                    "notification_coalesce_sec": 1.0,  # a hundredth by default, and nothing here waits for one
                }
            )
            DBOS.listen_queues([])
            executor._registry.get_internal_queue()._polling_interval_sec = IDLE_S
            DBOS.launch()
            queue = DBOS.retrieve_queue(QUEUE)
            if queue is not None:
                queue.set_worker_concurrency(self._queue.at_once)
                queue.set_polling_interval_sec(self._queue.poll_s)
                taking = (self._pulse, executor, queue)
                self._taker = threading.Thread(target=queue_worker_thread, args=taking, daemon=True)
                self._taker.start()
        self._keeper.start()

    def stop(self, timeout_s: float = 30.0) -> None:
        """End; the step at hand may take *timeout_s*, and the job goes back to the queue without losing an attempt."""
        self._ending.set()
        self._pulse.set()
        deadline = time.monotonic() + timeout_s
        self._wait(deadline)
        with self._lock:
            for work in tuple(self._at_work):
                if not work.done():
                    work.set_exception(TransientError("this runner ends"))
        self._wait(deadline + 5)
        for thread in (self._taker, self._keeper):
            if thread is not None:
                thread.join(timeout=5)
        self._waits.close()
        DBOS.destroy(destroy_registry=True)
        try:
            self._hand_back()
        except TransientError as error:
            _log.warning("jobs are taken over later: %s", error)
        finally:
            self._presence.leave()
            _running.remove(self)

    def _wait(self, deadline: float) -> None:
        while self._jobs and time.monotonic() < deadline:
            time.sleep(0.02)

    def _hand_back(self) -> None:
        """Nobody need find out that we are gone."""
        status = self._database.status
        ours = sa.and_(status.c.name == WORKFLOW, status.c.status == "PENDING", status.c.executor_id == self._name)
        values = _QUEUED | {"recovery_attempts": status.c.recovery_attempts - 1}
        self._write(sa.update(status).where(ours).values(values))

    def _due(self) -> bool:
        """Whether there is a job to take, and room for it."""
        if len(self._jobs) >= self._queue.at_once:
            return False
        try:
            return self._waits.yes()
        except TransientError:
            return False

    # One job

    def _work(self) -> None:
        """The workflow. What it did is in the table: returning is success, and :class:`Left` is everything else."""
        job_id = str(DBOS.workflow_id)
        self._jobs.add(job_id)
        self._room.acquire()
        try:
            claim = self._surely(lambda: self._claim(job_id))
            try:
                self._apart(partial(self._do, claim))
            except TransientError:
                self._put_back(claim)
            except Exception as error:  # noqa: BLE001 - a defect of the runner; logged without data
                self._tell(claim, "refused", step="runner", error=error)
                self._leave(claim, "ERROR", error=failure_of(error).reason)
        finally:
            self._room.release()
            self._jobs.discard(job_id)
            self._pulse.nudge(after_s=SETTLED_S * max(1.0, self._queue.at_once / 4))

    def _surely(self, do: Callable[[], Answer]) -> Answer:
        """What the database answers, however long it is away; a runner that ends does not wait for it."""
        wait_s = 0.2
        while True:
            try:
                return do()
            except TransientError as error:
                if self._ending.wait(wait_s):
                    raise Left from error
                wait_s = min(2 * wait_s, 10.0)

    def _do(self, claim: Claim) -> None:
        if self._ending.is_set():
            self._put_back(claim)
        with ExitStack() as locks:
            study = f"study {claim.job.study.study_instance_uid}"
            if not self._surely(lambda: locks.enter_context(self._presence.free(study))):
                self._leave(claim, "DELAYED", error=claim.told.get("error"), after_s=SAME_STUDY_S, counts=False)
            steps = locks.enter_context(self._what(claim.job))
            took_s = self._done_before(claim, tuple(step.name for step in steps))
            for number, step in enumerate(steps, start=1):
                if step.name in took_s:
                    continue
                if self._ending.is_set():
                    self._put_back(claim)
                took_s[step.name] = self._step(number, step, claim)
        self._tell(claim, "done", steps=took_s)

    def _done_before(self, claim: Claim, names: tuple[str, ...]) -> dict[str, float]:
        """The steps that need not be done; those of an earlier release, which are none of *names*, are forgotten."""
        if tuple(claim.done) == names[: len(claim.done)]:
            return dict(claim.done)
        done = self._database.done
        self._surely(lambda: self._write(sa.delete(done).where(done.c.workflow_uuid == claim.job.job_id)))
        return {}

    def _step(self, number: int, step: Step, claim: Claim) -> float:
        """Nothing but how long it took is kept: what was found is in the archive, not in this database."""
        began, began_ms = time.monotonic(), int(time.time() * 1000)
        try:
            step.run(claim.job)
        except Exception as error:  # noqa: BLE001 - one job must not end the runner; logged without data
            self._failed(step, claim, error)
        took_s = round(time.monotonic() - began, 3)
        values = {
            "job": claim.job.job_id,
            "owner": claim.owner,
            "number": number,
            "step": step.name,
            "began": began_ms,
            "ended": began_ms + int(took_s * 1000),
        }
        if not self._surely(lambda: self._write(self._finished, values)):
            raise Left  # it is somebody else's by now, or nobody's
        self._queue.observe({"event": "step", "step": step.name, "took_s": took_s})
        return took_s

    def _apart(self, do: Callable[[], None]) -> None:
        """Do it in a thread that nobody waits for at the end: a step that hangs must not keep the process.

        The lock of its study is kept while it hangs, so that nobody writes at the same time.
        """
        work: Future[None] = Future()

        def finish() -> None:
            try:
                do()
            except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
                self._settle(work, error)
            else:
                self._settle(work, None)

        self._at_work.add(work)
        try:
            threading.Thread(target=finish, name="sightline-job", daemon=True).start()
            work.result()
        finally:
            self._at_work.discard(work)

    def _settle(self, work: Future[None], error: BaseException | None) -> None:
        with self._lock:
            if work.done():
                return
            if error is None:
                work.set_result(None)
            else:
                work.set_exception(error)

    def _failed(self, step: Step, claim: Claim, error: Exception) -> None:
        failure = failure_of(error)
        verdict = judge(
            failure,
            attempt=claim.job.attempts,
            age_s=max(0.0, time.time() - claim.since),
            policy=self._queue.policy,
            chance=random.random(),  # noqa: S311 - jitter
        )
        self._tell(claim, _word(verdict), step=step.name, error=None if isinstance(verdict, LetGo) else error)
        match verdict:
            case Retry(after_s, counts):
                self._leave(claim, "DELAYED", error=failure.reason, after_s=after_s, counts=counts)
            case GiveUp(reason) | Refuse(reason):
                self._leave(claim, "ERROR", error=reason)
            case LetGo(reason):
                self._leave(claim, "CANCELLED", error=reason)

    def _put_back(self, claim: Claim) -> None:
        self._leave(claim, "ENQUEUED", error=claim.told.get("error"), counts=False)

    def _claim(self, job_id: str) -> Claim:
        with usable(), self._database.alone.connect() as connection:
            rows = connection.execute(self._one, {"job": job_id}).all()
        if not rows or rows[0].status != "PENDING" or rows[0].owner_xid is None:
            raise Left
        row, told = rows[0], rows[0].attributes or {}
        done = {each.function_name: (each.ended - each.began) / 1000 for each in rows if each.function_name}
        return Claim(job_of(row), row.owner_xid, float(told.get("since", time.time())), told, time.monotonic(), done)

    def _leave(self, claim: Claim, state: str, *, error: str | None, after_s: float = 0.0, counts: bool = True) -> None:
        """Write what becomes of the job, if it is still ours, and end this execution of it."""
        status = self._database.status
        now_ms = int(time.time() * 1000)
        told = {key: value for key, value in claim.told.items() if key != "error"}
        values: dict[str, Any] = {
            "status": state,
            "owner_xid": None,
            "started_at_epoch_ms": None,
            "updated_at": now_ms,
            "delay_until_epoch_ms": now_ms + int(after_s * 1000) if state == "DELAYED" else None,
            "completed_at": now_ms if state in ("ERROR", "CANCELLED") else None,
            "attributes": told | ({"error": error} if error else {}),
        }
        if not counts:
            values["recovery_attempts"] = status.c.recovery_attempts - 1
        ours = sa.and_(
            status.c.workflow_uuid == claim.job.job_id,
            status.c.status == "PENDING",
            status.c.owner_xid == claim.owner,
        )
        change = sa.update(status).where(ours).values(values)
        self._surely(lambda: self._write(change))
        raise Left

    def _write(self, change: sa.Executable, values: Mapping[str, Any] | None = None) -> int:
        """How many rows it changed."""
        with usable(), self._database.alone.begin() as connection:
            return connection.execute(change, values).rowcount

    def _tell(
        self,
        claim: Claim,
        outcome: str,
        *,
        step: str = "",
        error: Exception | None = None,
        steps: Mapping[str, float] | None = None,
    ) -> None:
        """One canonical line per attempt: identifiers and durations, no words of reports, no names."""
        line: dict[str, Any] = {
            "event": "job",
            "job": claim.job.job_id,
            "outcome": outcome,
            "attempt": claim.job.attempts,
            "took_s": round(time.monotonic() - claim.began, 3),
            "age_s": round(max(0.0, time.time() - claim.since), 3),
        }
        if steps is not None:
            line["steps"] = steps
        if error is not None:
            line |= {"step": step, "error": type(error).__name__}
            if not isinstance(error, SightlineError):
                line["where"] = _where(error)
        self._queue.observe(line)
        _jobs.log(logging.INFO if error is None else logging.WARNING, "%s", json.dumps(line))

    # Keeping house

    def _keep(self) -> None:
        forgot = -FORGET_S
        trusted = time.monotonic()
        while not self._ending.wait(self._look_s):
            try:
                if not self._presence.hold(self._name):
                    trusted = time.monotonic() + GRACE_S
                if time.monotonic() >= trusted:
                    self._take_over()
                self._shorten()
                self._find_lost()
                if time.monotonic() - forgot >= FORGET_S and not self._queue.forget(datetime.now(UTC)):
                    forgot = time.monotonic()
            except TransientError as error:
                _log.warning("the runner waits: %s", error)
            except Exception as error:  # noqa: BLE001 - must go on as long as the process
                _log.error("the runner's keeper failed: %s", _where(error))

    def _take_over(self) -> None:
        """Hand the jobs of runners that are gone to those that are alive."""
        status = self._database.status
        chosen = sa.select(status.c.executor_id).where(
            status.c.name == WORKFLOW, status.c.status == "PENDING", status.c.executor_id != self._name
        )
        with usable(), self._database.alone.connect() as connection:
            others = connection.execute(chosen.distinct()).scalars().all()
        for name in others:
            with self._presence.free(name) as gone:
                if gone:
                    DBOS._recover_pending_workflows([name])
                    _log.warning("the runner %s is gone; its jobs are queued again", name)

    def _find_lost(self) -> None:
        """Queue again what stands as begun here and is not: its end could not be written."""
        status = self._database.status
        ours = sa.and_(status.c.name == WORKFLOW, status.c.status == "PENDING", status.c.executor_id == self._name)
        with usable(), self._database.alone.connect() as connection:
            rows = connection.execute(sa.select(status.c.workflow_uuid, status.c.owner_xid).where(ours)).all()
        now = time.monotonic()
        idle = {tuple(row) for row in rows if row.workflow_uuid not in self._jobs}
        self._idle = {each: self._idle.get(each, now) for each in idle}
        for job_id, owner in [each for each, since in self._idle.items() if now - since >= LOST_S]:
            this = sa.and_(ours, status.c.workflow_uuid == job_id, status.c.owner_xid == owner)
            self._write(
                sa.update(status).where(this).values(_QUEUED | {"recovery_attempts": status.c.recovery_attempts - 1})
            )

    def _shorten(self) -> None:
        """No wait is longer than the policy's longest: one that is was written by a clock that ran ahead."""
        status = self._database.status
        longest = int((time.time() + self._queue.policy.most_s) * 1000)
        late = sa.and_(status.c.status == "DELAYED", status.c.name == WORKFLOW, status.c.delay_until_epoch_ms > longest)
        self._write(sa.update(status).where(late).values(delay_until_epoch_ms=longest))


def _word(verdict: Verdict) -> str:
    match verdict:
        case Retry():
            return "retried"
        case GiveUp():
            return "given-up"
        case Refuse():
            return "refused"
        case LetGo():
            return "withdrawn"


def _where(error: BaseException) -> str:
    from plugin.service.problems import where

    return where(error)
