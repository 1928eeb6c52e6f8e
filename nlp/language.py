"""Whether a text is English: by its commonest words, so that "Kein Pneumothorax" is never read as a pneumothorax."""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

_WORD = re.compile(r"[^\W\d_]+")
_ENOUGH = 4000
_LATIN = 0x250


def language_of(text: str) -> str:
    """The BCP 47 tag of *text*: "en" unless words of another language or script outweigh the English ones ("und")."""
    words = [match[0].lower() for match in _WORD.finditer(text[: _ENOUGH * 8])][:_ENOUGH]
    if not words:
        return "en"
    foreign = sum(ord(word[0]) >= _LATIN for word in words)
    if foreign * 2 > len(words):
        return "und"
    counts = {language: sum(word in common for word in words) for language, common in _common_words().items()}
    best = max(counts, key=lambda language: (counts[language], language == "en"))
    return best if counts[best] > counts["en"] else "en"


@cache
def _common_words() -> dict[str, frozenset[str]]:
    with (Path(__file__).parent / "languages.csv").open(encoding="utf-8", newline="") as file:
        return {row["language"]: frozenset(row["words"].split(" | ")) for row in csv.DictReader(file)}
