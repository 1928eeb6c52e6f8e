"""Which patients are kept aside for measuring. By patient and by nothing else, and the same on every machine."""

from __future__ import annotations

import hashlib

#: Part of every digest, so that ours are not those of another project's split.
SALT = "sightline-1"
HELD_OUT_RULE = f"sha256('{SALT}:' + patient) mod 5 == 0"


def held_out(patient: str) -> bool:
    """Whether *patient* is one of the fifth that no weights are trained or tuned on."""
    return int(_sha256(patient), 16) % 5 == 0


def fold_of(patient: str, folds: int) -> int:
    """Which of *folds* parts *patient* belongs to for cross-fitting, in [0, folds); independent of :func:`held_out`."""
    return int(_sha256(f"fold:{patient}"), 16) % folds


def digest(patient: str) -> str:
    """The name under which a manifest lists *patient*: 12 hexadecimal digits."""
    return _sha256(patient)[:12]


def _sha256(text: str) -> str:
    return hashlib.sha256(f"{SALT}:{text}".encode()).hexdigest()
