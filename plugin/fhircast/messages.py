"""What subscribers send, checked: requests for a subscription, and events. What is wrong is told, never quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qs

from plugin.errors import InputError
from plugin.limits import MAX_DEPTH, is_deep

Json = dict[str, Any]

MAX_EVENTS: Final = 64
#: Events of the infrastructure, which are about no resource, in the spelling of the specification.
INFRASTRUCTURE: Final = ("Heartbeat", "Home-open", "SyncError", "UserHibernate", "UserLogout")
_VERBS: Final = ("open", "close", "update", "select")
_KEYS: Final = {"DiagnosticReport": "report", "ImagingStudy": "study"}
_NAME: Final = re.compile(rf"([a-z]{{2,40}})-({'|'.join(_VERBS)})", re.IGNORECASE)
_TOPIC: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_RESOURCE_ID: Final = re.compile(r"[A-Za-z0-9.-]{1,64}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]{5,20}(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """A request to subscribe, or to end a subscription.

    Parameters
    ----------
    events : in lower case, since names are compared without regard to it; empty to end.
    endpoint : of a subscription that there is; "" for a new one.
    """

    topic: str = field(repr=False)
    ends: bool
    events: tuple[str, ...] = ()
    lease_s: int | None = None
    endpoint: str = field(default="", repr=False)
    name: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a session.

    Parameters
    ----------
    name : in the spelling of the specification where it is known, else as it was sent.
    anchor, verb : of "DiagnosticReport-open"; "" for events of the infrastructure.
    context : as it was sent.
    version : ``context.versionId``; "" when there is none.
    """

    id: str
    timestamp: str
    topic: str = field(repr=False)
    name: str
    anchor: str
    verb: str
    context: tuple[Json, ...] = field(repr=False)
    version: str = ""

    def resource(self, key: str) -> Json | None:
        """The resource of that key in the context."""
        found = (each.get("resource") for each in self.context if each.get("key") == key)
        return next((each for each in found if isinstance(each, dict)), None)

    @property
    def about(self) -> str:
        """The id of what the event is about; "" when it names none, and for events of the infrastructure."""
        if not self.anchor:
            return ""
        resource = self.resource(key_of(self.anchor))
        if resource is not None:
            return str(resource.get("id", ""))
        named = self.references(key_of(self.anchor))
        return named[0].rpartition("/")[2] if len(named) == 1 else ""

    def references(self, key: str) -> tuple[str, ...]:
        """The references of that key, which updates and selections have in place of resources."""
        given = [each.get("reference") for each in self.context if each.get("key") == key]
        listed = [each for some in given for each in (some if isinstance(some, list) else [some])]
        return tuple(str(each["reference"]) for each in listed if isinstance(each, dict) and each.get("reference"))


def key_of(anchor: str) -> str:
    """The key of a context's own resource."""
    return _KEYS.get(anchor, anchor.lower())


def subscription_of(body: bytes) -> SubscriptionRequest:
    """The request in *body*, form-encoded.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=32)
    except ValueError:
        raise InputError("This is not a form: UTF-8 and application/x-www-form-urlencoded were expected.") from None
    if any(len(values) > 1 for values in fields.values()):
        raise InputError("Each parameter is given at most once.")
    given = {name: values[0].strip() for name, values in fields.items()}
    if given.get("hub.channel.type") != "websocket":
        raise InputError("hub.channel.type must be websocket.")
    mode = given.get("hub.mode")
    if mode not in ("subscribe", "unsubscribe"):
        raise InputError("hub.mode must be subscribe or unsubscribe.")
    topic, endpoint = given.get("hub.topic", ""), given.get("hub.channel.endpoint", "")
    if not _TOPIC.fullmatch(topic):
        raise InputError("hub.topic is missing, or has other than 1 to 128 visible characters.")
    if mode == "unsubscribe":
        if not endpoint:
            raise InputError("To unsubscribe, hub.channel.endpoint is needed.")
        return SubscriptionRequest(topic, ends=True, endpoint=endpoint)
    return SubscriptionRequest(
        topic,
        ends=False,
        events=_events_of(given.get("hub.events", "")),
        lease_s=_lease_of(given.get("hub.lease_seconds", "")),
        endpoint=endpoint,
        name="".join(filter(str.isprintable, given.get("subscriber.name", "")))[:64],
    )


def _events_of(listed: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(each.strip().lower() for each in listed.split(",") if each.strip()))
    if not names or len(names) > MAX_EVENTS:
        raise InputError(f"hub.events must name 1 to {MAX_EVENTS} events, with commas between.")
    known = {each.lower() for each in INFRASTRUCTURE}
    if not all(each in known or _NAME.fullmatch(each) for each in names):
        raise InputError("hub.events names something that is no event, like DiagnosticReport-open.")
    return names


def _lease_of(given: str) -> int | None:
    if not given:
        return None
    if not given.isascii() or not given.isdecimal() or not 0 < len(given) < 10 or int(given) == 0:
        raise InputError("hub.lease_seconds must be a positive whole number.")
    return int(given)


def event_of(body: bytes) -> Event:
    """The event in *body*, JSON.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        told = json.loads(body)
        json.dumps(told, ensure_ascii=False, allow_nan=False).encode()  # as others are told of it
    except (ValueError, RecursionError):
        raise InputError("This is not JSON, or has text or numbers in it that JSON cannot hold.") from None
    if is_deep(told):
        raise InputError(f"The JSON is nested more than {MAX_DEPTH} levels deep.")
    event = told.get("event") if isinstance(told, dict) else None
    if not isinstance(event, dict):
        raise InputError("An event has timestamp, id and event (FHIRcast 3.0, 2.6).")
    name, anchor, verb = _name_of(_text(event, "hub.event", re.compile(r"[\w-]{1,64}")))
    made = Event(
        id=_text(told, "id", _ID),
        timestamp=_text(told, "timestamp", _TIME),
        topic=_text(event, "hub.topic", _TOPIC),
        name=name,
        anchor=anchor,
        verb=verb,
        context=_context(event.get("context", []), needed=bool(anchor)),
        version=_text(event, "context.versionId", _ID) if event.get("context.versionId") else "",
    )
    if anchor and not _RESOURCE_ID.fullmatch(made.about):
        raise InputError(f'The context of {name} needs one resource, or reference, at the key "{key_of(anchor)}".')
    if (resource := made.resource(key_of(anchor))) and resource.get("resourceType", anchor) != anchor:
        raise InputError(f'The resource at "{key_of(anchor)}" is of another type than {name} is about.')
    return made


def _name_of(name: str) -> tuple[str, str, str]:
    known = {each.lower(): each for each in INFRASTRUCTURE}
    if name.lower() in known:
        return known[name.lower()], "", ""
    if not _NAME.fullmatch(name):
        raise InputError("hub.event must be like DiagnosticReport-open, -close, -update or -select.")
    anchor, _, verb = name.rpartition("-")
    spelt = {each.lower(): each for each in ("DiagnosticReport", "ImagingStudy", "Patient", "Encounter")}
    anchor = spelt.get(anchor.lower(), anchor[0].upper() + anchor[1:])
    return f"{anchor}-{verb.lower()}", anchor, verb.lower()


def _context(given: object, *, needed: bool) -> tuple[Json, ...]:
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given) or len(given) > 64:
        raise InputError("event.context must be a list of at most 64 objects.")
    if needed and not given:
        raise InputError("event.context is empty.")
    return tuple(given)


def _text(told: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = told.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{name} is missing, or not of the form that FHIRcast gives it.")
    return value


@dataclass(frozen=True, slots=True)
class Answer:
    """A subscriber's answer to an event: *status* as in HTTP."""

    id: str
    status: int

    @property
    def follows(self) -> bool:
        """Whether the subscriber has the context, or will have it."""
        return 200 <= self.status < 300


def answer_of(text: str) -> Answer | None:
    """The answer in *text*; None when it is something else, which is nobody's concern."""
    try:
        told = json.loads(text)
        status = int(told["status"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return Answer(str(told.get("id", ""))[:128], status) if isinstance(told, dict) and 100 <= status < 600 else None
