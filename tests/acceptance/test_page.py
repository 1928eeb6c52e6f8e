"""The evidence page in a real browser, opened from disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from evidence import REPORT_TEXT, make_evidence, make_header, make_phrase, make_radiograph, make_report, rectangle
from playwright.sync_api import Browser, Locator, Page

from model.geometry import Orientation
from model.values import Region, State
from nlp.phrases import Assertion, Concept, Section
from plugin.identity import derived_uid
from plugin.page.evidence import evidence_page
from plugin.values import Evidence, GroundedPhrase, Placement, Radiograph

pytestmark = pytest.mark.acceptance

# Places in make_evidence().
INDICATION, EFFUSION, OPACITY, NODULES, AREA, PACEMAKER, UNLOCATED, _, DENIED = range(9)
ORIENTATIONS = tuple(Orientation(*turn) for turn in product((False, True), repeat=3))

Open = Callable[..., Page]


@pytest.fixture
def open_page(chromium: Browser, tmp_path: Path) -> Iterator[Open]:
    """``open_page(evidence, **context)``: the page of *evidence* from disk; it must log nothing and fetch nothing."""
    contexts, complaints = [], []

    def open_it(evidence: Evidence, **settings: Any) -> Page:
        file = tmp_path / "evidence.html"
        file.write_bytes(evidence_page(evidence).encode())
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 800}} | settings))
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on("request", lambda request: _note_foreign(request.url, file, complaints))
        page.goto(file.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert complaints == []


def _note_foreign(url: str, file: Path, complaints: list[str]) -> None:
    if url.partition("#")[0] != file.as_uri() and not url.startswith("data:"):
        complaints.append(f"request {url}")


def phrase(page: Page, number: int) -> Locator:
    return page.locator(f"#phrase-{number}")


def lit_regions(page: Page) -> list[str]:
    """data-phrases of the regions that are lit and shown."""
    regions = page.locator(".picture:not([hidden]) .region.on")
    return [str(region.get_attribute("data-phrases")) for region in regions.all()]


def marked(page: Page) -> str:
    """The text that is marked now."""
    return "".join(page.locator("#text .phrase.on").all_text_contents())


def caption(page: Page) -> str:
    return page.locator("#words").inner_text()


def leave(page: Page) -> None:
    page.mouse.move(2, 2)


def two_images() -> Evidence:
    """The effusion on both images, the pacemaker on the second only."""
    second = make_radiograph(make_header(number=2))
    evidence = make_evidence(make_radiograph(), second)
    pacemaker = evidence.phrases[PACEMAKER]
    there = dataclasses.replace(pacemaker.placements[0], state=State.NOT_FOUND, regions=())
    phrases = list(evidence.phrases)
    phrases[PACEMAKER] = dataclasses.replace(pacemaker, placements=(there, pacemaker.placements[1]))
    return dataclasses.replace(evidence, phrases=tuple(phrases))


class TestPointing:
    def test_pointing_at_a_phrase_lights_exactly_its_region(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        phrase(page, EFFUSION).hover()

        assert lit_regions(page) == [str(EFFUSION)]
        assert marked(page) == "Moderate left pleural effusion, increased"
        assert "very likely (93 %)" in caption(page)

    def test_a_phrase_of_two_parts_lights_both(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        phrase(page, NODULES).hover()

        assert lit_regions(page) == [str(NODULES)] * 2

    def test_the_light_goes_when_the_pointer_leaves(self, open_page: Open) -> None:
        page = open_page(make_evidence())
        phrase(page, EFFUSION).hover()

        leave(page)

        assert lit_regions(page) == []
        assert marked(page) == ""

    @pytest.mark.parametrize(
        ("number", "why"),
        [
            (DENIED, "The report denies it."),
            (UNLOCATED, "Below the threshold."),
            (INDICATION, "stands in the indication"),
        ],
    )
    def test_a_phrase_without_a_place_lights_nothing_and_says_why(self, open_page: Open, number: int, why: str) -> None:
        page = open_page(make_evidence())

        phrase(page, number).hover()

        assert lit_regions(page) == []
        assert page.locator(".picture.spot").count() == 0
        assert why in caption(page)

    def test_each_kind_of_phrase_looks_different(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        looks = {
            page.evaluate(
                "([number]) => { const style = getComputedStyle(document.getElementById(`phrase-${number}`));"
                " return style.textDecorationStyle + style.textDecorationThickness }",
                [number],
            )
            for number in (INDICATION, EFFUSION, AREA, UNLOCATED, DENIED)
        }

        assert len(looks) == 5

    def test_pointing_at_a_region_marks_its_phrase(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        page.locator(f".region[data-phrases='{PACEMAKER}']").hover()

        assert marked(page) == "Cardiac pacemaker"
        assert lit_regions(page) == [str(PACEMAKER)]

    def test_a_small_region_can_be_reached_inside_a_large_one(self, open_page: Open) -> None:
        evidence = make_evidence()
        large, small = evidence.phrases[EFFUSION], evidence.phrases[PACEMAKER]
        (place,) = small.placements
        within = dataclasses.replace(place, regions=(rectangle(50, 66, 56, 72),))
        page = open_page(
            dataclasses.replace(evidence, phrases=(dataclasses.replace(small, placements=(within,)), large))
        )

        page.locator(".region[data-phrases='0']").hover()

        assert marked(page) == "Cardiac pacemaker"

    def test_a_click_keeps_the_light_and_escape_lets_go(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        phrase(page, EFFUSION).click()
        leave(page)

        assert lit_regions(page) == [str(EFFUSION)]
        assert phrase(page, EFFUSION).get_attribute("aria-pressed") == "true"
        page.keyboard.press("Escape")
        assert lit_regions(page) == []
        assert phrase(page, EFFUSION).get_attribute("aria-pressed") == "false"

    def test_a_second_click_lets_go(self, open_page: Open) -> None:
        page = open_page(make_evidence())
        phrase(page, EFFUSION).click()

        phrase(page, EFFUSION).click()
        leave(page)

        assert lit_regions(page) == []

    def test_outlines_can_be_put_away(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        page.get_by_role("button", name="Outlines").click()
        leave(page)

        edge = page.locator(".region .edge").first
        assert edge.evaluate("edge => getComputedStyle(edge).strokeOpacity") == "0"

    def test_the_list_lights_too(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        page.locator(f"[data-go='{OPACITY}']").hover()

        assert lit_regions(page) == [str(OPACITY)] * 2


class TestKeyboard:
    def test_tab_and_arrows_go_through_the_phrases(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        page.keyboard.press("Tab")
        assert page.locator(".skip").evaluate("link => link === document.activeElement")
        page.keyboard.press("Tab")
        assert marked(page) == "pneumonia"
        page.keyboard.press("ArrowDown")

        assert marked(page) == "Moderate left pleural effusion, increased"
        assert lit_regions(page) == [str(EFFUSION)]
        page.keyboard.press("ArrowUp")
        page.keyboard.press("ArrowUp")
        assert marked(page) == "fracture"

    def test_enter_keeps_the_light_when_the_focus_moves_on(self, open_page: Open) -> None:
        page = open_page(make_evidence())
        phrase(page, EFFUSION).focus()
        page.keyboard.press("Enter")

        phrase(page, EFFUSION).blur()

        assert lit_regions(page) == [str(EFFUSION)]

    def test_escape_puts_out_a_light_that_focus_lit(self, open_page: Open) -> None:
        page = open_page(make_evidence())
        phrase(page, EFFUSION).focus()

        page.keyboard.press("Escape")

        assert lit_regions(page) == []

    def test_a_focused_region_marks_its_phrase_and_is_seen(self, open_page: Open) -> None:
        page = open_page(make_evidence())
        phrase(page, DENIED).focus()

        page.locator(f".region[data-phrases='{PACEMAKER}']").focus()

        assert marked(page) == "Cardiac pacemaker"

    def test_a_screen_reader_hears_phrases_reasons_and_regions(self, open_page: Open) -> None:
        page = open_page(make_evidence())

        tree = page.locator("body").aria_snapshot()

        assert 'button "Moderate left pleural effusion, increased"' in tree
        assert 'button "Region of: Cardiac pacemaker; very likely (99 %)"' in tree
        denied = phrase(page, DENIED).get_attribute("aria-describedby")
        assert "Reported as absent" in page.locator(f"#{denied}").inner_text()


PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


class TestTouch:
    def test_a_tap_lights_and_a_tap_beside_lets_go(self, open_page: Open) -> None:
        page = open_page(make_evidence(), **PHONE)

        phrase(page, EFFUSION).tap()
        assert lit_regions(page) == [str(EFFUSION)]

        page.locator("#report-title").tap()
        assert lit_regions(page) == []

    def test_the_image_stays_in_sight_of_the_last_phrase(self, open_page: Open) -> None:
        page = open_page(make_evidence(), **PHONE)

        page.locator(f"[data-go='{INDICATION}']").tap()
        phrase(page, DENIED).tap()

        box = page.locator(".picture svg").first.bounding_box()
        assert box is not None
        assert box["y"] >= 0
        assert phrase(page, DENIED).evaluate(
            "phrase => { const { x, y } = phrase.getBoundingClientRect();"
            " return document.elementFromPoint(x + 3, y + 8) === phrase }"
        )

    def test_a_tap_on_a_region_marks_its_phrase(self, open_page: Open) -> None:
        page = open_page(make_evidence(), **PHONE)

        page.locator(f".region[data-phrases='{PACEMAKER}']").tap()

        assert marked(page) == "Cardiac pacemaker"
        page.wait_for_function(
            "() => { const { top, bottom } = document.querySelector('.phrase.on').getBoundingClientRect();"
            " return top >= document.querySelector('.viewer').getBoundingClientRect().bottom && bottom <= innerHeight }"
        )

    def test_the_step_buttons_go_through_the_phrases(self, open_page: Open) -> None:
        page = open_page(make_evidence(), **PHONE)

        phrase(page, INDICATION).tap()
        page.locator("#next").tap()

        assert lit_regions(page) == [str(EFFUSION)]

    @pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
    def test_nothing_is_wider_than_the_screen(self, open_page: Open, width: int) -> None:
        page = open_page(two_images(), viewport={"width": width, "height": 800})

        assert page.evaluate("document.documentElement.scrollWidth") <= width


class TestSeveralImages:
    def test_a_phrase_selects_the_image_where_it_is_lit(self, open_page: Open) -> None:
        page = open_page(two_images())
        assert page.locator("#picture-0").is_visible()

        phrase(page, PACEMAKER).hover()

        assert page.locator("#picture-1").is_visible()
        assert not page.locator("#picture-0").is_visible()
        assert lit_regions(page) == [str(PACEMAKER)]
        assert page.locator("[data-show='1']").get_attribute("aria-pressed") == "true"

    def test_an_image_that_shows_it_is_not_left(self, open_page: Open) -> None:
        page = open_page(two_images())
        page.locator("[data-show='1']").click()

        phrase(page, EFFUSION).hover()

        assert page.locator("#picture-1").is_visible()


class TestTheRightPlace:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_the_light_falls_on_the_pixels_of_the_mask(self, open_page: Open, orientation: Orientation) -> None:
        image = make_radiograph(make_header(rows=480, columns=400), orientation=orientation)
        region = Region(((40.0, 60.0), (160.0, 60.0), (160.0, 180.0), (90.0, 130.0), (40.0, 180.0)), 0.9)
        page = open_page(one_phrase(image, region), reduced_motion="reduce")
        before = screenshot(page)

        phrase(page, 0).hover()

        mask = orientation.apply(region.mask(480, 400).astype(np.float32))
        expected = cv2.resize(mask, before.shape[::-1], interpolation=cv2.INTER_LINEAR) > 0.5
        # Between them lies the outline and the soft border of the light.
        inside = cv2.erode(expected.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
        outside = ~cv2.dilate(expected.astype(np.uint8), np.ones((71, 71), np.uint8)).astype(bool)
        after = screenshot(page)
        bright = before > 40
        outside[[0, -1]] = outside[:, [0, -1]] = False  # the screen's pixels there are half image, half frame
        assert inside.sum() > 500
        assert np.abs(after[inside] - before[inside]).max() < 16
        assert (after[outside & bright] < 0.7 * before[outside & bright]).all()

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_the_light_falls_on_what_the_source_shows_there(self, open_page: Open, orientation: Orientation) -> None:
        image = make_radiograph(make_header(rows=480, columns=400), orientation=orientation)
        square = rectangle(40, 48, 80, 96)  # the bright square of the test pattern

        page = open_page(one_phrase(image, square), reduced_motion="reduce", viewport={"width": 1280, "height": 1000})
        phrase(page, 0).hover()

        lit = screenshot(page) > 235
        assert lit.sum() == pytest.approx(40 * 48 / (480 * 400) * lit.size, rel=0.35)
        rows, columns = np.nonzero(lit)
        mask = orientation.apply(square.mask(480, 400).astype(np.float32))
        expected = np.argwhere(mask > 0).mean(axis=0) / mask.shape
        assert (rows.mean() / lit.shape[0], columns.mean() / lit.shape[1]) == pytest.approx(tuple(expected), abs=0.02)

    def test_the_outline_is_as_wide_on_a_large_image_as_on_a_small_one(self, open_page: Open) -> None:
        widths = []
        for rows, columns in ((480, 400), (2400, 2000)):
            image = make_radiograph(make_header(rows=rows, columns=columns))
            region = rectangle(0.3 * columns, 0.3 * rows, 0.6 * columns, 0.6 * rows)
            page = open_page(one_phrase(image, region), reduced_motion="reduce")
            phrase(page, 0).hover()
            content = cv2.imdecode(np.frombuffer(page.locator(".picture svg").screenshot(), np.uint8), cv2.IMREAD_COLOR)
            blue, _, red = cv2.split(content.astype(int))
            widths.append(int(((red - blue) > 120).sum()))

        assert widths[1] == pytest.approx(widths[0], rel=0.1)


def one_phrase(image: Radiograph, region: Region) -> Evidence:
    evidence = make_evidence(image)
    place = Placement(image.ref, State.FOUND, 0.9, regions=(region,))
    return dataclasses.replace(
        evidence, phrases=(dataclasses.replace(evidence.phrases[EFFUSION], placements=(place,)),)
    )


def screenshot(page: Page) -> npt.NDArray[np.float32]:
    """The image as shown on the screen, grey in [0, 255]."""
    box = page.evaluate(
        "() => { const { x, y, width, height } = document.querySelector('.picture image').getBoundingClientRect();"
        " return { x, y, width, height } }"
    )
    content = page.screenshot(clip=box)
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), np.float32)


class TestHostileText:
    ATTACKS = (
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(1)><svg onload=alert(1)>",
        "]]><!-- --><style>*{display:none}</style>",
        '" onmouseover="alert(1)" autofocus onfocus="alert(1)',
        "{{ 7 * 7 }}{% include 'x' %}",
        "javascript:alert(1)",
        "a\u202eb\u2066c\x00d",
    )

    def test_attacks_in_every_text_are_inert(self, open_page: Open) -> None:
        text = "FINDINGS: " + " ".join(self.ATTACKS) + "\r\n"
        image = make_radiograph()
        phrases = tuple(
            GroundedPhrase(
                phrase=make_phrase(attack, Concept(attack), source=text),
                tracking_id=attack,
                tracking_uid=derived_uid("test", attack),
                placements=(Placement(image.ref, State.FOUND, 0.5, regions=(rectangle(5, 5, 30, 30),), reason=attack),),
            )
            for attack in self.ATTACKS
        )
        evidence = dataclasses.replace(
            make_evidence(image), report=make_report(text), phrases=phrases, warnings=self.ATTACKS
        )

        page = open_page(evidence)
        for number in range(len(phrases)):
            phrase(page, number).hover()

        shown = page.locator("#text").evaluate("element => element.textContent")
        assert shown == text.replace("\x00", "\ufffd")
        assert page.locator("script").count() == 1

    def test_a_bidirectional_override_turns_nothing_behind_it(self, open_page: Open) -> None:
        text = "A\u202eBC no fracture DEF"
        page = open_page(dataclasses.replace(make_evidence(), report=make_report(text), phrases=()))

        left = page.evaluate(
            """() => {
                const places = [];
                const walker = document.createTreeWalker(document.getElementById("text"), NodeFilter.SHOW_TEXT);
                while (walker.nextNode()) {
                    const node = walker.currentNode;
                    for (let at = 0; at < node.data.length; at += 1) {
                        if (!/[A-Z]/.test(node.data[at])) continue;
                        const range = document.createRange();
                        range.setStart(node, at);
                        range.setEnd(node, at + 1);
                        places.push(range.getBoundingClientRect().left);
                    }
                }
                return places;
            }"""
        )

        assert left == sorted(left)
        assert len(left) == 6

    def test_text_beyond_the_basic_plane_is_marked_exactly(self, open_page: Open) -> None:
        text = "🫁🙂 e\u0301panchement: left 🫁 effusion\r\nthen opacity & more\r"
        image = make_radiograph()
        found = Placement(image.ref, State.FOUND, 0.7, regions=(rectangle(5, 5, 30, 30),))
        phrases = tuple(
            GroundedPhrase(
                make_phrase(part, Concept("opacity"), source=text), part, derived_uid("test", part), (found,)
            )
            for part in ("left 🫁 effusion\r\nthen", "opacity & more")
        )

        page = open_page(dataclasses.replace(make_evidence(image), report=make_report(text), phrases=phrases))
        phrase(page, 0).hover()

        assert page.locator("#text").evaluate("element => element.textContent") == text
        assert "".join(page.locator("#text .on").evaluate_all("all => all.map(each => each.textContent)")) == (
            "left 🫁 effusion\r\nthen"
        )

    def test_a_report_of_thousands_of_phrases_stays_usable(self, open_page: Open) -> None:
        line = "left effusion. "
        text = line * 2_000
        image = make_radiograph()
        found = Placement(image.ref, State.FOUND, 0.7, regions=(rectangle(5, 5, 30, 30),))
        first = make_phrase("left effusion", Concept("pleural effusion"), source=text)
        phrases = tuple(
            GroundedPhrase(
                dataclasses.replace(
                    first,
                    **{
                        name: getattr(first, name) + number * len(line)
                        for name in ("start", "end", "start_utf16", "end_utf16")
                    },
                ),
                f"{number}",
                derived_uid("test", str(number)),
                (found,) if number % 100 == 0 else (),
            )
            for number in range(2_000)
        )

        page = open_page(dataclasses.replace(make_evidence(image), report=make_report(text), phrases=phrases))
        phrase(page, 100).hover()

        assert phrase(page, 100).evaluate("each => each.classList.contains('lights')")


def test_crossing_and_nested_phrases_mark_their_whole_text(open_page: Open) -> None:
    image = make_radiograph()
    place = Placement(image.ref, State.FOUND, 0.8, regions=(rectangle(5, 5, 30, 30),))
    text = "Opacity, likely pneumonia."
    parts = (("Opacity, likely pneumonia", "opacity"), ("likely pneumonia", "pneumonia"), ("Opacity, likely", "mass"))
    phrases = tuple(
        GroundedPhrase(
            make_phrase(part, Concept(name), source=text, assertion=Assertion.PROBABLE, section=Section.IMPRESSION),
            name,
            derived_uid("test", name),
            (place,),
        )
        for part, name in sorted(parts, key=lambda part: text.index(part[0]))
    )

    page = open_page(dataclasses.replace(make_evidence(image), report=make_report(text), phrases=phrases))

    for number, grounded in enumerate(phrases):
        phrase(page, number).focus()
        assert marked(page) == grounded.phrase.text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(open_page: Open, scheme: str) -> None:
    page = open_page(two_images(), color_scheme=scheme)
    phrase(page, EFFUSION).hover()
    page.wait_for_timeout(300)

    low = page.evaluate(CONTRASTS)

    assert low == []


CONTRASTS = """() => {
    const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const over = (top, below) => {
        const alpha = top[3] ?? 1;
        return [0, 1, 2].map((at) => top[at] * alpha + below[at] * (1 - alpha));
    };
    const ground = (element) => {
        if (!element) return [255, 255, 255];
        const colour = parse(getComputedStyle(element).backgroundColor);
        return (colour[3] ?? 1) === 1 ? colour : over(colour, ground(element.parentElement));
    };
    const luminance = (colour) => {
        const [r, g, b] = colour.map((value) => value / 255)
            .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    return [...document.querySelectorAll("body *:not(script):not(svg *)")]
        .filter((element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
        .filter((element) => element.checkVisibility())
        .map((element) => {
            const lights = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))].sort();
            const [low, high] = lights[0] < lights[1] ? lights : lights.reverse();
            return [element.className, element.textContent.slice(0, 30), (high + 0.05) / (low + 0.05)];
        })
        .filter(([, , ratio]) => ratio < 4.5);
}"""


def test_the_report_of_the_test_evidence_is_shown_whole(open_page: Open) -> None:
    page = open_page(make_evidence())

    assert page.locator("#text").evaluate("element => element.textContent") == REPORT_TEXT


def test_the_address_of_a_phrase_opens_the_page_with_it_lit(open_page: Open) -> None:
    page = open_page(two_images())
    assert lit_regions(page) == []

    page.goto(f"{page.url}#phrase-{EFFUSION}")
    page.reload()
    assert lit_regions(page) == [str(EFFUSION)]
    assert "pleural effusion" in caption(page)

    page.evaluate(f"location.hash = '#phrase-{PACEMAKER}'")
    page.locator(f"#phrase-{PACEMAKER}.on").wait_for()
    assert page.locator("#picture-1").is_visible()

    page.evaluate("location.hash = '#phrase-99'")
    assert marked(page) == "Cardiac pacemaker"
