"""The subscriber: keeps our Subscription at the FHIR server, and says once when that cannot be."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from plugin.errors import SightlineError
from plugin.fhir.client import FhirClient
from plugin.fhir.subscription import Hook, registered
from plugin.service.problems import log_defect

_log = logging.getLogger(__name__)


class Subscriber:
    """One thread that sees to the Subscription at once, and every *every_s*, until :meth:`stop`."""

    def __init__(
        self,
        server: FhirClient,
        hook: Hook,
        *,
        every_s: float = 3600.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._server = server
        self._hook = hook
        self._every_s = every_s
        self._clock = clock
        self._said = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sightline-subscriber", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End. The Subscription stays: it is renewed by the next start, or ends by itself."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._ending.is_set():
            self._say(self._once())
            self._ending.wait(self._every_s)

    def _once(self) -> str:
        try:
            status = registered(self._server, self._hook, now=self._clock())
        except SightlineError as error:
            return f"could not be registered ({error})"
        except Exception as error:  # noqa: BLE001 - polling goes on whatever happens here; logged without data
            log_defect("registering a subscription", error)
            return f"could not be registered (unexpected {type(error).__name__})"
        return f"is {status}" if status else "is not taken by the FHIR server"

    def _say(self, what: str) -> None:
        """Each state once, however long it lasts."""
        if what == self._said:
            return
        self._said = what
        well = what in ("is active", "is requested")
        _log.log(logging.INFO if well else logging.WARNING, "the subscription %s; polling goes on", what)
