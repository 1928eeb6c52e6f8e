"""A radiologist accepts, rejects and redraws on the page: a real browser, the service, and a job that writes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
from evidence import STUDY, kept_of, make_evidence, make_header, make_radiograph
from memory import Site
from playwright.sync_api import Browser, Page, expect
from serving import served

from model.geometry import Orientation
from plugin.decisions import decided
from plugin.flow import outputs_of
from plugin.page.shapes import outline_on_upright
from plugin.ports import Job, JobState, Step
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.taking import Decisions
from plugin.values import Evidence, RegionDecision

pytestmark = pytest.mark.acceptance

AXE = servers.NPM / "node_modules" / "axe-core" / "axe.min.js"
PICTURES = servers.OUTPUT / "deciding"
EFFUSION, OPACITY, UNLOCATED, DENIED = 1, 2, 6, 8
PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@dataclass
class Desk:
    """The page of kept evidence; :meth:`work` writes decisions back."""

    site: Site
    results: ResultFolder
    evidence: Evidence
    services: Services
    address: str = ""

    def write(self) -> None:
        words = [each.decision for each in self.site.decisions.about(STUDY, "report-1")]
        made = decided(self.evidence, words)
        self.results.write(STUDY, kept_of(made), outputs_of(made).kept)

    def word(self) -> RegionDecision:
        return self.site.decisions.about(STUDY, "report-1")[-1].decision

    def work(self) -> None:
        """Do what waits."""
        while job := self.site.queue.take():
            self.write()
            self.site.queue.entries[job.job_id].job = replace(job, state=JobState.DONE)


@contextmanager
def _nothing(_: Job) -> Iterator[tuple[Step, ...]]:
    yield ()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    with ExitStack() as running:

        def make(evidence: Evidence | None = None) -> Desk:
            site, results = Site(tmp_path), ResultFolder(tmp_path / "results")
            unused: Any = None
            decisions = Decisions(site.decisions, site.queue)
            services = Services(site.queue, results, _nothing, site.intake, unused, unused, unused, decisions=decisions)
            desk = Desk(site, results, evidence or make_evidence(), services)
            desk.write()
            desk.address = running.enter_context(served(create_app(services, work=False)))
            return desk

        yield make


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    contexts, complaints = [], []

    def open_it(desk: Desk, number: int | None = None, **settings: Any) -> Page:
        # Without motion: a report that still scrolls would move the picture away under the pointer.
        still = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        context = chromium.new_context(**(still | settings))
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(f"{desk.address}/studies/{STUDY.study_instance_uid}/reports/report-1/radiologist")
        if number is not None:
            page.locator(f"#phrase-{number}").click()
            page.locator(".deciding .standing").wait_for()
        return page

    expect.set_options(timeout=60_000)
    yield open_it
    for context in contexts:
        context.close()
    assert [each for each in complaints if "412" not in each] == []


def standing(page: Page) -> str:
    return page.locator(".deciding .standing").inner_text()


def rule(page: Page, name: str) -> Any:
    return page.locator(f'[data-rule="{name}"]')


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """A point of the upright picture, given in fractions, on the screen."""
    box = page.evaluate(
        """([x, y]) => {
          const film = document.querySelector(".picture:not([hidden]) .film");
          const point = new DOMPoint(x * film.dataset.width, y * film.dataset.height)
            .matrixTransform(film.getScreenCTM());
          return [point.x, point.y];
        }""",
        [x, y],
    )
    return box[0], box[1]


def test_accepting_takes_a_name_once_and_is_written_back(
    desk: Callable[..., Desk], open_page: Callable[..., Page]
) -> None:
    here = desk()
    page = open_page(here, EFFUSION)
    assert standing(page) == "Nobody has decided yet."

    rule(page, "accepted").click()
    page.get_by_label("Your name").fill("Dr. Ada Beispiel")
    page.get_by_label("Your name").press("Enter")
    expect(page.locator(".deciding .standing")).to_contain_text("Accepted by Dr. Ada Beispiel")
    expect(page.locator(".deciding .standing")).to_contain_text("being written back")
    assert here.word().ruling == "accepted"
    assert rule(page, "accepted").is_disabled()
    page.locator(f"#phrase-{OPACITY}").click()
    rule(page, "accepted").click()
    expect(page.locator(".deciding .standing")).to_contain_text("Accepted by Dr. Ada Beispiel")

    here.work()
    page.get_by_role("button", name="Show it").click()
    page.locator(".deciding .standing").wait_for()

    assert "written back" not in standing(page)
    assert "Accepted by Dr. Ada Beispiel" in page.locator(f"#why-{OPACITY}").inner_text()


def test_a_rejected_region_is_marked_no_more_and_can_be_accepted_after_all(
    desk: Callable[..., Desk], open_page: Callable[..., Page]
) -> None:
    here = desk()
    page = open_page(here, EFFUSION)
    rule(page, "rejected").click()
    page.get_by_label("Reason").select_option("other")
    page.get_by_role("textbox", name="In my words").fill("a skin fold")
    page.get_by_label("Your name").fill("Dr. A")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".deciding .standing")).to_contain_text("a skin fold")

    here.work()
    page.get_by_role("button", name="Show it").click()
    page.locator(".deciding .standing").wait_for()
    assert page.locator(".region.on").count() == 0
    assert here.word().reason == "a skin fold"

    rule(page, "accepted").click()
    expect(page.locator(".deciding .standing")).to_contain_text("Accepted by Dr. A")
    rule(page, "taken-back").click()
    expect(page.locator(".deciding .standing")).to_contain_text("Nobody has decided yet.")
    assert [each.decision.ruling for each in here.site.decisions.about(STUDY, "report-1")] == [
        "rejected",
        "accepted",
        "taken-back",
    ]


ORIENTATIONS = tuple(Orientation(*turn) for turn in product((False, True), repeat=3))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_what_is_drawn_lies_where_it_was_drawn_however_the_image_is_turned(
    desk: Callable[..., Desk], open_page: Callable[..., Page], orientation: Orientation
) -> None:
    here = desk(make_evidence(make_radiograph(make_header(rows=480, columns=400), orientation=orientation)))
    page = open_page(here, UNLOCATED)
    rule(page, "redrawn").click()
    page.mouse.move(*at(page, 0.25, 0.125))
    page.mouse.down()
    page.mouse.move(*at(page, 0.3, 0.3))
    page.mouse.move(*at(page, 0.5, 0.625))
    page.mouse.up()
    expect(page.locator(".drawn")).to_have_text("Regions drawn: 1.")
    page.get_by_label("Reason").select_option("wrong place")
    page.get_by_label("Your name").fill("Dr. A")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".deciding .standing")).to_contain_text("Drawn by Dr. A")

    (region,) = here.word().regions
    box = here.evidence.images[0].letterbox
    rows, columns = box.upright_shape
    corners = [(0.25, 0.125), (0.5, 0.125), (0.5, 0.625), (0.25, 0.625)]
    drawn = outline_on_upright(region.outline, box)
    np.testing.assert_allclose(sorted(drawn.tolist()), sorted((np.array(corners) * (columns, rows)).tolist()), atol=1.5)


def test_a_polygon_is_drawn_by_clicks_and_closed_on_its_first_point(
    desk: Callable[..., Desk], open_page: Callable[..., Page]
) -> None:
    here = desk()
    page = open_page(here, EFFUSION)
    rule(page, "redrawn").click()
    for point in ((0.2, 0.2), (0.6, 0.2), (0.4, 0.6), (0.2, 0.2)):
        page.mouse.click(*at(page, *point))
    expect(page.locator(".drawn")).to_have_text("Regions drawn: 1.")
    page.get_by_label("Your name").fill("Dr. A")
    page.get_by_role("button", name="Save").click()
    expect(page.locator(".deciding .standing")).to_contain_text("Drawn by Dr. A")

    (region,) = here.word().regions
    rows, columns = here.evidence.images[0].pixels.shape
    corners = np.array([(0.2, 0.2), (0.6, 0.2), (0.4, 0.6)]) * (columns, rows)
    np.testing.assert_allclose(region.outline, corners, atol=0.5)
    assert page.locator(".sketch").count() == 0


def test_everything_is_done_without_a_pointer(desk: Callable[..., Desk], open_page: Callable[..., Page]) -> None:
    here = desk()
    page = open_page(here)
    page.locator(f"#phrase-{EFFUSION}").focus()
    page.keyboard.press("Enter")
    page.locator(".deciding .standing").wait_for()
    rule(page, "redrawn").focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.classList.contains('film')")

    page.keyboard.press("Enter")
    expect(page.locator(".drawn")).to_have_text("Point 1: 50 % from the left, 50 % from the top.")
    for keys in (["ArrowRight"] * 5, ["ArrowDown"] * 5, ["ArrowLeft"] * 3):
        for key in keys:
            page.keyboard.press(key)
        page.keyboard.press(" ")
    page.keyboard.press("Backspace")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    page.keyboard.press("c")
    expect(page.locator(".drawn")).to_have_text("Regions drawn: 1.")
    page.get_by_label("Your name").fill("Dr. A")
    page.get_by_role("button", name="Save").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".deciding .standing")).to_contain_text("Drawn by Dr. A")
    assert page.evaluate("document.activeElement.classList.contains('standing')")

    (region,) = here.word().regions
    rows, columns = here.evidence.images[0].pixels.shape
    assert region.outline[0] == (columns / 2, rows / 2)
    assert len(region.outline) == 4


def test_escape_leaves_the_drawing_and_keeps_the_phrase(
    desk: Callable[..., Desk], open_page: Callable[..., Page]
) -> None:
    page = open_page(desk(), EFFUSION)
    rule(page, "redrawn").click()
    page.mouse.click(*at(page, 0.3, 0.3))
    page.locator(".film").focus()

    page.keyboard.press("Escape")

    assert page.locator(".sketch").count() == 0
    assert not page.locator(".saying").is_visible()
    assert page.locator(f"#phrase-{EFFUSION}").get_attribute("aria-pressed") == "true"


def test_who_decides_about_what_changed_is_told_and_looks_again(
    desk: Callable[..., Desk], open_page: Callable[..., Page]
) -> None:
    here = desk()
    mine, yours = open_page(here, EFFUSION), open_page(here, EFFUSION)
    for page, who in ((mine, "Dr. A"), (yours, "Dr. B")):
        rule(page, "rejected").click()
        page.get_by_label("Your name").fill(who)
    mine.get_by_role("button", name="Save").click()
    expect(mine.locator(".deciding .standing")).to_contain_text("Rejected by Dr. A")

    yours.get_by_role("button", name="Save").click()

    expect(yours.get_by_role("alert")).to_contain_text("changed since you looked")
    yours.get_by_role("button", name="Show it").click()
    expect(yours.locator(".deciding .standing")).to_contain_text("Rejected by Dr. A")
    assert here.word().who.name == "Dr. A"


def test_nothing_is_offered_where_there_is_nothing_to_decide_and_to_nobody_else(
    desk: Callable[..., Desk], open_page: Callable[..., Page]
) -> None:
    here = desk()
    page = open_page(here, UNLOCATED)
    assert [rule(page, name).is_visible() for name in ("accepted", "rejected", "redrawn", "taken-back")] == [
        False,
        False,
        True,
        False,
    ]
    rule(page, "redrawn").click()
    page.get_by_label("Your name").fill("Dr. A")
    page.get_by_role("button", name="Save").click()
    assert "Draw a region first" in page.get_by_role("alert").inner_text()

    page.locator(f"#phrase-{DENIED}").click()
    assert not page.locator(".deciding").is_visible()
    page.goto(page.url.split("#")[0].replace("/radiologist", "/patient"))
    assert page.locator("#deciding").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "settings"), [("desk", {}), ("phone", PHONE)])
def test_axe_finds_nothing_against_the_controls(
    desk: Callable[..., Desk], open_page: Callable[..., Page], scheme: str, name: str, settings: dict[str, Any]
) -> None:
    servers.require(str(AXE))
    page = open_page(desk(), EFFUSION, color_scheme=scheme, reduced_motion="reduce", **settings)
    rule(page, "redrawn").click()
    page.mouse.click(*at(page, 0.3, 0.3))
    page.mouse.click(*at(page, 0.6, 0.4))
    page.locator(".close-shape").scroll_into_view_if_needed()

    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("async () => (await axe.run()).violations.map(each => [each.id, each.nodes[0].html])")

    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}-{scheme}.png")
    assert found == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
