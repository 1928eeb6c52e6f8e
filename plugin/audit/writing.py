"""From the entrance to the disk: a queue that nobody waits for, and one thread that empties it.

What waits in the queue is not on the disk yet: usually for some milliseconds, and lost if the process is killed in
them. When the disk refuses, records wait in memory, at most :data:`MOST_WAITING`; readiness fails meanwhile, and what
had to be let go is told by a record of its own.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from plugin.audit.record import AuditRecord, Kind
from plugin.audit.trail import Trail
from plugin.errors import TransientError

MOST_WAITING = 100_000
MOST_TOGETHER = 500
_AGAIN_S = 1.0
_log = logging.getLogger(__name__)


class AuditWriter:
    """Keeps records in *trail* while the service runs.

    Parameters
    ----------
    most_waiting : records that wait for a disk that refuses.
    """

    def __init__(
        self,
        trail: Trail,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        most_waiting: int = MOST_WAITING,
        again_s: float = _AGAIN_S,
    ) -> None:
        self._trail = trail
        self._clock = clock
        self._again_s = again_s
        self._waiting: queue.Queue[AuditRecord | None] = queue.Queue(most_waiting)
        self._refused, self._told = 0, 0  # each is counted by one thread alone
        self._failing = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sightline-audit", daemon=True)

    def note(self, record: AuditRecord) -> None:
        """Take *record*; returns at once, and raises nothing."""
        try:
            self._waiting.put_nowait(record)
        except queue.Full:
            self._refused += 1

    def check(self) -> None:
        """Whether records reach the disk.

        Raises
        ------
        TransientError
            If they do not.
        """
        if self._failing:
            raise TransientError(self._failing)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End once everything is written, or after *timeout_s*."""
        self._ending.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)  # so that it wakes
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            some = self._next()
            while some and not self._kept(some):
                if self._ending.wait(self._again_s):
                    return
            if self._ending.is_set() and self._waiting.empty():
                return

    def _next(self) -> list[AuditRecord]:
        """What waits, at least one record unless the end has come."""
        some = [self._waiting.get()]
        while len(some) < MOST_TOGETHER:
            try:
                some.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return [record for record in some if record is not None]

    def _kept(self, some: list[AuditRecord]) -> bool:
        lost = self._refused - self._told
        gap = [AuditRecord(self._clock(), Kind.TRAIL, "gap", ok=False, why=f"{lost} records were lost")] if lost else []
        try:
            self._trail.append((*some, *gap))
        except TransientError as error:
            if not self._failing:
                _log.error("%s; records wait in memory", error)
            self._failing = str(error)
            return False
        except Exception as error:  # noqa: BLE001 - one record that cannot be written must not end the trail
            _log.error("unexpected %s in the audit trail; please report it", type(error).__name__)
            self._told -= len(some)
            return True
        self._failing = ""
        self._told += lost
        return True
