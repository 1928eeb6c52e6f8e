"""The book of reports: what became of each, what it waits for, and how far the feeds were read. One SQLite file."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from plugin.errors import TransientError
from plugin.ports import Decided, Entry, Outcome
from plugin.values import ReportRef, StudyRef

# No text and no names of patients: ids of reports and jobs, UIDs of studies, and hashes of what else brings one up.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS reports (
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
    sweep INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS reports_due ON reports (due) WHERE due IS NOT NULL;
CREATE INDEX IF NOT EXISTS reports_outcome ON reports (outcome, since);
CREATE TABLE IF NOT EXISTS keys (
    key TEXT NOT NULL,
    report_id TEXT NOT NULL,
    PRIMARY KEY (key, report_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feeds (feed TEXT PRIMARY KEY, cursor TEXT, swept TEXT);
"""
_NAMES = (
    "report_id, version, outcome, reason, since, updated, due, tries, revision, withdrawals, joined, candidates, jobs, "
    "keys, decision"
)
_SELECT = f"SELECT {_NAMES} FROM reports"  # noqa: S608 - constants of this module
_VALUES = ", ".join(f":{name.strip()}" for name in _NAMES.split(","))
_CHANGED = ", ".join(f"{name.strip()} = :{name.strip()}" for name in _NAMES.split(",")[1:])
_INSERT = f"INSERT OR IGNORE INTO reports ({_NAMES}) VALUES ({_VALUES})"  # noqa: S608 - as above
_UPDATE = f"UPDATE reports SET {_CHANGED} WHERE report_id = :report_id AND revision = :after"  # noqa: S608 - as above
_MOST_VARIABLES = 500

Row = tuple[str, str, str, str, str, str, str | None, int, int, int, str, str, str, str, str | None]


@dataclass(frozen=True, slots=True, weakref_slot=True)
class SqliteReportBook:
    """:class:`plugin.ports.ReportBook` in the SQLite file *path*, shared by threads and processes of one machine.

    One row for each report, of its last version: what a report was before does not decide anything. After a power
    failure the last writes may be missing, the cursor with them, so that what they were about is noticed again; only a
    person's word is on the disk before it is answered.

    Raises
    ------
    TransientError
        From every method, if the file cannot be used now (locked, disk full).
    """

    path: Path

    def __post_init__(self) -> None:
        with self._database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(_SCHEMA)
            # SQLite empties its journal onto the disk when the last connection is closed: one stays open, after a look.
            kept = sqlite3.connect(self.path, check_same_thread=False)
            kept.execute("SELECT feed FROM feeds LIMIT 1").fetchall()
            weakref.finalize(self, kept.close)

    def entry(self, report_id: str) -> Entry | None:
        """What is known of the report, or None."""
        with self._database() as database:
            row = database.execute(f"{_SELECT} WHERE report_id = ?", (report_id,)).fetchone()
        return None if row is None else _entry(row)

    def settle(self, entry: Entry, *, after: int | None) -> bool:
        """Write *entry* if its revision is still *after*; whether it was."""
        with self._database(durable=entry.decision is not None) as database:
            values = _values(entry) | {"after": after, "revision": 0 if after is None else after + 1}
            if database.execute(_INSERT if after is None else _UPDATE, values).rowcount == 0:
                return False
            database.execute("DELETE FROM keys WHERE report_id = ?", (entry.report_id,)) if after is not None else None
            database.executemany("INSERT INTO keys VALUES (?, ?)", [(key, entry.report_id) for key in set(entry.keys)])
        return True

    def postpone(self, report_id: str, due: datetime | None, *, tries: int) -> None:
        """Look at the report again at *due*."""
        with self._database() as database:
            database.execute(
                "UPDATE reports SET due = ?, tries = ? WHERE report_id = ?",
                (_text(due) if due else None, tries, report_id),
            )

    def about(self, keys: Sequence[str]) -> tuple[str, ...]:
        """The ids of the reports that any of *keys* brings up, in their order."""
        with self._database() as database:
            found = {
                str(row[0])
                for key in keys
                for row in database.execute("SELECT report_id FROM keys WHERE key = ?", (key,)).fetchall()
            }
        return tuple(sorted(found))

    def due(self, now: datetime, *, limit: int = 100) -> tuple[str, ...]:
        """The ids of the reports to be looked at again, the longest waiting first."""
        with self._database() as database:
            rows = database.execute(
                "SELECT report_id FROM reports WHERE due <= ? ORDER BY due LIMIT ?", (_text(now), limit)
            ).fetchall()
        return tuple(row[0] for row in rows)

    def listed(self, outcome: Outcome, *, limit: int = 100) -> tuple[Entry, ...]:
        """The reports with that outcome, the longest standing first."""
        with self._database() as database:
            rows = database.execute(
                f"{_SELECT} WHERE outcome = ? ORDER BY since, report_id LIMIT ?", (outcome, limit)
            ).fetchall()
        return tuple(_entry(row) for row in rows)

    def counts(self) -> dict[Outcome, int]:
        """How many reports have each outcome."""
        with self._database() as database:
            rows = database.execute("SELECT outcome, COUNT(*) FROM reports GROUP BY outcome").fetchall()
        return {outcome: dict(rows).get(outcome.value, 0) for outcome in Outcome}

    def news(self, reports: Sequence[ReportRef], *, sweep: int | None = None) -> tuple[ReportRef, ...]:
        """Those of *reports* that the book does not know in this version."""
        with self._database() as database:
            known: dict[str, str] = {}
            for ids in _chunks([report.report_id for report in reports]):
                marks = ", ".join("?" * len(ids))
                query = f"SELECT report_id, version FROM reports WHERE report_id IN ({marks})"  # noqa: S608 - marks alone
                known |= dict(database.execute(query, ids).fetchall())
                if sweep is not None:
                    mark = f"UPDATE reports SET sweep = ? WHERE report_id IN ({marks})"  # noqa: S608 - as above
                    database.execute(mark, (sweep, *ids))
        return tuple(dict.fromkeys(each for each in reports if known.get(each.report_id) != each.version))

    def remember(self, reports: Sequence[ReportRef], reason: str, *, now: datetime, sweep: int) -> None:
        """Keep *reports* that are new to the book as ignored, without taking them."""
        entries = [Entry(each.report_id, each.version, Outcome.IGNORED, reason, now, now) for each in reports]
        with self._database() as database:
            database.executemany(_INSERT, [_values(entry) for entry in entries])
            database.executemany(
                "UPDATE reports SET sweep = ? WHERE report_id = ?", [(sweep, each.report_id) for each in reports]
            )

    def unseen(self, sweep: int, *, limit: int = 100, after: str = "") -> tuple[str, ...]:
        """Ids beyond *after* of the reports that the sweep did not mark and that are not withdrawn."""
        with self._database() as database:
            rows = database.execute(
                "SELECT report_id FROM reports WHERE report_id > ? AND sweep <> ? AND outcome <> ? "
                "ORDER BY report_id LIMIT ?",
                (after, sweep, Outcome.WITHDRAWN, limit),
            ).fetchall()
        return tuple(row[0] for row in rows)

    def known(self) -> int:
        """How many reports are not withdrawn."""
        return sum(count for outcome, count in self.counts().items() if outcome is not Outcome.WITHDRAWN)

    def cursor(self, feed: str) -> str | None:
        """Where the next look at *feed* begins; None before the first."""
        with self._database() as database:
            row = database.execute("SELECT cursor FROM feeds WHERE feed = ?", (feed,)).fetchone()
        return None if row is None else row[0]

    def save_cursor(self, feed: str, cursor: str) -> None:
        """Begin the next look there."""
        with self._database() as database:
            database.execute(
                "INSERT INTO feeds (feed, cursor) VALUES (:feed, :cursor) ON CONFLICT DO UPDATE SET cursor = :cursor",
                {"feed": feed, "cursor": cursor},
            )

    def swept(self, feed: str) -> datetime | None:
        """When the last deep sweep of *feed* ended; None before the first."""
        with self._database() as database:
            row = database.execute("SELECT swept FROM feeds WHERE feed = ?", (feed,)).fetchone()
        return datetime.fromisoformat(row[0]) if row and row[0] else None

    def save_sweep(self, feed: str, ended: datetime) -> None:
        """A deep sweep ended."""
        with self._database() as database:
            database.execute(
                "INSERT INTO feeds (feed, swept) VALUES (:feed, :swept) ON CONFLICT DO UPDATE SET swept = :swept",
                {"feed": feed, "swept": _text(ended)},
            )

    def forget(self, before: datetime) -> int:
        """Forget withdrawn reports that did not change since; how many."""
        old = "FROM reports WHERE outcome = ? AND updated < ?"
        values = (Outcome.WITHDRAWN, _text(before))
        with self._database() as database:
            database.execute(f"DELETE FROM keys WHERE report_id IN (SELECT report_id {old})", values)  # noqa: S608
            return database.execute(f"DELETE {old}", values).rowcount

    @contextlib.contextmanager
    def _database(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection in one transaction, closed afterwards; a connection per call is what makes threads safe."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                database.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
                yield database
        except (sqlite3.OperationalError, OSError) as error:
            raise TransientError(
                "The book of reports cannot be used now: is its file locked, or the disk full?"
            ) from error


def _chunks(ids: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(ids), _MOST_VARIABLES):
        yield ids[begin : begin + _MOST_VARIABLES]


def _text(moment: datetime) -> str:
    # Fixed width, so that text order is time order.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _uids(studies: tuple[StudyRef, ...]) -> list[str]:
    return [study.study_instance_uid for study in studies]


def _studies(uids: list[str]) -> tuple[StudyRef, ...]:
    return tuple(map(StudyRef, uids))


def _values(entry: Entry) -> dict[str, object]:
    decided = entry.decision
    decision = decided and {
        "studies": _uids(decided.studies),
        "among": _uids(decided.among),
        "who": decided.who,
        "reason": decided.reason,
        "made": _text(decided.made),
    }
    return {
        "report_id": entry.report_id,
        "version": entry.version,
        "outcome": entry.outcome,
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


def _entry(row: Row) -> Entry:
    told = json.loads(row[14]) if row[14] else None
    return Entry(
        report_id=row[0],
        version=row[1],
        outcome=Outcome(row[2]),
        reason=row[3],
        since=datetime.fromisoformat(row[4]),
        updated=datetime.fromisoformat(row[5]),
        due=datetime.fromisoformat(row[6]) if row[6] else None,
        tries=row[7],
        revision=row[8],
        withdrawals=row[9],
        joined=_studies(row[10].split()),
        candidates=_studies(row[11].split()),
        jobs=tuple(row[12].split()),
        keys=tuple(row[13].split()),
        decision=told
        and Decided(
            studies=_studies(told["studies"]),
            among=_studies(told["among"]),
            who=told["who"],
            reason=told["reason"],
            made=datetime.fromisoformat(told["made"]),
        ),
    )
