"""The resources that Sightline writes, under the ids that it derives, whoever gives ids at the server.

Most servers take a PUT to a new id (update as create), so that what is written twice is one resource. Others give ids
themselves. There each resource carries its derived id as an identifier, a UUID as ``urn:uuid:`` (as a tag where its
type has no identifiers), and is made by a conditional create under a lock of our own, since parallel conditional
creates make duplicates; what duplicates there are nevertheless, by other writers, are swept away. References within
what we write carry the identifier besides the server's id, so that what is read back can be told in derived ids again:
callers never see the difference.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from plugin.errors import ConformanceError
from plugin.fhir.client import ConflictError, FhirClient, RefusedError
from plugin.fhir.naming import (
    carries,
    condition,
    disowned,
    identity,
    in_derived_ids,
    in_server_ids,
    is_derived,
    own_references,
)
from plugin.fhir.resource import Element
from plugin.identity import derived_id

Json = dict[str, Any]
Alone = Callable[[], AbstractContextManager[None]]
"""A block in which no other worker of ours writes to the server."""

TRIES: Final = 4
_PART = 40
"""Entries of one transaction where a server refuses a larger one."""
_AT_ONCE = 20
"""Identifiers in one search: addresses of 2,000 characters pass everywhere."""


class OwnResources:
    """Our resources at *server*.

    Parameters
    ----------
    alone : see :data:`Alone`; nothing where there is one worker.
    """

    def __init__(self, server: FhirClient, *, alone: Alone = contextlib.nullcontext) -> None:
        self._server = server
        self._alone = alone
        self._server_gives_ids: bool | None = None  # None: not known yet

    def read(self, name: str) -> Element | None:
        """The resource that we wrote as *name* ("Type/<derived id>"), in derived ids; None when there is none.

        Raises
        ------
        TransientError, InputError
            As :meth:`plugin.fhir.client.FhirClient.read`.
        """
        return self.there((name,)).get(name)

    def write(self, resources: Iterable[Element], *, versions: Mapping[str, str] | None = None) -> None:
        """Write *resources*, each under its derived id, all or nothing; what stands there already is left alone.

        All or nothing holds as far as the server's transactions do. One that is too large for the server, or has too
        many conditional creates, goes in parts, first what others refer to; what is missing comes by the next try.

        Parameters
        ----------
        versions : name -> ``meta.versionId`` of what a resource was made from: it is written over no other version.

        Raises
        ------
        ConflictError
            If another version stands there, or another writer keeps winning: read again, and decide anew.
        TransientError
            If the server does not answer.
        ConformanceError
            If the server refuses a resource.
        """
        wanted = {f"{each.type}/{each.id}": each for each in resources}
        made_from = versions or {}
        for left in range(TRIES - 1, -1, -1):
            try:
                self._write(wanted, made_from)
            except ConflictError:  # by our own first try perhaps, whose answer was lost
                if not left:
                    raise
            else:
                return

    def _write(self, wanted: Mapping[str, Element], made_from: Mapping[str, str]) -> None:
        if not self._server_gives_ids:
            there = self.there(wanted)
            wanted = {name: each for name, each in wanted.items() if not _equal(there.get(name), each)}
            new = [name for name in wanted if name not in there]
            matches = _matches(wanted, there, made_from)
            if not wanted or (not self._server_gives_ids and self._written_by_put(wanted, new, matches)):
                return
        with self._alone():
            self._create(wanted, made_from)
            self._server_gives_ids = True

    def there(self, names: Iterable[str]) -> dict[str, Element]:
        """What stands there of *names*, each as :meth:`read` tells it; raises as it does."""
        names = tuple(names)
        there = {name: each for name in names if (each := self._server.read(name)) is not None}
        left = [name for name in names if name not in there and is_derived(name)]
        if self._server_gives_ids is not False and (found := self._found(left)):
            self._server_gives_ids = True
            there |= {name: Element(in_derived_ids(hits[0].json, name)) for name, hits in found.items()}
        return there

    def _written_by_put(self, changed: Mapping[str, Element], new: list[str], matches: Mapping[str, str]) -> bool:
        """Whether the server took *changed* under our ids; False if it gives ids itself."""
        if new and self._server.capability.refuses_ids(*(name.partition("/")[0] for name in new)):
            return False
        try:
            self._put_together(changed, changed, matches)
        except RefusedError:
            # Is it the ids, or what the resources say? One that refers to no other tells.
            if new and not self._server.put(changed[_in_order(changed, new)[0]].json):
                return False
            if len(changed) <= _PART:
                raise
            # It may be too much at once: Medplum takes 50 at most.
            order = _in_order(changed)
            for at in range(0, len(order), _PART):
                self._put_together(changed, order[at : at + _PART], matches)
        if new:
            self._server_gives_ids = False
        return True

    def _put_together(self, changed: Mapping[str, Element], names: Iterable[str], matches: Mapping[str, str]) -> None:
        entries = (_put(changed[name].json, matches.get(name, "")) for name in names)
        self._server.transaction(_transaction(entries), conditional=bool(matches))

    def _create(self, wanted: Mapping[str, Element], made_from: Mapping[str, str]) -> None:
        """Make or change *wanted* where the server gives ids; for one worker at a time."""
        names = dict.fromkeys([*wanted, *own_references(wanted.values())])
        there = self._swept(names)
        # What an administrator let us PUT earlier stays under its id.
        there |= {name: each for name in names if name not in there and (each := self._server.read(name)) is not None}
        changed = {name: each for name, each in wanted.items() if not _same(name, there.get(name), each)}
        places = {name: f"{each.type}/{each.id}" for name, each in there.items()}
        if changed:
            self._create_together(changed, places, _matches(changed, there, made_from))
            self._swept(name for name in changed if name not in places)

    def _create_together(
        self, changed: Mapping[str, Element], places: Mapping[str, str], matches: Mapping[str, str]
    ) -> None:
        new = {name: f"urn:uuid:{derived_id('placeholder', name)}" for name in changed if name not in places}
        entries = [_entry(name, each.json, places, new, matches) for name, each in changed.items()]
        try:
            self._server.transaction(_transaction(entries), conditional=True)
        except RefusedError:
            if not new:
                raise
            self._create_in_turn(changed, dict(places))

    def _create_in_turn(self, changed: Mapping[str, Element], places: dict[str, str]) -> None:
        """For servers that do not take many conditional creates at once."""
        for name in _in_order(changed):
            resource = in_server_ids(changed[name].json, name, places, {})
            if name not in places:
                places[name] = self._server.create(resource, unless=condition(name))
            elif not self._server.put(resource):
                raise ConformanceError("the FHIR server refuses a change of a resource of ours")

    def _swept(self, names: Iterable[str]) -> dict[str, Element]:
        """What stands there as each of *names*, if anything, after its duplicates are gone."""
        found = self._found(names)
        for name, (_, *duplicates) in found.items():
            for duplicate in duplicates:
                self._remove(duplicate, name)
        return {name: hits[0] for name, hits in found.items()}

    def _remove(self, duplicate: Element, name: str) -> None:
        """Delete it; where the server deletes nothing, it is in error, and no longer found as ours."""
        place = f"{duplicate.type}/{duplicate.id}"
        if not self._server.delete(place):
            self._server.update(place, lambda there: disowned(there.json, name))

    def _found(self, names: Iterable[str]) -> dict[str, tuple[Element, ...]]:
        """What carries the identifier of each of *names*, if anything; the lowest id, which stays, comes first."""
        found: dict[str, tuple[Element, ...]] = {}
        for kind, of_kind in _by_type(names).items():
            for at in range(0, len(of_kind), _AT_ONCE):
                asked = of_kind[at : at + _AT_ONCE]
                hits = tuple(self._server.search(kind, identity(*asked)))
                for name in asked:
                    # A server that does not know the parameter may answer everything.
                    found[name] = tuple(sorted((hit for hit in hits if hit.id and carries(hit, name)), key=_rank))
        return {name: hits for name, hits in found.items() if hits}


def _in_order(resources: Mapping[str, Element], names: Iterable[str] | None = None) -> list[str]:
    """Their names (or *names* of them), those before that others refer to.

    Raises
    ------
    ConformanceError
        If they refer to each other in a circle.
    """
    some = {name: resources[name] for name in (resources if names is None else names)}
    left = {name: set(own_references([each])) & (set(some) - {name}) for name, each in some.items()}
    order: list[str] = []
    while left:
        free = [name for name, needed in left.items() if not needed & set(left)]
        if not free:
            raise ConformanceError("resources of ours refer to each other in a circle")
        order += free
        left = {name: needed for name, needed in left.items() if name not in free}
    return order


def _by_type(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.partition("/")[0], []).append(name)
    return found


def _rank(each: Element) -> tuple[bool, int, str]:
    """Numbers count as numbers: HAPI gives them in the order of creation."""
    number = each.id.isdecimal()
    return (not number, int(each.id) if number else 0, each.id)


def _content(resource: Mapping[str, object]) -> Json:
    return {name: value for name, value in resource.items() if name != "meta"}  # the server's own


def _equal(there: Element | None, wanted: Element) -> bool:
    return there is not None and _content(there.json) == _content(wanted.json)


def _same(name: str, there: Element | None, wanted: Element) -> bool:
    return there is not None and _equal(Element(in_derived_ids(there.json, name)), wanted)


def _matches(changed: Iterable[str], there: Mapping[str, Element], made_from: Mapping[str, str]) -> dict[str, str]:
    """The condition under which each of *changed* may be written, as far as it was made from a version.

    Raises
    ------
    ConflictError
        If another version stands there.
    """
    matches = {name: made_from[name] for name in changed if name in made_from}
    for name, version in matches.items():
        stands = there[name].child("meta").string("versionId") if name in there else ""
        if stands != version:
            raise ConflictError("another writer changed a resource of ours meanwhile; it is read again")
    return {name: f'W/"{version}"' for name, version in matches.items()}


# A transaction


def _transaction(entries: Iterable[Json]) -> str:
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}, ensure_ascii=False)


def _put(resource: Mapping[str, Any], if_match: str = "") -> Json:
    request = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    return {"resource": resource, "request": request | ({"ifMatch": if_match} if if_match else {})}


def _entry(
    name: str,
    resource: Mapping[str, Any],
    places: Mapping[str, str],
    new: Mapping[str, str],
    matches: Mapping[str, str],
) -> Json:
    told = in_server_ids(resource, name, places, new)
    if name in places:
        return _put(told, matches.get(name, ""))
    request = {"method": "POST", "url": name.partition("/")[0], "ifNoneExist": condition(name)}
    return {"fullUrl": new[name], "resource": told, "request": request}
