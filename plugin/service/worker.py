"""The worker: takes one job after the other from the queue, and never dies of one."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from plugin.errors import SightlineError, TransientError
from plugin.ports import Job, JobQueue
from plugin.service.problems import log_defect

_log = logging.getLogger(__name__)


def work_once(queue: JobQueue, ground: Callable[[Job], object]) -> Job | None:
    """Take one job, do it and settle it; the job as it was taken, or None when none is due.

    Raises
    ------
    TransientError
        If the queue cannot be used now; a job taken is due again when its lease ends.
    """
    job = queue.take()
    if job is None:
        return None
    began = time.monotonic()
    try:
        ground(job)
    except SightlineError as error:
        queue.fail(job.job_id, str(error), retryable=error.retryable)
        _log.warning("job %s: %s after %.1f s", job.job_id, type(error).__name__, time.monotonic() - began)
    except Exception as error:  # noqa: BLE001 - one job must not end the worker; logged without data
        queue.fail(job.job_id, f"Unexpected {type(error).__name__}; please report it.", retryable=False)
        log_defect(f"job {job.job_id}", error)
    else:
        queue.finish(job.job_id)
        _log.info("job %s: done in %.1f s", job.job_id, time.monotonic() - began)
    return job


class Worker:
    """One thread that works until :meth:`stop`.

    Parameters
    ----------
    idle_s : how long it sleeps when no job is due, unless :meth:`wake` is called.
    """

    def __init__(self, queue: JobQueue, ground: Callable[[Job], object], *, idle_s: float = 2.0) -> None:
        self._queue = queue
        self._ground = ground
        self._idle_s = idle_s
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="sightline-worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def wake(self) -> None:
        """There may be a job now."""
        self._wake.set()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Finish the job at hand, then end; one that takes longer than *timeout_s* is due again later."""
        self._ending = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending:
            self._wake.clear()
            if not self._ending and not self._worked():
                self._wake.wait(self._idle_s)

    def _worked(self) -> bool:
        try:
            return work_once(self._queue, self._ground) is not None
        except TransientError as error:
            _log.warning("the worker waits: %s", error)
            return False
