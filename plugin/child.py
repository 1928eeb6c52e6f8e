"""A process of its own for what other people's files may do to a parser: crash it, fill its memory, or never end.

The child is ``python -m <module>``, started when first needed and again when it died. It says that it is ready, then
takes a request and answers, one at a time, over its standard input and output; an empty answer is a refusal.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from threading import Lock, Timer
from typing import Any, BinaryIO, Final

from plugin.errors import TransientError

#: Longest wait for a child to be ready: it imports what it needs, and the machine may be busy.
START_S: Final = 120.0
_LENGTH: Final = struct.Struct("<Q")
# Settings hold secrets, and no parser needs them.
_OURS: Final = ("SIGHTLINE_", "AWS_", "PG")


class Child:
    """The process of *module*, which calls :func:`serve_child`; asked one thing at a time, from any thread."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._lock = Lock()
        atexit.register(self.close)

    def ask(self, request: bytes, timeout_s: float) -> bytes:
        """The answer, empty when the process failed, died or was too slow; starting it does not count.

        Raises
        ------
        TransientError
            If it cannot be started, which is nothing that *request* can help.
        """
        with self._lock:
            process = self._running()
            try:
                with _ended_after(timeout_s, process):
                    send(_pipe(process.stdin), request)
                    return receive(_pipe(process.stdout))
            except (OSError, EOFError):
                self._end()
                return b""

    def close(self) -> None:
        """End the process, if it runs."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        # A forked child must not share the pipes of its parent.
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._end()
            self._owner = os.getpid()
            self._process = subprocess.Popen(  # noqa: S603 - a module of ours
                [sys.executable, "-P", "-m", self._module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
            )
            self._wait_until_ready(self._process)
        return self._process

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        try:
            with _ended_after(START_S, process):
                receive(_pipe(process.stdout))
        except (OSError, EOFError) as error:
            self._end()
            raise TransientError(
                f"{self._module} cannot be started: is this machine too busy, or out of memory?"
            ) from error

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            try:
                _pipe(pipe).close()
            except OSError:  # what was not sent cannot be flushed to a dead process
                continue


@contextlib.contextmanager
def _ended_after(timeout_s: float, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill *process* when the block takes longer."""
    watchdog = Timer(timeout_s, process.kill)
    watchdog.start()
    try:
        yield
    finally:
        watchdog.cancel()


def _pipe(stream: Any) -> BinaryIO:
    return stream  # type: ignore[no-any-return]  # both are pipes, by construction


def send(stream: BinaryIO, content: bytes) -> None:
    """Write *content* with its length before it."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def receive(stream: BinaryIO) -> bytes:
    """What :func:`send` wrote.

    Raises
    ------
    EOFError
        If the stream ends before it is complete.
    """
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    content = stream.read(_LENGTH.unpack(head)[0])
    if len(content) < _LENGTH.unpack(head)[0]:
        raise EOFError
    return content


def serve(answer: Callable[[bytes], bytes], requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer *requests* on *answers* until they end."""
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        send(answers, answer(request))


def serve_child(answer: Callable[[bytes], bytes], *, memory_bytes: int) -> None:
    """Serve standard input and output, with at most *memory_bytes* of memory; what *answer* prints goes elsewhere."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    send(answers, b"")  # ready
    serve(answer, sys.stdin.buffer, answers)
