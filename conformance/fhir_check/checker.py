"""Resources against the StructureDefinitions of their release, element by element.

Checked for every element: that it exists, cardinality, JSON form, the regular expression of its primitive type,
required bindings (where the value set lists its codes), codes of the systems that are kept here, targets of
references, extensions of a later release, invariants in FHIRPath, and the XHTML of narratives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from fhir_check import extensions, narrative
from fhir_check.definitions import Definitions, Json
from fhir_check.invariants import holds

BY_HAND = {"txt-1", "txt-2"}  # narrative.py
NUMBERS = {"decimal": (int, float), "integer": int, "positiveInt": int, "unsignedInt": int}
FORM = "json:"
"""Begins what is told of JSON that has not the form of FHIR: rules about content make no sense of it."""
REFERENCE = re.compile(r"([A-Z]\w+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?$")


class BaseChecker:
    """Collects what is wrong with resources as "path: what" lines."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def check(self, resource: Json) -> list[str]:
        """What is wrong with *resource* and everything in it; empty when nothing is."""
        return list(self._resource(resource, str(resource.get("resourceType", "?"))))

    def _resource(self, resource: Json, where: str) -> Iterator[str]:
        kind = resource.get("resourceType")
        if not isinstance(kind, str) or self._definitions.kind(kind) != "resource":
            yield f"{where}: {FORM} unknown resourceType"
            return
        body = {name: value for name, value in resource.items() if name != "resourceType"}
        yield from self._object(body, kind, kind, where=where, resource=resource)

    def _object(self, value: Json, kind: str, path: str, *, where: str, resource: Json) -> Iterator[str]:
        """*value* as the element at *path* of the definition of *kind*."""
        if not value:
            yield f"{where}: ele-1: an element is not empty"
        yield from (f"{where}.{name}: {FORM} null" for name, each in value.items() if each is None)
        yield from (f"{where}.{name}: {FORM} an empty array" for name, each in value.items() if each == [])
        if kind == "Extension":
            if ("extension" in value) == any(name.startswith("value") for name in value):
                yield f"{where}: ext-1: an extension has either a value or extensions"
            yield from extensions.faults(value, where)
        used = set()
        for definition in self._definitions.children(kind, path):
            name = definition["path"].rpartition(".")[2]
            found = [
                (given, code) for given, code in names_of(name, definition) if given in value or f"_{given}" in value
            ]
            used.update(part for given, _ in found for part in (given, f"_{given}"))
            yield from self._cardinality(found, definition, value, where=where)
            for given, code in found:
                beside = {"beside": value.get(f"_{given}"), "value": value.get(given)}
                yield from self._siblings(**beside, definition=definition, where=f"{where}._{given}", of=resource)
                if given in value:
                    target = {"code": code, "definition": definition, "kind": kind, "resource": resource}
                    yield from self._values(value[given], target, where=f"{where}.{given}")
        yield from (f"{where}.{name}: no such element" for name in value if name not in used)
        element = self._definitions.elements(kind)[path]
        yield from self._invariants(
            value | ({"resourceType": kind} if "." not in path else {}), element, where, resource
        )

    def _cardinality(self, found: list[tuple[str, str]], definition: Json, value: Json, *, where: str) -> Iterator[str]:
        name, low, high = definition["path"].rpartition(".")[2], definition.get("min", 0), definition["max"]
        if len(found) > 1:
            yield f"{where}.{name}: more than one type of a choice"
        items = [value.get(given, value.get(f"_{given}")) for given, _ in found]
        count = sum(len(item) if isinstance(item, list) else 1 for item in items)
        if count < low:
            yield f"{where}.{name}: {count} given, at least {low} needed"
        if high != "*" and count > int(high):
            yield f"{where}.{name}: {count} given, at most {high} allowed"
        # Repeating elements are arrays, also when there is one (json.html).
        is_list = definition.get("array", False)
        if any(isinstance(item, list) != is_list for item in items if item is not None):
            yield f"{where}.{name}: {FORM} {'an array is' if is_list else 'no array is'} needed"

    def _siblings(self, *, beside: Any, value: Any, definition: Json, where: str, of: Json) -> Iterator[str]:
        """Id and extensions of a primitive, beside it under an underscore; in a list, one or null each (json.html)."""
        if beside is None:
            return
        if isinstance(beside, list) != definition.get("array", False):
            yield f"{where}: {FORM} not of the form of what it stands beside"
        items = beside if isinstance(beside, list) else [beside]
        if isinstance(beside, list) and isinstance(value, list) and len(beside) != len(value):
            yield f"{where}: {len(beside)} given beside {len(value)}"
        for item in filter(lambda each: each is not None, items):
            yield from self._complex(item, "Element", "Element", where=where, resource=of)

    def _values(self, value: Any, target: Json, *, where: str) -> Iterator[str]:
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items):
            here = f"{where}[{number}]" if isinstance(value, list) else where
            yield from self._value(item, target, where=here)

    def _value(self, item: Any, target: Json, *, where: str) -> Iterator[str]:
        code, definition = target["code"], target["definition"]
        if code in ("", "BackboneElement", "Element"):
            reference = definition.get("content", "#" + definition["path"]).rpartition("#")[2]
            yield from self._complex(item, target["kind"], reference, where=where, resource=target["resource"])
        elif code in ("Resource", "DomainResource"):
            if isinstance(item, dict):
                yield from self._resource(item, where)
            else:
                yield f"{where}: {FORM} an object is needed"
        elif code == "xhtml":
            yield from narrative.faults(item, where)
        elif self._definitions.kind(code) == "complex-type":
            yield from self._complex(item, code, code, where=where, resource=target["resource"])
        else:
            # R4 publishes the type of Resource.id as string by mistake; its rules are those of id.
            is_id = (
                definition["path"] == f"{target['kind']}.id" and self._definitions.kind(target["kind"]) == "resource"
            )
            yield from self._primitive(item, "id" if is_id else code, where=where)
        yield from self._binding(item, definition, where=where)
        if isinstance(item, dict):
            if code == "Reference":
                yield from self._target(item, definition, where=where)
            if code == "Coding":
                yield from self._coding(item, where=where)

    def _complex(self, item: Any, kind: str, path: str, *, where: str, resource: Json) -> Iterator[str]:
        if isinstance(item, dict):
            yield from self._object(item, kind, path, where=where, resource=resource)
        else:
            yield f"{where}: {FORM} an object is needed"

    def _primitive(self, item: Any, code: str, *, where: str) -> Iterator[str]:
        name = "string" if code.startswith("http://hl7.org/fhirpath/") else code
        wanted = bool if name == "boolean" else NUMBERS.get(name, str)
        if not isinstance(item, wanted) or (wanted is not bool and isinstance(item, bool)):
            yield f"{where}: {FORM} not a JSON value for {name}"
            return
        pattern = self._definitions.pattern(name)
        if pattern and not isinstance(item, bool) and not pattern.fullmatch(str(item)):
            yield f"{where}: does not match the form of {name}"
        # R4 datatypes: strings have no characters below U+0020 except tab, line feed, carriage return.
        if isinstance(item, str) and (not item.strip() or re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", item)):
            yield f"{where}: empty, or with control characters"

    def _binding(self, item: Any, definition: Json, *, where: str) -> Iterator[str]:
        listed = self._definitions.codes(definition["binding"]) if "binding" in definition else None
        if listed is not None and not is_listed(item, listed):
            yield f"{where}: not in the required value set {definition['binding']}"

    def _coding(self, item: Json, *, where: str) -> Iterator[str]:
        system, code = item.get("system"), item.get("code")
        if isinstance(system, str) and isinstance(code, str) and self._definitions.has_code(system, code) is False:
            yield f"{where}: {system} has no code {code}"

    def _target(self, item: Json, definition: Json, *, where: str) -> Iterator[str]:
        allowed = {
            name for kind in definition["type"] if kind["code"] == "Reference" for name in kind.get("targets", ())
        }
        literal = REFERENCE.match(str(item.get("reference", "")))
        if "reference" in item and not literal and not re.match(r"#|urn:|https?:", str(item["reference"])):
            yield f"{where}: not a literal reference"
        if not {"reference", "identifier", "display", "extension"} & item.keys():
            yield f"{where}: a reference to nothing"
        target = target_of(item)
        if target and not self._definitions.is_resource(target):
            yield f"{where}: reference to an unknown type"
        if target and allowed and "Resource" not in allowed and target not in allowed:
            yield f"{where}: reference to {target}, allowed are {', '.join(sorted(allowed))}"

    def _invariants(self, value: Json, definition: Json, where: str, resource: Json) -> Iterator[str]:
        for rule in definition.get("rules", ()):
            if rule["key"] not in BY_HAND and not holds(rule["expression"], value, resource, self._definitions.release):
                yield f"{where}: {rule['key']}: {rule['human']}"


def is_listed(item: Any, listed: frozenset[tuple[str, str]]) -> bool:
    """Whether a code, Coding or CodeableConcept has a code of *listed*; a bare code has no system to compare."""
    if not isinstance(item, dict):
        return any(code == item for _, code in listed)
    if not isinstance(item.get("coding", []), list):
        return False
    codings = item.get("coding", [] if "text" in item else [item])
    told = [(coding.get("system"), coding.get("code")) for coding in codings if isinstance(coding, dict)]
    return any(each in listed for each in told if all(isinstance(part, str) for part in each))


def target_of(reference: Json) -> str:
    """The resource type that a reference names, or "" when it does not tell."""
    literal = REFERENCE.match(str(reference.get("reference", "")))
    return literal[1] if literal else str(reference.get("type", ""))


def names_of(name: str, definition: Json) -> Iterator[tuple[str, str]]:
    """(JSON name, type code) for each type of an element; "" where the definition continues in this or another path."""
    codes = [kind["code"] for kind in definition.get("type", ())] or [""]
    for code in codes:
        yield (name.removesuffix("[x]") + code[:1].upper() + code[1:] if name.endswith("[x]") else name), code
        if not name.endswith("[x]"):
            return
