"""What a FHIR release defines, as ``trim.py`` keeps it: elements, primitive forms, value sets, code systems."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FOLDER = Path(__file__).with_name("definitions")
TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"
RELEASES = {"R4": "r4", "R5": "r5"}


class Definitions:
    """The types, value sets and code systems of a FHIR release, by name and by path."""

    def __init__(self, release: str) -> None:
        """*release* is "R4" or "R5"."""
        found = json.loads((FOLDER / f"{RELEASES[release]}.json").read_text(encoding="utf-8"))
        self.release = release
        self._kinds: dict[str, str] = found["kinds"]
        self._names = frozenset(found["names"])
        self._elements = {name: {each["path"]: each for each in elements} for name, elements in found["types"].items()}
        self._value_sets: dict[str, dict[str, list[str]] | None] = found["valueSets"]
        self._systems: dict[str, list[str]] = found["codeSystems"]
        if release != "R4":  # terminology.hl7.org is one for all releases
            self._systems = definitions("R4")._systems | self._systems

    def elements(self, kind: str) -> dict[str, Json]:
        """path -> element of a type, or an empty mapping."""
        return self._elements.get(kind, {})

    @cache  # noqa: B019  one instance for each release
    def children(self, kind: str, path: str) -> tuple[Json, ...]:
        """The elements right below *path* in the definition of *kind*."""
        return tuple(each for at, each in self.elements(kind).items() if at.rpartition(".")[0] == path)

    def kind(self, name: str) -> str:
        """ "resource", "complex-type" or "primitive-type"; "" for a type that is not kept here."""
        return self._kinds.get(name, "")

    def is_resource(self, name: str) -> bool:
        """Whether the release has such a resource, kept here or not."""
        return name in self._names

    @cache  # noqa: B019
    def pattern(self, primitive: str) -> re.Pattern[str] | None:
        """The regular expression of a primitive type."""
        text = self.elements(primitive).get(f"{primitive}.value", {}).get("pattern")
        # XML Schema's \s is four ASCII characters: a no-break space is none of them.
        return re.compile(text, re.ASCII) if text else None

    @cache  # noqa: B019
    def codes(self, value_set: str) -> frozenset[tuple[str, str]] | None:
        """Every (system, code) of a value set; None when it is not a list, or not kept here."""
        listed = self._value_sets.get(value_set.partition("|")[0])
        if listed is None:
            return None
        return frozenset((system, code) for system, codes in listed.items() for code in codes)

    def has_code(self, system: str, code: str) -> bool | None:
        """Whether *system* has *code*; None when its codes are not kept here."""
        return code in self._systems[system] if system in self._systems else None


@cache
def definitions(release: str) -> Definitions:
    """The definitions of "R4" or "R5", read once."""
    return Definitions(release)
