"""Durable jobs on DBOS Transact: SQLite on one machine, PostgreSQL for several; docs/adr/0015 says why and how."""

from plugin.durable.book import DatabaseReportBook
from plugin.durable.database import Database
from plugin.durable.decisions import DatabaseDecisionBook
from plugin.durable.presence import presence_of
from plugin.durable.queue import DurableQueue
from plugin.durable.state import DatabaseState, state_of

__all__ = [
    "Database",
    "DatabaseDecisionBook",
    "DatabaseReportBook",
    "DatabaseState",
    "DurableQueue",
    "presence_of",
    "state_of",
]
