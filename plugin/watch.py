"""Looking for new studies: what a feed shows is kept until Sightline took it, whoever dies in between."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from plugin.errors import InputError, TransientError
from plugin.ports import Look, StudyFeed
from plugin.values import StudyRef

# No study is waited for longer than that.
LONGEST_QUIET = timedelta(hours=12)
_SCHEMA = """
CREATE TABLE IF NOT EXISTS cursors (feed TEXT PRIMARY KEY, cursor TEXT NOT NULL, looks INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sightings (
    feed TEXT NOT NULL,
    study TEXT NOT NULL,
    mark TEXT NOT NULL,
    due TEXT NOT NULL,
    told INTEGER NOT NULL,
    look INTEGER NOT NULL,
    PRIMARY KEY (feed, study)
);
"""


@dataclass(frozen=True, slots=True)
class WatchBook:
    """What was seen of one feed: a SQLite file, written whole or not at all.

    Parameters
    ----------
    path : the file; made with its folder when missing.
    feed : names the feed; another archive begins anew.

    Raises
    ------
    TransientError
        From every method, if the file cannot be used now.
    """

    path: Path
    feed: str

    def cursor(self) -> str | None:
        """Where the next look begins; None before the first."""
        with self._database() as database:
            row = database.execute("SELECT cursor FROM cursors WHERE feed = ?", (self.feed,)).fetchone()
        return None if row is None else str(row[0])

    def record(self, look: Look, *, due: datetime, told: bool = False) -> None:
        """Keep what *look* showed, and where the next begins.

        A study that is new or has another mark is due at *due*, or already *told*; any other stays as it stands. What
        was told and is shown no more is forgotten.
        """
        with self._database() as database:
            row = database.execute("SELECT looks FROM cursors WHERE feed = ?", (self.feed,)).fetchone()
            number = 1 if row is None else int(row[0]) + 1
            database.execute("INSERT OR REPLACE INTO cursors VALUES (?, ?, ?)", (self.feed, look.cursor, number))
            database.executemany(
                "INSERT INTO sightings VALUES (:feed, :study, :mark, :due, :told, :look) ON CONFLICT DO UPDATE SET "
                "due = CASE WHEN mark = :mark THEN due ELSE :due END, "
                "told = CASE WHEN mark = :mark THEN told ELSE :told END, mark = :mark, look = :look",
                [
                    {
                        "feed": self.feed,
                        "study": sighting.study.study_instance_uid,
                        "mark": sighting.mark,
                        "due": _text(due),
                        "told": int(told),
                        "look": number,
                    }
                    for sighting in look.sightings
                ],
            )
            database.execute("DELETE FROM sightings WHERE feed = ? AND told AND look < ?", (self.feed, number))

    def due(self, now: datetime) -> tuple[StudyRef, ...]:
        """The studies to be told of, the longest waiting first; also those of a clock that ran ahead."""
        with self._database() as database:
            rows = database.execute(
                "SELECT study FROM sightings WHERE feed = ? AND NOT told AND (due <= ? OR due > ?) ORDER BY due, study",
                (self.feed, _text(now), _text(now + LONGEST_QUIET)),
            ).fetchall()
        return tuple(StudyRef(row[0]) for row in rows)

    def told(self, study: StudyRef) -> None:
        """*study* was told of."""
        with self._database() as database:
            database.execute(
                "UPDATE sightings SET told = 1 WHERE feed = ? AND study = ?", (self.feed, study.study_instance_uid)
            )

    @contextlib.contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.closing(sqlite3.connect(self.path, timeout=10)) as database, database:
                database.executescript(_SCHEMA)
                yield database
        except (sqlite3.OperationalError, OSError) as error:
            raise TransientError("The book of seen studies cannot be used now: is the disk full?") from error


@dataclass(frozen=True, slots=True)
class Watch:
    """How an archive is looked at.

    Parameters
    ----------
    every_s : seconds between looks.
    quiet_s : a study is taken when it did not change for so many seconds.
    backlog : the first look takes what the archive already holds.
    """

    feed: StudyFeed
    book: WatchBook
    every_s: float
    quiet_s: float
    backlog: bool = False


def watch_once(watch: Watch, submit: Callable[[StudyRef], object], *, now: datetime) -> int:
    """Look at the archive to the end of what it shows, then submit each study that is complete; how many were taken.

    A study that *submit* refuses (InputError) counts as told until it changes.

    Raises
    ------
    TransientError
        If the archive or anything behind *submit* is away; what was not taken is taken by the next call.
    InputError
        If the archive refuses us.
    """
    _look(watch, now=now)
    taken = 0
    for study in watch.book.due(now):
        with contextlib.suppress(InputError):
            submit(study)
            taken += 1
        watch.book.told(study)
    return taken


def _look(watch: Watch, *, now: datetime) -> None:
    due = now + timedelta(seconds=watch.quiet_s)
    cursor = watch.book.cursor()
    if cursor is None and not watch.backlog:
        watch.book.record(watch.feed.first(), due=due, told=True)
        return
    more = True
    while more:
        look = watch.feed.look(cursor or "")
        watch.book.record(look, due=due)
        cursor, more = look.cursor, look.more


def _text(moment: datetime) -> str:
    # Fixed width, so that text order is time order.
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
