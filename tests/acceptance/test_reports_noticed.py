"""From a real third-party FHIR engine on its bad days to jobs: none missed, none twice, what was deleted taken back."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import faults as bad
import httpx
import pytest
from books import book_at
from faults import Faults, run_faults
from fhir_input import report
from memory import MemoryArchive, image
from queues import MemoryQueue

from plugin.errors import SightlineError
from plugin.fhir.client import FhirClient
from plugin.intake import Intake
from plugin.noticing import ReportWatch, watch_reports
from plugin.ports import Outcome
from plugin.reports.feeds import FhirReportFeed
from plugin.reports.rest import FhirReportStore
from plugin.values import WITHDRAWN_VERSION, StudyRef

pytestmark = pytest.mark.acceptance

MANY = 300


class Engine:
    """The engine, and reports of one category in it, put past the proxy."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.tag = uuid.uuid4().hex[:12]

    def put(self, names: list[str], **changes: object) -> None:
        entries = [
            {
                "request": {"method": "PUT", "url": f"DiagnosticReport/{name}"},
                "resource": report(
                    id=name,
                    meta=None,
                    basedOn=None,
                    subject={"identifier": {"value": "P1"}},
                    category=[{"coding": [{"system": "http://example.org", "code": self.tag}]}],
                    imagingStudy=[{"identifier": {"system": "urn:dicom:uid", "value": uid_of(name)}}],
                    **changes,
                ),
            }
            for name in names
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        httpx.post(self.faults.upstream, json=bundle, timeout=60).raise_for_status()

    def delete(self, name: str) -> None:
        httpx.delete(f"{self.faults.upstream}/DiagnosticReport/{name}", timeout=60).raise_for_status()

    def versions(self) -> set[tuple[str, str]]:
        asked = {"category": self.tag, "_count": "100000"}
        found = httpx.get(f"{self.faults.upstream}/DiagnosticReport", params=asked, timeout=60).json()
        return {(each["resource"]["id"], each["resource"]["meta"]["versionId"]) for each in found["entry"]}


def uid_of(name: str) -> str:
    return f"1.3.{int(name.rpartition('-')[2]) + 1}"


@pytest.fixture
def engine(fhir_server: str) -> Iterator[Engine]:
    with run_faults(fhir_server) as proxy:
        yield Engine(proxy)


def test_reports_of_a_server_on_its_bad_days_become_one_job_each(engine: Engine, tmp_path: Path) -> None:
    chance = random.Random(7)
    ways = [bad.refused(503), bad.refused(429), bad.answered(500), bad.reset(), bad.reset_after(), bad.truncated()]
    engine.faults.always(bad.Sometimes(chance, 0.65, ways))
    engine.faults.always(bad.DuplicatedRows())
    engine.faults.always(bad.OtherHost())
    engine.faults.always(bad.whole_seconds)
    engine.faults.always(bad.outcome_among_hits)
    archive, queue, broken = MemoryArchive(), MemoryQueue(), 0

    with httpx.Client() as pool:
        server = FhirClient(engine.faults.base, client=pool, timeout_s=5, sleep=lambda _: None)

        def round_at(now: datetime) -> None:
            """A round of a process that has just begun."""
            queue.clock.now = now
            book = book_at(tmp_path / "reports.sqlite")
            intake = Intake(
                archive,  # type: ignore[arg-type] - what intake asks of an archive, and no more
                FhirReportStore(server),
                queue,
                book,
                lambda: ("maker",),
                clock=queue.clock,
            )
            feed = FhirReportFeed(server, categories=engine.tag)
            watch_reports(ReportWatch(feed, "engine", intake, every_s=1, sweep_s=86_400, backlog=True), now=now)

        now = datetime.now(UTC)
        names = [f"{engine.tag}-{number}" for number in range(MANY)]
        archive.add(*(image(StudyRef(uid_of(name))) for name in names))
        for begin in range(0, MANY, 60):
            engine.put(names[begin : begin + 60])
            engine.put(chance.sample(names[: begin + 60], 10), status="amended")
            for _ in range(3):
                now += timedelta(minutes=6)
                try:
                    round_at(now)
                except SightlineError:
                    broken += 1
        gone = chance.sample(names, 5)
        for name in gone:
            engine.delete(name)
        engine.faults.clear()
        now += timedelta(days=2)
        for _ in range(3):
            now += timedelta(minutes=6)
            with suppress(SightlineError):
                round_at(now)

    pairs = Counter((job.report.report_id, job.report.version) for job in queue.list(10 * MANY) if job.report)
    assert set(pairs.values()) == {1}
    assert engine.versions() <= set(pairs)
    assert {name for name, version in pairs if version == WITHDRAWN_VERSION} == set(gone)
    withdrawn = book_at(tmp_path / "reports.sqlite").listed(Outcome.WITHDRAWN)
    assert {entry.report_id for entry in withdrawn} == set(gone)
    assert broken > 0
