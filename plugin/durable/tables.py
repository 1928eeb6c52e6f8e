"""Our own tables beside those of DBOS: made once, and changed by later releases step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from plugin.durable.database import SCHEMA, Database, usable
from plugin.errors import InputError

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('sightline tables', 0))"


@dataclass(frozen=True, slots=True)
class Transaction:
    """Statements that hold together; in each ``{at}`` stands before names of tables."""

    connection: sa.Connection
    at: str

    def do(self, statement: str, **values: Any) -> sa.CursorResult[Any]:
        """Execute *statement*; values called ``names`` are a list."""
        text = sa.text(statement.format(at=self.at))
        if "names" in values:
            text = text.bindparams(sa.bindparam("names", expanding=True))
        return self.connection.execute(text, values)

    def do_all(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute *statement* for each of *rows*."""
        if rows:
            self.connection.execute(sa.text(statement.format(at=self.at)), list(rows))


@dataclass(frozen=True, slots=True)
class Tables:
    """Our tables called *name* in *database*, made or brought up to date before they are used.

    Parameters
    ----------
    changes : see :func:`bring_up_to_date`.
    what : what messages call them.

    Raises
    ------
    InputError
        If a later release made them.
    TransientError
        Here and from every transaction, if the database cannot be used now.
    """

    database: Database
    name: str
    changes: Sequence[Sequence[str]]
    what: str

    def __post_init__(self) -> None:
        with usable(self.what):
            bring_up_to_date(self.database, self.name, self.changes)

    @contextlib.contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Transaction]:
        """One transaction; a *durable* one is on the disk when the block ends."""
        with usable(self.what):
            engine = self.database.engine if durable else self.database.noting
            with engine.begin() as connection:
                yield Transaction(connection, prefix(self.database))


def bring_up_to_date(database: Database, name: str, changes: Sequence[Sequence[str]]) -> None:
    """Apply those of *changes* that the tables called *name* have not seen, all in one transaction.

    Parameters
    ----------
    changes : for each release that changed them, its statements; what was released is never edited. ``{at}`` stands
        before names of tables, ``{rowid}`` behind a table whose key is its own.

    Raises
    ------
    InputError
        If a later release made the tables.
    sqlalchemy.exc.SQLAlchemyError, OSError
        If the database cannot be used now.
    """
    words = {"at": prefix(database), "rowid": "" if database.on_postgresql else "WITHOUT ROWID"}
    versions = f"{words['at']}sightline_tables"
    if not database.on_postgresql:
        database.file.parent.mkdir(parents=True, exist_ok=True)
    with database.engine.connect() as connection:
        connection.exec_driver_sql(_LOCK if database.on_postgresql else "BEGIN IMMEDIATE")
        if database.on_postgresql and SCHEMA not in sa.inspect(connection).get_schema_names():
            connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
        connection.exec_driver_sql(
            f"CREATE TABLE IF NOT EXISTS {versions} (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
        )
        chosen = sa.text(f"SELECT version FROM {versions} WHERE name = :name")  # noqa: S608 - a constant
        seen = int(connection.execute(chosen, {"name": name}).scalar() or 0)
        if seen > len(changes):
            raise InputError("A later release of Sightline changed this database: install that release, or a later one")
        for statement in (each for change in changes[seen:] for each in change):
            connection.exec_driver_sql(statement.format(**words))
        connection.execute(
            sa.text(
                f"INSERT INTO {versions} (name, version) VALUES (:name, :version) "  # noqa: S608 - a constant
                "ON CONFLICT (name) DO UPDATE SET version = :version"
            ),
            {"name": name, "version": len(changes)},
        )
        connection.commit()


def prefix(database: Database) -> str:
    """What stands before the names of our tables."""
    return f"{SCHEMA}." if database.on_postgresql else ""
