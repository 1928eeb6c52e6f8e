"""The picture of the README: the evidence page of an example with one phrase lit.

``python docs/picture.py demo-output/.../evidence.html docs/hover.png``, after ``make demo SERVE=0``. Needs Chromium.
"""

from __future__ import annotations

import shutil
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

MAX_BYTES = 300_000


def take_picture(page_file: Path, out: Path) -> None:
    """Write *out* (PNG below MAX_BYTES) of *page_file* (evidence.html), pointing at the phrase that it shows best.

    Raises
    ------
    SystemExit
        If there is no Chromium, if no phrase of the page is lit, or if the picture would be too large.
    """
    browser_path = shutil.which("chromium") or sys.exit("Chromium is needed: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
        page.goto(page_file.absolute().as_uri())
        page.locator(f"#phrase-{_best_phrase(page)}").hover()
        shot = page.screenshot()
        browser.close()
    out.write_bytes(_reduced(shot))


def _best_phrase(page: Page) -> int:
    """The lit phrase with the largest region: seen best in a small picture."""
    sizes = page.locator(".picture:not([hidden]) .region").evaluate_all(
        "all => all.map(each => { const box = each.getBBox();"
        " return [box.width * box.height, Number(each.dataset.phrases.split(' ')[0])] })"
    )
    if not sizes:
        sys.exit("No phrase of this page is lit; take another example.")
    return int(max(sizes)[1])


def _reduced(png: bytes) -> bytes:
    """*png* in as many colours as fit."""
    picture = Image.open(BytesIO(png)).convert("RGB")
    for colours in (256, 128, 64):
        buffer = BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < MAX_BYTES:
            return buffer.getvalue()
    return sys.exit(f"The picture does not fit into {MAX_BYTES} bytes.")


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]), Path(sys.argv[2]))
