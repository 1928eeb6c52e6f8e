"""Which patients are kept aside, and which part another is in. By patient alone, and the same on every machine."""

from __future__ import annotations

import hashlib
from itertools import accumulate

#: Parts of a prepared data set, in this order.
PARTS = ("train", "val", "test")
#: Part of every digest, so that ours are not those of another project's split.
SALT = "sightline-1"
HELD_OUT_RULE = f"sha256('{SALT}:' + patient) mod 5 == 0"


def held_out(patient: str) -> bool:
    """Whether *patient* is one of the fifth that no weights are trained or tuned on."""
    return int(_sha256(patient), 16) % 5 == 0


def fold_of(patient: str, folds: int) -> int:
    """Which of *folds* parts *patient* belongs to for cross-fitting, in [0, folds); independent of :func:`held_out`."""
    return int(_sha256(f"fold:{patient}"), 16) % folds


def part_of(patient: str, shares: tuple[float, float, float], *, seed: int) -> str:
    """Which of :data:`PARTS` *patient* belongs to; more data never move anybody.

    Parameters
    ----------
    shares : of the patients, adding up to 1.
    """
    drawn = int(_sha256(f"part:{seed}:{patient}")[:16], 16) / 2**64
    for part, edge in zip(PARTS, accumulate(shares), strict=True):
        if drawn < edge:
            return part
    return [part for part, share in zip(PARTS, shares, strict=True) if share][-1]  # shares a hair less than 1


def digest(patient: str) -> str:
    """The name under which a manifest lists *patient*: 12 hexadecimal digits."""
    return _sha256(patient)[:12]


def _sha256(text: str) -> str:
    return hashlib.sha256(f"{SALT}:{text}".encode()).hexdigest()
