"""How much a JSON document may hold: each value becomes an object of a hundred bytes, from two of the text."""

from __future__ import annotations

from typing import Final

#: Far more than in a page of a search of a thousand resources.
MAX_VALUES: Final = 1_000_000
#: Levels in each other; parsers and writers give up at some hundreds.
MAX_DEPTH: Final = 100


def values_in(content: bytes) -> int:
    """At most so many values are in the JSON *content*; counted, and not parsed."""
    return 1 + sum(map(content.count, (b",", b"[", b"{")))


def is_deep(document: object) -> bool:
    """Whether parsed JSON is nested more than ``MAX_DEPTH`` levels."""
    level: list[object] = [document]
    for _ in range(MAX_DEPTH):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return False
        level = [part for item in containers for part in (item.values() if isinstance(item, dict) else item)]
    return True
