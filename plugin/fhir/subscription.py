"""Our Subscription at a FHIR server: a rest-hook that tells us that a report may have come, and nothing of it.

R4 by search criteria; the Subscriptions R5 Backport on R4 (v1.1.0) and R5 by topic. What is told is never believed: it
wakes the poll, which is the authority.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from plugin.errors import InputError
from plugin.fhir.capability import Release
from plugin.fhir.client import FhirClient
from plugin.fhir.resource import Element
from plugin.identity import derived_id

HOOK_HEADER: Final = "Sightline-Hook-Secret"
LIFE: Final = timedelta(days=7)
"""A Subscription ends by itself when nobody renews it, as after Sightline was taken down."""

_BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"
_REASON = "Reports of radiographs are joined with their images"


@dataclass(frozen=True, slots=True)
class Hook:
    """Where we want to be told, and of what.

    Parameters
    ----------
    endpoint : our own address, as the FHIR server reaches it.
    secret : what proves that it is the server; it stands in the Subscription, for whoever may read that.
    categories : as :class:`plugin.reports.feeds.FhirReportFeed` takes them.
    topic : canonical URL of a SubscriptionTopic of the server; "" on R4: by criteria; on R5: by a topic of our own.
    """

    endpoint: str
    secret: str = field(repr=False)
    categories: str = ""
    topic: str = ""

    @property
    def name(self) -> str:
        """Of the Subscription: "Subscription/<id>", the same for the same endpoint."""
        return f"Subscription/{derived_id('report subscription', self.endpoint)}"

    @property
    def own_topic(self) -> str:
        """Canonical URL of the topic that R5 servers are given."""
        return f"urn:uuid:{derived_id('report topic', 'DiagnosticReport')}"


def subscription(hook: Hook, release: Release, *, end: datetime) -> dict[str, Any]:
    """The Subscription that asks for what *hook* wants, until *end*."""
    own = {"resourceType": "Subscription", "id": hook.name.partition("/")[2], "status": "requested", "reason": _REASON}
    until = {"end": end.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")}
    if release is Release.R5:
        return own | until | _by_topic(hook)
    criteria = f"DiagnosticReport?{f'category={hook.categories}' if hook.categories else ''}"
    channel: dict[str, Any] = {
        "type": "rest-hook",
        "endpoint": hook.endpoint,
        "header": [f"{HOOK_HEADER}: {hook.secret}"],
    }
    if not hook.topic:
        return own | until | {"criteria": criteria, "channel": channel}
    filtered = {"_criteria": _extended("backport-filter-criteria", valueString=criteria)} if hook.categories else {}
    payload = {"payload": "application/fhir+json", "_payload": _extended("backport-payload-content", valueCode="empty")}
    profile = {"meta": {"profile": [f"{_BACKPORT}backport-subscription"]}}
    return own | until | profile | {"criteria": hook.topic, **filtered, "channel": channel | payload}


def topic(hook: Hook) -> dict[str, Any]:
    """The SubscriptionTopic of R5: every change of a DiagnosticReport."""
    trigger = {"resource": "DiagnosticReport", "supportedInteraction": ["create", "update", "delete"]}
    may_filter = {"resource": "DiagnosticReport", "filterParameter": "category"}
    return {
        "resourceType": "SubscriptionTopic",
        "id": hook.own_topic.removeprefix("urn:uuid:"),
        "url": hook.own_topic,
        "status": "active",
        "title": "Diagnostic reports that are new or changed",
        "resourceTrigger": [trigger],
        "canFilterBy": [may_filter],
    }


def registered(server: FhirClient, hook: Hook, *, now: datetime) -> str:
    """See to it that the Subscription stands on *server* and does not end soon; its status there.

    A Subscription that is as it should be, and has more than half of its life before it, is left alone. One that the
    server gave up (``error``, ``off``) is asked for again.

    Returns
    -------
    FHIR's status ("requested", "active", "error", "off"); "" if the server takes no subscriptions.

    Raises
    ------
    TransientError, ConformanceError
        See :class:`plugin.fhir.client.FhirClient`.
    """
    release = server.release
    wanted = subscription(hook, release, end=now + LIFE)
    there = _there(server, hook)
    if there is not None and there.string("status") in ("requested", "active") and _stands(there.json, wanted, now):
        return there.string("status")
    if release is Release.R5 and not hook.topic and not server.put(topic(hook)):
        return ""
    if not server.put(wanted):
        return ""
    after = _there(server, hook)
    return after.string("status") if after is not None else ""


def _there(server: FhirClient, hook: Hook) -> Element | None:
    try:
        return server.read(hook.name)
    except InputError:  # a server without this type of resource may answer anything from 400 to 422
        return None


def _stands(there: Mapping[str, object], wanted: Mapping[str, object], now: datetime) -> bool:
    """Whether what is there is what is wanted, whatever the server added to it, for half of its life at least."""
    fixed = ("criteria", "_criteria", "channel", "topic", "filterBy", "endpoint", "parameter")
    try:
        end = datetime.fromisoformat(str(there.get("end")))
        lasts = end.tzinfo is not None and end - now > LIFE / 2
    except ValueError:
        lasts = False
    return lasts and all(there.get(name) == wanted.get(name) for name in fixed)


def _by_topic(hook: Hook) -> dict[str, Any]:
    code = {"system": "http://terminology.hl7.org/CodeSystem/subscription-channel-type", "code": "rest-hook"}
    filters = [{"resourceType": "DiagnosticReport", "filterParameter": "category", "value": hook.categories}]
    return {
        "topic": hook.topic or hook.own_topic,
        **({"filterBy": filters} if hook.categories else {}),
        "channelType": code,
        "endpoint": hook.endpoint,
        "parameter": [{"name": HOOK_HEADER, "value": hook.secret}],
        "content": "empty",
    }


def _extended(name: str, **value: str) -> dict[str, Any]:
    return {"extension": [{"url": f"{_BACKPORT}{name}", **value}]}
