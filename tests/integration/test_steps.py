"""The steps of a job, whoever begins with which: what they hand on lives in memory, so any of them may be the first."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import job_worker
import pytest
from queues import ENDED
from year import MemoryFhir, Site, Squares, Told, read

from model.geometry import Orientation
from model.values import Suitability
from plugin.attempt import GroundingWork
from plugin.durable import Database, DurableQueue
from plugin.errors import TransientError, UnavailableError, WithdrawnError
from plugin.flow import STEPS, Tools
from plugin.policy import Policy
from plugin.ports import Job, JobState, Outcome
from plugin.values import WITHDRAWN_VERSION, ReportRef

NAMES = tuple(STEPS)


@dataclass
class Counting:
    """Counts what is asked of *inner*; *held* calls wait until they may go on."""

    inner: Any
    calls: Counter[str] = field(default_factory=Counter)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def called(*args: Any, **options: Any) -> Any:
            self.calls[name] += 1
            return method(*args, **options)

        return called if callable(method) else method


def site_at(
    folder: Path, server: MemoryFhir | None = None, answer: Callable[[httpx.Request], httpx.Response] | None = None
) -> Site:
    """A site with one study of two images, and a job for its report."""
    server = server or MemoryFhir()
    site = Site(folder, server, httpx.MockTransport(answer or server.answer), tag="s")
    site.add_image(0)
    site.add_image(0)
    site.tell("a", Told((0,), ("Effusion", "No fracture", "Nodule"), "final", 0))
    site.notice("a")
    return site


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str], Site]]:
    sites: list[Site] = []

    def make(name: str) -> Site:
        sites.append(site_at(tmp_path / name))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site: Callable[[str], Site]) -> Site:
    return make_site("site")


def work_of(site: Site, grounder: Any = None) -> GroundingWork:
    """As a process makes it when it starts."""
    tools = Tools(read, "1", grounder or Squares(), 2, "ab", site.clock)
    return GroundingWork(site.intake, site.edges, lambda _: tools)


def job_of(site: Site) -> Job:
    (job,) = site.queue.list()
    return job


def do(site: Site, *names: str, work: GroundingWork | None = None) -> None:
    """The steps *names* of the job, in one attempt of a process of its own."""
    with (work or work_of(site))(job_of(site)) as steps:
        for step in steps:
            if step.name in names:
                step.run(job_of(site))


def everything(site: Site) -> dict[str, Any]:
    """What stands in archive, report store and results."""
    folders = (site.folder / "images", site.folder / "data")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts]
    assert isinstance(site.server, MemoryFhir)
    resources = {name: site.server.current(name) or {} for name in site.server.versions}
    return {str(path.relative_to(site.folder)): path.read_bytes() for path in files} | {
        name: {key: value for key, value in each.items() if key != "meta"} for name, each in resources.items()
    }


@pytest.mark.parametrize("number", range(1, len(NAMES)))
def test_a_step_that_another_process_begins_with_leaves_what_an_undisturbed_job_leaves(
    number: int, make_site: Callable[[str], Site]
) -> None:
    undisturbed, disturbed = make_site("undisturbed"), make_site("disturbed")
    do(undisturbed, *NAMES)

    do(disturbed, *NAMES[:number])
    do(disturbed, *NAMES[number:])

    assert everything(disturbed) == everything(undisturbed)
    disturbed.check()


def test_workers_are_killed_in_the_steps_that_there_are() -> None:
    assert job_worker.STEPS == NAMES


def test_an_attempt_reads_each_image_once_and_asks_the_model_once(site: Site) -> None:
    archive, grounder = Counting(site.archive), Counting(Squares())
    site.edges = replace(site.edges, archive=archive)

    do(site, *NAMES, work=work_of(site, grounder))

    assert archive.calls == {"describe": 1, "read": 2, "results": 2, "store": 1}
    assert grounder.calls["ground_all"] == 1


@pytest.mark.parametrize(("status", "attempts"), [(422, 1), (400, 1), (403, 5), (503, 5)])
def test_what_a_server_refuses_for_good_is_grounded_once_and_what_it_refuses_for_now_at_each_attempt(
    tmp_path: Path, status: int, attempts: int
) -> None:
    """One that is away, or lets us in no more, may come to itself: then each attempt grounds anew (ADR 0019)."""

    def answer(request: httpx.Request) -> httpx.Response:
        refused = httpx.Response(status, json={"resourceType": "OperationOutcome"})
        return refused if request.method in ("POST", "PUT") else server.answer(request)

    server, grounder = MemoryFhir(), Counting(Squares())
    site = site_at(tmp_path / "site", server, answer)
    runner = site.queue.runner(work_of(site, grounder))
    for _ in range(2 * attempts):
        runner.once()
        site.clock.advance(3600)

    job = job_of(site)
    assert (job.state, job.attempts) == (JobState.FAILED, attempts)
    assert f"answered {status}" in (job.error or "")
    assert grounder.calls["ground_all"] == attempts
    site.close()


def test_a_step_that_is_not_begun_does_nothing_of_those_after_it(site: Site) -> None:
    before = everything(site)

    do(site, "match", "fetch", "read", "ground")

    assert everything(site) == before


def test_a_report_amended_between_two_steps_is_written_as_it_is_now(site: Site) -> None:
    do(site, *NAMES[:5])
    site.tell("a", Told((0,), ("Nodule", "Mild edema"), "amended", 0))

    do(site, *NAMES[5:])

    site.check()


def test_a_report_withdrawn_between_two_steps_is_taken_back(site: Site) -> None:
    do(site, *NAMES[:6])
    site.tell("a", Told((0,), ("Effusion",), "entered-in-error", 0))

    with pytest.raises(WithdrawnError):
        do(site, *NAMES[6:])

    site.check()


@pytest.fixture
def durable(site: Site, tmp_path: Path) -> Iterator[DurableQueue]:
    """The jobs of *site* in a real queue from now on."""
    queue = DurableQueue(Database(f"sqlite:///{tmp_path}/jobs.sqlite"), Policy(first_s=0.1, most_s=0.2), poll_s=0.02)
    site.intake = replace(site.intake, queue=queue)
    yield queue
    queue.close()


def worked_off(queue: DurableQueue, work: GroundingWork) -> dict[JobState, Job]:
    """The jobs of *queue* when all of them ended, by state."""
    runner = queue.runner(work)
    runner.start()
    try:
        deadline = time.monotonic() + 120
        while any(job.state not in ENDED for job in queue.list()):
            assert time.monotonic() < deadline, queue.list()
            time.sleep(0.05)
    finally:
        runner.stop(5)
    return {job.state: job for job in queue.list()}


@pytest.mark.parametrize(
    ("ends", "said"), [("entered-in-error", "withdrawn"), ("cancelled", "withdrawn"), ("deleted", "deleted")]
)
def test_a_job_that_meets_its_report_withdrawn_is_cancelled_and_the_book_knows(
    site: Site, durable: DurableQueue, ends: str, said: str
) -> None:
    do(site, *NAMES)
    site.tell("a", Told((0,), ("Effusion", "Nodule"), "amended", 0))
    site.notice("a")
    site.tell("a", Told((0,), ("Effusion", "Nodule"), ends, 0))  # and no poll comes by

    jobs = worked_off(durable, work_of(site))

    entry = site.intake.book.entry(site.id("a"))
    assert entry is not None
    assert (entry.outcome, entry.joined) == (Outcome.WITHDRAWN, ())
    assert set(jobs) == {JobState.CANCELLED, JobState.DONE}
    assert f"the report was {said}" in (jobs[JobState.CANCELLED].error or "")
    assert jobs[JobState.DONE].report == ReportRef(site.id("a"), WITHDRAWN_VERSION)
    site.check()


def test_a_report_that_comes_back_after_its_job_was_cancelled_is_grounded(site: Site, durable: DurableQueue) -> None:
    site.tell("a", Told((0,), ("Effusion",), "final", 0))
    site.notice("a")
    site.tell("a", Told((0,), ("Effusion",), "entered-in-error", 0))
    worked_off(durable, work_of(site))

    site.tell("a", Told((0,), ("Nodule",), "corrected", 0))
    site.notice("a")
    worked_off(durable, work_of(site))

    site.check()


def test_a_report_that_was_gone_for_a_moment_is_grounded_all_the_same(site: Site, durable: DurableQueue) -> None:
    """Its server lost it as the job looked, and no poll was ever shown that."""
    forgetful, describe = Counting(site.edges.reports), site.edges.reports.describe
    forgetful.describe = lambda report_id: (
        forgetful.calls.update(["describe"]) or (describe(report_id) if forgetful.calls["describe"] > 1 else None)
    )
    site.notice("a")
    site.edges = replace(site.edges, reports=forgetful)

    jobs = worked_off(durable, work_of(site))

    assert [(state, job.attempts) for state, job in jobs.items()] == [(JobState.DONE, 2)]
    site.check()


def test_what_the_archive_lost_is_stored_again_by_the_next_attempt(site: Site) -> None:
    do(site, *NAMES[:6])
    lost = sorted((site.folder / "images").glob("SEG-*"))
    lost[0].unlink()
    forgetful = Counting(site.archive)
    forgetful.store = lambda *_: None
    edges, site.edges = site.edges, replace(site.edges, archive=forgetful)
    with pytest.raises(TransientError, match="the archive does not show 1 of 3"):
        do(site, "verify")
    site.edges = edges

    do(site, "verify", "finish")

    site.check()


def test_a_study_that_another_worker_is_at_is_left_alone_without_waiting(site: Site) -> None:
    with (
        site.edges.results.alone(site.studies[0]),
        pytest.raises(UnavailableError, match="Another worker") as caught,
    ):
        do(site, "match")

    assert caught.value.retry_after_s
    do(site, *NAMES)
    site.check()


class Slow(Squares):
    """A grounder that takes as long as it is told."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()

    def suitability(self, pixels: Any, orientation: Orientation) -> Suitability:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().suitability(pixels, orientation)


def test_a_step_that_nobody_waits_for_keeps_its_study_until_it_ends(site: Site) -> None:
    slow, study = Slow(), site.studies[0]
    with work_of(site, slow)(job_of(site)) as (_, fetch, *_):
        left = threading.Thread(target=fetch.run, args=(job_of(site),))
        left.start()
        assert slow.begun.wait(60)

    with pytest.raises(UnavailableError), site.edges.results.alone(study, patience_s=0):
        pass
    slow.go_on.set()
    left.join(60)
    with site.edges.results.alone(study, patience_s=0):
        pass
