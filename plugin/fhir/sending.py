"""One request at a server that is busy at times: tried again, and its answer read within limits of time and size."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import httpx

from plugin.errors import SightlineError, TransientError
from plugin.fhir.resource import MAX_BYTES
from plugin.patience import asked_wait_s

BUSY: Final = frozenset({408, 425, 429, *range(500, 600)} - {501, 505})
"""Statuses after which the same request may succeed; what the server does not know at all is not among them."""
MAX_WAIT_S: Final = 5.0
"""Longest wait that a server may ask for here; a longer one is told to who asks, and a job waits outside."""
DELAYS_S: Final = (0.5, 1.0, 2.0)
_WHOLE: Final = 4
"""A whole answer may take so many times as long as the wait for a part of it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, which may be a refusal."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def redirects(self) -> bool:
        return 300 <= self.status < 400 and "location" in self.headers


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends to the server that *named* is what messages call it.

    Parameters
    ----------
    pool : the connections.
    timeout_s : longest wait for a connection and between two parts of an answer.
    sleep : waits between tries.
    jitter : in [0, 1); spreads the tries of many workers over half as long again.
    clock : seconds; any beginning.
    delays_s : waits before the second try and those after it.
    """

    pool: httpx.Client
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random
    clock: Callable[[], float] = time.monotonic
    named: str = "the FHIR server"
    delays_s: tuple[float, ...] = DELAYS_S

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        auth: httpx.Auth | None = None,
        again: frozenset[int] = BUSY,
        refused: Callable[[Answer], SightlineError] | None = None,
    ) -> Answer:
        """The server's answer; tried again while it is one of *again* or does not come.

        Raises
        ------
        TransientError
            If it does not answer; or what *refused* makes of the last of the answers *again*.
        """
        for delay_s in (*self.delays_s, None):
            failure: SightlineError
            try:
                answer = self._once(method, url, headers=headers, content=content, auth=auth)
            except (httpx.RequestError, httpx.InvalidURL) as error:
                # A truncated body ends here too. The class alone: messages quote addresses.
                failure = TransientError(f"{self.named} does not answer ({type(error).__name__})")
                wait_s = delay_s
            else:
                if answer.status not in again:
                    return answer
                asked_s = asked_wait_s(answer.headers)
                told = f"{self.named} answered {answer.status}"
                failure = refused(answer) if refused else TransientError(told, retry_after_s=asked_s)
                wait_s = delay_s if asked_s is None else asked_s
            if wait_s is None or delay_s is None or wait_s > MAX_WAIT_S:
                break
            self.sleep(wait_s + self.jitter() * delay_s / 2)
        raise failure

    def _once(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | None, auth: httpx.Auth | None
    ) -> Answer:
        ends = self.clock() + _WHOLE * self.timeout_s
        parts = bytearray()
        sent = self.pool.stream(
            method, url, headers=headers, content=content, auth=auth, timeout=self.timeout_s, follow_redirects=False
        )
        with sent as answer:
            if "," in answer.headers.get("content-encoding", ""):  # each coding multiplies what a part inflates to
                raise httpx.DecodingError("the answer is compressed more than once")
            for part in answer.iter_bytes():
                parts += part
                if len(parts) > MAX_BYTES:
                    raise httpx.DecodingError("the answer is too large")
                if self.clock() > ends:
                    raise httpx.ReadTimeout("the answer does not end")
            return Answer(answer.status_code, bytes(parts), answer.headers)
