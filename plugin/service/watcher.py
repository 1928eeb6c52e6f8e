"""The watcher: looks at the archive again and again, and never dies of what it finds."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from plugin.errors import SightlineError, TransientError
from plugin.service.problems import log_defect
from plugin.values import StudyRef
from plugin.watch import Watch, watch_once

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
