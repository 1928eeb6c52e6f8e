"""The picture for viewers that show nothing else: the upright image with numbered regions, the phrases beside it."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap
from unicodedata import combining, normalize

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from model.values import State
from plugin.dicom.seg import colour, mask_on
from plugin.values import Evidence, GroundedPhrase, Radiograph

SIDE = 1400
"""Longest side of the image part, in pixels; smaller images are enlarged to it, so that the words stay readable."""
PANEL = 520
"""Width of the part with the words."""
WHITE, GREY, BLACK = (255, 255, 255), (150, 150, 150), (0, 0, 0)
_STATES = {State.REGION_ONLY: " (area named by the report)", State.NOT_FOUND: " (not found in the image)"}

Picture = npt.NDArray[np.uint8]
Line = tuple[str, str, tuple[int, int, int]]
"""Mark, words, and the colour of the mark."""


def picture_of(evidence: Evidence, image: Radiograph) -> Picture:
    """*image* upright with the regions of every phrase outlined and numbered, uint8 (rows, columns, 3) in RGB.

    Numbers and colours are those of the segments. Phrases without a region are listed without a number.
    """
    lit = _lit(evidence, image)
    shown = _scaled(image.orientation.apply(image.pixels))
    canvas = np.repeat(np.round(255 * shown).astype(np.uint8)[..., np.newaxis], 3, axis=-1)
    tops = [_outline(canvas, image, mask, number=number) for number, (_, mask) in enumerate(lit, start=1)]
    whole = np.zeros((canvas.shape[0], canvas.shape[1] + PANEL, 3), np.uint8)
    whole[:, : canvas.shape[1]] = canvas
    drawn = Image.fromarray(whole)
    pen = ImageDraw.Draw(drawn)
    font = ImageFont.load_default(30)
    for number, at in enumerate(tops, start=1):
        pen.text(at, str(number), fill=colour(number), font=font, anchor="lb", stroke_width=2, stroke_fill=BLACK)
    lines = tuple(_lines(evidence, image, [phrase for phrase, _ in lit]))
    _write(pen, lines, left=canvas.shape[1], height=whole.shape[0])
    return np.asarray(drawn, np.uint8)


def _lit(evidence: Evidence, image: Radiograph) -> list[tuple[GroundedPhrase, npt.NDArray[np.bool_]]]:
    rows, columns = image.pixels.shape
    masks = ((phrase, mask_on(phrase, image.ref, rows=rows, columns=columns)) for phrase in evidence.phrases)
    return [(phrase, mask) for phrase, mask in masks if mask.any()]


def _scaled(pixels: npt.NDArray[np.float32], *, interpolation: int = cv2.INTER_AREA) -> npt.NDArray[np.float32]:
    share = SIDE / max(pixels.shape)
    columns, rows = (max(1, round(side * share)) for side in reversed(pixels.shape))
    scaled = cv2.resize(np.ascontiguousarray(pixels), (columns, rows), interpolation=interpolation)
    return np.asarray(scaled, np.float32)


def _outline(canvas: Picture, image: Radiograph, mask: npt.NDArray[np.bool_], *, number: int) -> tuple[int, int]:
    """Draw the outline of *mask* (source matrix) on *canvas*; (x, y) of its topmost point."""
    upright = _scaled(image.orientation.apply(mask.astype(np.float32)), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours((upright > 0.5).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, colour(number), thickness=3, lineType=cv2.LINE_AA)
    points = np.concatenate(contours).reshape(-1, 2) if contours else np.zeros((1, 2), np.int32)
    x, y = points[points[:, 1].argmin()]
    return int(x), max(int(y), 34)


def _lines(evidence: Evidence, image: Radiograph, lit: list[GroundedPhrase]) -> Iterator[Line]:
    for number, phrase in enumerate(lit, start=1):
        yield str(number), f"{phrase.phrase.text}{_state(phrase, image)}", colour(number)
    for phrase in evidence.phrases:
        if phrase not in lit:
            yield "-", f"{phrase.phrase.text}{_state(phrase, image)}", GREY
    made = evidence.provenance
    yield "", f"Marked by Sightline {made.software_version}, {made.model.name} {made.model.version}.", GREY
    yield "", "Not verified by a physician.", GREY


def _state(phrase: GroundedPhrase, image: Radiograph) -> str:
    states = [placement.state for placement in phrase.placements if placement.image == image.ref]
    return _STATES.get(states[0], "") if states else " (not looked for)"


def _write(pen: ImageDraw.ImageDraw, lines: tuple[Line, ...], *, left: int, height: int) -> None:
    """The lines in the largest letters with which all fit; what does not fit at the smallest is counted."""
    for size in range(24, 11, -2):
        broken = list(_broken(lines, letters=int(1.6 * (PANEL - 60) / size)))
        room = int((height - 20) / (size * 1.3))
        if len(broken) <= room:
            break
    if len(broken) > room:
        broken = [*broken[: room - 1], ("", f"... and {len(broken) - room + 1} more lines", GREY)]
    font = ImageFont.load_default(size)
    for at, (mark, words, ink) in enumerate(broken):
        y = 10 + at * size * 1.3
        pen.text((left + 12, y), mark, fill=ink, font=font)
        pen.text((left + 52, y), words, fill=WHITE, font=font)


def _broken(lines: tuple[Line, ...], *, letters: int) -> Iterator[Line]:
    for mark, words, ink in lines:
        for at, part in enumerate(wrap(_drawable(words), letters) or [""]):
            yield "" if at else mark, part, ink


def _drawable(text: str) -> str:
    """*text* in the letters of Pillow's own font, the same on every machine: accents go, other scripts are "?"."""
    bare = "".join(letter for letter in normalize("NFKD", text) if not combining(letter))
    return bare.replace("–", "-").replace("ß", "ss").encode("ascii", "replace").decode()
