"""The outcome of one comparison."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a comparison showed."""

    HOLDS = "holds"
    FAILS = "does not hold"
    OPEN = "not checked"


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Parameters
    ----------
    item : the file or thing that was looked at.
    words : what holds, what does not, or why it was not looked at; never the report's text.
    """

    item: str
    verdict: Verdict
    words: str


def compared(item: str, holds: str, problems: Iterable[str]) -> Iterator[Check]:
    """A failure for each of *problems*; without one, that it *holds*."""
    failures = [Check(item, Verdict.FAILS, problem) for problem in problems]
    yield from failures or [Check(item, Verdict.HOLDS, holds)]
