"""The real OHIF, in a real browser, on a real Orthanc: our results open lit, in the right place, phrase by phrase."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import viewer
from evidence import kept_of
from matrix import ORDINARY, Cell, evidence_of, sources_of
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from servers import OUTPUT, OrthancServer

from plugin.dicom.instance import WrittenInstance
from plugin.dicom.seg import PALETTE, mask_on
from plugin.flow import outputs_of
from plugin.results import ResultFolder
from plugin.values import Evidence, GroundedPhrase

pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(1800)]

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
PATIENCE_MS = 600_000  # 10 s when nothing else runs
CANVAS = '[data-cy="viewport-pane"] canvas.cornerstone-canvas'  # thumbnails have canvases, too
ALIKE = 0.95
#: Thrown by OHIF itself where it replaces a viewport that is still drawing; what is lit then is looked at anyway.
REPLACED = "The stack viewport has been destroyed"
# One of each kind of source that could shift, turn or hide a region; every cell has overlapping segments.
CELLS = {
    "dx-portrait": ORDINARY,
    "cr-inverse-landscape-unspaced-jpeg": replace(
        ORDINARY, modality="CR", photometric="MONOCHROME1", shape="landscape", spacing="none", syntax="JPEG lossless"
    ),
    "dx-16-bits-non-square-jpeg-2000": replace(ORDINARY, bits=16, spacing="non-square", syntax="JPEG 2000"),
    "cr-quarter-turn-rle": replace(ORDINARY, modality="CR", turned="quarter turn", syntax="RLE"),
    "dx-inverse-half-turn-jpeg-ls": replace(
        ORDINARY, photometric="MONOCHROME1", turned="half turn", shape="landscape", syntax="JPEG-LS", name="Japanese"
    ),
}
TWO_FRONTALS = replace(ORDINARY, images=2)


@dataclass
class Ohif:
    """The service with OHIF over Orthanc; *errors* of its pages are collected."""

    address: str
    orthanc: OrthancServer
    results: ResultFolder
    context: BrowserContext
    errors: list[str] = field(default_factory=list)

    def hold(self, cell: Cell) -> tuple[Evidence, tuple[WrittenInstance, ...]]:
        """Let the archive hold the sources and results of *cell*, and nothing else."""
        evidence = evidence_of(cell)
        outputs = outputs_of(evidence)
        self.orthanc.reset()
        with self.orthanc.http() as archive:
            for content in (*sources_of(cell), *(instance.content for instance in outputs.instances)):
                archive.post("/instances", content=content).raise_for_status()
        self.results.write(evidence.study, kept_of(evidence), outputs.files)
        return evidence, outputs.instances

    @contextmanager
    def open(self, path: str) -> Iterator[Page]:
        """The viewer at *path* of the service, as a link opens it, with its images and the report panel there."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: str(error).startswith(REPLACED) or self.errors.append(str(error)))
        page.on("request", lambda request: self._note_foreign(request.url))
        try:
            page.goto(f"{self.address}{path}", wait_until="commit")
            page.wait_for_selector(CANVAS)
            page.wait_for_selector("sightline-report .phrase")
            _part(page, "confirm-and-hide-button").click()
            yield page
        finally:
            page.close()

    def _note_foreign(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.errors.append(f"asked {url}")


@pytest.fixture(scope="module")
def ohif(orthanc: OrthancServer, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ohif]:
    viewer.require_ohif()
    OUTPUT.mkdir(exist_ok=True)
    folder = tmp_path_factory.mktemp("results")
    with viewer.run_viewer(orthanc, folder) as address:
        # OHIF's service worker would fetch the whole distribution again, 200 MB, behind the first page.
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, service_workers="block")
        context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        yield Ohif(address, orthanc, ResultFolder(folder), context)
        context.close()


def _part(page: Page, name: str) -> Locator:
    return page.locator(f'[data-cy="{name}"]')


def _canvas(page: Page) -> Rgb:
    """The part of the canvas that the image covers: the viewport around it is black."""
    data = page.locator(CANVAS).first.evaluate("canvas => canvas.toDataURL('image/png')")
    png = np.frombuffer(base64.b64decode(data.partition(",")[2]), np.uint8)
    picture = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    rows, columns = np.nonzero(picture.max(axis=-1) > 8)
    return picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] if rows.size else picture


def _coloured(picture: Rgb) -> Mask:
    """Pixels that are not grey: the source is, the regions are not."""
    return np.ptp(picture.astype(int), axis=-1) > 20


def _as_shown(mask: Mask, picture: Rgb) -> Mask:
    height, width = picture.shape[:2]
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def _agreement(picture: Rgb, mask: Mask) -> float:
    """Intersection over union of what is lit on *picture* and *mask*."""
    lit, expected = _coloured(picture), _as_shown(mask, picture)
    return float((lit & expected).sum() / max((lit | expected).sum(), 1))


def _wait_until_lit(page: Page, mask: Mask) -> Rgb:
    """The picture as soon as exactly *mask* is lit on it; fails with the best agreement that was seen."""
    deadline, best = time.monotonic() + PATIENCE_MS / 5000, 0.0
    while time.monotonic() < deadline:
        picture = _canvas(page)
        best = max(best, _agreement(picture, mask))
        if best >= ALIKE:
            return picture
        time.sleep(0.25)
    raise AssertionError(f"the lit pixels never agreed with the mask: IoU {best:.3f}")


def _lit(evidence: Evidence) -> list[tuple[int, GroundedPhrase]]:
    """The lit phrases with their numbers in the report."""
    return [(number, phrase) for number, phrase in enumerate(evidence.phrases) if phrase.lit]


def _masks(evidence: Evidence, image: int) -> dict[int, Mask]:
    """What each lit phrase lights on one image, by the number of the phrase."""
    radiograph = evidence.images[image]
    rows, columns = radiograph.pixels.shape
    return {number: mask_on(phrase, radiograph.ref, rows=rows, columns=columns) for number, phrase in _lit(evidence)}


def _phrase(page: Page, number: int) -> Locator:
    return page.locator(f"sightline-report .phrase[role=button][data-owner='{number}']")


def _screenshot(page: Page, name: str) -> None:
    page.screenshot(path=OUTPUT / f"ohif-{name}.png")


def _assert_lit_phrase_by_phrase(page: Page, masks: dict[int, Mask], *, name: str) -> None:
    """All are lit in their colours; pointing at one of two that overlap leaves it alone; letting go brings all back."""
    everything = np.any([*masks.values()], axis=0)
    picture = _wait_until_lit(page, everything)
    _screenshot(page, name)
    for at, mask in enumerate(masks.values()):
        alone = _as_shown(mask & (np.sum([*masks.values()], axis=0) == 1), picture)
        assert _nearest_colour(picture[alone]) == at
    overlapping = [
        number for number, mask in masks.items() if any((mask & other).any() for other in _others(masks, number))
    ]
    assert len(overlapping) == 2
    for number in overlapping:
        _phrase(page, number).hover()
        _wait_until_lit(page, masks[number])
        _screenshot(page, f"{name}-phrase-{number}")
    page.mouse.move(5, 5)
    _wait_until_lit(page, everything)


def _others(masks: dict[int, Mask], number: int) -> list[Mask]:
    return [mask for other, mask in masks.items() if other != number]


def _nearest_colour(pixels: npt.NDArray[np.uint8]) -> int:
    """Which colour of the palette tints *pixels* (n, 3)."""
    tint = pixels.mean(axis=0)
    colours = np.array(PALETTE, float)
    colours, tint = colours - colours.mean(axis=1, keepdims=True), tint - tint.mean()
    return int(np.argmax(colours @ tint / np.linalg.norm(colours, axis=1)))


@pytest.mark.parametrize("name", CELLS)
def test_a_study_opens_lit_and_a_phrase_lights_its_region_alone(ohif: Ohif, name: str) -> None:
    evidence, _ = ohif.hold(CELLS[name])

    with ohif.open(f"/studies/{evidence.study.study_instance_uid}/viewer") as page:
        _assert_lit_phrase_by_phrase(page, _masks(evidence, 0), name=name)

    assert ohif.errors == []


def test_of_two_frontals_each_is_lit_by_its_own_segmentation(ohif: Ohif) -> None:
    evidence, written = ohif.hold(TWO_FRONTALS)
    study = evidence.study.study_instance_uid

    for image in (0, 1):
        query = f"StudyInstanceUIDs={study}&initialSeriesInstanceUID={written[image].series_instance_uid}"
        with ohif.open(f"/viewer?{query}") as page:
            _assert_lit_phrase_by_phrase(page, _masks(evidence, image), name=f"two-frontals-{image + 1}")

    assert ohif.errors == []


def test_a_click_keeps_the_region_until_escape(ohif: Ohif) -> None:
    evidence, _ = ohif.hold(ORDINARY)
    masks = _masks(evidence, 0)
    denied = next(number for number, phrase in enumerate(evidence.phrases) if not phrase.phrase.groundable)
    number = next(iter(masks))

    with ohif.open(f"/studies/{evidence.study.study_instance_uid}/viewer") as page:
        _wait_until_lit(page, np.any([*masks.values()], axis=0))
        _phrase(page, number).click()
        expect(_phrase(page, number)).to_have_attribute("aria-pressed", "true")
        page.mouse.move(5, 5)
        shown = page.evaluate(VISIBLE)
        _screenshot(page, "clicked")
        _phrase(page, denied).hover()
        expect(_phrase(page, denied)).to_contain_class("on")
        dark = page.evaluate(VISIBLE)
        page.mouse.move(5, 5)
        _phrase(page, number).press("Escape")
        released = page.evaluate(VISIBLE)

    assert shown == [[segment, segment == 1] for segment in range(1, len(masks) + 1)]
    assert dark == [[segment, False] for segment in range(1, len(masks) + 1)]
    assert released == [[segment, True] for segment in range(1, len(masks) + 1)]


# Which segments OHIF shows: [number, visible] in order.
VISIBLE = """() => {
  const { segmentationService, viewportGridService } = window.services;
  const [held] = segmentationService.getSegmentationRepresentations(viewportGridService.getActiveViewportId());
  return Object.entries(held.segments).map(([number, segment]) => [Number(number), segment.visible]);
}"""
MEASUREMENTS = "window.services.measurementService.getMeasurements()"


def test_the_report_opens_with_its_phrases_as_measurements_and_a_click_selects_the_region(ohif: Ohif) -> None:
    evidence, _ = ohif.hold(ORDINARY)
    lit = [phrase for _, phrase in _lit(evidence)]

    with ohif.open(f"/studies/{evidence.study.study_instance_uid}/viewer?show=sr") as page:
        page.wait_for_function(f"{MEASUREMENTS}.length > 0")
        _part(page, "trackedMeasurements-btn").click()
        for phrase in lit:
            expect(page.get_by_text(phrase.phrase.text, exact=True).first).to_be_visible(timeout=PATIENCE_MS)
        shown = page.evaluate(f"{MEASUREMENTS}.map(m => [m.label, ...m.points])")
        page.get_by_text(lit[0].phrase.text, exact=True).first.click()
        page.wait_for_function(f"{MEASUREMENTS}.some(m => m.isSelected)")
        selected = page.evaluate(f"{MEASUREMENTS}.filter(m => m.isSelected).map(m => m.label)")
        _screenshot(page, "sr")

    regions = [(phrase.phrase.text, region) for phrase in lit for region in phrase.placements[0].regions]
    expected = sorted((text, *_millimetres(region.box)) for text, region in regions)
    listed = sorted((text, *_box(corners)) for text, *corners in shown)
    assert [text for text, *_ in listed] == [text for text, *_ in expected]
    np.testing.assert_allclose([box for _, *box in listed], [box for _, *box in expected], atol=0.01)
    assert selected == [lit[0].phrase.text]
    assert ohif.errors == []


def _millimetres(box: tuple[float, ...]) -> list[float]:
    """Source coordinates in OHIF's world: from the centre of the first pixel. The cell's pixels are 0.2 mm wide."""
    return [(value - 0.5) * 0.2 for value in box]


def _box(corners: list[list[float]]) -> tuple[float, float, float, float]:
    x, y = [corner[0] for corner in corners], [corner[1] for corner in corners]
    return min(x), min(y), max(x), max(y)
