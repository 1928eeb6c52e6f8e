"""What is open in a session, and what an event changes about it.

Content is shared as FHIRcast 3.0, 2.10 has it: whoever changes it names the version that they saw, and loses against
who was faster.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from plugin.errors import InputError
from plugin.fhircast.messages import Event, Json, key_of

#: Resources that are shared about one context, and contexts that are open at once.
MAX_CONTENT: Final = 500
MAX_OPEN: Final = 8
#: Events whose ids are remembered, so that one that is sent again is not told again.
REMEMBERED: Final = 256
#: What an event of one kind implies for who listens to the other alone, by the key in its context.
_IMPLIED: Final = {"DiagnosticReport": ("ImagingStudy", "Patient"), "ImagingStudy": ("Patient",)}


class ConflictError(InputError):
    """The event does not fit what is open now: get the current context, and send it anew if it still holds."""


@dataclass(frozen=True, slots=True)
class Context:
    """Something that is open, with the content that is shared about it by "Type/id"."""

    event: Event
    version: str
    content: tuple[tuple[str, Json], ...] = ()

    def told(self) -> Json:
        """As the answer to who asks what is open."""
        entries = [{"resource": resource} for _, resource in self.content]
        bundle = {"resourceType": "Bundle", "type": "collection", **({"entry": entries} if entries else {})}
        return {
            "context.type": self.event.anchor,
            "context.versionId": self.version,
            "context": [*self.event.context, {"key": "content", "resource": bundle}],
        }


@dataclass(slots=True)
class Topic:
    """One session. For one thread.

    Parameters
    ----------
    new_id : makes versions and ids that nobody guesses.
    """

    new_id: Callable[[], str]
    open: OrderedDict[str, Context] = field(default_factory=OrderedDict)
    _seen: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def current(self) -> Context | None:
        """What was opened last, of what is still open."""
        return next(reversed(self.open.values()), None)

    def take(self, event: Event) -> Json | None:
        """What is told to subscribers of *event*; None when they were told before.

        Raises
        ------
        ConflictError
            If it does not fit what is open.
        InputError
            If what it asks for cannot be done.
        """
        if event.id in self._seen:
            return None
        told = self._apply(event)
        self._seen[event.id] = None
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return told

    def implied(self, event: Event) -> Iterator[Event]:
        """What an open event opens besides, for subscribers who do not listen to it."""
        for anchor in _IMPLIED.get(event.anchor, ()) if event.verb == "open" else ():
            resource = event.resource(key_of(anchor))
            if resource is not None:
                kept = (key_of(anchor), "patient", "encounter")
                context = tuple(each for each in event.context if each.get("key") in kept)
                yield replace(event, id=self.new_id(), name=f"{anchor}-open", anchor=anchor, context=context)

    def _apply(self, event: Event) -> Json:
        match event.verb:
            case "open":
                return self._opened(event)
            case "close":
                self._held(event)
                closed = self.open.pop(event.anchor)
                return message(event, version=closed.version)
            case "update":
                return self._updated(event)
            case "select":
                held = self._held(event)
                _check_select(event)
                return message(event, version=held.version)
            case _:
                if event.name in ("Home-open", "UserLogout"):
                    self.open.clear()
                return message(event)

    def _opened(self, event: Event) -> Json:
        if event.anchor not in self.open and len(self.open) >= MAX_OPEN:
            raise ConflictError(f"{MAX_OPEN} contexts are open; close one first.")
        before = self.open.pop(event.anchor, None)
        same = before is not None and before.event.about == event.about
        content = before.content if before is not None and same else ()
        self.open[event.anchor] = Context(event, self.new_id(), content)
        return message(event, version=self.open[event.anchor].version)

    def _held(self, event: Event) -> Context:
        """What is open that *event* is about."""
        held = self.open.get(event.anchor)
        if held is None or held.event.about != event.about:
            raise ConflictError(f"No {event.anchor} of that id is open.")
        return held

    def _updated(self, event: Event) -> Json:
        held = self._held(event)
        if event.version != held.version:
            raise ConflictError("context.versionId is not the current one: get the current context, then try again.")
        content = changed(dict(held.content), _updates(event))
        if len(content) > MAX_CONTENT:
            raise InputError(f"More than {MAX_CONTENT} resources would be shared about one context.")
        now = self.open[event.anchor] = replace(held, version=self.new_id(), content=tuple(content.items()))
        return message(event, version=now.version, prior=held.version)


def message(event: Event, *, version: str = "", prior: str = "") -> Json:
    """*event* as it is told to subscribers."""
    versions = {"context.versionId": version} if version else {}
    versions |= {"context.priorVersionId": prior} if prior else {}
    told = {"hub.topic": event.topic, "hub.event": event.name, "context": list(event.context), **versions}
    return {"timestamp": event.timestamp, "id": event.id, "event": told}


def sync_error(about: Event, *, subscriber: str, why: str, event_id: str, now: str) -> Json:
    """That *subscriber* does not have the context that *about* established (3.2.1)."""
    system = "https://fhircast.hl7.org/events/syncerror/"
    named = (("eventid", about.id), ("eventname", about.name), ("subscriber", subscriber))
    coding = [{"system": f"{system}{kind}", "code": code} for kind, code in named if code]
    issue = {"severity": "warning", "code": "processing", "diagnostics": why, "details": {"coding": coding}}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    event = {
        "hub.topic": about.topic,
        "hub.event": "SyncError",
        "context": [{"key": "operationoutcome", "resource": outcome}],
    }
    return {"timestamp": now, "id": event_id, "event": event}


def changed(content: dict[str, Json], entries: Sequence[Json]) -> dict[str, Json]:
    """*content* after all of *entries*.

    Raises
    ------
    InputError
        If one of them cannot be done; then none is.
    """
    after = dict(content)
    for entry in entries:
        request = entry.get("request")
        method = request.get("method", "PUT") if isinstance(request, dict) else "PUT"
        resource = entry.get("resource")
        if method == "DELETE":
            named = _name(resource) or str((request or {}).get("url") or entry.get("fullUrl") or "")
            if after.pop("/".join(named.split("/")[-2:]), None) is None:
                raise InputError("An entry deletes a resource that is not shared.")
        elif method in ("PUT", "POST") and _name(resource):
            after[_name(resource)] = resource  # type: ignore[assignment]  # it has a name
        else:
            raise InputError("An entry of updates needs a resource with type and id, and PUT, POST or DELETE.")
    return after


def _updates(event: Event) -> Sequence[Json]:
    bundles = [each.get("resource") for each in event.context if each.get("key") == "updates"]
    bundle = bundles[0] if len(bundles) == 1 else None
    entries = bundle.get("entry") if isinstance(bundle, dict) and bundle.get("resourceType") == "Bundle" else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        raise InputError('An update has exactly one Bundle, at the key "updates".')
    names = [name for each in entries if (name := _name(each.get("resource")))]
    if len(set(names)) < len(names):
        raise InputError("A resource is in the Bundle more than once.")
    return entries


def _check_select(event: Event) -> None:
    """A select names none (which clears), one or many; resources by type and id, or references (3.6.4)."""
    given: list[Any] = [each for each in event.context if each.get("key") == "select"]
    if not given:
        raise InputError('A select needs the key "select"; an empty list clears what was selected.')


def _name(resource: object) -> str:
    """ "Type/id" of a resource; "" when it has none."""
    if not isinstance(resource, dict):
        return ""
    kind, own = resource.get("resourceType"), resource.get("id")
    return f"{kind}/{own}" if isinstance(kind, str) and kind and isinstance(own, str) and own else ""
