"""A query as numbers: words and their parts, hashed into one table, beside what the report reader understood.

Hashing needs no vocabulary file, and a misspelt or unseen word still shares its letter groups with a known one.
"""

from __future__ import annotations

import re
from zlib import crc32

from model.values import Query

_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_MEASURE = re.compile(r"\d+(?:\.\d+)?")


def tokens_of(query: Query, buckets: int) -> tuple[int, ...]:
    """Rows of the word table for *query*, in [0, buckets); at least one, order and repetition do not matter."""
    words = ["#" if _MEASURE.fullmatch(word) else word for word in _WORD.findall(query.text.lower())]
    parts = {f"w:{word}" for word in words}
    parts |= {f"t:{padded[i : i + 4]}" for word in words for padded in (f"<{word}>",) for i in range(len(padded) - 3)}
    parts |= {f"f:{query.finding.lower()}", f"s:{query.side or 'none'}", *(f"a:{site.lower()}" for site in query.sites)}
    return tuple(sorted(crc32(part.encode()) % buckets for part in parts))
