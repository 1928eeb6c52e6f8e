"""Reports looked for through faults: none missed, none taken twice, whoever dies in between."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from books import book_at
from fhir_input import attachment
from memory import MemoryArchive, Site, image, report
from queues import MemoryQueue

from plugin.errors import SightlineError, TransientError
from plugin.fhir.client import FhirClient
from plugin.intake import Intake
from plugin.noticing import BEFORE, ReportWatch, Round, watch_reports
from plugin.ports import Outcome, ReportPage
from plugin.reports.feeds import FhirReportFeed
from plugin.reports.rest import FhirReportStore
from plugin.service.watcher import ReportWatcher
from plugin.values import WITHDRAWN_VERSION, ReportRef, StudyRef

DAY = 86_400.0


@dataclass(slots=True)
class Pages:
    """A feed of what it is given; *breaks* is raised before the page of that number."""

    pages: list[list[ReportRef]] = field(default_factory=list)
    breaks: dict[int, Exception] = field(default_factory=dict)

    def look(self, cursor: str) -> Iterator[ReportPage]:
        for number in range(int(cursor or 0), len(self.pages)):
            if number in self.breaks:
                raise self.breaks.pop(number)
            yield ReportPage(tuple(self.pages[number]), str(number + 1))


@dataclass(slots=True)
class Bench:
    """A watch over a feed of pages and a site in memory."""

    site: Site
    feed: Pages = field(default_factory=Pages)
    settings: dict[str, Any] = field(default_factory=lambda: {"backlog": True, "sweep_s": 10**9})
    defects: list[str] = field(default_factory=list)

    def watch(self) -> ReportWatch:
        told = lambda what, error: self.defects.append(f"{what}: {type(error).__name__}")  # noqa: E731
        return ReportWatch(self.feed, "feed", self.site.intake, every_s=60, defect=told, **self.settings)

    def round(self) -> Round:
        return watch_reports(self.watch(), now=self.site.queue.clock.now)

    def show(self, *names: str) -> None:
        """A page with a new report of each name, whose study is there."""
        for name in names:
            uid = f"1.3.{sum(map(ord, name))}"
            self.site.archive.add(image(StudyRef(uid)))
            self.site.reports.put(report(name, study_instance_uids=(uid,)))
        self.feed.pages.append([ReportRef(name, "1") for name in names])

    @property
    def queued(self) -> list[str]:
        return sorted(job.report.report_id for job in self.site.queue.list(10_000) if job.report)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(Site(tmp_path))
    bench.site.intake.book.save_sweep("feed", bench.site.queue.clock.now)
    return bench


def test_what_is_new_is_taken_and_the_next_look_begins_behind_it(bench: Bench) -> None:
    bench.show("a", "b")
    assert bench.round() == Round(taken=2)
    bench.show("c")

    assert bench.round() == Round(taken=1)
    assert bench.queued == ["a", "b", "c"]
    assert bench.site.intake.book.cursor("feed") == "2"


def test_what_is_shown_again_is_not_read_again(bench: Bench) -> None:
    bench.show("a")
    bench.feed.pages.append([ReportRef("a", "1")] * 3)

    assert bench.round() == Round(taken=1)
    assert bench.site.reports.described == 1


def test_the_first_look_knows_what_is_there_and_takes_none_of_it(bench: Bench) -> None:
    bench.settings["backlog"] = False
    bench.show("old")
    assert bench.round() == Round()
    bench.show("new")
    bench.round()

    assert bench.queued == ["new"]
    (known,) = bench.site.intake.book.listed(Outcome.IGNORED)
    assert (known.report_id, known.reason) == ("old", BEFORE)


def test_a_first_look_that_breaks_off_is_begun_again(bench: Bench) -> None:
    bench.settings["backlog"] = False
    bench.show("a")
    bench.show("b")
    bench.feed.breaks[1] = TransientError("away")
    with pytest.raises(TransientError):
        bench.round()

    bench.round()

    assert bench.queued == []


def test_what_was_there_before_is_taken_when_it_changes_or_its_study_is_told_of(bench: Bench) -> None:
    bench.settings["backlog"] = False
    bench.show("a", "b")
    bench.round()
    (study_of_b,) = bench.site.reports.reports["b"].study_instance_uids
    bench.site.intake.take_study(StudyRef(study_of_b))
    amended = replace(bench.site.reports.reports["a"], ref=ReportRef("a", "2"))
    bench.feed.pages.append([bench.site.reports.put(amended)])

    bench.round()

    assert bench.queued == ["a", "b"]


def test_a_server_that_breaks_off_between_pages_loses_nothing(bench: Bench) -> None:
    bench.show("a")
    bench.show("b")
    bench.feed.breaks[1] = TransientError("away")
    with pytest.raises(TransientError):
        bench.round()
    assert (bench.queued, bench.site.intake.book.cursor("feed")) == (["a"], "1")

    bench.round()

    assert bench.queued == ["a", "b"]


def test_one_report_that_cannot_be_taken_holds_up_no_other_and_is_tried_again(bench: Bench) -> None:
    bench.show("a", "b", "c")
    describe = type(bench.site.reports).describe
    away = {"b"}

    class Reports(type(bench.site.reports)):  # type: ignore[misc]
        def describe(self, report_id: str) -> Any:
            if report_id in away:
                raise TransientError("the FHIR server answered 500")
            return describe(self, report_id)

    bench.site.reports = Reports(bench.site.reports.reports)
    bench.round()
    assert (bench.queued, bench.site.intake.book.cursor("feed")) == (["a", "c"], "1")
    away.clear()
    bench.site.queue.clock.advance(301)

    assert bench.round() == Round(again=1)
    assert bench.queued == ["a", "b", "c"]


def test_an_archive_that_is_away_ends_the_round_and_the_page_is_shown_again(bench: Bench) -> None:
    bench.show(*"abcdef")
    bench.site.archive.failure = TransientError("away")
    with pytest.raises(TransientError):
        bench.round()
    assert bench.site.intake.book.cursor("feed") is None
    bench.site.archive.failure = None

    bench.round()

    assert bench.queued == [*"abcdef"]


def test_a_report_that_runs_into_a_defect_is_set_aside_and_told_without_its_content(bench: Bench) -> None:
    bench.show("a", "b")
    bench.site.archive.failure = None
    known = bench.site.archive.describe

    class Archive(MemoryArchive):
        def describe(self, study: StudyRef) -> Any:
            if study.study_instance_uid == f"1.3.{ord('a')}":
                raise ValueError("Müller^Jörg")
            return known(study)

    bench.site.archive = Archive(bench.site.archive.studies)

    bench.round()

    assert bench.queued == ["b"]
    assert bench.defects == ["taking the report a: ValueError"]
    assert [each.report_id for each in bench.site.intake.book.listed(Outcome.REFUSED)] == ["a"]
    assert bench.round() == Round()


class TestSweeps:
    def test_once_a_day_everything_is_looked_at(self, bench: Bench) -> None:
        bench.settings["sweep_s"] = DAY
        bench.show("a")
        bench.round()
        bench.show("late")
        bench.site.intake.book.save_cursor("feed", "2")  # as if it appeared behind the cursor

        bench.site.queue.clock.advance(DAY - 1)
        assert bench.round() == Round()
        bench.site.queue.clock.advance(1)
        assert bench.round() == Round(taken=1)
        assert bench.queued == ["a", "late"]
        assert bench.round() == Round()

    def test_what_was_deleted_is_taken_back(self, bench: Bench) -> None:
        bench.settings["sweep_s"] = DAY
        bench.show("a", "b")
        bench.round()
        bench.feed.pages = [[ReportRef("b", "1")]]
        del bench.site.reports.reports["a"]
        bench.site.queue.clock.advance(DAY)

        assert bench.round() == Round(gone=1)

        assert [each.report_id for each in bench.site.intake.book.listed(Outcome.WITHDRAWN)] == ["a"]
        assert [job.report for job in bench.site.queue.list()].count(ReportRef("a", WITHDRAWN_VERSION)) == 1

    def test_a_report_that_the_search_only_did_not_show_stays(self, bench: Bench) -> None:
        bench.settings["sweep_s"] = DAY
        bench.show("a", "b")
        bench.round()
        bench.feed.pages = [[ReportRef("b", "1")]]
        bench.site.queue.clock.advance(DAY)

        bench.round()

        assert bench.site.intake.book.listed(Outcome.WITHDRAWN) == ()

    def test_a_server_that_lost_most_of_its_reports_is_not_believed(self, bench: Bench) -> None:
        bench.settings["sweep_s"] = DAY
        bench.show(*(f"r{number}" for number in range(60)))
        bench.round()
        bench.feed.pages = []
        bench.site.reports.reports.clear()
        bench.site.queue.clock.advance(DAY)

        done = bench.round()

        assert "right server" in done.doubt
        assert bench.site.intake.book.listed(Outcome.WITHDRAWN) == ()

    def test_a_sweep_that_breaks_off_withdraws_nothing_and_is_begun_again(self, bench: Bench) -> None:
        bench.settings["sweep_s"] = DAY
        bench.show("a")
        bench.show("b")
        bench.round()
        bench.site.reports.reports.clear()
        bench.site.queue.clock.advance(DAY)
        bench.feed.breaks[1] = TransientError("away")
        bench.site.intake.book.save_cursor("feed", "2")
        with pytest.raises(TransientError):
            bench.round()
        assert bench.site.intake.book.listed(Outcome.WITHDRAWN) == ()
        bench.feed.pages = []
        bench.site.queue.clock.advance(1)

        assert bench.round().gone == 2

    @pytest.mark.parametrize("days", [-1, 1])
    def test_a_clock_that_jumps_by_a_day_neither_withdraws_nor_stops_the_sweeps(self, bench: Bench, days: int) -> None:
        bench.settings["sweep_s"] = DAY
        bench.show("a")
        bench.round()
        bench.site.queue.clock.advance(days * DAY)
        jumped = bench.round()
        bench.site.queue.clock.advance(-days * DAY)
        bench.site.reports.reports.clear()
        bench.feed.pages = []
        bench.site.intake.book.save_cursor("feed", "0")

        assert jumped.gone == 0
        assert bench.round().gone == 1


class TestWatcher:
    def run(self, bench: Bench, until: Callable[[], bool], *, woken: bool) -> float:
        watcher = ReportWatcher(replace(bench.watch(), every_s=3600))
        begin = time.monotonic()
        watcher.start()
        try:
            while not until() and time.monotonic() - begin < 20:
                if woken:
                    watcher.wake()
                time.sleep(0.02)
        finally:
            watcher.stop()
        return time.monotonic() - begin

    def test_it_looks_at_once(self, bench: Bench) -> None:
        bench.show("a")

        assert self.run(bench, lambda: bench.queued == ["a"], woken=False) < 15

    def test_it_looks_when_it_is_woken(self, bench: Bench) -> None:
        bench.show("a")
        threading.Timer(0.5, lambda: bench.show("b")).start()

        assert self.run(bench, lambda: bench.queued == ["a", "b"], woken=True) < 15

    def test_it_outlives_what_it_finds(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        bench.show("a")
        bench.feed.breaks = {0: ValueError("Müller^Jörg")}

        self.run(bench, lambda: bench.queued == ["a"], woken=True)

        assert bench.queued == ["a"]
        assert "ValueError" in caplog.text
        assert "Müller" not in caplog.text


class Died(BaseException):
    """The process ends here."""


@dataclass
class Hospital:
    """A FHIR server on a bad day: whole seconds, rows that show late, and at times no answer, half of one, or a 503."""

    chance: random.Random
    now: datetime = datetime(2026, 3, 1, tzinfo=UTC)
    rows: dict[str, tuple[int, datetime, datetime]] = field(default_factory=dict)
    calm: bool = False
    broken: int = 0
    searches: list[list[dict[str, Any]]] = field(default_factory=list)

    def put(self, name: str, *, late_s: float) -> None:
        version = self.rows[name][0] + 1 if name in self.rows else 1
        stamp = self.now.replace(microsecond=0)
        self.rows[name] = (version, stamp, self.now + timedelta(seconds=late_s))

    def resource(self, name: str) -> dict[str, Any]:
        version, stamp, _ = self.rows[name]
        uid = f"urn:oid:{study_of(name).study_instance_uid}"
        return {
            "resourceType": "DiagnosticReport",
            "id": name,
            "meta": {"versionId": str(version), "lastUpdated": stamp.isoformat().replace("+00:00", "Z")},
            "status": "final" if version == 1 else "amended",
            "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": uid}}],
            "presentedForm": [attachment("Left effusion.")],
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if not self.calm and self.broken == 0 and self.chance.random() < 0.01:
            self.broken = self.chance.choice((1, 2, 4, 12))
        if self.broken:
            self.broken -= 1
            return self.chance.choice(FAULTS)(request)
        params = request.url.params
        if "page" in params:
            return self.page(int(params["search"]), int(params["page"]))
        if "_sort" in params:
            since = params.get("_lastUpdated", "ge2000-01-01T00:00:00Z").removeprefix("ge")
            begin = datetime.fromisoformat(since)
            shown = [name for name, row in self.rows.items() if row[1] >= begin and row[2] <= self.now]
            order = sorted(shown, key=lambda name: self.rows[name][1], reverse=params["_sort"].startswith("-"))
            self.searches.append([self.resource(name) for name in order])
            return self.page(len(self.searches) - 1, 0)
        name = request.url.path.rpartition("/")[2]
        return httpx.Response(200, json=self.resource(name)) if name in self.rows else httpx.Response(404)

    def page(self, search: int, number: int) -> httpx.Response:
        rows = self.searches[search]
        begin = max(0, number * 100 - (3 if number else 0))  # and some rows of the last page once more
        following = f"http://internal/fhir?search={search}&page={number + 1}"
        link = [{"relation": "next", "url": following}] if (number + 1) * 100 < len(rows) else []
        entry = [{"resource": each} for each in rows[begin : (number + 1) * 100]]
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": entry, "link": link})


def study_of(name: str) -> StudyRef:
    return StudyRef(f"1.3.{int(name[1:])}")


def unanswered(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("no answer", request=request)


def half(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=json.dumps({"resourceType": "Bundle"})[:-9].encode())


FAULTS = (unanswered, half, lambda _: httpx.Response(503), lambda _: httpx.Response(429))


@dataclass
class Mortal:
    """Calls what it stands for; now and then the process dies just before, or just after."""

    whom: Any
    chance: random.Random
    share: float

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.whom, name)

        def called(*arguments: Any, **named: Any) -> Any:
            dies = self.chance.random() < self.share
            if dies and self.chance.random() < 0.5:
                raise Died
            answer = call(*arguments, **named)
            if dies:
                raise Died
            return answer

        return called


REPORTS = int(os.environ.get("TEST_REPORTS", "10000" if os.environ.get("CI") else "2000"))
"""10,000 is what is promised and what CI runs; it takes a minute."""


def test_thousands_of_reports_polled_through_faults_are_each_taken_once(tmp_path: Path) -> None:
    chance = random.Random(20260301)
    hospital, archive = Hospital(chance), MemoryArchive()
    pool = httpx.Client(transport=httpx.MockTransport(hospital))
    queue, deaths = MemoryQueue(), Counter[str]()

    def watch(share: float) -> ReportWatch:
        """A new process."""
        server = FhirClient("http://fhir.example/fhir", client=pool, sleep=lambda _: None, jitter=lambda: 0.0)
        intake = Intake(
            archive,  # type: ignore[arg-type] - what intake asks of an archive, and no more
            FhirReportStore(server),
            Mortal(queue, chance, share),  # type: ignore[arg-type]
            Mortal(book_at(tmp_path / "reports.sqlite"), chance, share),  # type: ignore[arg-type]
            lambda: ("maker",),
            clock=lambda: hospital.now,
        )
        feed = FhirReportFeed(server, clock=lambda: hospital.now)
        return ReportWatch(feed, "feed", intake, every_s=30, backlog=True, sweep_s=3600)

    running = watch(0.002)
    for tick in range(100):
        hospital.now += timedelta(seconds=30)
        for number in range(tick * REPORTS // 100, (tick + 1) * REPORTS // 100):
            name = f"r{number}"
            archive.add(image(study_of(name)))
            hospital.put(name, late_s=chance.choice((0.0, 0.0, 0.0, 60.0, 600.0)))
        for name in chance.sample(sorted(hospital.rows), REPORTS // 1000):
            hospital.put(name, late_s=0.0)
        try:
            watch_reports(running, now=hospital.now)
        except SightlineError as error:
            deaths[type(error).__name__] += 1
        except Died:
            deaths["died"] += 1
            running = watch(0.002)

    hospital.calm, hospital.now = True, hospital.now + timedelta(hours=2)
    for _ in range(10):
        with suppress(SightlineError):
            watch_reports(watch(0.0), now=hospital.now)

    assert deaths["died"] > 5
    assert deaths["TransientError"] > (5 if REPORTS >= 10_000 else 0)
    jobs = Counter((job.report.report_id, job.report.version) for job in queue.list(10 * REPORTS) if job.report)
    assert set(jobs.values()) == {1}
    newest = {(name, str(row[0])) for name, row in hospital.rows.items()}
    assert newest <= set(jobs)
    assert {name for name, _ in jobs} == set(hospital.rows)
