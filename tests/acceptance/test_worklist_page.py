"""The worklist in a real browser: kept fresh, worked by keys, on every screen, and when the service goes away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import servers
from memory import Site
from playwright.sync_api import Browser, Page, expect
from serving import served

from plugin.backfill import BackfillProgress
from plugin.ports import JobState
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.values import StudyRef

pytestmark = pytest.mark.acceptance

AXE = servers.NPM / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = servers.OUTPUT / "worklist"
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
ERROR = "The archive does not answer; it is tried again until its attempts are used up."


@dataclass
class Desk:
    """A service with jobs of every state."""

    queue: Any
    address: str


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    site, unused = Site(tmp_path, clock=lambda: datetime.now(UTC)), None
    site.queue.clock = lambda: datetime.now(UTC)
    any_: Any = unused
    for number, state in enumerate((*JobState, JobState.FAILED)):
        if state is JobState.WAITING:
            continue
        site.queue.put(f"job-{number}", StudyRef(f"1.2.840.113619.2.{number}"))
        if state is not JobState.QUEUED:
            site.queue.change(f"job-{number}", state, error=ERROR if state is JobState.FAILED else None)
    now = datetime.now(UTC)
    run = BackfillProgress("of DX, 2026-01-01 to 2026-06-30", 12_000, 4_200, now - timedelta(hours=2), now)
    services = Services(
        site.queue, ResultFolder(tmp_path / "r"), any_, site.intake, any_, any_, any_, progress=lambda: (run,)
    )
    with served(create_app(services, work=False)) as address:
        yield Desk(site.queue, address)


@pytest.fixture
def open_page(chromium: Browser, desk: Desk) -> Iterator[Callable[..., Page]]:
    contexts, complaints = [], []

    def open_it(path: str = "/", **settings: Any) -> Page:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | settings))
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{desk.address}{path}")
        return page

    expect.set_options(timeout=60_000)
    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


def state_of(page: Page, job: str) -> Any:
    return page.locator(f"tr:has([data-job='{job}']) .state")


def test_a_dead_letter_is_replayed_by_one_click_and_the_list_follows(
    open_page: Callable[..., Page], desk: Desk
) -> None:
    page = open_page()
    expect(page.locator("#fresh")).to_have_text("Kept up to date")

    page.locator("#replay-job-4").click()

    expect(page.locator("#done")).to_contain_text("queued")
    expect(state_of(page, "job-4")).to_have_text("queued")
    assert desk.queue.get("job-4").state is JobState.QUEUED
    page.locator("#cancel-job-4").click()
    expect(state_of(page, "job-4")).to_have_text("cancelled")


def test_what_happens_elsewhere_is_shown_and_said_without_taking_the_focus(
    open_page: Callable[..., Page], desk: Desk
) -> None:
    page = open_page()
    page.locator("#replay-job-6").focus()
    page.locator("#q").evaluate("field => { field.value = 'half a wo' }")

    desk.queue.change("job-2", JobState.DONE, error=None)

    expect(state_of(page, "job-2")).to_have_text("done")
    expect(page.locator("#done")).to_contain_text("done")
    assert page.evaluate("document.activeElement.id") == "replay-job-6"
    assert page.locator("#q").input_value() == "half a wo"


def asked_for(page: Page) -> list[str]:
    """The addresses that *page* asks for from now on."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url.partition("?")[0].rpartition("/")[2]))
    return seen


def test_the_list_is_asked_for_when_the_service_tells_of_a_change_and_hardly_else(
    open_page: Callable[..., Page], desk: Desk
) -> None:
    page = open_page()
    expect(page.locator("#fresh")).to_have_text("Kept up to date")
    page.wait_for_timeout(3000)
    seen = asked_for(page)

    page.wait_for_timeout(7000)  # a job is running: without its word, the list is asked for every two seconds
    quiet = list(seen)
    desk.queue.change("job-2", JobState.DONE, error=None)

    expect(state_of(page, "job-2")).to_have_text("done")
    assert quiet == []
    assert seen == [""]


@pytest.mark.parametrize("answer", ["away", "full"])
def test_without_the_services_word_the_list_is_asked_for_all_the_same(
    open_page: Callable[..., Page], desk: Desk, answer: str
) -> None:
    page = open_page()
    page.route("**/changes", lambda route: route.abort() if answer == "away" else route.fulfill(status=204))
    page.reload()
    expect(page.locator("#fresh")).to_have_text("Kept up to date")

    desk.queue.change("job-2", JobState.DONE, error=None)

    expect(state_of(page, "job-2")).to_have_text("done")


def test_ages_are_told_and_the_time_is_kept(open_page: Callable[..., Page]) -> None:
    page = open_page()
    expect(page.locator("#live time").first).to_contain_text("ago")

    assert "-" in (page.locator("#live time").first.get_attribute("title") or "")


def test_the_list_is_filtered_and_searched_by_keys_alone(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.get_by_role("link", name="failed 2").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/?state=failed")
    expect(page.locator("tbody tr")).to_have_count(2)

    page.get_by_role("searchbox").fill("113619.2.4")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=113619.2.4")
    expect(page.locator("tbody tr")).to_have_count(1)
    assert "state=failed" in page.url


def test_a_service_that_goes_away_is_said_to_be_and_found_again(open_page: Callable[..., Page]) -> None:
    page = open_page()
    expect(page.locator("#fresh")).to_have_text("Kept up to date")

    page.context.set_offline(True)
    expect(page.locator("#fresh")).to_contain_text("does not answer")
    page.locator("#replay-job-4").click()
    expect(page.locator("#trouble")).not_to_be_empty()
    page.context.set_offline(False)

    expect(page.locator("#fresh")).to_have_text("Kept up to date")


def test_without_script_the_list_is_all_there(open_page: Callable[..., Page]) -> None:
    page = open_page(java_script_enabled=False)

    assert page.locator("tbody tr").count() == 6
    assert ERROR in page.locator("tbody").inner_text()
    assert page.locator("progress").get_attribute("value") == "4200"


def test_a_quiet_page_asks_for_little(open_page: Callable[..., Page], desk: Desk) -> None:
    for number in range(1, 7):
        desk.queue.change(f"job-{number}", JobState.DONE, error=None)
    page = open_page()
    expect(page.locator("#fresh")).to_have_text("Kept up to date")
    asked: list[int] = []
    page.on("response", lambda response: asked.append(response.status))

    page.wait_for_timeout(5000)

    assert len(asked) <= 2
    assert set(asked) <= {304, 200}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "settings"), [("desk", {}), ("phone", PHONE)])
def test_axe_finds_nothing_and_nothing_is_too_wide(
    open_page: Callable[..., Page], scheme: str, name: str, settings: dict[str, Any]
) -> None:
    servers.require(str(AXE))
    page = open_page(color_scheme=scheme, reduced_motion="reduce", **settings)
    expect(page.locator("#fresh")).to_have_text("Kept up to date")

    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations.map(each => [each.id, each.nodes[0].html])")

    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{scheme}.png", full_page=True)
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
