"""References and addresses within a transaction that Sightline writes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from fhir_check.checker import REFERENCE
from fhir_check.definitions import Json
from fhir_check.extensions import is_known

# What Sightline writes itself; all else (patients, orders, studies, the radiologist's report) is only referred to.
OWN = frozenset({"Device", "Observation", "DocumentReference", "Provenance", "AuditEvent", "ImagingSelection"})


def references(part: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(where, literal reference) of everything in *part*."""
    if isinstance(part, dict):
        if isinstance(part.get("reference"), str):
            yield where, part["reference"]
        for name, child in part.items():
            yield from references(child, f"{where}.{name}" if where else name)
    elif isinstance(part, list):
        for number, child in enumerate(part):
            yield from references(child, f"{where}[{number}]")


def unresolved(bundle: Json) -> set[str]:
    """The relative references of a Bundle that none of its entries is."""
    inside = set(_names(bundle))
    return {reference for _, reference in references(bundle) if _unversioned(reference) not in inside}


def reference_faults(bundle: Json, *, stored: Collection[str] = ()) -> Iterator[str]:
    """References to our own resources resolve, in the bundle or among *stored*; none is absolute (HAPI refuses it)."""
    inside = {*_names(bundle), *stored}
    full_urls = {entry.get("fullUrl") for entry in bundle.get("entry", ())}
    for where, reference in references(bundle, "Bundle"):
        literal = REFERENCE.match(reference)
        if literal and literal[1] in OWN and _unversioned(reference) not in inside:
            yield f"{where}: {reference} is one of ours and not there"
        if reference.startswith("urn:uuid:") and reference not in full_urls:
            yield f"{where}: {reference} is the full URL of no entry"
        if re.match(r"https?:", reference):
            yield f"{where}: an absolute reference, which servers refuse or take for another server's"


def entry_faults(bundle: Json) -> Iterator[str]:
    """Each entry goes to its own address, and none twice (R4 bundle.html bdl-7 and http.html#trules)."""
    addresses = [str(each.get("request", {}).get("url")) for each in bundle.get("entry", ())]
    names = [*_names(bundle)]
    for number, (entry, name) in enumerate(zip(bundle.get("entry", ()), names, strict=True)):
        where, request = f"Bundle.entry[{number}]", entry.get("request", {})
        if request.get("method") == "PUT" and request.get("url") != name:
            yield f"{where}.request.url: {request.get('url')} is not the address of {name}"
        if request.get("method") == "POST" and "resource" in entry and request.get("url") != name.partition("/")[0]:
            yield f"{where}.request.url: {request.get('url')} is not where {name.partition('/')[0]} is created"
        if request.get("method") != "POST" and addresses.count(str(request.get("url"))) > 1:
            yield f"{where}.request.url: {request.get('url')} is written twice"


def unknown_extensions(part: Any, where: str, *, inside: bool = False) -> Iterator[str]:
    """Extensions that neither R5 nor HL7's extension pack defines; *inside*: whether *part* is one itself."""
    if isinstance(part, dict):
        for name in ("extension", "modifierExtension"):
            for number, each in enumerate(part.get(name, ()) if isinstance(part.get(name), list) else ()):
                url = str(each.get("url", "")) if isinstance(each, dict) else ""
                # Within an extension, names are relative to its definition (extensibility.html).
                if not is_known(url) and not (inside and re.fullmatch(r"\w+", url)):
                    yield f"{where}.{name}[{number}]: no definition of {url} is known here"
        for name, child in part.items():
            yield from unknown_extensions(child, f"{where}.{name}", inside=name in ("extension", "modifierExtension"))
    elif isinstance(part, list):
        for number, child in enumerate(part):
            yield from unknown_extensions(child, f"{where}[{number}]", inside=inside)


def _names(bundle: Json) -> Iterator[str]:
    for entry in bundle.get("entry", ()):
        resource = entry.get("resource", {})
        yield f"{resource.get('resourceType')}/{resource.get('id')}"


def _unversioned(reference: str) -> str:
    return reference.partition("/_history/")[0]
