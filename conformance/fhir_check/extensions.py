"""Elements of a later release as extensions (versions.html#extensions), held against that release's own definition."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fhir_check.definitions import Json, definitions

CROSS_VERSION = re.compile(
    r"http://hl7\.org/fhir/(?P<version>5\.0)/StructureDefinition/extension-(?P<path>\w+(\.\w+)+)$"
)
# Types of R5 that R4 lacks, and what carries them there.
CARRIED = {"integer64": "string", "CodeableReference": "Reference"}

# HL7's extension pack 5.2.0: url -> what it holds, as (name, least, most, how its value is called), or its value alone.
KNOWN: dict[str, tuple[tuple[str, int, int, str], ...] | str] = {
    "http://hl7.org/fhir/StructureDefinition/textLink": (
        ("htmlid", 1, 1000, "valueString"),
        ("data", 1, 1, "valueUri"),
        ("selector", 0, 1, "valueString"),
    ),
    "http://hl7.org/fhir/StructureDefinition/data-absent-reason": "valueCode",
    # Subscriptions R5 Backport 1.1.0
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria": "valueString",
    "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content": "valueCode",
}


def is_known(url: str) -> bool:
    """Whether *url* is an extension that is defined here: an element of R5, or one of :data:`KNOWN`."""
    path = named["path"] if (named := CROSS_VERSION.match(url)) else ""
    return url in KNOWN or path in definitions("R5").elements(path.partition(".")[0])


def faults(extension: Json, where: str) -> Iterator[str]:
    """What is wrong with a cross-version extension or one of :data:`KNOWN`; nothing for any other."""
    url = str(extension.get("url", ""))
    if named := CROSS_VERSION.match(url):
        yield from _element(extension, named["path"], where)
    if url in KNOWN:
        yield from _known(extension, url, where)


def _known(extension: Json, url: str, where: str) -> Iterator[str]:
    name, parts = url.rpartition("/")[2], KNOWN[url]
    if isinstance(parts, str):
        if parts not in extension:
            yield f"{where}: {name} has a {parts}"
        return
    inner = _inner(extension)
    for part, least, most, value in parts:
        found = [each for each in inner if each.get("url") == part]
        if not least <= len(found) <= most or not all(value in each for each in found):
            yield f"{where}: {name} has {least}..{'*' if most > 1 else most} {part} as {value}"
    for each in inner:
        if each.get("url") not in [part for part, *_ in parts]:
            yield f"{where}: {name} has no {each.get('url')}"


def _element(extension: Json, path: str, where: str) -> Iterator[str]:
    kind = path.partition(".")[0]
    element = definitions("R5").elements(kind).get(path)
    if element is None:
        yield f"{where}: R5 has no element {path}"
        return
    codes = [CARRIED.get(each["code"], each["code"]) for each in element.get("type", ())]
    if codes == ["BackboneElement"]:
        yield from _parts(extension, kind, path, where)
        return
    allowed = {f"value{code[:1].upper()}{code[1:]}": code for code in codes}
    given = [name for name in extension if name.startswith("value")]
    if len(given) != 1 or given[0] not in allowed:
        yield f"{where}: {path} is a {' or '.join(codes)} in R5"
        return
    listed = definitions("R5").codes(element["binding"]) if "binding" in element else None
    if listed is not None and extension[given[0]] not in [code for _, code in listed]:
        yield f"{where}: not in the required value set {element['binding']}"


def _parts(extension: Json, kind: str, path: str, where: str) -> Iterator[str]:
    parts = _inner(extension)
    names = [str(each.get("url", "")) for each in parts]
    for child in definitions("R5").children(kind, path):
        name = child["path"].rpartition(".")[2]
        count, low, high = names.count(name), child.get("min", 0), child["max"]
        if count < low or (high != "*" and count > int(high)):
            yield f"{where}: {child['path']}: {count} given, {low}..{high} in R5"
    for number, (name, part) in enumerate(zip(names, parts, strict=True)):
        yield from _element(part, f"{path}.{name}", f"{where}.extension[{number}]")


def _inner(extension: Json) -> list[Json]:
    inner = extension.get("extension")
    return [each for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
