"""Our profiles against the definitions that they constrain (R4 profiling.html: a profile cannot break the base)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fhir_check import extensions
from fhir_check.definitions import TYPE_URL, Definitions, Json, definitions
from fhir_check.invariants import is_fhirpath
from fhir_check.profiles import Node, Profiles, profile_of

BINDABLE = {"code", "Coding", "CodeableConcept", "Quantity", "string", "uri"}
RELEASES = {"4.0.1": "R4", "5.0.0": "R5"}


def faults(definition: Json, known: Profiles) -> list[str]:
    """What is wrong with a StructureDefinition of ours; *known*: the value sets and profiles that it may name."""
    kind, release = str(definition.get("type")), RELEASES.get(str(definition.get("fhirVersion")), "")
    if not release:
        return ["StructureDefinition.fhirVersion: neither 4.0.1 nor 5.0.0"]
    if definition.get("baseDefinition") != TYPE_URL + kind or not definitions(release).elements(kind):
        return [f"StructureDefinition.baseDefinition: no resource that is kept here, or not that of {kind}"]
    elements = definition["differential"]["element"]
    lint = _Lint(definitions(release), known, kind, {each["id"]: each for each in elements})
    found = [f"{each['id']}: {fault}" for each in elements for fault in lint.element(each)]
    places = [place for each in elements if (place := lint.place(each["id"]))]
    if places != sorted(places):
        found.append(f"{kind}: the elements are not in the order of the base")
    return [*found, *_slices(profile_of(definition).root, kind)]


@dataclass(frozen=True, slots=True)
class _Lint:
    definitions: Definitions
    known: Profiles
    kind: str
    said: dict[str, Json]

    def element(self, element: Json) -> Iterator[str]:
        identity = element["id"]
        if element["path"] != re.sub(r":\w+", "", identity):
            yield f"its path is {element['path']}"
        if identity.rpartition(".")[2].partition(":")[2] != element.get("sliceName", ""):
            yield f"its sliceName is {element.get('sliceName')}"
        base = self.base(identity)
        if base is None:
            yield "no such element in the base"
            return
        yield from self._cardinality(element, base)
        yield from self._types(element, base)
        yield from self._binding(element, base)
        for rule in element.get("constraint", ()):
            if not is_fhirpath(rule["expression"], self.definitions.release):
                yield f"{rule['key']} is no FHIRPath"

    def base(self, identity: str) -> Json | None:
        """The base's element that *identity* constrains; within a choice, of the type that is left of it."""
        return self._walk(identity)[0]

    def place(self, identity: str) -> list[int]:
        """Where *identity* stands in the base, as a key to sort by; [] when it is not there."""
        return self._walk(identity)[1]

    def _walk(self, identity: str) -> tuple[Json | None, list[int]]:
        kind, path, element, place = self.kind, self.kind, None, [0]
        steps = identity.split(".")
        for number, step in enumerate(steps[1:], start=2):
            name, _, slice_name = step.partition(":")
            children = self.definitions.children(kind, path)
            at = next((at for at, each in enumerate(children) if each["path"].rpartition(".")[2] == name), None)
            if at is None:
                return None, []
            element = children[at]
            prefix = ".".join((*steps[: number - 1], name))
            slices = [each for each in self.said if re.fullmatch(re.escape(prefix) + r":\w+", each)]
            place += [at, 1 + slices.index(f"{prefix}:{slice_name}") if f"{prefix}:{slice_name}" in slices else 0]
            kind, path = self._inside(element, kind, ".".join(steps[:number]))
        return element or self.definitions.elements(kind)[path], place

    def _inside(self, element: Json, kind: str, identity: str) -> tuple[str, str]:
        """(type, path) under which the parts of *element* are defined."""
        types = self.said.get(identity, {}).get("type") or element.get("type", [{"code": "Element"}])
        code = types[0]["code"]
        if code in ("BackboneElement", "Element"):
            return kind, element.get("content", "#" + element["path"]).rpartition("#")[2]
        return code, code

    def _cardinality(self, element: Json, base: Json) -> Iterator[str]:
        high, least = element.get("max", base["max"]), base.get("min", 0)
        if element.get("min", least) < least and "sliceName" not in element:
            yield f"min {element['min']} is below the base's {least}"
        if base["max"] != "*" and (high == "*" or int(high) > int(base["max"])):
            yield f"max {high} is above the base's {base['max']}"

    def _types(self, element: Json, base: Json) -> Iterator[str]:
        allowed = {each["code"]: each.get("targets", []) for each in base.get("type", ())}
        for each in element.get("type", ()):
            code = each["code"]
            if code not in allowed and not ("Resource" in allowed and self.definitions.is_resource(code)):
                yield f"the base has no type {code} here"
            targets = {url.rpartition("/")[2] for url in each.get("targetProfile", ())}
            base_targets = set(allowed.get(code, ()))
            wrong = targets - base_targets if base_targets and "Resource" not in base_targets else set()
            yield from (f"the base allows no reference to {name}" for name in sorted(wrong))
            for url in each.get("profile", ()):
                if not (self.known.get(url) or extensions.is_known(url)):
                    yield f"no profile {url} is known here"
        for name in element:
            said = re.fullmatch(r"(?:fixed|pattern)([A-Z]\w*)", name)
            types = element.get("type", base.get("type", ()))
            if said and said[1] not in {each["code"][:1].upper() + each["code"][1:] for each in types}:
                yield f"{name} is not of a type that is allowed here"

    def _binding(self, element: Json, base: Json) -> Iterator[str]:
        if "binding" not in element:
            return
        listed = self.known.codes(element["binding"]["valueSet"])
        if not BINDABLE & {each["code"] for each in base.get("type", ())}:
            yield "nothing coded can be here"
        if not listed:
            yield f"no value set {element['binding']['valueSet']} is known here"
            return
        wider = self.definitions.codes(base["binding"]) if "binding" in base else None
        if wider is not None and not listed <= wider:
            yield f"allows codes that the base does not: {', '.join(sorted(code for _, code in listed - wider))}"


def _slices(node: Node, where: str) -> Iterator[str]:
    for name, child in node.children.items():
        here = f"{where}.{name}"
        if child.slices:
            yield from _sliced(child, here)
        elif "slicing" in child.definition:
            yield f"{here}: sliced, and has no slice"
        yield from _slices(child, here)
        for slice_name, part in child.slices.items():
            yield from _slices(part, f"{here}:{slice_name}")


def _sliced(node: Node, where: str) -> Iterator[str]:
    if "slicing" not in node.definition:
        yield f"{where}: has slices, and does not say how they are told apart"
        return
    for slice_name, part in node.slices.items():
        for each in node.definition["slicing"]["discriminator"]:
            if not _is_told(part, each["type"], each["path"]):
                yield f"{where}:{slice_name}: nothing tells it apart by {each['type']} at {each['path']}"
    needed, high = sum(part.definition.get("min", 0) for part in node.slices.values()), node.definition.get("max", "*")
    if high != "*" and needed > int(high):
        yield f"{where}: its slices need {needed}, at most {high} are allowed"


def _is_told(part: Node, kind: str, path: str) -> bool:
    if path == "url" and any(each.get("profile") for each in part.definition.get("type", ())):
        return True
    target = part.at(path)
    if target is None:
        return False
    if kind == "type":
        return bool(target.definition.get("type"))
    return any(name.startswith(("fixed", "pattern")) for name in target.definition)
