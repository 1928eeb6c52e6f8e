"""The books of reports and of decisions in a file of a test's own."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from plugin.durable import Database, DatabaseDecisionBook, DatabaseReportBook


@lru_cache(maxsize=4)
def book_at(file: Path) -> DatabaseReportBook:
    """The book in *file*; it is the file that remembers, and so a new process has the same."""
    return DatabaseReportBook(Database(f"sqlite:///{file}"))


@lru_cache(maxsize=4)
def decisions_at(file: Path) -> DatabaseDecisionBook:
    """Likewise the decisions in *file*."""
    return DatabaseDecisionBook(Database(f"sqlite:///{file}"))
