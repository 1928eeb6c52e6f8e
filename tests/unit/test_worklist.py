"""The worklist: what it shows of jobs, to whom, and how it is kept fresh."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from evidence import kept_of, make_evidence
from fastapi.testclient import TestClient
from lxml import html
from memory import Site

from plugin.access.caller import Caller, Proof, Role
from plugin.backfill import BackfillProgress, ProgressFile, progress_in
from plugin.ports import JobState
from plugin.results import ResultFile, ResultFolder
from plugin.service import Services, create_app
from plugin.service.entrance import Access
from plugin.values import StudyRef

NOW = datetime.now(UTC)


@pytest.fixture
def services(tmp_path: Path) -> Services:
    site = Site(tmp_path)
    unused: Any = None
    return Services(site.queue, ResultFolder(tmp_path / "results"), unused, site.intake, unused, unused, unused)


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services, work=False), base_url="http://127.0.0.1") as client:
        yield client


def put(services: Services, number: int, state: JobState = JobState.QUEUED, error: str | None = None) -> None:
    queue: Any = services.queue
    queue.put(f"job-{number:03}", StudyRef(f"1.2.{number}"))
    queue.clock.advance(1)
    if state is not JobState.QUEUED:
        queue.change(f"job-{number:03}", state, error=error)


def shown(client: TestClient, address: str = "/") -> Any:
    return html.document_fromstring(client.get(address).text)


def studies(page: Any) -> list[str]:
    return [row.text_content().split()[0] for row in page.xpath("//tbody/tr/th")]


def test_jobs_are_shown_with_state_error_attempts_and_what_can_be_done(services: Services, client: TestClient) -> None:
    put(services, 1, JobState.DONE)
    put(services, 2, JobState.FAILED, "The study has no <frontal> image.")
    put(services, 3)

    page = shown(client)

    rows = {row.xpath("string(th)").split()[0]: row for row in page.xpath("//tbody/tr")}
    assert rows["1.2.1"].xpath("th/a/@href") == ["/studies/1.2.1/radiologist"]
    assert not rows["1.2.2"].xpath("th/a")
    assert "The study has no <frontal> image." in rows["1.2.2"].text_content()
    assert [rows[uid].xpath("string(.//button)") for uid in ("1.2.1", "1.2.2", "1.2.3")] == [
        "Replay",
        "Replay",
        "Cancel",
    ]
    assert page.xpath("//*[@data-count='failed']/text()") == ["1"]


def test_the_list_can_be_of_one_state_and_of_words(services: Services, client: TestClient) -> None:
    put(services, 1)
    put(services, 2, JobState.FAILED, "The archive does not answer.")
    put(services, 3, JobState.FAILED, "no frontal image")

    assert studies(shown(client, "/?state=failed")) == ["1.2.3", "1.2.2"]
    assert studies(shown(client, "/?q=ARCHIVE")) == ["1.2.2"]
    assert studies(shown(client, "/?state=failed&q=1.2.3")) == ["1.2.3"]
    assert studies(shown(client, "/?state=nonsense")) == ["1.2.3", "1.2.2", "1.2.1"]
    none = shown(client, "/?q=%3Cscript%3E")
    assert "No such job." in none.text_content()
    assert none.xpath("//input[@name='q']/@value") == ["<script>"]


def test_older_jobs_are_on_the_next_pages(services: Services, client: TestClient) -> None:
    for number in range(120):
        put(services, number)

    address, found = "/", []
    while address:
        page = shown(client, address)
        found += studies(page)
        (address,) = page.xpath("//a[@rel='next']/@href") or [""]

    assert found == [f"1.2.{number}" for number in reversed(range(120))]


def test_programs_read_the_same_page_by_page(services: Services, client: TestClient) -> None:
    for number in range(7):
        put(services, number, JobState.FAILED if number % 2 else JobState.QUEUED, "away" if number % 2 else None)

    address, found = "/jobs?limit=2&state=failed&q=AWAY", []
    while address:
        answer = client.get(address)
        found += [job["study_instance_uid"] for job in answer.json()]
        address = answer.links["next"]["url"] if "next" in answer.links else ""

    assert found == ["1.2.5", "1.2.3", "1.2.1"]
    assert client.get("/jobs?state=nonsense").status_code == 422


def test_an_empty_list_says_what_to_do_or_shows_what_was_made_without_jobs(
    services: Services, client: TestClient
) -> None:
    assert "No study yet" in shown(client).text_content()
    results: Any = services.results
    results.write(StudyRef("1.9"), kept_of(make_evidence()), (ResultFile("evidence.html", b""),))

    assert shown(client).xpath("//ul[@class='others']//a/@href") == ["/studies/1.9/radiologist"]


def test_an_unchanged_list_is_not_sent_again(services: Services, client: TestClient) -> None:
    put(services, 1)
    first = client.get("/")
    tag = {"If-None-Match": first.headers["ETag"]}

    same = client.get("/", headers=tag)
    services.queue.cancel("job-001")
    changed = client.get("/", headers=tag)

    assert (same.status_code, same.content, changed.status_code) == (304, b"", 200)


@pytest.mark.parametrize(
    ("role", "links", "buttons"), [(Role.RADIOLOGIST, 1, 0), (Role.OPERATOR, 0, 1)], ids=["radiologist", "operator"]
)
def test_everybody_is_offered_what_they_may(services: Services, role: Role, links: int, buttons: int) -> None:
    put(services, 1, JobState.DONE)
    caller = Caller("somebody", frozenset({role}), Proof.TOKEN)
    app = create_app(services, work=False, access=Access(lambda _: caller))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = shown(client)

    assert len(page.xpath("//tbody//a")) == links
    assert len(page.xpath("//tbody//button")) == buttons


def test_nothing_on_the_page_runs_but_its_own_files(client: TestClient) -> None:
    answer = client.get("/")
    page = html.document_fromstring(answer.text)

    assert not page.xpath("//script[not(@src)] | //style | //@style | //@onclick")
    for part in page.xpath("//script/@src | //link[@rel='stylesheet']/@href"):
        assert client.get(part).headers["ETag"]
    assert "script-src 'self'" in page.xpath("//meta[@http-equiv]/@content")[0]
    assert client.get("/worklist/worklist.html").status_code == 404


def test_held_jobs_are_said_to_be(services: Services, client: TestClient) -> None:
    services.queue.pause()

    assert "Jobs are held" in shown(client).text_content()


# Long work

RUN = BackfillProgress("of DX, 2026-01-01 to 2026-01-31", 1200, 300, NOW - timedelta(minutes=10), NOW)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (RUN, "300 of 1200 studies; 30 studies a minute; 30 min left."),
        (replace(RUN, done=0), "0 of 1200 studies; beginning."),
        (replace(RUN, done=1200, ended=True), "1200 of 1200 studies; finished."),
        (replace(RUN, updated=NOW - timedelta(minutes=5)), "stopped: the same command goes on where it was."),
        (replace(RUN, total=1, done=1, began=NOW), "1 of 1 study; 60 studies a minute; 0 s left."),
    ],
)
def test_a_backfill_tells_its_rate_and_what_is_left(services: Services, run: BackfillProgress, words: str) -> None:
    late = datetime.now(UTC) - NOW
    run = replace(run, began=run.began + late, updated=run.updated + late)
    app = create_app(replace(services, progress=lambda: (run,)), work=False)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        page = shown(client)

    assert words in " ".join(page.xpath("//section[@class='long']")[0].text_content().split())
    assert page.xpath("//progress/@value") == [str(run.done)]


def test_what_a_run_tells_is_read_by_the_service_and_forgotten_after_a_day(tmp_path: Path) -> None:
    ProgressFile(tmp_path / "backfill-1.progress").write(RUN)
    ProgressFile(tmp_path / "backfill-2.progress").write(replace(RUN, updated=NOW - timedelta(days=2)))
    (tmp_path / "backfill-3.progress").write_text("{", encoding="utf-8")
    (tmp_path / "backfill-4.progress").write_text('{"began": "x"}', encoding="utf-8")

    assert progress_in(tmp_path, now=NOW) == (RUN,)
    assert progress_in(tmp_path / "nowhere", now=NOW) == ()
