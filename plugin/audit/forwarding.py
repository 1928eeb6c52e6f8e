"""Copies of the trail elsewhere: read from the disk behind a cursor, in order, again until they are taken.

The trail is the spool: a sink that is down for a week gets the week. The cursor moves after the sink took a batch, so
that a crash in between sends that batch twice, and never skips one.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from plugin.audit.record import Link
from plugin.audit.trail import Trail
from plugin.errors import SightlineError, TransientError
from plugin.locking import locked
from plugin.results import ResultFile, write_results

MOST_TOGETHER = 100
_SHORTEST_S, _LONGEST_S = 1.0, 60.0
_log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where copies go."""

    @property
    def name(self) -> str:
        """A file name for its cursor."""

    def send(self, links: Sequence[Link]) -> None:
        """Have *links* taken, in order; they may have been sent before.

        Raises
        ------
        SightlineError
            If they were not, or nobody knows.
        """


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sink has come."""

    folder: Path
    name: str

    @property
    def number(self) -> int:
        """Of the last record that it took."""
        try:
            return int((self.folder / f"{self.name}.cursor").read_text())
        except FileNotFoundError:
            return 0

    def move(self, number: int) -> None:
        """It took all up to *number*."""
        write_results(self.folder, (ResultFile(f"{self.name}.cursor", f"{number}\n".encode()),))


def forward(trail: Trail, sink: Sink, *, most: int = MOST_TOGETHER) -> int:
    """Send the next records; how many there were.

    Raises
    ------
    SightlineError
        As the sink does; the same ones are sent again next time.
    """
    cursor = Cursor(trail.folder, sink.name)
    some = tuple(islice(trail.after(cursor.number), most))
    if some:
        sink.send(some)
        cursor.move(some[-1].number)
    return len(some)


class Forwarder:
    """One thread that sends what is new to *sink* until :meth:`stop`; of all processes here one at a time."""

    def __init__(self, trail: Trail, sink: Sink, *, wait: Callable[[float], float] = lambda seconds: seconds) -> None:
        self._trail = trail
        self._sink = sink
        self._wait = wait
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"sightline-audit-{sink.name}", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End; what was not taken is sent after the next start."""
        self._ending.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause = _SHORTEST_S
        while not self._ending.is_set():
            failed = self._failed()
            if failed is None:
                pause = _SHORTEST_S
            else:
                if pause == _SHORTEST_S:
                    _log.warning("copies of the audit trail wait: %s", failed)
                pause = min(2 * pause, _LONGEST_S)
            self._ending.wait(self._wait(pause))

    def _failed(self) -> str | None:
        """Send all there is; why it could not be done, or None."""
        try:
            with contextlib.ExitStack() as held:
                try:
                    held.enter_context(locked(self._trail.folder / f".{self._sink.name}.lock", patience_s=0))
                except TransientError:  # another process is at it
                    return None
                while not self._ending.is_set() and forward(self._trail, self._sink):
                    pass
        except (SightlineError, OSError, ValueError) as error:
            return f"{self._sink.name}: {error if isinstance(error, SightlineError) else type(error).__name__}"
        return None
