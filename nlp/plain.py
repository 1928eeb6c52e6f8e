"""What a finding or a part of the body is, in a sentence that a patient understands."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path


def plain_language(concept: str) -> str | None:
    """One or two plain sentences about the finding or site called *concept* in the lexicon; None for other names."""
    return _sentences().get(concept)


@cache
def _sentences() -> dict[str, str]:
    with (Path(__file__).parent / "plain.csv").open(encoding="utf-8", newline="") as file:
        return {row["concept"]: row["sentence"] for row in csv.DictReader(file)}
