"""Scopes of SMART App Launch: the forms of version 2 ("system/Observation.crus") and 1 ("system/Observation.read")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_SCOPE = re.compile(r"(?P<who>[a-z]+)/(?P<type>[A-Za-z]+|\*)\.(?P<may>[a-z]+|\*)(\?.*)?")
_V1: Final = {"read": "rs", "write": "cud", "*": "cruds"}


def as_version_1(scopes: Iterable[str]) -> tuple[str, ...]:
    """*scopes* for a server that knows the words of version 1 alone: whatever reads, and whatever writes."""
    found: dict[str, None] = {}
    for scope in scopes:
        who, kind, may = _parts(scope)
        if not who:
            found[scope] = None
            continue
        found |= {f"{who}/{kind}.read": None} if may & set("rs") else {}
        found |= {f"{who}/{kind}.write": None} if may & set("cud") else {}
    return tuple(found)


def is_of_fhir(scope: str) -> bool:
    """Whether it says what may be done with resources, unlike ``openid`` or ``launch``."""
    return bool(_parts(scope)[0])


def lacking(wanted: Iterable[str], granted: Iterable[str]) -> tuple[str, ...]:
    """Those of *wanted* that *granted* does not allow in full, whichever version either is written in."""
    have = [_parts(scope) for scope in granted]
    words = set(granted)
    return tuple(scope for scope in wanted if scope not in words and not _allowed(_parts(scope), have))


def _allowed(wanted: tuple[str, str, frozenset[str]], have: list[tuple[str, str, frozenset[str]]]) -> bool:
    who, kind, may = wanted
    allowed = (letters for other, of, letters in have if other == who and of in (kind, "*"))
    return bool(who) and may <= frozenset().union(*allowed)


def _parts(scope: str) -> tuple[str, str, frozenset[str]]:
    """("system", "Observation", letters); empty parts for a scope of another kind. A search in it only narrows it."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        return "", "", frozenset()
    return found["who"], found["type"], frozenset(_V1.get(found["may"], found["may"]))
