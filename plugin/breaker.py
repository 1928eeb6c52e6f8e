"""A server that is away is left alone for a while, and one that is there is not asked for too much at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from functools import wraps
from threading import BoundedSemaphore, Lock
from typing import Any, Protocol, TypeVar, cast

from plugin.errors import TransientError, UnavailableError

Answer = TypeVar("Answer")
Server = TypeVar("Server")


class Gate(Protocol):
    """What calls of a server go through."""

    def call(self, ask: Callable[[], Answer], kind: str = "", /) -> Answer:
        """What *ask* answers, which is a call of that *kind*: the name of its method."""


class Bound:
    """Lets at most *most* calls through at the same time; the others wait for their turn."""

    def __init__(self, most: int) -> None:
        self._room = BoundedSemaphore(most)

    def call(self, ask: Callable[[], Answer], _kind: str = "", /) -> Answer:
        """What *ask* answers."""
        with self._room:
            return ask()


class Breaker:
    """Counts the failures of one server in a row, so that its absence costs no job an attempt. Safe for threads.

    Each kind of call is counted by itself: a server that answers every read may refuse every write. After *most*
    failures of one kind nothing is asked for *rest_s* seconds. Then the next call of that kind goes through alone, and
    its outcome decides: an answer closes the matter, another failure begins the rest anew. Only a TransientError is a
    failure; a server that refuses something is there.

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
        self._failures: Counter[str] = Counter()
        self._until = 0.0
        self._lock = Lock()

    def call(self, ask: Callable[[], Answer], kind: str = "", /) -> Answer:
        """What *ask* answers.

        Raises
        ------
        UnavailableError
            If the server is left alone now; *ask* was not called.
        """
        self._admit(kind)
        try:
            answer = ask()
        except TransientError:
            self._failed(kind)
            raise
        except Exception:
            self._answered(kind)
            raise
        self._answered(kind)
        return answer

    def _admit(self, kind: str) -> None:
        with self._lock:
            failures = max(self._failures.values(), default=0)
            if failures < self._most:
                return
            left_s = self._until - self._clock()
            if left_s > 0:
                raise UnavailableError(
                    f"{self._name} failed {failures} times in a row and is left alone for a while",
                    retry_after_s=left_s,
                )
            if self._failures[kind] >= self._most:
                self._until = self._clock() + self._rest_s  # this call is the one that goes through

    def _failed(self, kind: str) -> None:
        with self._lock:
            self._failures[kind] += 1
            self._until = self._clock() + self._rest_s

    def _answered(self, kind: str) -> None:
        with self._lock:
            self._failures[kind] = 0


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
            return self._gate.call(lambda: method(*arguments, **named), name)

        return through


def guarded(server: Server, gate: Gate, *, only: Container[str] | None = None) -> Server:
    """*server* behind *gate*, or *only* those of its methods."""
    return cast(Server, _Guarded(server, gate, only))
