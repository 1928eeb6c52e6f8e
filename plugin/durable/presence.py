"""Who is alive: each runner holds a lock with its name, which the database or the kernel frees when it dies.

No heartbeat: what ends a lock is the end of its holder, seen by PostgreSQL (the session) or the kernel (the file).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from plugin.durable.database import Database, usable

_HOLD = sa.text("SELECT pg_advisory_lock(hashtextextended(:name, 0))")
_TRY = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:name, 0))")
_FREE = sa.text("SELECT pg_advisory_unlock(hashtextextended(:name, 0))")


class Presence(Protocol):
    """Locks by name that end with their holder."""

    def hold(self, name: str) -> bool:
        """Hold *name*, again after a break if need be; whether it was held all along.

        Raises
        ------
        TransientError
            If it cannot be held now.
        """

    def free(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Whether nobody holds *name*; if so, it is ours while the block lasts.

        Raises
        ------
        TransientError
            If that cannot be told now.
        """

    def leave(self) -> None:
        """Let go of everything."""


def presence_of(database: Database) -> Presence:
    """Session advisory locks of PostgreSQL; on SQLite locks on files beside it."""
    return AdvisoryLocks(database) if database.on_postgresql else FileLocks(database.file.with_suffix(".runners"))


class AdvisoryLocks:
    """In a session of its own, which the server ends when its client is gone."""

    def __init__(self, database: Database) -> None:
        self._engine = database.alone
        self._session: sa.Connection | None = None

    def hold(self, name: str) -> bool:
        if self._session is not None and self._alive(self._session):
            return True
        self.leave()
        with usable():
            self._session = self._engine.connect()
            self._session.execute(_HOLD, {"name": name})
        return False

    @contextlib.contextmanager
    def free(self, name: str) -> Iterator[bool]:
        with usable():
            session = self._engine.connect()
        with session:
            with usable():
                free = bool(session.execute(_TRY, {"name": name}).scalar())
            try:
                yield free
            finally:
                if free:
                    with contextlib.suppress(sa.exc.SQLAlchemyError):  # the session ended, and with it the lock
                        session.execute(_FREE, {"name": name})

    def leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                session.invalidate()  # ends the session, and with it the lock
            session.close()

    @staticmethod
    def _alive(session: sa.Connection) -> bool:
        try:
            session.execute(sa.text("SELECT 1"))
        except sa.exc.SQLAlchemyError:
            return False
        return True


class FileLocks:
    """Locks of the kernel on files in *folder*, for runners of one machine or of containers that share a volume."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}

    def hold(self, name: str) -> bool:
        if name in self._held:
            return True
        with usable():
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._folder / name, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held[name] = descriptor
        return False

    @contextlib.contextmanager
    def free(self, name: str) -> Iterator[bool]:
        path = self._folder / name
        with usable():
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            free = _locked(descriptor) and _still(path, descriptor)
            try:
                yield free
            finally:
                if free:
                    path.unlink(missing_ok=True)
        finally:
            os.close(descriptor)

    def leave(self) -> None:
        for name, descriptor in self._held.items():
            (self._folder / name).unlink(missing_ok=True)
            os.close(descriptor)
        self._held.clear()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still(path: Path, descriptor: int) -> bool:
    """Whether *path* is the file that was opened: its last holder may have removed it in between."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
