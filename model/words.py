"""A query as numbers.

The shipped phrase encoder gets words and their parts, hashed into one table, beside what the report reader understood:
hashing needs no vocabulary file, and a misspelt or unseen word still shares its letter groups with a known one. A
site's gets the phrase itself, as bytes, and splits it by the vocabulary that belongs to its weights.
"""

from __future__ import annotations

import re
from zlib import crc32

from model.config import Config
from model.values import Query

_WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)?")
_MEASURE = re.compile(r"\d+(?:\.\d+)?")


def tokens_of(query: Query, config: Config) -> tuple[int, ...]:
    """What the phrase encoder of *config* reads for *query*: rows of its word table, or UTF-8 bytes; at least one."""
    return tuple(query.text.encode()) if config.text_encoder == "cxr-bert" else _hashed(query, config.buckets)


def _hashed(query: Query, buckets: int) -> tuple[int, ...]:
    """Rows of the word table, in [0, buckets); order and repetition do not matter."""
    words = ["#" if _MEASURE.fullmatch(word) else word for word in _WORD.findall(query.text.lower())]
    parts = {f"w:{word}" for word in words}
    parts |= {f"t:{padded[i : i + 4]}" for word in words for padded in (f"<{word}>",) for i in range(len(padded) - 3)}
    parts |= {f"f:{query.finding.lower()}", f"s:{query.side or 'none'}", *(f"a:{site.lower()}" for site in query.sites)}
    return tuple(sorted(crc32(part.encode()) % buckets for part in parts))
