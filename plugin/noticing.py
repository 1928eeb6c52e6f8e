"""Looking for reports: what a feed shows is taken, or kept to be taken later, whoever dies in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from plugin.errors import SightlineError, TransientError
from plugin.intake import Intake
from plugin.ports import Outcome, ReportFeed
from plugin.values import ReportRef

#: Reports in a row that cannot be taken until a round is ended: then it is not the report, but what is behind it.
MOST_FAILURES: Final = 3
#: Reports due that one round looks at again.
MOST_DUE: Final = 1000
KEPT_WITHDRAWN: Final = timedelta(days=90)
BEFORE: Final = "it was there before Sightline began to look for reports; its study may still be asked for"


@dataclass(frozen=True, slots=True)
class ReportWatch:
    """How reports are looked for.

    Parameters
    ----------
    feed, name : the feed, and what names it in the book; another server begins anew.
    every_s : seconds between looks.
    sweep_s : seconds between deep sweeps, which look at everything there is and find what was deleted.
    backlog : whether the first look takes what is there already.
    defect : told of what should not be, with what it was about.
    """

    feed: ReportFeed
    name: str
    intake: Intake
    every_s: float
    sweep_s: float = 86_400.0
    backlog: bool = False
    defect: Callable[[str, Exception], None] = lambda _what, _error: None


@dataclass(frozen=True, slots=True)
class Round:
    """What a round did: reports taken, looked at again, and found gone; *doubt*: what was too odd to act on."""

    taken: int = 0
    again: int = 0
    gone: int = 0
    doubt: str = ""


def watch_reports(watch: ReportWatch, *, now: datetime, going_on: Callable[[], bool] = lambda: True) -> Round:
    """Take what is new, then what is due again, and once a day look at everything.

    The cursor is kept only when all reports of a page are taken, or are in the book to be taken later. So a report that
    cannot be taken holds up no other, and one that was not taken is shown again.

    Parameters
    ----------
    going_on : asked between reports; when it says no, the round ends as if a server were away.

    Raises
    ------
    TransientError
        If a server is away; what was not taken is taken by the next round.
    InputError
        If a server refuses us; likewise.
    """
    rounds = _Taking(watch, going_on)
    taken = _look(watch, rounds, now=now)
    again = watch.intake.recheck(rounds.one, limit=MOST_DUE)
    swept = watch.intake.book.swept(watch.name)
    if swept is not None and abs(now - swept) < timedelta(seconds=watch.sweep_s):  # also of a clock that ran ahead
        return Round(taken, again)
    found, gone, doubt = _sweep(watch, rounds, now=now)
    return Round(taken + found, again, gone, doubt)


def _look(watch: ReportWatch, taking: _Taking, *, now: datetime) -> int:
    book = watch.intake.book
    cursor = book.cursor(watch.name)
    if cursor is None and not watch.backlog:
        _begin(watch, now=now)
        return 0
    taken = 0
    for page in watch.feed.look(cursor or ""):
        taken += taking.all(book.news(page.reports))
        book.save_cursor(watch.name, page.cursor)
    return taken


def _begin(watch: ReportWatch, *, now: datetime) -> None:
    """Know everything that is there, and take none of it. A first look that breaks off is begun again."""
    book, cursor = watch.intake.book, ""
    for page in watch.feed.look(""):
        book.remember(page.reports, BEFORE, now=now, sweep=_number(now))
        cursor = page.cursor
    book.save_cursor(watch.name, cursor)
    book.save_sweep(watch.name, now)


def _sweep(watch: ReportWatch, taking: _Taking, *, now: datetime) -> tuple[int, int, str]:
    """Look at everything; how many reports were new to the book, how many are gone, and why that is not believed."""
    book, number = watch.intake.book, _number(now)
    found = 0
    for page in watch.feed.look(""):
        found += taking.all(book.news(page.reports))
        book.news(page.reports, sweep=number)
    believable = max(20, book.known() // 2)
    if len(book.unseen(number, limit=believable + 1)) > believable:
        book.save_sweep(watch.name, now)
        return (
            found,
            0,
            "a sweep did not show most of the known reports, so none is taken back: is it the right server?",
        )
    before, last = book.counts()[Outcome.WITHDRAWN], ""
    while ids := book.unseen(number, after=last):
        taking.all(ids)
        last = ids[-1]
    gone = book.counts()[Outcome.WITHDRAWN] - before
    book.save_sweep(watch.name, now)
    book.forget(now - KEPT_WITHDRAWN)
    return found, gone, ""


def _number(now: datetime) -> int:
    return int(now.timestamp() * 1e6)


@dataclass(slots=True)
class _Taking:
    """Takes one report after the other; some may fail, but not several in a row."""

    watch: ReportWatch
    going_on: Callable[[], bool]
    failures: int = 0

    def all(self, reports: Iterable[ReportRef | str]) -> int:
        """Take each version that is shown, and again each report that is named by its id; how many there were.

        Raises
        ------
        SightlineError
            If several in a row fail, or one that the book could not keep.
        """
        count = 0
        for report in reports:
            self.one(report)
            count += 1
        return count

    def one(self, report: ReportRef | str) -> None:
        """Take one.

        Raises
        ------
        SightlineError
            As :meth:`all`.
        """
        if not self.going_on():
            raise TransientError("the service ends")
        intake = self.watch.intake
        report_id = report if isinstance(report, str) else report.report_id
        try:
            intake.take_again(report) if isinstance(report, str) else intake.take_report(report)
        except SightlineError:
            self.failures += 1
            if self.failures >= MOST_FAILURES or not intake.keeps(report_id):
                self.failures = 0
                raise
        except Exception as error:  # noqa: BLE001 - one report must not stop all others; told without its content
            self.watch.defect(f"taking the report {report_id}", error)
            intake.set_aside(report_id, "" if isinstance(report, str) else report.version, error)
        else:
            self.failures = 0
