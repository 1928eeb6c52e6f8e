"""Two events, a poll and a person's click about the same study at the same moment: one job, whatever came first.

Two services on one database, as on two machines; ``SIGHTLINE_SAME_MOMENT=1000`` takes the number of the promise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from evidence import CARD
from fastapi.testclient import TestClient
from faults import together
from memory import MemoryArchive, MemoryReports, image, report
from stand_ins import Squares, read

from plugin.durable import Database, DatabaseReportBook, DurableQueue
from plugin.errors import TransientError
from plugin.intake import Intake
from plugin.noticing import ReportWatch, watch_reports
from plugin.ports import JobState, ReportPage, independent
from plugin.results import ResultFolder
from plugin.service import create_app
from plugin.service.parts import Services
from plugin.values import ReportRef, StudyRef, makers_of

# FastAPI silences it while a route is first used; in two threads at once, Python's filters are one thread's alone.
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' attribute with value")

MOMENTS = int(os.environ.get("SIGHTLINE_SAME_MOMENT", "15"))


@dataclass
class Feed:
    """Shows every report there is, each in a page of its own."""

    names: list[str] = field(default_factory=list)

    def look(self, cursor: str) -> Iterator[ReportPage]:
        for number in range(int(cursor or 0), len(self.names)):
            yield ReportPage((ReportRef(self.names[number], "1"),), str(number + 1))


@dataclass
class Site:
    """Archive and report store in memory; two services, each with its own way to the database."""

    queues: tuple[DurableQueue, ...]
    intakes: tuple[Intake, ...]
    services: tuple[TestClient, ...]
    archive: MemoryArchive
    reports: MemoryReports
    feed: Feed

    def comes(self, number: int) -> StudyRef:
        study = StudyRef(f"1.2.{number + 1}")
        self.archive.add(image(study))
        self.reports.put(report(f"r{number}", study_instance_uids=(study.study_instance_uid,)))
        self.feed.names.append(f"r{number}")
        return study

    def told(self, service: int, path: str, study: StudyRef) -> None:
        """Until it is taken, as the archive's script does it, and a person."""
        told = {"study_instance_uid": study.study_instance_uid}
        for _ in range(20):
            answer = self.services[service].post(path, json=told)
            if answer.status_code == 202:
                return
            assert answer.status_code == 503, answer.text
        raise AssertionError("it is never taken")

    def poll(self, service: int) -> None:
        watch = ReportWatch(self.feed, "feed", self.intakes[service], every_s=1, sweep_s=10**9, backlog=True)
        for _ in range(20):
            try:
                watch_reports(watch, now=datetime.now(UTC))
            except TransientError:
                continue
            return


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    url = f"sqlite:///{tmp_path}/jobs.sqlite"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").database()
    archive, reports, feed = MemoryArchive(), MemoryReports(), Feed()
    queues, intakes, services = [], [], []
    makers = makers_of(CARD, reader_version="1", settings_sha256="ab")
    with ExitStack() as stack:
        for _ in range(2):
            database = Database(url)
            queue, book = DurableQueue(database), DatabaseReportBook(database)
            stack.callback(queue.close)
            intake = Intake(archive, reports, queue, book, lambda: makers)  # type: ignore[arg-type]
            parts = Services(
                queue=queue,
                results=ResultFolder(tmp_path / "results"),
                work=independent(),
                intake=intake,
                grounder=Squares,
                read_report=read,
                read_dicom=lambda _: pytest.fail("nobody asks"),
            )
            client = TestClient(create_app(parts, work=False), base_url="http://127.0.0.1")
            services.append(stack.enter_context(client))
            queues.append(queue), intakes.append(intake)
        intakes[0].book.save_sweep("feed", datetime.now(UTC) + timedelta(minutes=1))
        yield Site(tuple(queues), tuple(intakes), tuple(services), archive, reports, feed)


def test_what_is_noticed_four_times_at_once_is_one_job(site: Site) -> None:
    for number in range(MOMENTS):
        study = site.comes(number)
        ways = (
            partial(site.told, 0, "/events", study),
            partial(site.told, 1, "/events", study),
            partial(site.told, 1, "/studies", study),
            partial(site.poll, 0),
        )
        together(len(ways), lambda at, ways=ways: ways[at]())

    jobs = site.queues[0].list(10 * MOMENTS)
    assert sorted(job.study.study_instance_uid for job in jobs) == sorted(f"1.2.{n + 1}" for n in range(MOMENTS))
    assert {job.state for job in jobs} == {JobState.QUEUED}
    assert site.intakes[1].book.known() == MOMENTS
