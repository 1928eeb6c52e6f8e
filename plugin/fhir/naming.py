"""Our resources at a server that gives ids itself: how what carries a derived id is found, told to it, and told back.

Pure. A *name* is "Type/<derived id>"; a *place*, "Type/<the server's id>".
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import httpx

from plugin.fhir.client import token
from plugin.fhir.resource import Element

Json = dict[str, Any]

URI: Final = "urn:ietf:rfc:3986"
TAGGED: Final = frozenset({"AuditEvent", "Binary", "Bundle", "Composition", "Provenance", "Subscription"})
"""Types that have no list of identifiers."""
RETRACTED: Final = frozenset({"Device", "DiagnosticReport", "DocumentReference", "ImagingSelection", "Observation"})
"""Types whose status may be ``entered-in-error``."""
_REFERENCE = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})((?:/_history/[A-Za-z0-9\-.]{1,64})?)")


def identity(*names: str) -> dict[str, str]:
    """The search that finds the resources *names*, all of one type, by the ids that we derived."""
    marks = ",".join(token(f"urn:uuid:{name.partition('/')[2]}", system=URI) for name in names)
    return {"_tag" if names[0].partition("/")[0] in TAGGED else "identifier": marks}


def condition(name: str) -> str:
    """The same as ``If-None-Exist`` takes it."""
    return str(httpx.QueryParams(identity(name)))


def carries(resource: Element, name: str) -> bool:
    """Whether *resource* is marked as *name*."""
    marks = [(each.string("system"), each.string("value")) for each in resource.children("identifier")]
    marks += [(each.string("system"), each.string("code")) for each in resource.child("meta").children("tag")]
    return resource.type == name.partition("/")[0] and (URI, f"urn:uuid:{name.partition('/')[2]}") in marks


def is_derived(name: str) -> bool:
    """Whether the id in "Type/id" is a name-based UUID, as those that we derive are."""
    try:
        return uuid.UUID(name.rpartition("/")[2]).version == 5
    except ValueError:
        return False


def in_server_ids(resource: Mapping[str, Any], name: str, places: Mapping[str, str], new: Mapping[str, str]) -> Json:
    """*resource*, whose derived name is *name*, for a server that gives ids itself.

    Parameters
    ----------
    places : derived names of what is there -> the server's names.
    new : derived names of what the same transaction makes -> its full URLs.
    """
    told: Json = _walk(dict(resource), lambda part: _to_server(part, places, new))
    told.pop("id")
    own = {"system": URI, "value": f"urn:uuid:{name.partition('/')[2]}"}
    if told["resourceType"] in TAGGED:
        tag = {"system": URI, "code": own["value"]}
        told["meta"] = told.get("meta", {}) | {"tag": [*told.get("meta", {}).get("tag", []), tag]}
    else:
        told["identifier"] = [*told.get("identifier", []), own]
    return told | ({"id": places[name].partition("/")[2]} if name in places else {})


def _to_server(part: Json, places: Mapping[str, str], new: Mapping[str, str]) -> Json:
    found = _REFERENCE.fullmatch(part["reference"])
    target = f"{found[1]}/{found[2]}" if found else ""
    there = places.get(target) or new.get(target)
    if not there:
        return part
    return part | {"reference": there, "identifier": {"system": URI, "value": f"urn:uuid:{target.partition('/')[2]}"}}


def in_derived_ids(resource: Mapping[str, Any], name: str) -> Json:
    """What :func:`in_server_ids` made of a resource, as it was, but for ``meta``."""
    told: Json = _walk(_anonymous(resource, name), _from_server)
    return told | {"id": name.partition("/")[2]}


def _from_server(part: Json) -> Json:
    identifier = part.get("identifier")
    value = identifier.get("value") if isinstance(identifier, dict) and identifier.get("system") == URI else None
    found = _REFERENCE.fullmatch(part["reference"])
    if not found or not isinstance(value, str) or not is_derived(value.replace("urn:uuid:", "/")):
        return part
    rest = {key: each for key, each in part.items() if key != "identifier"}
    return rest | {"reference": f"{found[1]}/{value.removeprefix('urn:uuid:')}"}


def _anonymous(resource: Mapping[str, Any], name: str) -> Json:
    """*resource* without the identifier that makes it ours."""
    value = f"urn:uuid:{name.partition('/')[2]}"
    told = dict(resource)
    kept = [each for each in told.get("identifier", []) if (each.get("system"), each.get("value")) != (URI, value)]
    if "identifier" in told and isinstance(told["identifier"], list):
        del told["identifier"]
        told |= {"identifier": kept} if kept else {}
    return told


def disowned(resource: Mapping[str, Any], name: str) -> Json:
    """A duplicate of *name* that cannot be deleted: in error where its type can say so, and not found as ours."""
    told = _anonymous(resource, name)
    value = f"urn:uuid:{name.partition('/')[2]}"
    meta = dict(told.get("meta", {}))
    meta["tag"] = [tag for tag in meta.pop("tag", []) if tag.get("code") != value]
    told["meta"] = {key: each for key, each in meta.items() if each}
    return told | ({"status": "entered-in-error"} if told["resourceType"] in RETRACTED else {})


def own_references(resources: Iterable[Element]) -> Iterator[str]:
    """Names of what *resources* refer to, as far as it is under ids like ours."""
    found: list[str] = []

    def note(part: Json) -> Json:
        match = _REFERENCE.fullmatch(part["reference"])
        found.extend([f"{match[1]}/{match[2]}"] if match and is_derived(match[2]) else [])
        return part

    for each in resources:
        _walk(dict(each.json), note)
    yield from dict.fromkeys(found)


def _walk(part: Any, change: Callable[[Json], Json]) -> Any:
    """A copy of *part* in which every Reference with a literal reference is what *change* makes of it."""
    if isinstance(part, list):
        return [_walk(each, change) for each in part]
    if not isinstance(part, dict):
        return part
    copy = {name: _walk(each, change) for name, each in part.items()}
    return change(copy) if isinstance(copy.get("reference"), str) else copy
