"""The real OHIF, in a real browser, on a real Orthanc: our results open lit, in the right place, with the phrases."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import viewer
from evidence import make_evidence, make_header, make_pixels, make_radiograph, part10
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect
from pydicom import Dataset
from servers import OUTPUT, OrthancServer

from plugin.dicom.instance import WrittenInstance
from plugin.dicom.seg import PALETTE, label, mask_on, segmentations
from plugin.dicom.sr import report
from plugin.values import Evidence

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

Rgb = npt.NDArray[np.uint8]
PATIENCE_MS = 240_000  # 10 s when nothing else runs
CANVAS = '[data-cy="viewport-pane"] canvas.cornerstone-canvas'  # thumbnails have canvases, too
SPACING_MM = 0.2  # square: OHIF 3.13.2 swaps the spacings of rows and columns for rectangles, not for masks


@dataclass
class Ohif:
    """OHIF on a study with two images, their Segmentations and the report; *errors* of its pages are collected."""

    address: str
    context: BrowserContext
    evidence: Evidence
    segmentations: tuple[WrittenInstance, ...]
    report: WrittenInstance
    errors: list[str] = field(default_factory=list)

    @contextmanager
    def open(self, series_instance_uid: str) -> Iterator[Page]:
        """The viewer with one of our series opened by its address, as a link from a portal does."""
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        study = self.evidence.study.study_instance_uid
        query = f"StudyInstanceUIDs={study}&initialSeriesInstanceUID={series_instance_uid}"
        try:
            page.goto(f"{self.address}/viewer?{query}", wait_until="commit")
            page.wait_for_selector(CANVAS)
            _part(page, "confirm-and-hide-button").click()
            yield page
        finally:
            page.close()


def _source(header: Dataset) -> bytes:
    stored = (make_pixels(header.Rows, header.Columns) * 4095).astype("<u2")
    header.PixelData = (4095 - stored if header.PhotometricInterpretation == "MONOCHROME1" else stored).tobytes()
    header.WindowCenter, header.WindowWidth = "2048", "4096"
    return part10(header)


@pytest.fixture(scope="module")
def ohif(orthanc: OrthancServer, chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ohif]:
    viewer.require_ohif()
    kinds = (
        {"rows": 480, "columns": 400, "spacing": (SPACING_MM, SPACING_MM)},
        {
            "modality": "CR",
            "photometric": "MONOCHROME1",
            "rows": 300,
            "columns": 420,
            "spacing": None,
            "frame_of_reference": False,
            "number": 2,
        },
    )
    evidence = make_evidence(*(make_radiograph(make_header(**kind)) for kind in kinds))
    segs = segmentations(evidence)
    sr = report(evidence, segs)
    assert sr is not None
    orthanc.reset()
    with orthanc.http() as archive:
        for content in (*(_source(make_header(**kind)) for kind in kinds), *(it.content for it in (*segs, sr))):
            archive.post("/instances", content=content).raise_for_status()
    with viewer.run_viewer(orthanc, tmp_path_factory.mktemp("results"), evidence) as address:
        # OHIF's service worker would fetch the whole distribution again, 200 MB, behind the first page.
        context = chromium.new_context(viewport={"width": 1400, "height": 900}, service_workers="block")
        context.add_init_script("localStorage.setItem('shownTours', '[\"basicViewerTour\"]')")
        yield Ohif(address, context, evidence, segs, sr)
        context.close()


def _part(page: Page, name: str) -> Locator:
    return page.locator(f'[data-cy="{name}"]')


def _canvas(page: Page) -> Rgb:
    data = page.locator(CANVAS).evaluate("canvas => canvas.toDataURL('image/png')")
    png = np.frombuffer(base64.b64decode(data.partition(",")[2]), np.uint8)
    return cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _coloured(picture: Rgb) -> npt.NDArray[np.bool_]:
    """Pixels that are not grey: the source is, the regions are not."""
    return np.ptp(picture.astype(int), axis=-1) > 20


def _lit_canvas(page: Page) -> Rgb:
    """The canvas once regions are drawn and nothing changes any more."""
    deadline, before = time.monotonic() + PATIENCE_MS / 1000, _canvas(page)
    while time.monotonic() < deadline:
        time.sleep(1)
        now = _canvas(page)
        if _coloured(now).any() and np.array_equal(now, before):
            return now
        before = now
    raise AssertionError("OHIF drew no region")


def _image_only(picture: Rgb) -> Rgb:
    """The part of the canvas that the image covers: the viewport around it is black."""
    rows, columns = np.nonzero(picture.max(axis=-1) > 8)
    return picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


@pytest.mark.parametrize("number", [0, 1], ids=["DX", "CR, MONOCHROME1, landscape, no spacing"])
def test_a_segmentation_opens_lit_where_its_masks_are_under_its_phrases(ohif: Ohif, number: int) -> None:
    radiograph = ohif.evidence.images[number]
    rows, columns = radiograph.pixels.shape
    phrases = [phrase for phrase in ohif.evidence.phrases if phrase.lit]
    masks = [mask_on(phrase, radiograph.ref, rows=rows, columns=columns) for phrase in phrases]

    with ohif.open(ohif.segmentations[number].series_instance_uid) as page:
        picture = _image_only(_lit_canvas(page))
        _part(page, "panelSegmentation-btn").click()
        for phrase in phrases:
            expect(page.get_by_text(label(phrase.phrase.text), exact=True).first).to_be_visible(timeout=PATIENCE_MS)
        page.screenshot(path=OUTPUT / f"ohif-seg-{number + 1}.png")

    height, width = picture.shape[:2]
    shown = [cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0 for mask in masks]
    expected, lit = np.any(shown, axis=0), _coloured(picture)
    assert (expected & lit).sum() / (expected | lit).sum() >= 0.95
    for at, mask in enumerate(shown):
        alone = mask & (np.sum(shown, axis=0) == 1)
        assert _nearest_colour(picture[alone]) == at
    marker = picture[round(0.15 * height), round(0.15 * width)]
    assert marker.min() > 240  # the bright square of the source's upper left
    assert ohif.errors == []


def _nearest_colour(pixels: npt.NDArray[np.uint8]) -> int:
    """Which colour of the palette tints *pixels* (n, 3)."""
    tint = pixels.mean(axis=0)
    colours = np.array(PALETTE, float)
    colours, tint = colours - colours.mean(axis=1, keepdims=True), tint - tint.mean()
    return int(np.argmax(colours @ tint / np.linalg.norm(colours, axis=1)))


def test_the_report_opens_with_its_phrases_as_measurements_in_place(ohif: Ohif) -> None:
    lit = [phrase for phrase in ohif.evidence.phrases if phrase.lit]

    with ohif.open(ohif.report.series_instance_uid) as page:
        page.wait_for_function("window.services?.measurementService.getMeasurements().length > 0")
        _part(page, "trackedMeasurements-btn").click()
        for phrase in lit:
            expect(page.get_by_text(phrase.phrase.text, exact=True).first).to_be_visible(timeout=PATIENCE_MS)
        page.screenshot(path=OUTPUT / "ohif-sr.png")
        shown = page.evaluate("window.services.measurementService.getMeasurements().map(m => [m.label, ...m.points])")

    # OHIF keeps one image for each tracking UID: of two images, it lists the first one's rectangles.
    regions = [(phrase.phrase.text, region) for phrase in lit for region in phrase.placements[0].regions]
    expected = sorted((text, *_millimetres(region.box)) for text, region in regions)
    listed = sorted((text, *_box(corners)) for text, *corners in shown)
    assert [text for text, *_ in listed] == [text for text, *_ in expected]
    np.testing.assert_allclose([box for _, *box in listed], [box for _, *box in expected], atol=0.01)
    assert ohif.errors == []


def _millimetres(box: tuple[float, ...]) -> list[float]:
    """Source coordinates in OHIF's world: from the centre of the first pixel."""
    return [(value - 0.5) * SPACING_MM for value in box]


def _box(corners: list[list[float]]) -> tuple[float, float, float, float]:
    x, y = [corner[0] for corner in corners], [corner[1] for corner in corners]
    return min(x), min(y), max(x), max(y)
