"""The book of reports: written whole or not at all, and small."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import time
import tracemalloc
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from books import book_at
from faults import together
from servers import postgresql_program

from plugin.durable import Database, DatabaseReportBook
from plugin.durable.tables import prefix
from plugin.errors import InputError, TransientError
from plugin.ports import Decided, Entry, Outcome, ReportBook
from plugin.values import ReportRef, StudyRef

NOW = datetime(2026, 3, 1, tzinfo=UTC)
EARLIER = """
CREATE TABLE reports (
    report_id TEXT PRIMARY KEY, version TEXT NOT NULL, outcome TEXT NOT NULL, reason TEXT NOT NULL, since TEXT NOT NULL,
    updated TEXT NOT NULL, due TEXT, tries INTEGER NOT NULL, revision INTEGER NOT NULL, withdrawals INTEGER NOT NULL,
    joined TEXT NOT NULL, candidates TEXT NOT NULL, jobs TEXT NOT NULL, keys TEXT NOT NULL, decision TEXT,
    sweep INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE keys (key TEXT NOT NULL, report_id TEXT NOT NULL, PRIMARY KEY (key, report_id)) WITHOUT ROWID;
CREATE TABLE feeds (feed TEXT PRIMARY KEY, cursor TEXT, swept TEXT);
"""
ENTRY = Entry(
    "r",
    "1",
    Outcome.REVIEW,
    "two studies",
    NOW,
    NOW,
    due=NOW + timedelta(minutes=5),
    tries=2,
    withdrawals=1,
    joined=(StudyRef("1.2"),),
    candidates=(StudyRef("1.3"), StudyRef("1.4")),
    jobs=("a", "b"),
    keys=("1.2", "hash"),
    decision=Decided(
        (StudyRef("1.3"),),
        (StudyRef("1.3"), StudyRef("1.4")),
        "Dr. A",
        "why",
        NOW,
        before=(Decided((), (StudyRef("1.3"),), "Dr. B", "neither", NOW),),
    ),
)


@pytest.fixture
def book(database: Database) -> ReportBook:
    return DatabaseReportBook(database)


def test_an_entry_is_read_as_it_was_written(book: ReportBook) -> None:
    assert book.entry("r") is None
    assert book.settle(ENTRY, after=None)

    assert book.entry("r") == ENTRY


def test_who_writes_over_what_they_did_not_read_writes_nothing(book: ReportBook) -> None:
    assert book.settle(ENTRY, after=None)
    assert not book.settle(replace(ENTRY, reason="another"), after=None)
    assert book.settle(replace(ENTRY, reason="second"), after=0)
    assert not book.settle(replace(ENTRY, reason="third"), after=0)

    assert book.entry("r") == replace(ENTRY, reason="second", revision=1)


def test_a_report_is_found_by_whatever_brings_it_up(book: ReportBook) -> None:
    book.settle(ENTRY, after=None)
    book.settle(replace(ENTRY, report_id="s", keys=("hash", "hash")), after=None)

    assert book.about(("1.2", "hash", "unknown")) == ("r", "s")
    book.settle(replace(ENTRY, keys=("1.9",)), after=0)
    assert book.about(("1.2",)) == ()


def test_what_is_due_comes_the_longest_waiting_first(book: ReportBook) -> None:
    book.settle(ENTRY, after=None)
    book.settle(replace(ENTRY, report_id="s"), after=None)
    book.settle(replace(ENTRY, report_id="never", due=None), after=None)
    book.postpone("s", NOW, tries=3)

    assert book.due(NOW) == ("s",)
    assert book.due(NOW + timedelta(hours=1)) == ("s", "r")
    assert book.due(NOW + timedelta(hours=1), limit=1) == ("s",)
    assert book.entry("s") == replace(ENTRY, report_id="s", due=NOW, tries=3)


def test_what_a_clock_that_ran_a_day_ahead_put_off_is_due_at_once(book: ReportBook) -> None:
    book.settle(replace(ENTRY, due=NOW + timedelta(days=1, minutes=5)), after=None)
    book.settle(replace(ENTRY, report_id="s", due=NOW + timedelta(hours=6)), after=None)

    assert book.due(NOW) == ("r",)
    assert book.due(NOW + timedelta(days=1)) == ("s",)


def test_lists_and_counts(book: ReportBook) -> None:
    book.settle(ENTRY, after=None)
    book.settle(replace(ENTRY, report_id="older", since=NOW - timedelta(days=1)), after=None)
    book.settle(replace(ENTRY, report_id="w", outcome=Outcome.WITHDRAWN), after=None)

    assert [each.report_id for each in book.listed(Outcome.REVIEW)] == ["older", "r"]
    assert book.counts()[Outcome.REVIEW] == 2
    assert book.counts()[Outcome.WAITING] == 0
    assert book.known() == 2


def test_news_are_what_is_not_known_in_this_version(book: ReportBook) -> None:
    book.settle(ENTRY, after=None)
    shown = (ReportRef("r", "1"), ReportRef("r", "2"), ReportRef("s", "1"), ReportRef("s", "1"))

    assert book.news(shown) == (ReportRef("r", "2"), ReportRef("s", "1"))
    assert book.news(()) == ()


def test_what_a_sweep_did_not_show_is_told(book: ReportBook) -> None:
    for name in "abc":
        book.settle(replace(ENTRY, report_id=name), after=None)
    book.settle(replace(ENTRY, report_id="w", outcome=Outcome.WITHDRAWN), after=None)
    book.news((ReportRef("b", "1"),), sweep=7)

    assert book.unseen(7) == ("a", "c")
    assert book.unseen(7, after="a") == ("c",)
    assert book.unseen(8) == ("a", "b", "c")


def test_what_is_remembered_is_known_and_what_was_known_stays(book: ReportBook) -> None:
    book.settle(ENTRY, after=None)

    book.remember((ReportRef("r", "2"), ReportRef("s", "1")), "it was there before", now=NOW, sweep=7)

    assert book.entry("r") == ENTRY
    assert book.entry("s") == Entry("s", "1", Outcome.IGNORED, "it was there before", NOW, NOW)
    assert book.unseen(7) == ()


def test_each_feed_has_its_cursor(book: ReportBook) -> None:
    assert book.cursor("one") is None
    book.save_cursor("one", "")
    book.save_cursor("two", "x")
    book.save_cursor("two", "y")
    book.save_sweep("one", NOW)

    assert (book.cursor("one"), book.cursor("two")) == ("", "y")
    assert (book.swept("one"), book.swept("two"), book.swept("three")) == (NOW, None, None)


def test_old_withdrawals_are_forgotten_and_nothing_else(book: ReportBook) -> None:
    gone = replace(ENTRY, outcome=Outcome.WITHDRAWN, updated=NOW - timedelta(days=91), keys=("k",))
    book.settle(replace(gone, report_id="old"), after=None)
    book.settle(replace(gone, report_id="young", updated=NOW), after=None)
    book.settle(replace(gone, report_id="ignored", outcome=Outcome.IGNORED), after=None)

    assert book.forget(NOW - timedelta(days=90)) == 1
    assert book.about(("k",)) == ("ignored", "young")


def test_what_people_decided_comes_back_with_a_backup(
    database: Database, book: ReportBook, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    book.settle(ENTRY, after=None)
    book.save_cursor("feed", "here")

    restored = Database(backup_of(database, tmp_path, request))

    other = DatabaseReportBook(restored)
    assert (other.entry("r"), other.cursor("feed")) == (ENTRY, "here")
    restored.close()


def backup_of(database: Database, folder: Path, request: pytest.FixtureRequest) -> str:
    """As docs/operations.md tells it; the address of what was restored from it."""
    if not database.on_postgresql:
        with closing(sqlite3.connect(database.file)) as file:
            file.execute("VACUUM INTO ?", (str(folder / "copy.sqlite"),))
        return f"sqlite:///{folder}/copy.sqlite"
    address: str = request.getfixturevalue("postgresql").database()
    dump = subprocess.run([postgresql_program("pg_dump"), database.url], capture_output=True, check=True).stdout
    into = [postgresql_program("psql"), "-q", "-v", "ON_ERROR_STOP=1", address]
    subprocess.run(into, input=dump, check=True, stdout=subprocess.DEVNULL)
    return address


def test_a_book_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(TransientError, match="book of reports"):
        DatabaseReportBook(Database(f"sqlite:///{tmp_path}/file/jobs.sqlite"))


def test_what_one_process_writes_another_reads(database: Database, book: ReportBook) -> None:
    other = Database(database.url)

    book.settle(ENTRY, after=None)

    assert DatabaseReportBook(other).entry("r") == ENTRY
    other.close()


def test_of_many_who_decide_about_one_report_at_the_same_moment_one_is_heard(book: ReportBook) -> None:
    book.settle(ENTRY, after=None)

    heard = together(8, lambda number: book.settle(replace(ENTRY, reason=f"word {number}"), after=0))

    assert sorted(heard) == [False] * 7 + [True]
    assert book.entry("r") == replace(ENTRY, reason=f"word {heard.index(True)}", revision=1)


def test_processes_that_start_together_make_one_book(database: Database) -> None:
    books = together(4, lambda _: DatabaseReportBook(database))

    books[0].settle(ENTRY, after=None)

    assert [book.entry("r") for book in books] == [ENTRY] * 4


def test_a_book_of_a_later_release_is_left_alone(database: Database, book: ReportBook) -> None:
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {prefix(database)}sightline_tables SET version = 99")

    with pytest.raises(InputError, match="later release"):
        DatabaseReportBook(database)


def earlier_book(path: Path) -> None:
    """As the release before kept it: an entry that a person decided, what brings it up, and a cursor."""
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("PRAGMA journal_mode = WAL")
        file.executescript(EARLIER)
        file.execute(
            "INSERT INTO reports VALUES ('r', '1', 'review', 'two studies', :now, :now, :due, 2, 0, 1, '1.2', "
            "'1.3 1.4', 'a b', '1.2 hash', :decision, 7)",
            {
                "now": NOW.isoformat(timespec="microseconds"),
                "due": (NOW + timedelta(minutes=5)).isoformat(timespec="microseconds"),
                "decision": json.dumps(
                    {
                        "studies": ["1.3"],
                        "among": ["1.3", "1.4"],
                        "who": "Dr. A",
                        "reason": "why",
                        "made": NOW.isoformat(timespec="microseconds"),
                    }
                ),
            },
        )
        file.executemany("INSERT INTO keys VALUES (?, 'r')", [("1.2",), ("hash",)])
        file.execute("INSERT INTO feeds VALUES ('feed', 'cursor', NULL)")


def test_the_book_of_an_earlier_release_is_taken_over_once(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "reports.sqlite"
    earlier_book(path)
    book = DatabaseReportBook(database)

    assert (book.take_over(path), book.take_over(path)) == (1, 0)

    assert ENTRY.decision is not None
    assert book.entry("r") == replace(ENTRY, decision=replace(ENTRY.decision, before=()))
    assert book.about(("hash",)) == ("r",)
    assert (book.cursor("feed"), book.swept("feed")) == ("cursor", None)
    assert book.unseen(7) == ()
    assert sorted(each.name for each in tmp_path.glob("reports*")) == ["reports.sqlite.taken-over"]


def test_what_was_decided_since_stands_against_an_earlier_book(database: Database, tmp_path: Path) -> None:
    earlier_book(tmp_path / "reports.sqlite")
    book = DatabaseReportBook(database)
    book.settle(replace(ENTRY, reason="since"), after=None)

    book.take_over(tmp_path / "reports.sqlite")

    assert book.entry("r") == replace(ENTRY, reason="since")


def test_what_is_no_earlier_book_is_left_where_it_is(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "reports.sqlite"
    path.write_text("no database")

    with pytest.raises(InputError, match="damaged"):
        DatabaseReportBook(database).take_over(path)

    assert path.exists()


def test_a_hundred_thousand_reports_take_no_memory_and_are_found_at_once(tmp_path: Path) -> None:
    book = book_at(tmp_path / "data" / "jobs.sqlite")
    for begin in range(0, 100_000, 5000):
        if begin == 90_000:
            tracemalloc.start()
        refs = [ReportRef(f"report-{number}", "1") for number in range(begin, begin + 5000)]
        book.remember(refs, "before", now=NOW, sweep=1)
        assert book.news(refs[:100], sweep=1) == ()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    begin_s = time.perf_counter()

    assert book.unseen(1) == ()
    assert book.entry("report-77777") is not None
    assert book.due(NOW) == ()
    assert time.perf_counter() - begin_s < 1
    assert peak_bytes < 10_000_000
    assert sum(path.stat().st_size for path in (tmp_path / "data").iterdir()) < 60_000_000
