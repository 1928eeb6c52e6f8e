"""The database of jobs and reports: how it is reached and set up. The jobs' tables are those of DBOS 3.4."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos import DBOS
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from plugin.errors import InputError, TransientError

SCHEMA = "sightline"
LOCK_WAIT_MS = 30_000
_POSTGRESQL = "postgresql+psycopg"
# A client that froze lets go of its locks; a worker whose machine lost its power is seen as gone within half a minute.
_SESSION = (
    "-c idle_in_transaction_session_timeout=60000 "
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)


@dataclass(frozen=True, slots=True)
class Database:
    """Where the jobs are.

    Parameters
    ----------
    url : ``postgresql://user:password@host/database``, or ``sqlite:///path``.
    engine : its connections are asked whether they live before each use, so that a restart is not felt by who asks.
    working : they are not, since runners try again.
    noting : as *engine*; but the last writes to a file may be missing after a power failure, which is much quicker.
    alone : as *working* and *noting*; each statement is a transaction, so that no server is told of begin and end.

    Raises
    ------
    InputError
        If *url* is neither.
    """

    url: str = field(repr=False)
    engine: sa.Engine = field(init=False, repr=False)
    working: sa.Engine = field(init=False, repr=False)
    noting: sa.Engine = field(init=False, repr=False)
    alone: sa.Engine = field(init=False, repr=False)
    status: sa.TableClause = field(init=False, repr=False)
    done: sa.TableClause = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            url = sa.make_url(self.url)
        except SQLAlchemyError:
            raise InputError("SIGHTLINE_DATABASE_URL is no address like postgresql://user:password@host/name") from None
        if url.get_backend_name() not in ("postgresql", "sqlite") or not url.database:
            raise InputError(
                "SIGHTLINE_DATABASE_URL names no PostgreSQL database: postgresql://user:password@host/name"
            )
        on_sqlite = url.get_backend_name() == "sqlite"
        engine = _sqlite(url) if on_sqlite else _postgresql(url, pool_pre_ping=True)
        noting = _sqlite(url, synchronous="NORMAL") if on_sqlite else engine
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "working", engine if on_sqlite else _postgresql(url))
        object.__setattr__(self, "noting", noting)
        object.__setattr__(self, "alone", noting if on_sqlite else _postgresql(url, isolation_level="AUTOCOMMIT"))
        schema = SCHEMA if self.on_postgresql else None
        object.__setattr__(self, "status", _status_table(schema))
        object.__setattr__(self, "done", _done_table(schema))

    @property
    def on_postgresql(self) -> bool:
        """Whether it is a server, which several machines may share."""
        return sa.make_url(self.url).get_backend_name() == "postgresql"

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return Path(sa.make_url(self.url).database or "")

    def prepare(self) -> None:
        """Make the tables, or bring those of an earlier release up to date.

        Raises
        ------
        TransientError
            If the database does not answer, or cannot be written.
        """
        with usable():
            if not self.on_postgresql:
                self.file.parent.mkdir(parents=True, exist_ok=True)
            url = self.engine.url.render_as_string(hide_password=False)
            where = f"{SCHEMA}.workflow_status" if self.on_postgresql else "workflow_status"
            with self._one_at_a_time():
                DBOS.migrate(url, schema=SCHEMA)
                with self.engine.begin() as connection:
                    connection.execute(
                        sa.text(f"CREATE INDEX IF NOT EXISTS sightline_jobs_changed ON {where} (updated_at)")
                    )

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Processes that start together make the tables of a file one after the other, as a server has it done."""
        if self.on_postgresql:
            yield
            return
        folder = os.open(self.file.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def close(self) -> None:
        """Let go of every connection."""
        for engine in {self.engine, self.working, self.noting, self.alone}:
            engine.dispose()


@contextlib.contextmanager
def usable(what: str = "The job queue") -> Iterator[None]:
    """Turn what the database cannot do now into a TransientError, without the statement and its values."""
    try:
        yield
    except (DBAPIError, sa.exc.TimeoutError, OSError) as error:
        kind = type(getattr(error, "orig", None) or error).__name__
        raise TransientError(
            f"{what} cannot be used now ({kind}): does its database run, is its file locked, or the disk full?"
        ) from error


def quiet() -> None:
    """Let DBOS log warnings alone; it says much else, and shows exceptions whole."""
    logging.getLogger("dbos").setLevel(logging.WARNING)


def _status_table(schema: str | None) -> sa.TableClause:
    """The columns of DBOS's ``workflow_status`` that we read and write."""
    return sa.table(
        "workflow_status",
        sa.column("workflow_uuid", sa.Text),
        sa.column("name", sa.Text),
        sa.column("status", sa.Text),
        sa.column("queue_name", sa.Text),
        sa.column("executor_id", sa.Text),
        sa.column("owner_xid", sa.Text),
        sa.column("priority", sa.Integer),
        sa.column("recovery_attempts", sa.BigInteger),
        sa.column("created_at", sa.BigInteger),
        sa.column("updated_at", sa.BigInteger),
        sa.column("started_at_epoch_ms", sa.BigInteger),
        sa.column("completed_at", sa.BigInteger),
        sa.column("delay_until_epoch_ms", sa.BigInteger),
        sa.column("attributes", sa.JSON().with_variant(sa.dialects.postgresql.JSONB(), "postgresql")),
        schema=schema,
    )


def _done_table(schema: str | None) -> sa.TableClause:
    """The columns of DBOS's ``operation_outputs``, a row for each step that was finished."""
    return sa.table(
        "operation_outputs",
        sa.column("workflow_uuid", sa.Text),
        sa.column("function_id", sa.Integer),
        sa.column("function_name", sa.Text),
        sa.column("started_at_epoch_ms", sa.BigInteger),
        sa.column("completed_at_epoch_ms", sa.BigInteger),
        sa.column("application_name", sa.Text),
        sa.column("retention_timestamp", sa.BigInteger),
        schema=schema,
    )


def _sqlite(url: sa.URL, *, synchronous: str = "FULL") -> sa.Engine:
    engine = sa.create_engine(url, pool_size=20, max_overflow=0, pool_timeout=30)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # A transaction takes the write lock when it begins, as DBOS expects it; readers do not wait for writers.
        connection.isolation_level = "IMMEDIATE"
        usual = (f"busy_timeout = {LOCK_WAIT_MS}", "foreign_keys = ON", "journal_mode = WAL")
        for pragma in (*usual, f"synchronous = {synchronous}"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _postgresql(url: sa.URL, **more: Any) -> sa.Engine:
    arguments = {"application_name": "sightline", "connect_timeout": 10, "options": _SESSION}
    return sa.create_engine(
        url.set(drivername=_POSTGRESQL),
        connect_args=arguments,
        pool_size=20,
        max_overflow=0,
        pool_timeout=30,
        **more,
    )
