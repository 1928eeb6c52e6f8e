"""The page as it is written, before any browser sees it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from evidence import make_evidence, make_header, make_radiograph, make_report
from lxml import html

from model.geometry import Letterbox, Orientation
from model.values import Region
from plugin.page.evidence import evidence_page
from plugin.page.pictures import LONGEST_SIDE_PX
from plugin.page.shapes import outline_on_upright
from plugin.values import Evidence, ReportStatus

ORIENTATIONS = tuple(Orientation(*turn) for turn in product((False, True), repeat=3))


def parsed(evidence: Evidence) -> html.HtmlElement:
    return html.document_fromstring(evidence_page(evidence))


def picture_of(page: html.HtmlElement) -> npt.NDArray[np.uint8]:
    (image,) = page.xpath("//image[@class='xray']")
    content = base64.b64decode(image.get("href").partition(",")[2])
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED))


def test_the_same_evidence_gives_the_same_page() -> None:
    assert evidence_page(make_evidence()) == evidence_page(make_evidence())


def test_the_report_stands_on_the_page_word_for_word() -> None:
    evidence = make_evidence()

    (text,) = parsed(evidence).xpath("//div[@id='text']")

    assert text.text_content() == evidence.report.text


def test_every_phrase_is_a_button_that_says_why_it_looks_so() -> None:
    page = parsed(make_evidence())

    buttons = page.xpath("//div[@id='text']//span[@role='button']")

    assert len(buttons) == len(make_evidence().phrases)
    for button in buttons:
        (why,) = page.xpath(f"//*[@id='{button.get('aria-describedby')}']")
        assert why.text_content().strip()


def test_only_lit_phrases_have_regions() -> None:
    evidence = make_evidence()
    lit = {number for number, grounded in enumerate(evidence.phrases) if grounded.lit}

    drawn = {int(number) for each in parsed(evidence).xpath("//@data-phrases[parent::g]") for number in each.split()}

    assert drawn == lit
    assert len(lit) < len(evidence.phrases)


def test_a_region_shared_by_phrases_is_drawn_once() -> None:
    evidence = make_evidence()
    one, two = evidence.phrases[1], evidence.phrases[2]
    shared = dataclasses.replace(two, placements=one.placements)

    page = parsed(dataclasses.replace(evidence, phrases=(one, shared)))

    assert page.xpath("//g[@role='button']/@data-phrases") == ["0 1"]


def test_nothing_on_the_page_comes_from_elsewhere() -> None:
    page = parsed(make_evidence())

    addresses = page.xpath("//@href | //@src | //@action | //@srcset | //@xlink:href", namespaces={"xlink": "x"})

    assert addresses
    elsewhere = [address for address in addresses if not address.startswith(("#", "data:"))]
    assert elsewhere == []
    assert "@import" not in evidence_page(make_evidence())


def test_the_policy_allows_exactly_the_pages_own_style_and_script() -> None:
    page = parsed(make_evidence())
    (policy,) = page.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")

    for tag in ("style", "script"):
        (content,) = page.xpath(f"//{tag}/text()")
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not page.xpath("//@style")


def test_a_page_without_phrases_says_so() -> None:
    text = parsed(dataclasses.replace(make_evidence(), phrases=())).text_content()

    assert "No finding phrase was recognised" in text


def test_a_preliminary_report_is_announced() -> None:
    evidence = make_evidence()
    report = dataclasses.replace(evidence.report, status=ReportStatus.PRELIMINARY)

    assert "This report is not final" in parsed(dataclasses.replace(evidence, report=report)).text_content()
    assert "This report is not final" not in parsed(evidence).text_content()


def test_warnings_stand_on_the_page() -> None:
    warned = dataclasses.replace(make_evidence(), warnings=("The side of the image is marked by nothing.",))

    assert "The side of the image is marked by nothing." in parsed(warned).text_content()


def test_what_a_highlight_does_not_mean_is_said_and_which_model_it_was() -> None:
    footer = parsed(make_evidence()).xpath("string(//footer)")

    assert "not a medical device" in footer
    assert "sightline-test 1.0" in footer


def test_hostile_text_stays_text() -> None:
    attack = (
        "</script><script>alert(1)</script> ]]> <img src=x onerror=alert(1)> &lt;b&gt; \x00\u202e{{ 7*7 }} {% raw %}"
    )
    evidence = dataclasses.replace(make_evidence(), report=make_report(attack), phrases=(), warnings=(attack,))

    page = parsed(evidence)

    assert len(page.xpath("//script")) == 1
    assert not page.xpath("//img")
    assert page.xpath("string(//div[@id='text'])") == attack.replace("\x00", "\ufffd")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_region_lies_on_the_pixels_that_it_lies_on_in_the_source(orientation: Orientation) -> None:
    rows, columns = 60, 40
    region = Region(((5.0, 30.0), (25.0, 30.0), (25.0, 50.0), (5.0, 44.0)), 0.9)
    mask = region.mask(rows, columns).astype(np.float32)

    points = outline_on_upright(region.outline, Letterbox(rows, columns, orientation))

    upright = orientation.apply(mask)
    drawn = Region(tuple(map(tuple, points.tolist())), 0.9).mask(*upright.shape)
    assert np.array_equal(drawn, upright.astype(bool))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_image_is_shown_upright(orientation: Orientation) -> None:
    image = make_radiograph(orientation=orientation)

    shown = picture_of(parsed(make_evidence(image)))

    assert np.abs(shown / 255 - orientation.apply(image.pixels)).mean() < 0.01


def test_a_large_image_is_reduced_and_its_regions_stay_in_source_pixels() -> None:
    image = make_radiograph(make_header(rows=2500, columns=2048))

    page = parsed(make_evidence(image))

    assert picture_of(page).shape == (LONGEST_SIDE_PX, round(2048 * LONGEST_SIDE_PX / 2500))
    assert page.xpath("//figure//svg/@viewbox | //figure//svg/@viewBox") == ["0 0 2048 2500"]
    corners = [float(number) for path in page.xpath("//defs/path/@d") for number in re.findall(r"[\d.]+", path)]
    assert max(corners) > LONGEST_SIDE_PX


def test_the_page_without_its_image_is_small() -> None:
    page = evidence_page(make_evidence())

    assert len(re.sub(r"data:image/jpeg;base64,[^\"]*", "", page).encode()) < 150_000
