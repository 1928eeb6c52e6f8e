"""MLLP: HL7 messages over TCP, each between a vertical tab and a file separator (HL7 "Minimal Lower Layer Protocol").

The rule of this module: a message is answered only when it came whole, and every connection is bounded in size, time
and number, since anybody in the network may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from plugin.errors import InputError
from plugin.service.problems import log_defect

START: Final = b"\x0b"
END: Final = b"\x1c"
_RETURN: Final = b"\r"
_CHUNK: Final = 1 << 16
_HEAD: Final = 4096
_FAREWELL_S: Final = 2.0
"""How long what a refused sender still sends is read, so that our answer is not lost with it (RFC 1122 4.2.2.13)."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sender may ask of us.

    Parameters
    ----------
    message_bytes : longest message; documents in base64 are the long ones.
    message_s : longest time from a message's first byte to its last.
    idle_s : longest time between two messages; interface engines keep connections for days.
    connections : most of them at once; one more is closed at once.
    """

    message_bytes: int = 30_000_000
    message_s: float = 60.0
    idle_s: float = 3600.0
    connections: int = 32


class TooLongError(InputError):
    """A message is longer than is read; *beginning* is what came first of it."""

    def __init__(self, longest: int, beginning: bytes) -> None:
        super().__init__(f"The message is longer than {longest:,} bytes.")
        self.beginning = beginning


class Blocks:
    """Cuts a stream into messages: what stands before a start is dropped, and so is a message that never ends."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._held = bytearray()
        self._searched = 0
        self._inside = False

    @property
    def inside(self) -> bool:
        """Whether a message has begun."""
        return self._inside

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that *data* completes.

        Raises
        ------
        TooLongError
            If a message is longer than is read.
        """
        self._held += data
        found = []
        while (message := self._next()) is not None:
            found.append(message)
        if too_long := next((each for each in (*found, self._held) if len(each) > self._longest), None):
            raise TooLongError(self._longest, bytes(too_long[:_HEAD]))
        return found

    def _next(self) -> bytes | None:
        if not self._inside:
            begin = self._held.find(START)
            del self._held[: begin + 1 if begin >= 0 else len(self._held)]
            self._inside, self._searched = begin >= 0, 0
        if not self._inside:
            return None
        end = self._held.find(END, self._searched)
        # A start within a message means that the message before it was never ended.
        again = self._held.rfind(START, self._searched, end if end >= 0 else len(self._held))
        if again >= 0:
            _log.warning("an HL7 message was not ended before the next one began; it was dropped")
            del self._held[: again + 1]
            end, self._searched = end - again - 1 if end >= 0 else -1, 0
        if end < 0:
            self._searched = len(self._held)
            return None
        message = bytes(self._held[:end])
        del self._held[: end + 1]
        self._inside = False
        return message


@dataclass(slots=True)
class MllpListener:
    """Listens on a thread of its own, between :meth:`start` and :meth:`stop`.

    Parameters
    ----------
    answer : makes the acknowledgment of a message; called on other threads, one call for each connection at a time.
    refuse : makes the one of a message that is not read to its end, from its beginning and the reason.
    senders : who may connect; empty: whoever reaches the port.
    """

    host: str
    port: int
    answer: Callable[[bytes], bytes]
    refuse: Callable[[bytes, str], bytes]
    senders: tuple[Network, ...] = ()
    limits: Limits = field(default_factory=Limits)
    _socket: socket.socket | None = None
    _thread: threading.Thread | None = None
    _loop: asyncio.AbstractEventLoop | None = None
    _ending: asyncio.Event | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, the one that was taken when any was free."""
        return self.host, self.port

    def take_port(self) -> None:
        """Be reachable; who connects waits for :meth:`start`.

        Raises
        ------
        InputError
            If the port cannot be taken.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.socket(family)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((self.host, self.port))
            self._socket.listen()
            self.port = self._socket.getsockname()[1]
        except OSError as error:
            self._socket.close()
            raise InputError(
                f"Port {self.port} on {self.host} cannot be used ({error.strerror}); set another SIGHTLINE_MLLP_PORT."
            ) from error

    def start(self) -> None:
        """Begin to answer; raises as :meth:`take_port` when that was not called yet."""
        if self._socket is None:
            self.take_port()
        ready = threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(ready)), name="sightline-mllp", daemon=True
        )
        self._thread.start()
        ready.wait()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End: connections are closed; a message at hand is kept or not, and then not acknowledged."""
        if self._thread is not None and self._thread.is_alive() and self._loop and self._ending:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join(timeout_s)
        elif self._socket is not None:
            self._socket.close()

    async def _serve(self, ready: threading.Event) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, sock=self._socket, limit=_CHUNK)
        ready.set()
        await self._ending.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self.limits.connections or not self._may_send(writer):
            _log.warning("an MLLP connection was refused: too many, or not of SIGHTLINE_MLLP_SENDERS")
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._conversation(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _may_send(self, writer: asyncio.StreamWriter) -> bool:
        peer = writer.get_extra_info("peername")
        if not self.senders:
            return True
        return bool(peer) and any(ipaddress.ip_address(peer[0]) in network for network in self.senders)

    async def _conversation(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer message after message until the sender ends, or goes beyond a limit."""
        try:
            await self._answer_all(reader, writer)
        except (TimeoutError, InputError) as error:
            _log.warning("an MLLP connection was closed: %s", error or "nothing came in time")
        except OSError:
            _log.info("an MLLP connection broke")
        except Exception as error:  # noqa: BLE001 - one connection must not end the others; logged without data
            log_defect("an MLLP connection", error)
        finally:
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()  # it does not read what it is answered
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        blocks = Blocks(self.limits.message_bytes)
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.limits.idle_s
        while data := await _within(ends - loop.time(), reader.read(_CHUNK)):
            was_inside = blocks.inside
            try:
                messages = blocks.feed(data)
            except TooLongError as error:
                await self._send(self.refuse(error.beginning, str(error)), writer)
                await _within(_FAREWELL_S, _discarded(reader))
                raise
            for message in messages:
                await self._send(await asyncio.to_thread(self.answer, message), writer)
                was_inside = False
            if not blocks.inside:
                ends = loop.time() + self.limits.idle_s
            elif not was_inside:
                ends = loop.time() + self.limits.message_s

    async def _send(self, answer: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(START + answer + END + _RETURN)
        await _within(self.limits.message_s, writer.drain())


async def _within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """Raises TimeoutError. Not ``wait_for``, which before Python 3.12 loses a cancellation that comes at the end."""
    async with asyncio.timeout(seconds):
        return await work


async def _discarded(reader: asyncio.StreamReader) -> None:
    while await reader.read(_CHUNK):
        pass
