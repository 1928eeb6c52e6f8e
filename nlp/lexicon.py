"""The lexicon: three tables that a radiologist can read and edit (see docs/nlp.md).

``lexicon.csv`` names findings, devices and sites; ``words.csv`` the words that qualify them (side, severity, change,
descriptors); ``cues.csv`` the words that assert, deny or doubt. Terms are written in lower case, separated by ``|``;
a hyphen equals a space; ``~`` stands for up to seven words in between ("heart ~ enlarged").
"""

from __future__ import annotations

import csv
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nlp.phrases import Code, Concept

TABLES = ("lexicon.csv", "words.csv", "cues.csv")
_FOLDER = Path(__file__).parent
_CODE = re.compile(r"(?P<scheme>[A-Z]+):(?P<value>[A-Za-z0-9]+)=(?P<meaning>.+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table: its terms and what they mean.

    Parameters
    ----------
    kind : "finding", "device", "generic", "site", "side", "severity", "change", "descriptor" or "cue".
    meaning : the concept's name, or what the word means ("left", "mild", "negated/before").
    terms : as written in the table, lower case.
    """

    kind: str
    meaning: str
    terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A finding, device or site of the lexicon.

    Parameters
    ----------
    sites : names of the sites that the concept implies.
    groundable : whether a region may be lit for it.
    """

    concept: Concept
    kind: str
    sites: tuple[str, ...]
    groundable: bool


@cache
def entries() -> tuple[Entry, ...]:
    """Every row of the three tables, in their order."""
    return (
        *(Entry(row["kind"], row["concept"], _split(row["terms"])) for row in _rows("lexicon.csv")),
        *(Entry(row["kind"], row["meaning"], _split(row["terms"])) for row in _rows("words.csv")),
        *(Entry("cue", f"{row['meaning']}/{row['direction']}", _split(row["terms"])) for row in _rows("cues.csv")),
    )


@cache
def concepts() -> dict[str, Named]:
    """The findings, devices and sites by name.

    Raises
    ------
    ValueError
        If a code is not written as SCHEME:value=meaning.
    """
    return {
        row["concept"]: Named(
            concept=Concept(row["concept"], tuple(_code(cell) for cell in _split(row["codes"]))),
            kind=row["kind"],
            sites=_split(row["sites"]),
            groundable=row["groundable"] == "yes",
        )
        for row in _rows("lexicon.csv")
    }


def named(name: str) -> Named:
    """The concept called *name*; one the lexicon does not know, from a site's own model, is text only and not lit."""
    known = concepts().get(name)
    return Named(Concept(name), "finding", (), groundable=False) if known is None else known


@cache
def digest() -> str:
    """SHA-256 of the three tables, hexadecimal: results are bound to it."""
    content = b"".join((_FOLDER / name).read_bytes() for name in TABLES)
    return hashlib.sha256(content).hexdigest()


def _rows(name: str) -> list[dict[str, str]]:
    with (_FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split("|") if part.strip())


def _code(cell: str) -> Code:
    match = _CODE.fullmatch(cell)
    if match is None:
        raise ValueError(f"lexicon.csv: the code {cell!r} is not written as SCHEME:value=meaning")
    return Code(**match.groupdict())
