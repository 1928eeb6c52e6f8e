"""Looking for new studies: each complete study is submitted once, whoever is away and whoever dies in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from plugin.errors import InputError, TransientError
from plugin.ports import Look, Sighting
from plugin.service.watcher import Watcher
from plugin.values import StudyRef
from plugin.watch import Watch, WatchBook, watch_once

NOW = datetime(2026, 3, 1, tzinfo=UTC)
A, B = StudyRef("1.1"), StudyRef("1.2")


@dataclass
class LogFeed:
    """A change log in memory that shows two entries at a time."""

    log: list[Sighting] = field(default_factory=list)
    away: bool = False

    def first(self) -> Look:
        return Look((), str(len(self.log)))

    def look(self, cursor: str) -> Look:
        if self.away:
            raise TransientError("away")
        since = int(cursor or 0)
        page = tuple(self.log[since : since + 2])
        return Look(page, str(since + len(page)), more=since + 2 < len(self.log))

    def add(self, study: StudyRef) -> None:
        self.log.append(Sighting(study, str(len(self.log))))


@dataclass
class WindowFeed:
    """A search in memory: every study each time, with its number of instances."""

    held: dict[StudyRef, int] = field(default_factory=dict)

    def first(self) -> Look:
        return self.look("")

    def look(self, cursor: str) -> Look:
        return Look(tuple(Sighting(study, str(number)) for study, number in self.held.items()), "today")


@dataclass
class Bench:
    """A watch, a clock, and what was submitted."""

    watch: Watch
    now: datetime = NOW
    submitted: list[StudyRef] = field(default_factory=list)
    error: Exception | None = None

    def submit(self, study: StudyRef) -> None:
        if self.error is not None:
            raise self.error
        self.submitted.append(study)

    def after(self, seconds: float) -> list[StudyRef]:
        """What one look after *seconds* submits."""
        self.now += timedelta(seconds=seconds)
        self.submitted.clear()
        watch_once(self.watch, self.submit, now=self.now)
        return list(self.submitted)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    def make(feed: LogFeed | WindowFeed, *, backlog: bool = False) -> Bench:
        return Bench(Watch(feed, WatchBook(tmp_path / "w" / "watch.sqlite", "archive"), 1, 30, backlog=backlog))

    return make


@pytest.mark.parametrize("backlog", [False, True])
def test_the_first_look_takes_what_is_there_only_when_told_to(bench: Callable[..., Bench], backlog: bool) -> None:
    log, window = LogFeed(), WindowFeed({A: 2})
    log.add(A), log.add(A)
    for feed in (log, window):
        one = bench(feed, backlog=backlog)
        one.watch = replace(one.watch, book=replace(one.watch.book, feed=type(feed).__name__))

        assert one.after(0) == []
        assert one.after(31) == ([A] if backlog else [])


def test_a_study_is_taken_once_it_is_quiet(bench: Callable[..., Bench]) -> None:
    feed = LogFeed()
    one = bench(feed)
    one.after(0)
    feed.add(A)

    assert one.after(10) == []
    feed.add(A)
    assert one.after(29) == []
    assert one.after(29) == []
    assert one.after(2) == [A]
    assert one.after(60) == []


def test_a_study_that_grows_is_taken_again_and_one_that_is_only_shown_again_is_not(bench: Callable[..., Bench]) -> None:
    feed = WindowFeed({A: 1})
    one = bench(feed, backlog=True)
    one.after(0)

    assert one.after(31) == [A]
    assert one.after(31) == []
    feed.held |= {A: 2, B: 1}
    assert one.after(1) == []
    assert sorted(one.after(31)) == [A, B]


def test_a_long_log_is_read_to_its_end_in_one_look(bench: Callable[..., Bench]) -> None:
    feed = LogFeed()
    one = bench(feed)
    one.after(0)
    studies = [StudyRef(f"1.{number}") for number in range(1, 10)]
    for study in studies:
        feed.add(study)

    one.after(1)
    assert sorted(one.after(31)) == sorted(studies)


def test_what_could_not_be_submitted_is_submitted_later_also_by_the_next_process(bench: Callable[..., Bench]) -> None:
    feed = LogFeed()
    one = bench(feed)
    one.after(0)
    feed.add(A)
    one.after(1)
    one.error = TransientError("the report store is away")
    with pytest.raises(TransientError):
        one.after(31)

    another = bench(feed)
    another.now = one.now

    assert another.after(1) == [A]


def test_an_archive_that_was_away_is_read_from_where_it_was_left(bench: Callable[..., Bench]) -> None:
    feed = LogFeed()
    one = bench(feed)
    one.after(0)
    feed.add(A)
    feed.away = True
    with pytest.raises(TransientError):
        one.after(31)
    feed.away = False
    one.after(1)

    assert one.after(31) == [A]


def test_a_study_that_is_refused_is_not_asked_for_again_until_it_changes(bench: Callable[..., Bench]) -> None:
    feed = LogFeed()
    one = bench(feed)
    one.after(0)
    feed.add(A), feed.add(B)
    one.after(1)
    one.error = InputError("no chest radiograph")
    one.after(31)
    one.error = None

    assert one.after(31) == []
    feed.add(A)
    one.after(1)
    assert one.after(31) == [A]


def test_the_book_forgets_what_was_told_and_is_shown_no_more(bench: Callable[..., Bench], tmp_path: Path) -> None:
    feed = WindowFeed({A: 1})
    one = bench(feed, backlog=True)
    one.after(0), one.after(31)
    feed.held.clear()
    one.after(1)
    feed.held[A] = 1  # sent again, long after
    one.after(1)

    assert one.after(31) == [A]


def test_another_archive_begins_anew(bench: Callable[..., Bench]) -> None:
    one = bench(WindowFeed({A: 1}), backlog=True)
    one.after(0), one.after(31)
    one.watch = replace(one.watch, book=replace(one.watch.book, feed="another archive"))
    one.after(1)

    assert one.after(31) == [A]


def test_a_book_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(TransientError, match="book of seen studies"):
        WatchBook(tmp_path / "file" / "watch.sqlite", "archive").cursor()


def test_the_watcher_outlives_errors_and_defects(bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture) -> None:
    feed, done, errors = LogFeed(), threading.Event(), [TransientError("away"), RuntimeError("secret of a patient")]
    feed.add(A)

    def submit(study: StudyRef) -> None:
        if errors:
            raise errors.pop(0)
        done.set()

    watcher = Watcher(replace(bench(feed, backlog=True).watch, every_s=0.01, quiet_s=0), submit)
    watcher.start()
    assert done.wait(10)
    watcher.stop()

    assert "the watcher waits: away" in caplog.text
    assert "RuntimeError" in caplog.text
    assert "secret of a patient" not in caplog.text


def test_a_watcher_that_ends_leaves_the_rest_for_the_next_start(bench: Callable[..., Bench]) -> None:
    feed, seen = LogFeed(), list[StudyRef]()
    feed.add(A), feed.add(B)
    watch = replace(bench(feed, backlog=True).watch, every_s=60, quiet_s=0)

    def submit(study: StudyRef) -> None:
        seen.append(study)
        ending.set()
        released.wait(10)

    ending, released = threading.Event(), threading.Event()
    watcher = Watcher(watch, submit)
    watcher.start()
    ending.wait(10)
    watcher.stop(timeout_s=0)
    released.set()
    watcher.stop()

    assert seen == [A]
    assert watch.book.due(NOW + timedelta(days=10_000)) == (B,)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_jumps_by_a_day_loses_no_study_and_holds_none_up(bench: Callable[..., Bench], days: int) -> None:
    feed = LogFeed()
    one = bench(feed, backlog=True)
    one.now += timedelta(days=days)
    feed.add(A)
    taken = one.after(0)
    one.now -= timedelta(days=days)

    assert [*taken, *one.after(0), *one.after(31)] == [A]
