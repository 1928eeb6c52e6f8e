"""Rows of a patient or a study, in any table: found by the columns that name studies, reports, images or phrases."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from plugin.durable.database import SCHEMA, Database, usable
from plugin.errors import TransientError

NAMING = ("study", "study_instance_uid", "report_id", "sop_instance_uid", "tracking_uid")
"""A table that keeps something about patients has one of these columns, so that it is erased with them."""
_JOBS = "workflow_status"
_SOME = 500
_MOST_COUNTED = 5000


def rows_of(database: Database, values: frozenset[str]) -> dict[str, int]:
    """How many rows of which table name one of *values*; jobs are counted, too.

    Raises
    ------
    TransientError
        If the database cannot be used now.
    """
    with usable("The database"), database.engine.connect() as connection:
        counted = {table.name: _count(connection, table, values) for table in _tables(database) if [*_columns(table)]}
        counted["jobs"] = len(_jobs(connection, database, values))
    return {name: number for name, number in counted.items() if number}


def erase_rows(database: Database, values: frozenset[str]) -> None:
    """Delete every row that names one of *values*, and the jobs about them with all that DBOS keeps of them.

    Raises
    ------
    TransientError
        If the database cannot be used now.
    """
    with usable("The database"), database.engine.begin() as connection:
        for table in _tables(database):
            for column in _columns(table):
                for some in _chunks(values):
                    connection.execute(sa.delete(table).where(column.in_(some)))
        jobs = _jobs(connection, database, values)
        for table in _tables(database):
            for name in ("workflow_uuid", "workflow_id", "job_id"):
                if name in table.c:
                    for some in _chunks(jobs):
                        connection.execute(sa.delete(table).where(table.c[name].in_(some)))


def scrub(file: Path, *, patience_s: float = 30.0) -> None:
    """Write a SQLite file anew without what was deleted, and empty its log.

    Raises
    ------
    TransientError
        If somebody else uses it for longer than *patience_s*.
    """
    try:
        with contextlib.closing(sqlite3.connect(file, timeout=patience_s, isolation_level=None)) as connection:
            connection.execute("VACUUM")
            (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise TransientError(
            f"{file.name} cannot be written anew now ({type(error).__name__}); run it again"
        ) from error
    if busy:
        raise TransientError(f"{file.name} is being read; run the same command again")


def _tables(database: Database) -> list[sa.Table]:
    schema = SCHEMA if database.on_postgresql else None
    metadata = sa.MetaData(schema=schema)
    metadata.reflect(database.engine)
    return list(reversed(metadata.sorted_tables))  # whoever refers to others goes first


def _columns(table: sa.Table) -> Iterator[sa.Column[Any]]:
    yield from (table.c[name] for name in NAMING if name in table.c)


def _count(connection: sa.Connection, table: sa.Table, values: frozenset[str]) -> int:
    """Rows that name one of *values*, each once; of very many values the first thousands are looked for."""
    some = sorted(values)[:_MOST_COUNTED]
    named = sa.or_(*(column.in_(some) for column in _columns(table)))
    return int(connection.execute(sa.select(sa.func.count()).select_from(table).where(named)).scalar_one())


def _jobs(connection: sa.Connection, database: Database, values: frozenset[str]) -> list[str]:
    """The jobs about a study or a report of *values*."""
    inspector = sa.inspect(connection)
    if not inspector.has_table(_JOBS, schema=SCHEMA if database.on_postgresql else None):
        return []
    status = database.status
    rows = connection.execute(sa.select(status.c.workflow_uuid, status.c.attributes))
    return [row.workflow_uuid for row in rows if not values.isdisjoint(_told(row.attributes))]


def _told(attributes: object) -> set[str]:
    """The study and the report of a job."""
    told = attributes if isinstance(attributes, dict) else {}
    return {str(told[name]) for name in ("study", "report") if name in told}


def _chunks(values: frozenset[str] | list[str]) -> Iterator[list[str]]:
    ordered = sorted(values)
    for begin in range(0, len(ordered), _SOME):
        yield ordered[begin : begin + _SOME]
