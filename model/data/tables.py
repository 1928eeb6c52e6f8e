"""Comma-separated tables of a data set, as published."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping

from model.data.store import DataError, Store

Row = Mapping[str, str]


def rows_of(store: Store, name: str, *columns: str) -> tuple[Row, ...]:
    """Every row of the table *name*, by column.

    Raises
    ------
    DataError
        If one of *columns* is not there.
    OSError
        If the file cannot be read.
    """
    reader = csv.DictReader(io.StringIO(store.read(name).decode("utf-8-sig"), newline=""))
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{name} has no column {', '.join(missing)}: expected the table as published")
    return tuple({key: value or "" for key, value in row.items() if key is not None} for row in reader)


def number_of(row: Row, column: str, where: str) -> float:
    """The finite number in *column*.

    Raises
    ------
    DataError
        If there is none; *where* names the table and the line.
    """
    try:
        number = float(row[column])
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where}: no number in column {column}")
    return number
