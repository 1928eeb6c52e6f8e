"""What the database is like, for those who look after it. Nothing is changed, and nothing is made."""

from __future__ import annotations

import time
from dataclasses import dataclass

import sqlalchemy as sa
from dbos._migration import get_migration_versions, get_sqlite_migration_versions

from plugin.durable.database import SCHEMA, Database, usable


@dataclass(frozen=True, slots=True)
class DatabaseState:
    """A database that answers.

    Parameters
    ----------
    server : its name and version.
    tables : version of the jobs' tables; 0: they are not made yet.
    newest : the version that this release makes of them.
    ahead_s : how far its clock is ahead of ours.
    """

    server: str
    tables: int
    newest: int
    ahead_s: float


def state_of(database: Database) -> DatabaseState:
    """The state of *database* now.

    Raises
    ------
    TransientError
        If it does not answer.
    """
    with usable("The database"):
        if not database.on_postgresql:
            return _of_file(database)
        with database.engine.connect() as connection:
            before = time.time()
            version, now = connection.execute(
                sa.text("SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp())")
            ).one()
            between = (before + time.time()) / 2
        tables, newest = get_migration_versions(database.engine, SCHEMA, use_listen_notify=True)
        return DatabaseState(f"PostgreSQL {version.split()[0]}", tables, newest, float(now) - between)


def _of_file(database: Database) -> DatabaseState:
    """A file that is not there yet is not made."""
    at = sa.create_engine("sqlite://") if not database.file.exists() else database.engine
    with at.connect() as connection:
        version = connection.execute(sa.text("SELECT sqlite_version()")).scalar_one()
    return DatabaseState(f"SQLite {version}", *get_sqlite_migration_versions(at), ahead_s=0.0)
