"""When DBOS looks for work: its own look costs ten times as much as asking whether there is any."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import sqlalchemy as sa

from plugin.durable.database import usable
from plugin.errors import TransientError


class Pulse(threading.Event):
    """Stands in for the stop event that DBOS's thread of a queue waits on between two looks.

    Parameters
    ----------
    due : whether a look is worth it; asked as often as DBOS would have looked.
    """

    def __init__(self, due: Callable[[], bool]) -> None:
        super().__init__()
        self._due = due
        self._changed = threading.Condition()
        self._soon = math.inf

    def set(self) -> None:
        """End the thread."""
        super().set()
        self.nudge()

    def nudge(self, after_s: float = 0.0) -> None:
        """Ask sooner than usual."""
        with self._changed:
            self._soon = min(self._soon, time.monotonic() + after_s)
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until there is work, asking every *timeout* seconds; True at the end."""
        while not self.is_set():
            with self._changed:
                usual = math.inf if timeout is None else time.monotonic() + timeout
                while (left_s := min(usual, self._soon) - time.monotonic()) > 0:
                    self._changed.wait(left_s)
                self._soon = math.inf
            if not self.is_set() and self._due():
                return False
        return True


class Question:
    """Whether *statement* selects anything, asked often and by one thread: on a connection of its own."""

    def __init__(self, engine: sa.Engine, statement: str) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._statement = statement
        self._connection: sa.Connection | None = None

    def yes(self) -> bool:
        """The answer of now.

        Raises
        ------
        TransientError
            If the database does not answer.
        """
        try:
            with usable():
                if self._connection is None:
                    self._connection = self._engine.connect()
                return self._connection.exec_driver_sql(self._statement).first() is not None
        except TransientError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()
