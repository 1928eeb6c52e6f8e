"""What the lungs say about where a finding can be: sides, zones, and whether this is a frontal chest at all. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from model.values import Query

Mask = npt.NDArray[np.bool_]

# Share of the square that a lung covers at least; the smallest outlined lung of the Hannover films covers 3 %.
_SMALLEST_LUNG = 0.012
#: Sites within the lungs, by the third they lie in; the first name of each third is the one that the network learnt.
THIRDS = (
    ("upper lobe", "upper lung zone", "apex"),
    ("mid lung", "mid lung zone", "middle lobe", "lingula", "hilum"),
    ("lower lobe", "lower lung zone", "lung base", "costophrenic angle", "cardiophrenic angle", "retrocardiac region"),
)
_IN_LUNGS = frozenset({"lung", "lobe", "pleura", "fissure", "interstitium", "subpleural region"}).union(*THIRDS)
#: Findings that lie outside the lungs as outlined: of the heart, the midline, and devices.
NOT_IN_LUNG = frozenset({"cardiomegaly", "pacemaker", "central venous line", "endotracheal tube"})


@dataclass(frozen=True, slots=True, eq=False)
class Lungs:
    """Right and left lung, bool (size, size), on the upright square."""

    right: Mask
    left: Mask

    @property
    def plausible(self) -> bool:
        """Whether these are the two lungs of a frontal chest: large enough, side by side, at one height."""
        if min(self.right.sum(), self.left.sum()) < _SMALLEST_LUNG * self.right.size:
            return False
        (right_y, right_x), (left_y, left_x) = _centres(self)
        width, height = left_x - right_x, abs(left_y - right_y)
        return bool(width > 0.12 * len(self.right) and height < 0.6 * width)

    @property
    def midline(self) -> float:
        """Column between the lungs."""
        (_, right), (_, left) = _centres(self)
        return (right + left) / 2


@lru_cache(maxsize=16)
def _centres(lungs: Lungs) -> tuple[tuple[float, float], tuple[float, float]]:
    """Row and column of the middle of the right and of the left lung; kept, since every phrase on an image asks."""
    right, left = (np.argwhere(lung).mean(axis=0) for lung in (lungs.right, lungs.left))
    return (float(right[0]), float(right[1])), (float(left[0]), float(left[1]))


def lungs_of(probability: npt.NDArray[np.float32]) -> Lungs:
    """Lungs from their probabilities (2, size, size), right first: the largest piece of each, holes filled."""
    return Lungs(*(_largest(plane > 0.5) for plane in probability))


def _largest(mask: Mask) -> Mask:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.zeros_like(mask)
    whole = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    outlines, _ = cv2.findContours(whole, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(whole, outlines, -1, (1,), cv2.FILLED), bool)


def field_of(lungs: Lungs, query: Query) -> Mask:
    """Where a finding as *query* names it may be lit: on the named side, for a finding of the lungs near them.

    The lungs are widened, since fluid and dense disease hide their border.
    """
    size = len(lungs.right)
    allowed = np.ones((size, size), bool)
    if query.finding not in NOT_IN_LUNG:
        allowed = _widened(lungs)
    if query.side in ("left", "right") and query.finding not in NOT_IN_LUNG:
        columns = np.arange(size)[None, :]
        allowed = allowed & ((columns > lungs.midline) if query.side == "left" else (columns < lungs.midline))
    return allowed


@lru_cache(maxsize=16)
def _widened(lungs: Lungs) -> Mask:
    """Both lungs and a little around them; kept, since every phrase on an image asks for it."""
    reach = max(3, round(len(lungs.right) * 0.06)) | 1
    hulls = _hull(lungs.right).astype(np.uint8) | _hull(lungs.left).astype(np.uint8)
    widened = cv2.dilate(hulls, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))).astype(bool)
    widened.setflags(write=False)
    return widened


def named_area(lungs: Lungs, query: Query) -> Mask | None:
    """The part of the lungs that *query* names, or None when it names neither side nor third, or lies elsewhere."""
    zone = third_of(query)
    elsewhere = query.finding in NOT_IN_LUNG or not query.sites or not _IN_LUNGS.issuperset(query.sites)
    if elsewhere or (query.side is None and zone is None):
        return None
    chosen = (
        [lungs.right] if query.side == "right" else [lungs.left] if query.side == "left" else [lungs.right, lungs.left]
    )
    area = np.zeros_like(lungs.right)
    for lung in chosen:
        rows = np.flatnonzero(lung.any(axis=1))
        first, height = rows[0], rows[-1] + 1 - rows[0]
        low, high = (0.0, 1.0) if zone is None else (zone / 3, (zone + 1) / 3)
        band = np.zeros_like(lung)
        band[first + round(low * height) : first + round(high * height)] = True
        area |= lung & band
    return area


def third_of(query: Query) -> int | None:
    """0, 1, 2 for the upper, middle and lower third of the lung, or None when *query* names none."""
    sites = (*query.sites, *(("lung base",) if query.finding == "pleural effusion" else ()))
    return next((number for site in sites for number, names in enumerate(THIRDS) if site in names), None)


def _hull(mask: Mask) -> Mask:
    """The convex hull of a lung, so that disease at its border stays inside."""
    plane = np.zeros(mask.shape, np.uint8)
    points = np.argwhere(mask)[:, ::-1].astype(np.int32)
    if len(points):
        cv2.fillConvexPoly(plane, cv2.convexHull(points), (1,))
    return plane.astype(bool)
