"""FHIR dates as intervals, and how searches compare them (R4 search.html#date)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_DATE = re.compile(
    r"(\d{4})(?:-(\d{2})(?:-(\d{2})(?:T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,6})\d*)?)?(Z|[+-]\d{2}:\d{2})?)?)?)?"
)
_PREFIX = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb|ap)?(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Interval:
    """The time that a date of limited precision means: from *start* until before *end*."""

    start: datetime
    end: datetime

    def holds(self, other: Interval) -> bool:
        """Whether *other* lies within."""
        return self.start <= other.start and other.end <= self.end

    def meets(self, other: Interval) -> bool:
        """Whether both have some time in common."""
        return self.start < other.end and other.start < self.end


def interval(text: str) -> Interval | None:
    """The interval of a FHIR date, dateTime or instant, None when it is none; a time without zone is taken as UTC."""
    parts = _DATE.fullmatch(text)
    if parts is None:
        return None
    year, month, day, hour, minute, second, fraction, zone = parts.groups()
    try:
        start = datetime.fromisoformat(
            f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}"
            f".{(fraction or '0').ljust(6, '0')}{(zone or 'Z').replace('Z', '+00:00')}"
        ).astimezone(UTC)
        return Interval(start, _end(start, parts.groups()))
    except (ValueError, OverflowError):
        return None


def _end(start: datetime, given: tuple[str | None, ...]) -> datetime:
    """The end of what begins at *start*, to the precision that was *given*."""
    _, month, day, hour, _, second, fraction, _ = given
    if month is None:
        return start.replace(year=start.year + 1)
    if day is None:
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
    if hour is None:
        return start + timedelta(days=1)
    if second is None:
        return start + timedelta(minutes=1)
    return start + (timedelta(microseconds=10 ** (6 - len(fraction))) if fraction else timedelta(seconds=1))


# What is asked for, then what a resource has.
_COMPARE: dict[str, Callable[[Interval, Interval], bool]] = {
    "eq": Interval.holds,
    "ne": lambda asked, has: not asked.holds(has),
    "gt": lambda asked, has: has.end > asked.end,
    "lt": lambda asked, has: has.start < asked.start,
    "ge": lambda asked, has: has.end > asked.end or asked.holds(has),
    "le": lambda asked, has: has.start < asked.start or asked.holds(has),
    "sa": lambda asked, has: has.start >= asked.end,
    "eb": lambda asked, has: has.end <= asked.start,
    "ap": Interval.meets,
}


def date_test(wanted: str) -> Callable[[Interval], bool] | None:
    """Whether an interval is what *wanted* asks for ("ge2026-03-01"); None when that is no date."""
    prefix, text = _PREFIX.fullmatch(wanted).groups()  # type: ignore[union-attr]  # matches every text
    # A plus sign that was not encoded in the address arrives as a blank.
    asked = interval(text.replace(" ", "+"))
    if asked is None:
        return None
    compare = _COMPARE[prefix or "eq"]
    return lambda has: compare(asked, has)
