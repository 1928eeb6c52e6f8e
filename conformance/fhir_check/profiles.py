"""Resources against profiles: what a StructureDefinition's differential says beyond the base.

Read are cardinality, types with their targets and profiles, fixed and pattern values, required bindings to our value
sets, invariants, and slices told apart by value, pattern or type. The base definition is checked apart, by
:mod:`fhir_check.checker`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from fhir_check.checker import is_listed, target_of
from fhir_check.definitions import Json
from fhir_check.invariants import holds

FOLDER = Path(__file__).parents[1] / "fhir" / "profiles"


@dataclass(slots=True)
class Node:
    """One element of a differential, with what is said about its parts and its slices."""

    definition: Json = field(default_factory=dict)
    children: dict[str, Node] = field(default_factory=dict)
    slices: dict[str, Node] = field(default_factory=dict)

    def at(self, path: str) -> Node | None:
        """The element at *path* below this one; ``$this`` is this one."""
        node: Node | None = self
        for name in path.split(".") if path not in ("$this", "resolve()", "$this.resolve()") else ():
            node = node.children.get(name) if node else None
        return node


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile as a tree."""

    url: str
    name: str
    type: str
    release: str
    root: Node
    definition: Json


class Profiles:
    """The StructureDefinitions and ValueSets of a folder."""

    def __init__(self, folder: Path = FOLDER) -> None:
        found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
        self.resources: tuple[Json, ...] = tuple(found)
        self._by_url = {
            each["url"]: profile_of(each) for each in found if each["resourceType"] == "StructureDefinition"
        }
        self._titles = {each["url"]: str(each["name"]) for each in found}
        self._codes = {each["url"]: _codes(each) for each in found if each["resourceType"] == "ValueSet"}
        self._systems = {
            each["url"]: {concept["code"] for concept in each["concept"]}
            for each in found
            if each["resourceType"] == "CodeSystem"
        }

    def get(self, url: str) -> Profile | None:
        """The profile with this canonical address, a version after it ignored."""
        return self._by_url.get(url.partition("|")[0])

    def named(self, name: str) -> Profile:
        """The profile with this computable name ("SightlineDevice")."""
        return next(each for each in self._by_url.values() if each.name == name)

    def __iter__(self) -> Iterator[Profile]:
        return iter(self._by_url.values())

    def codes(self, value_set: str) -> frozenset[tuple[str, str]] | None:
        """Every (system, code) of one of our value sets."""
        return self._codes.get(value_set)

    def title(self, url: str) -> str:
        """The computable name of one of our artefacts."""
        return self._titles[url]

    def has_code(self, system: str, code: str) -> bool | None:
        """Whether one of our code systems has *code*; None when *system* is not ours."""
        return code in self._systems[system] if system in self._systems else None

    def faults(self, value: Json, profile: Profile, *, where: str, resource: Json | None = None) -> Iterator[str]:
        """What *value* has against *profile*."""
        yield from _Walk(self, profile, resource or value).item(value, profile.root, where)


@cache
def profiles() -> Profiles:
    """The project's own, read once."""
    return Profiles()


def profile_of(definition: Json) -> Profile:
    """The tree of a StructureDefinition's differential."""
    root = Node()
    for element in definition["differential"]["element"]:
        node = root
        for step in element["id"].split(".")[1:]:
            name, _, slice_name = step.partition(":")
            node = node.children.setdefault(name, Node())
            if slice_name:
                node = node.slices.setdefault(slice_name, Node())
        node.definition = element
    release = "R5" if definition["fhirVersion"].startswith("5") else "R4"
    return Profile(definition["url"], definition["name"], definition["type"], release, root, definition)


def _codes(value_set: Json) -> frozenset[tuple[str, str]]:
    return frozenset(
        (part["system"], concept["code"])
        for part in value_set["compose"]["include"]
        for concept in part.get("concept", ())
    )


@dataclass(frozen=True, slots=True)
class _Walk:
    profiles: Profiles
    profile: Profile
    resource: Json

    def item(self, item: Any, node: Node, where: str) -> Iterator[str]:
        """One value against what *node* says of it and of its parts."""
        definition = node.definition
        yield from self._tell(self._value(item, definition), definition, where)
        if not isinstance(item, dict):
            return
        for profile in self._profiles(definition):
            yield from self.profiles.faults(item, profile, where=where)
        for rule in definition.get("constraint", ()):
            if not holds(rule["expression"], item, self.resource, self.profile.release):
                yield f"{where}: {rule['key']}: {rule['human']}{self._cited({})}"
        for name, child in node.children.items():
            yield from self._child(item, name, child, where)

    def _child(self, parent: Json, name: str, node: Node, where: str) -> Iterator[str]:
        given = [each for each in parent if _is_named(each, name)]
        for each in given:
            yield from self._tell(_types(each, name, node.definition), node.definition, f"{where}.{each}")
        found = [
            (item, f"{where}.{each}[{number}]" if isinstance(parent[each], list) else f"{where}.{each}")
            for each in given
            for number, item in enumerate(parent[each] if isinstance(parent[each], list) else [parent[each]])
        ]
        yield from self._tell(_count(len(found), node.definition), node.definition, f"{where}.{name}")
        for item, here in found:
            yield from self.item(item, node, here)
        if node.slices:
            yield from self._slices(found, node, f"{where}.{name}")

    def _slices(self, found: list[tuple[Any, str]], node: Node, where: str) -> Iterator[str]:
        slicing = node.definition["slicing"]
        taken = {name: [] for name in node.slices}
        for item, here in found:
            name = next(
                (name for name, part in node.slices.items() if _belongs(item, part, slicing["discriminator"])), None
            )
            if name is not None:
                taken[name].append((item, here))
            elif slicing["rules"] == "closed":
                yield f"{here}: none of {', '.join(node.slices)}{self._cited(node.definition)}"
        for name, items in taken.items():
            part = node.slices[name]
            yield from self._tell(_count(len(items), part.definition), part.definition, f"{where}:{name}")
            for item, here in items:
                yield from self.item(item, part, f"{here}:{name}")

    def _value(self, item: Any, definition: Json) -> Iterator[str]:
        for name, wanted in definition.items():
            if name.startswith("fixed") and item != wanted:
                yield f"not the fixed value {json.dumps(wanted)}"
            if name.startswith("pattern") and not matches(item, wanted):
                yield f"does not match the pattern {json.dumps(wanted)}"
        binding = definition.get("binding")
        if binding and binding["strength"] == "required":
            listed = self.profiles.codes(binding["valueSet"])
            if listed is not None and not is_listed(item, listed):
                yield f"not in the required value set {self.profiles.title(binding['valueSet'])}"
        yield from _target(item, definition)

    def _profiles(self, definition: Json) -> Iterator[Profile]:
        urls = [url for kind in definition.get("type", ()) for url in kind.get("profile", ())]
        yield from filter(None, map(self.profiles.get, urls))

    def _tell(self, faults: Iterator[str], definition: Json, where: str) -> Iterator[str]:
        yield from (f"{where}: {fault}{self._cited(definition)}" for fault in faults)

    def _cited(self, definition: Json) -> str:
        """The profile's name, and the clause that asks for it where one does."""
        clause = definition.get("requirements", "")
        return f" [{self.profile.name}{': ' if clause else ''}{clause}]"


def matches(item: Any, pattern: Any) -> bool:
    """Whether *item* has all of *pattern* (ElementDefinition.pattern[x])."""
    if isinstance(pattern, dict):
        return isinstance(item, dict) and all(name in item and matches(item[name], pattern[name]) for name in pattern)
    if isinstance(pattern, list):
        return isinstance(item, list) and all(any(matches(each, wanted) for each in item) for wanted in pattern)
    return bool(item == pattern) and isinstance(item, bool) == isinstance(pattern, bool)


def _is_named(given: str, name: str) -> bool:
    if not name.endswith("[x]"):
        return given == name
    return re.fullmatch(f"{re.escape(name[:-3])}[A-Z]\\w*", given) is not None


def _types(given: str, name: str, definition: Json) -> Iterator[str]:
    if name.endswith("[x]") and "type" in definition:
        allowed = [name[:-3] + each["code"][:1].upper() + each["code"][1:] for each in definition["type"]]
        if given not in allowed:
            yield f"only {' or '.join(allowed)} is allowed"


def _count(count: int, definition: Json) -> Iterator[str]:
    low, high = definition.get("min", 0), definition.get("max", "*")
    if count < low:
        yield f"{count} given, at least {low} needed"
    if high != "*" and count > int(high):
        yield f"{count} given, at most {high} allowed"


def _target(item: Any, definition: Json) -> Iterator[str]:
    allowed = {
        url.rpartition("/")[2]
        for kind in definition.get("type", ())
        if kind["code"] == "Reference"
        for url in kind.get("targetProfile", ())
    }
    if allowed and isinstance(item, dict) and target_of(item) and target_of(item) not in allowed:
        yield f"reference to {target_of(item)}, allowed are {', '.join(sorted(allowed))}"


def _belongs(item: Any, part: Node, discriminators: list[Json]) -> bool:
    return all(_is_told(item, part, each["type"], each["path"]) for each in discriminators)


def _is_told(item: Any, part: Node, kind: str, path: str) -> bool:
    profiled = [url for each in part.definition.get("type", ()) for url in each.get("profile", ())]
    if path == "url" and profiled and isinstance(item, dict):  # an extension's profile tells its address
        return item.get("url") in profiled
    target = part.at(path)
    if target is None or not (isinstance(item, dict) or path == "$this"):
        return False
    if kind == "type":
        codes = {each["code"] for each in target.definition["type"]}
        if "Reference" in codes:
            targets = {u.rpartition("/")[2] for k in target.definition["type"] for u in k["targetProfile"]}
            return target_of(item) in targets
        value = _at(item, path)
        return isinstance(value, dict) and value.get("resourceType") in codes
    wanted = [value for name, value in target.definition.items() if name.startswith(("fixed", "pattern"))]
    return bool(wanted) and matches(_at(item, path), wanted[0])


def _at(item: Any, path: str) -> Any:
    for name in path.split(".") if path != "$this" else ():
        item = item.get(name) if isinstance(item, dict) else None
    return item
