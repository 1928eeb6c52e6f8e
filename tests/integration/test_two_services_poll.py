"""Two services that look for the same reports: one at a time, from one cursor; each goes on when the other is gone."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from memory import Site, image, report

from plugin.durable import Database, presence_of
from plugin.noticing import ReportWatch
from plugin.ports import ReportPage
from plugin.service.watcher import ReportWatcher
from plugin.values import ReportRef, StudyRef

NAME = "looking"


@dataclass(slots=True)
class Feed:
    """A page for each report; remembers who read it, and how many at once."""

    names: list[str] = field(default_factory=list)
    looking: set[str] = field(default_factory=set)
    most: int = 0
    looks: Counter[str] = field(default_factory=Counter)

    def look(self, cursor: str) -> Iterator[ReportPage]:
        who = threading.current_thread().name + str(threading.get_ident())
        self.looking.add(who)
        self.most = max(self.most, len(self.looking))
        self.looks[who] += 1
        time.sleep(0.01)
        for number in range(int(cursor or 0), len(self.names)):
            yield ReportPage((ReportRef(self.names[number], "1"),), str(number + 1))
        self.looking.discard(who)


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Database, Database]]:
    """One database as two processes reach it."""
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").database()
    both = Database(url), Database(url)
    yield both
    for each in both:
        each.close()


def test_two_services_take_turns_and_take_each_report_once(
    databases: tuple[Database, Database], tmp_path: Path
) -> None:
    site, feed = Site(tmp_path), Feed()
    names = [f"r{number}" for number in range(20)]
    for name in names:
        uid = f"1.3.1{name[1:]}"
        site.archive.add(image(StudyRef(uid)))
        site.reports.put(report(name, study_instance_uids=(uid,)))
    watch = ReportWatch(feed, "feed", site.intake, every_s=0.01, sweep_s=10**9, backlog=True)
    one, two = (ReportWatcher(watch, alone=partial(presence_of(each).free, NAME)) for each in databases)

    one.start(), two.start()
    for name in names:
        feed.names.append(name)
        time.sleep(0.02)
    wait_for(lambda: len(feed.looks) == 2 and taken(site) == sorted(names[: len(feed.names)]))
    one.stop()
    after = feed.looks.total()
    wait_for(lambda: feed.looks.total() > after + 2)
    two.stop()

    assert feed.most == 1
    assert taken(site) == sorted(names)
    assert site.reports.described == len(names)


def taken(site: Site) -> list[str]:
    return sorted(job.report.report_id for job in site.queue.list(100) if job.report)


def wait_for(said: object, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not said():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)
