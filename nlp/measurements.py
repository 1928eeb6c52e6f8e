"""Sizes that a report states, such as "4.3 x 2.8 cm"."""

from __future__ import annotations

import re

from nlp.phrases import Measurement

_NUMBER = r"\d{1,4}(?:\.\d{1,3})?"
_SIZE = re.compile(
    rf"(?<![\d.])(?P<values>{_NUMBER}(?:[ ]*(?:x|by|×|-|to)[ ]*{_NUMBER}){{0,2}})[ ]*"
    r"(?P<unit>mm|cm|(?:milli|centi)met(?:er|re)s?)\b"
    r"(?![ ]+(?:above|below|from|proximal|distal|superior|inferior|cranial|caudal|beyond|past|into|within))",
    re.IGNORECASE,
)
_VALUE = re.compile(_NUMBER)
_EARLIER = re.compile(
    r"(?:previously|formerly|prior|compared (?:to|with)|was|from)[ ](?:measur\w+ )?(?:about |approximately )?$"
)


def measurements(copy: str, start: int, end: int) -> tuple[Measurement, ...]:
    """The sizes stated between *start* and *end* of the reading copy, one value each.

    Distances ("4 cm above the carina") and sizes of an earlier study ("previously 9 mm") are not sizes of a finding.
    """
    return tuple(
        Measurement(float(value[0]), unit_of(match["unit"]), match.start() + value.start(), _end(match, value))
        for match in _SIZE.finditer(copy, start, end)
        if not _EARLIER.search(copy[max(start, match.start() - 40) : match.start()].lower())
        for value in _VALUE.finditer(match["values"])
    )


def unit_of(word: str) -> str:
    """The UCUM unit: "mm" or "cm"."""
    return "mm" if word[0] in "mM" else "cm"


def _end(match: re.Match[str], value: re.Match[str]) -> int:
    """The end of the number, or of the unit that follows the last one."""
    return match.end() if value.end() == len(match["values"]) else match.start() + value.end()
