"""A server that is away is left alone for a while, and one that is there is not asked for too much at once."""

from __future__ import annotations

from collections.abc import Callable, Container
from functools import wraps
from threading import BoundedSemaphore, Lock
from typing import Any, Protocol, TypeVar, cast

from plugin.errors import TransientError, UnavailableError

Answer = TypeVar("Answer")
Server = TypeVar("Server")


class Gate(Protocol):
    """What calls of a server go through."""

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """What *ask* answers."""


class Bound:
    """Lets at most *most* calls through at the same time; the others wait for their turn."""

    def __init__(self, most: int) -> None:
        self._room = BoundedSemaphore(most)

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """What *ask* answers."""
        with self._room:
            return ask()


class Breaker:
    """Counts the failures of one server in a row, so that its absence costs no job an attempt. Safe for threads.

    After *most* of them nothing is asked for *rest_s* seconds; then one call goes through, and its outcome decides:
    an answer closes the matter, another failure begins the rest anew. Only a TransientError is a failure; a server that
    refuses something is there.

    Parameters
    ----------
    name : of the server, in words: "the archive".
    clock : seconds, from any beginning.
    """

    def __init__(self, name: str, *, clock: Callable[[], float], most: int = 5, rest_s: float = 60.0) -> None:
        self._name = name
        self._clock = clock
        self._most = most
        self._rest_s = rest_s
        self._failures = 0
        self._until = 0.0
        self._lock = Lock()

    def call(self, ask: Callable[[], Answer]) -> Answer:
        """What *ask* answers.

        Raises
        ------
        UnavailableError
            If the server is left alone now; *ask* was not called.
        """
        self._admit()
        try:
            answer = ask()
        except TransientError:
            self._failed()
            raise
        except Exception:
            self._answered()
            raise
        self._answered()
        return answer

    def _admit(self) -> None:
        with self._lock:
            if self._failures < self._most:
                return
            left_s = self._until - self._clock()
            if left_s > 0:
                raise UnavailableError(
                    f"{self._name} failed {self._failures} times in a row and is left alone for a while",
                    retry_after_s=left_s,
                )
            self._until = self._clock() + self._rest_s  # this call is the one that goes through

    def _failed(self) -> None:
        with self._lock:
            self._failures += 1
            self._until = self._clock() + self._rest_s

    def _answered(self) -> None:
        with self._lock:
            self._failures = 0


class _Guarded:
    """*server*, whose methods, or *only* some, are called through *gate*."""

    def __init__(self, server: object, gate: Gate, only: Container[str] | None) -> None:
        self._server = server
        self._gate = gate
        self._only = only

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._server, name)
        if not callable(method) or (self._only is not None and name not in self._only):
            return method

        @wraps(method)
        def through(*arguments: Any, **named: Any) -> Any:
            return self._gate.call(lambda: method(*arguments, **named))

        return through


def guarded(server: Server, gate: Gate, *, only: Container[str] | None = None) -> Server:
    """*server* behind *gate*, or *only* those of its methods."""
    return cast(Server, _Guarded(server, gate, only))
