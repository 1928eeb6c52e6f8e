"""The watchers: they look at the archive, and for reports, again and again, and never die of what they find."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from plugin.errors import SightlineError, TransientError
from plugin.noticing import ReportWatch, watch_reports
from plugin.service.problems import log_defect
from plugin.values import StudyRef
from plugin.watch import Watch, watch_once

# Seconds until a service looks whose turn it was not.
AGAIN_S = 1.0
_log = logging.getLogger(__name__)


class Watcher:
    """One thread that calls :func:`plugin.watch.watch_once` until :meth:`stop`."""

    def __init__(self, watch: Watch, submit: Callable[[StudyRef], object]) -> None:
        self._watch = watch
        self._submit = submit
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sightline-watcher", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End; a look at hand that takes longer than *timeout_s* is left, and made again by the next start."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._once()
            self._ending.wait(self._watch.every_s)

    def _once(self) -> None:
        try:
            taken = watch_once(self._watch, self._taken, now=datetime.now(UTC))
        except SightlineError as error:
            _log.warning("the watcher waits: %s", error)
        except Exception as error:  # noqa: BLE001 - one bad answer must not end the watcher; logged without data
            log_defect("looking for new studies", error)
        else:
            if taken:
                _log.info("the watcher took %d studies", taken)

    def _taken(self, study: StudyRef) -> None:
        if self._ending.is_set():
            raise TransientError("the service ends")
        self._submit(study)


class ReportWatcher:
    """One thread that calls :func:`plugin.noticing.watch_reports` until :meth:`stop`.

    Parameters
    ----------
    alone : says whether no other service is at the same, and keeps it so while the block runs.
    """

    def __init__(
        self, watch: ReportWatch, *, alone: Callable[[], AbstractContextManager[bool]] = lambda: nullcontext(True)
    ) -> None:
        self._watch = watch
        self._alone = alone
        self._ending = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sightline-reports", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wake(self) -> None:
        """There may be something new: look at once, and again if it came during a look."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the report at hand; what was not taken is taken after the next start."""
        self._ending = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending:
            self._wake.clear()
            wait_s = self._watch.every_s if self._once() else min(self._watch.every_s, AGAIN_S)
            if not self._ending:
                self._wake.wait(wait_s)

    def _once(self) -> bool:
        """Look; whether it was our turn. If not, what woke us may be too new for the look that another is at."""
        try:
            with self._alone() as alone:
                if not alone:
                    return False
                done = watch_reports(self._watch, now=datetime.now(UTC), going_on=lambda: not self._ending)
        except SightlineError as error:
            _log.warning("the watcher of reports waits: %s", error)
        except Exception as error:  # noqa: BLE001 - one bad answer must not end the watcher; logged without data
            log_defect("looking for reports", error)
        else:
            if done.doubt:
                _log.warning("%s", done.doubt)
            if done.taken or done.gone:
                _log.info("the watcher took %d reports; %d that it knew are gone", done.taken, done.gone)
        return True
