"""The book of reports: what became of each, what it waits for, and how far the feeds were read.

In the database of the jobs, so that all services and workers, on whatever machine, share one truth.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from plugin.durable.database import Database
from plugin.durable.tables import Tables, Transaction
from plugin.errors import InputError, TransientError
from plugin.ports import Decided, Entry, Outcome
from plugin.values import ReportRef, StudyRef

# No text and no names of patients: ids of reports and jobs, UIDs of studies, and hashes of what else brings one up.
_CHANGES = (
    (
        """
CREATE TABLE {at}reports (
    report_id TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    since TEXT NOT NULL,
    updated TEXT NOT NULL,
    due TEXT,
    tries INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    withdrawals INTEGER NOT NULL,
    joined TEXT NOT NULL,
    candidates TEXT NOT NULL,
    jobs TEXT NOT NULL,
    keys TEXT NOT NULL,
    decision TEXT,
    sweep BIGINT NOT NULL DEFAULT 0
) {rowid}""",
        "CREATE INDEX reports_due ON {at}reports (due) WHERE due IS NOT NULL",
        "CREATE INDEX reports_outcome ON {at}reports (outcome, since)",
        "CREATE TABLE {at}report_keys (key TEXT, report_id TEXT, PRIMARY KEY (key, report_id)) {rowid}",
        "CREATE INDEX report_keys_report ON {at}report_keys (report_id)",
        "CREATE TABLE {at}report_feeds (feed TEXT PRIMARY KEY, cursor TEXT, swept TEXT)",
    ),
)
_NAMES = (
    "report_id",
    "version",
    "outcome",
    "reason",
    "since",
    "updated",
    "due",
    "tries",
    "revision",
    "withdrawals",
    "joined",
    "candidates",
    "jobs",
    "keys",
    "decision",
)


def _insert(*names: str) -> str:
    values = ", ".join(f":{name}" for name in names)
    return f"INSERT INTO {{at}}reports ({', '.join(names)}) VALUES ({values}) ON CONFLICT (report_id) DO NOTHING"  # noqa: S608


_SELECT = f"SELECT {', '.join(_NAMES)} FROM {{at}}reports"  # noqa: S608 - constants of this module
_INSERT = _insert(*_NAMES)
_UPDATE = (
    f"UPDATE {{at}}reports SET {', '.join(f'{name} = :{name}' for name in _NAMES[1:])} "  # noqa: S608 - as above
    "WHERE report_id = :report_id AND revision = :after"
)
_KEY = "INSERT INTO {at}report_keys (key, report_id) VALUES (:key, :report_id) ON CONFLICT (key, report_id) DO NOTHING"
_FEED = "INSERT INTO {at}report_feeds VALUES (:feed, :cursor, :swept) ON CONFLICT (feed) DO NOTHING"
_MOST_VARIABLES = 500
# No report waits for longer until it is looked at again.
LONGEST_WAIT = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class DatabaseReportBook:
    """:class:`plugin.ports.ReportBook` in *database*, shared by threads, processes and, on PostgreSQL, machines.

    One row for each report, of its last version: what a report was before does not decide anything. After a power
    failure the last writes in a file may be missing, the cursor with them, so that what they were about is noticed
    again; only a person's word is on the disk before it is answered.

    Raises
    ------
    InputError
        If a later release made its tables.
    TransientError
        From every method, if the database cannot be used now.
    """

    database: Database
    _tables: Tables = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tables", Tables(self.database, "reports", _CHANGES, "The book of reports"))

    def entry(self, report_id: str) -> Entry | None:
        """What is known of the report, or None."""
        with self._tables.transaction() as transaction:
            row = transaction.do(f"{_SELECT} WHERE report_id = :report", report=report_id).one_or_none()
        return None if row is None else _entry(row)

    def settle(self, entry: Entry, *, after: int | None) -> bool:
        """Write *entry* if its revision is still *after*; whether it was."""
        values = _values(entry) | {"after": after, "revision": 0 if after is None else after + 1}
        with self._tables.transaction(durable=entry.decision is not None) as transaction:
            if transaction.do(_INSERT if after is None else _UPDATE, **values).rowcount == 0:
                return False
            if after is not None:
                transaction.do("DELETE FROM {at}report_keys WHERE report_id = :report", report=entry.report_id)
            transaction.do_all(_KEY, [{"key": key, "report_id": entry.report_id} for key in sorted(set(entry.keys))])
        return True

    def postpone(self, report_id: str, due: datetime | None, *, tries: int) -> None:
        """Look at the report again at *due*."""
        with self._tables.transaction() as transaction:
            transaction.do(
                "UPDATE {at}reports SET due = :due, tries = :tries WHERE report_id = :report",
                due=_text(due) if due else None,
                tries=tries,
                report=report_id,
            )

    def about(self, keys: Sequence[str]) -> tuple[str, ...]:
        """The ids of the reports that any of *keys* brings up, in their order."""
        found: set[str] = set()
        with self._tables.transaction() as transaction:
            for some in _chunks(keys):
                found |= set(
                    transaction.do("SELECT report_id FROM {at}report_keys WHERE key IN :names", names=some).scalars()
                )
        return tuple(sorted(found))

    def due(self, now: datetime, *, limit: int = 100) -> tuple[str, ...]:
        """The ids of the reports to be looked at again, the longest waiting first."""
        chosen = "SELECT report_id FROM {at}reports WHERE due <= :now OR due > :beyond ORDER BY due LIMIT :most"
        with self._tables.transaction() as transaction:
            values = {"now": _text(now), "beyond": _text(now + LONGEST_WAIT), "most": limit}
            return tuple(transaction.do(chosen, **values).scalars())

    def listed(self, outcome: Outcome, *, limit: int = 100) -> tuple[Entry, ...]:
        """The reports with that outcome, the longest standing first."""
        chosen = f"{_SELECT} WHERE outcome = :outcome ORDER BY since, report_id LIMIT :most"
        with self._tables.transaction() as transaction:
            return tuple(map(_entry, transaction.do(chosen, outcome=outcome.value, most=limit)))

    def decided(self, *, limit: int = 100) -> tuple[Entry, ...]:
        """The reports that a person decided about, the last changed first."""
        chosen = f"{_SELECT} WHERE decision IS NOT NULL ORDER BY updated DESC, report_id LIMIT :most"
        with self._tables.transaction() as transaction:
            return tuple(map(_entry, transaction.do(chosen, most=limit)))

    def counts(self) -> dict[Outcome, int]:
        """How many reports have each outcome."""
        with self._tables.transaction() as transaction:
            rows = transaction.do("SELECT outcome, COUNT(*) AS number FROM {at}reports GROUP BY outcome")
            found = {row.outcome: int(row.number) for row in rows}
        return {outcome: found.get(outcome.value, 0) for outcome in Outcome}

    def news(self, reports: Sequence[ReportRef], *, sweep: int | None = None) -> tuple[ReportRef, ...]:
        """Those of *reports* that the book does not know in this version."""
        known: dict[str, str] = {}
        with self._tables.transaction() as transaction:
            for ids in _chunks([report.report_id for report in reports]):
                chosen = "SELECT report_id, version FROM {at}reports WHERE report_id IN :names"
                known |= {row.report_id: row.version for row in transaction.do(chosen, names=ids)}
                if sweep is not None:
                    mark = "UPDATE {at}reports SET sweep = :sweep WHERE report_id IN :names"
                    transaction.do(mark, sweep=sweep, names=ids)
        return tuple(dict.fromkeys(each for each in reports if known.get(each.report_id) != each.version))

    def remember(self, reports: Sequence[ReportRef], reason: str, *, now: datetime, sweep: int) -> None:
        """Keep *reports* that are new to the book as ignored, without taking them."""
        entries = [Entry(each.report_id, each.version, Outcome.IGNORED, reason, now, now) for each in reports]
        with self._tables.transaction() as transaction:
            transaction.do_all(_INSERT, [_values(entry) for entry in entries])
            for ids in _chunks([each.report_id for each in reports]):
                transaction.do(
                    "UPDATE {at}reports SET sweep = :sweep WHERE report_id IN :names",
                    sweep=sweep,
                    names=ids,
                )

    def unseen(self, sweep: int, *, limit: int = 100, after: str = "") -> tuple[str, ...]:
        """Ids beyond *after* of the reports that the sweep did not mark and that are not withdrawn."""
        chosen = (
            "SELECT report_id FROM {at}reports WHERE report_id > :after AND sweep <> :sweep AND outcome <> :gone "
            "ORDER BY report_id LIMIT :most"
        )
        values = {"after": after, "sweep": sweep, "gone": Outcome.WITHDRAWN.value, "most": limit}
        with self._tables.transaction() as transaction:
            return tuple(transaction.do(chosen, **values).scalars())

    def known(self) -> int:
        """How many reports are not withdrawn."""
        return sum(count for outcome, count in self.counts().items() if outcome is not Outcome.WITHDRAWN)

    def cursor(self, feed: str) -> str | None:
        """Where the next look at *feed* begins; None before the first."""
        return self._of_feed(feed, "cursor")

    def save_cursor(self, feed: str, cursor: str) -> None:
        """Begin the next look there."""
        self._keep_of_feed(feed, "cursor", cursor)

    def swept(self, feed: str) -> datetime | None:
        """When the last deep sweep of *feed* ended; None before the first."""
        told = self._of_feed(feed, "swept")
        return datetime.fromisoformat(told) if told else None

    def save_sweep(self, feed: str, ended: datetime) -> None:
        """A deep sweep ended."""
        self._keep_of_feed(feed, "swept", _text(ended))

    def forget(self, before: datetime) -> int:
        """Forget withdrawn reports that did not change since; how many."""
        old = "FROM {at}reports WHERE outcome = :gone AND updated < :before"
        values = {"gone": Outcome.WITHDRAWN.value, "before": _text(before)}
        with self._tables.transaction() as transaction:
            chosen = f"DELETE FROM {{at}}report_keys WHERE report_id IN (SELECT report_id {old})"  # noqa: S608 - constants
            transaction.do(chosen, **values)
            return transaction.do(f"DELETE {old}", **values).rowcount

    def take_over(self, path: Path) -> int:
        """Take what an earlier release kept in the file *path*, if it is there, and set the file aside; how many rows.

        What stands in the database already stays as it is, so that it does not matter who takes over first.

        Raises
        ------
        InputError
            If the file is no book of reports.
        TransientError
            If it is in use.
        """
        if not path.exists():
            return 0
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=10)) as file:
                file.execute("PRAGMA journal_mode = DELETE")  # all of it is in this one file from here on
                with self._tables.transaction(durable=True) as transaction:
                    number = self._copy(transaction, file, "reports", (*_NAMES, "sweep"), _insert(*_NAMES, "sweep"))
                    self._copy(transaction, file, "keys", ("key", "report_id"), _KEY)
                    self._copy(transaction, file, "feeds", ("feed", "cursor", "swept"), _FEED)
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise TransientError(f"{path.name} is in use: end the earlier release of Sightline first") from error
            raise InputError(f"{path} is no book of reports of an earlier release: move it away") from error
        except sqlite3.DatabaseError as error:
            raise InputError(f"{path} is damaged: put a backup of it there, or move it away") from error
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            path.rename(path.with_suffix(".sqlite.taken-over"))
        return number

    def _copy(
        self, transaction: Transaction, file: sqlite3.Connection, table: str, names: tuple[str, ...], into: str
    ) -> int:
        number, rows = 0, file.execute(f"SELECT {', '.join(names)} FROM {table}")  # noqa: S608 - constants
        while some := rows.fetchmany(_MOST_VARIABLES):
            transaction.do_all(into, [dict(zip(names, row, strict=True)) for row in some])
            number += len(some)
        return number

    def _of_feed(self, feed: str, column: str) -> str | None:
        chosen = f"SELECT {column} FROM {{at}}report_feeds WHERE feed = :feed"  # noqa: S608 - a constant
        with self._tables.transaction() as transaction:
            told = transaction.do(chosen, feed=feed).scalar()
        return None if told is None else str(told)

    def _keep_of_feed(self, feed: str, column: str, value: str) -> None:
        kept = (
            f"INSERT INTO {{at}}report_feeds (feed, {column}) VALUES (:feed, :value) "  # noqa: S608 - a constant
            f"ON CONFLICT (feed) DO UPDATE SET {column} = :value"
        )
        with self._tables.transaction() as transaction:
            transaction.do(kept, feed=feed, value=value)


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for begin in range(0, len(ids), _MOST_VARIABLES):
        yield list(ids[begin : begin + _MOST_VARIABLES])


def _text(moment: datetime) -> str:
    # Fixed width, so that text order is time order.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _uids(studies: tuple[StudyRef, ...]) -> list[str]:
    return [study.study_instance_uid for study in studies]


def _studies(uids: list[str]) -> tuple[StudyRef, ...]:
    return tuple(map(StudyRef, uids))


def _values(entry: Entry) -> dict[str, object]:
    word = entry.decision
    decision = word and _word(word) | {"before": [_word(each) for each in word.before]}
    return {
        "report_id": entry.report_id,
        "version": entry.version,
        "outcome": entry.outcome.value,
        "reason": entry.reason,
        "since": _text(entry.since),
        "updated": _text(entry.updated),
        "due": _text(entry.due) if entry.due else None,
        "tries": entry.tries,
        "revision": entry.revision,
        "withdrawals": entry.withdrawals,
        "joined": " ".join(_uids(entry.joined)),
        "candidates": " ".join(_uids(entry.candidates)),
        "jobs": " ".join(entry.jobs),
        "keys": " ".join(entry.keys),
        "decision": json.dumps(decision) if decision else None,
    }


def _entry(row: sa.Row[Any]) -> Entry:
    told = json.loads(row.decision) if row.decision else None
    earlier = tuple(map(_decided, told.get("before", ()))) if told else ()
    return Entry(
        report_id=row.report_id,
        version=row.version,
        outcome=Outcome(row.outcome),
        reason=row.reason,
        since=datetime.fromisoformat(row.since),
        updated=datetime.fromisoformat(row.updated),
        due=datetime.fromisoformat(row.due) if row.due else None,
        tries=row.tries,
        revision=row.revision,
        withdrawals=row.withdrawals,
        joined=_studies(row.joined.split()),
        candidates=_studies(row.candidates.split()),
        jobs=tuple(row.jobs.split()),
        keys=tuple(row._mapping["keys"].split()),
        decision=replace(_decided(told), before=earlier) if told else None,
    )


def _word(word: Decided) -> dict[str, object]:
    return {
        "studies": _uids(word.studies),
        "among": _uids(word.among),
        "who": word.who,
        "reason": word.reason,
        "made": _text(word.made),
    }


def _decided(told: Mapping[str, Any]) -> Decided:
    return Decided(
        studies=_studies(told["studies"]),
        among=_studies(told["among"]),
        who=told["who"],
        reason=told["reason"],
        made=datetime.fromisoformat(told["made"]),
    )
