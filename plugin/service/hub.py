"""The FHIRcast hub at ``/api/hub``: subscriptions by form, events as JSON, and a web socket for each subscriber.

Sessions are in the memory of this process and end with it; what they hold about patients is written nowhere, logged
nowhere, and let go of with the last subscriber.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response, WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from plugin.access.caller import EVERYTHING, Caller
from plugin.access.visit import Visit
from plugin.errors import InputError
from plugin.fhircast.messages import Event, Json, SubscriptionRequest, answer_of, event_of, subscription_of
from plugin.fhircast.topic import ConflictError, Context, Topic, message, sync_error
from plugin.service.entrance import VisitNow
from plugin.service.problems import MEDIA_TYPE, NOT_FOUND, RESPONSES, Problem, problem

HUB: Final = "/api/hub"
SOCKET: Final = HUB + "/socket/{endpoint}"
FORM: Final = "application/x-www-form-urlencoded"
NORMAL: Final = (1000, 1001)
_ABNORMAL: Final = 1006
_UNANSWERED: Final = ("Heartbeat", "SyncError")
CONFIGURATION: Final = {
    "eventsSupported": [
        *(f"{each}-{verb}" for each in ("DiagnosticReport",) for verb in ("open", "close", "update", "select")),
        *(f"{each}-{verb}" for each in ("ImagingStudy", "Patient", "Encounter") for verb in ("open", "close")),
        "Home-open",
        "SyncError",
        "UserHibernate",
        "UserLogout",
    ],
    "websocketSupport": True,
    "webhookSupport": False,
    "fhircastVersion": "3.0.0",
    "getCurrentSupport": True,
    "contentSharingSupport": True,
}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the hub holds at once, and how long it waits.

    Parameters
    ----------
    event_bytes : of one event.
    waiting : messages that a subscriber has not taken yet.
    lease_s : longest subscription, which is also the usual one.
    answer_s : for a subscriber's answer to an event (FHIRcast 3.0, 2.5).
    connect_s : for a subscriber to open its web socket.
    """

    topics: int = 1000
    subscribers: int = 32
    event_bytes: int = 256 * 1024
    waiting: int = 64
    lease_s: int = 7200
    answer_s: float = 10.0
    connect_s: float = 60.0


class FullError(Exception):
    """The hub holds as much as it may; try again when somebody left."""


@dataclass(slots=True, eq=False)
class Subscriber:
    """One program of a session.

    Parameters
    ----------
    ends : when the subscription ends, on the monotonic clock.
    pending : events that it has not answered, with the time by which it has to.
    reason : why it was let go of; "" while it was not.
    """

    endpoint: str
    topic: str
    name: str
    events: frozenset[str]
    ends: float
    mailbox: asyncio.Queue[Json]
    lease_s: int
    connected: bool = False
    pending: dict[str, tuple[float, Event]] = field(default_factory=dict)
    reason: str = ""
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def confirmation(self, now: float) -> Json:
        """That the subscription holds."""
        return {
            "hub.mode": "subscribe",
            "hub.topic": self.topic,
            "hub.events": ",".join(sorted(self.events)),
            "hub.lease_seconds": max(0, round(self.ends - now)),
        }

    def denial(self) -> Json:
        """That it does not, or no longer."""
        return {
            "hub.mode": "denied",
            "hub.topic": self.topic,
            "hub.events": ",".join(sorted(self.events)),
            "hub.reason": self.reason or "unsubscribed",
        }


class Hub:
    """Every session of this process. On the event loop alone, so no lock is needed."""

    def __init__(
        self,
        bounds: Bounds | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = lambda: secrets.token_urlsafe(32),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.bounds = bounds or Bounds()
        self.clock, self._new_id, self._now = clock, new_id, now
        self._topics: dict[str, Topic] = {}
        self._subscribers: dict[str, Subscriber] = {}

    def subscribe(self, asked: SubscriptionRequest) -> Subscriber:
        """The new or changed subscription.

        Raises
        ------
        InputError
            If it names an endpoint that is not of that topic.
        FullError
            If there are too many topics, or subscribers of this one.
        """
        self.sweep()
        lease_s = min(asked.lease_s or self.bounds.lease_s, self.bounds.lease_s)
        ends = self.clock() + lease_s
        if asked.endpoint:
            there = self._of(asked)
            there.events, there.ends, there.lease_s = frozenset(asked.events), ends, lease_s
            there.name = asked.name or there.name
            if there.connected:
                self._put(there, there.confirmation(self.clock()))
            return there
        if asked.topic not in self._topics and len(self._topics) >= self.bounds.topics:
            raise FullError
        if len(list(self._in(asked.topic))) >= self.bounds.subscribers:
            raise FullError
        self._topics.setdefault(asked.topic, Topic(self._new_id))
        made = Subscriber(
            endpoint=self._new_id(),
            topic=asked.topic,
            name=asked.name or "a subscriber",
            events=frozenset(asked.events),
            ends=ends,
            mailbox=asyncio.Queue(self.bounds.waiting),
            lease_s=lease_s,
        )
        made.pending[""] = (self.clock() + self.bounds.connect_s, _NOTHING)
        self._subscribers[made.endpoint] = made
        return made

    def unsubscribe(self, asked: SubscriptionRequest) -> None:
        """End a subscription.

        Raises
        ------
        InputError
            If there is none of that endpoint and topic.
        """
        self._leave(self._of(asked), "unsubscribed")

    def connect(self, endpoint: str) -> Subscriber | None:
        """The subscriber whose web socket that is, once; confirmed, and told what is open."""
        self.sweep()
        subscriber = self._subscribers.get(endpoint)
        if subscriber is None or subscriber.connected:
            return None
        subscriber.connected = True
        del subscriber.pending[""]
        self._put(subscriber, subscriber.confirmation(self.clock()))
        for context in self._topics[subscriber.topic].open.values():
            self._tell(subscriber, context.event, message(context.event, version=context.version))
        return subscriber

    def post(self, event: Event) -> None:
        """Tell *event* to who subscribed to it.

        Raises
        ------
        KeyError
            If nobody is subscribed to its topic.
        InputError
            If it does not fit what is open.
        """
        self.sweep()
        topic = self._topics[event.topic]
        told = topic.take(event)
        if told is None:
            return
        implied = [(each, message(each)) for each in topic.implied(event)]
        for subscriber in self._in(event.topic):
            if not self._tell(subscriber, event, told):
                for each, words in implied:
                    self._tell(subscriber, each, words)

    def current(self, topic: str) -> Context | None:
        """What is open in *topic*; raises KeyError when nobody is subscribed to it."""
        self.sweep()
        return self._topics[topic].current

    def answered(self, subscriber: Subscriber, text: str) -> None:
        """Take what a subscriber sent: its answer to an event."""
        answer = answer_of(text)
        if answer is None or answer.id not in subscriber.pending:
            return
        _, event = subscriber.pending.pop(answer.id)
        if not answer.follows and event.verb not in ("update", "select"):
            said = "refused to follow" if answer.status < 500 else "failed to follow"
            self._complain(subscriber, event, f"{subscriber.name} {said} the context ({answer.status})")

    def disconnected(self, subscriber: Subscriber, code: int) -> None:
        """Its web socket is gone."""
        if not subscriber.reason and code not in NORMAL:
            self._complain(subscriber, _about(subscriber), f"the connection to {subscriber.name} was lost")
        self._leave(subscriber, "disconnected")

    def sweep(self) -> None:
        """Let go of who did not answer, did not come, or whose time is over."""
        now = self.clock()
        for subscriber in tuple(self._subscribers.values()):
            late = [event for until, event in subscriber.pending.values() if until <= now]
            if subscriber.ends <= now:
                self._leave(subscriber, "the lease is over")
            elif late and subscriber.connected:
                self._complain(subscriber, late[0], f"{subscriber.name} did not answer")
                self._leave(subscriber, "an event was not answered in time")
            elif late:
                self._leave(subscriber, "nobody connected")

    def next_sweep_s(self, subscriber: Subscriber) -> float:
        """How long until something of *subscriber* may be over."""
        times = [until for until, _ in subscriber.pending.values()]
        return max(0.01, min(subscriber.ends, *times, self.clock() + self.bounds.answer_s) - self.clock())

    def _of(self, asked: SubscriptionRequest) -> Subscriber:
        found = self._subscribers.get(asked.endpoint.rpartition("/")[2])
        if found is None or found.topic != asked.topic:
            raise InputError("There is no subscription of that topic and hub.channel.endpoint.")
        return found

    def _in(self, topic: str) -> Iterator[Subscriber]:
        return (each for each in tuple(self._subscribers.values()) if each.topic == topic)

    def _tell(self, subscriber: Subscriber, event: Event, told: Json) -> bool:
        """Whether *subscriber* listens to *event*; it is told when it does."""
        if event.name.lower() not in subscriber.events:
            return False
        if subscriber.connected and self._put(subscriber, told) and event.name not in _UNANSWERED:
            subscriber.pending[event.id] = (self.clock() + self.bounds.answer_s, event)
        return True

    def _put(self, subscriber: Subscriber, told: Json) -> bool:
        try:
            subscriber.mailbox.put_nowait(told)
        except asyncio.QueueFull:
            self._leave(subscriber, "too much was not taken")
            return False
        return True

    def _complain(self, subscriber: Subscriber, event: Event, why: str) -> None:
        """Tell the others that *subscriber* is out of step."""
        stamp = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = sync_error(event, subscriber=subscriber.name, why=why, event_id=self._new_id(), now=stamp)
        for other in self._in(subscriber.topic):
            if other is not subscriber and other.connected and "syncerror" in other.events:
                self._put(other, told)

    def _leave(self, subscriber: Subscriber, reason: str) -> None:
        subscriber.reason = subscriber.reason or reason
        subscriber.left.set()
        self._subscribers.pop(subscriber.endpoint, None)
        if not any(self._in(subscriber.topic)):
            self._topics.pop(subscriber.topic, None)


_NOTHING: Final = Event(id="", timestamp="", topic="", name="", anchor="", verb="", context=())


def _about(subscriber: Subscriber) -> Event:
    """What a lost subscriber is out of step with: what it has not answered, else nothing in particular."""
    waiting = [event for _, event in subscriber.pending.values()]
    return waiting[0] if waiting else Event("", "", subscriber.topic, "", "", "", ())


_SAID: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": said, "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
    for status, said in (
        (403, "Whoever asks is bound to one patient."),
        (409, "The event does not fit what is open."),
        (413, "The body is too large."),
    )
}


def hub_router(hub: Hub, *, public_url: str | None) -> APIRouter:
    """The routes of *hub*; links to web sockets begin with *public_url*, or with the address that was asked."""
    router = APIRouter(tags=["FHIRcast"])

    @router.post(
        HUB,
        responses=RESPONSES | NOT_FOUND | _SAID,
        status_code=202,
        summary="Subscribe, unsubscribe, or tell an event",
    )
    async def post(request: Request, visit: VisitNow) -> Response:
        """A form subscribes (FHIRcast 3.0, 2.4); JSON is an event (2.6)."""
        _check_sees(visit)
        body = await _body(request, hub.bounds.event_bytes)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
            return _subscribed(hub, _within(subscription_of(body), visit.caller), request, public_url)
        return _posted(hub, event_of(body))

    @router.post(
        HUB + "/{topic}", responses=RESPONSES | NOT_FOUND | _SAID, status_code=202, summary="Tell an event of a topic"
    )
    async def post_to(topic: str, request: Request, visit: VisitNow) -> Response:
        """As above, for clients that put the topic into the address."""
        _check_sees(visit)
        event = event_of(await _body(request, hub.bounds.event_bytes))
        if event.topic != topic:
            raise InputError("hub.topic is another one than the address names.")
        return _posted(hub, event)

    for path in (HUB, ""):
        router.add_api_route(f"{path}/.well-known/fhircast-configuration", _configuration, include_in_schema=not path)

    @router.get(HUB + "/{topic}", responses=RESPONSES | NOT_FOUND | _SAID, summary="What is open in a topic")
    async def current(topic: str, visit: VisitNow) -> dict[str, Any]:
        """The context that was opened last, with the content that is shared about it (2.9)."""
        _check_sees(visit)
        try:
            context = hub.current(topic)
        except KeyError:
            raise HTTPException(404, "Nobody is subscribed to that topic.") from None
        return context.told() if context else {"context.type": "", "context.versionId": "", "context": []}

    @router.websocket(SOCKET)
    async def socket(websocket: WebSocket, endpoint: str) -> None:
        """Who knows the address that a subscription was answered with."""
        subscriber = hub.connect(endpoint)
        if subscriber is None:
            await websocket.close(1008)
            return
        await websocket.accept()
        await _serve(hub, subscriber, websocket)

    return router


async def _configuration() -> dict[str, Any]:
    """What this hub can do (FHIRcast 3.0, 2.7)."""
    return CONFIGURATION


def _check_sees(visit: Visit) -> None:
    """A session is about whatever patient its user turns to, so it is nothing for who is bound to one."""
    if visit.sees != EVERYTHING:
        raise HTTPException(
            403, "A token for one patient does not open the hub, whose sessions go from one to another."
        )


def _within(asked: SubscriptionRequest, caller: Caller) -> SubscriptionRequest:
    """*asked* for no longer than the token of *caller* holds (FHIRcast 3.0, 2.4)."""
    if caller.ends is None:
        return asked
    left_s = max(1, int(caller.ends - time.time()))
    return replace(asked, lease_s=min(asked.lease_s or left_s, left_s))


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(413, f"An event has at most {most} bytes.")
    return bytes(body)


def _subscribed(hub: Hub, asked: SubscriptionRequest, request: Request, public_url: str | None) -> Response:
    if asked.ends:
        hub.unsubscribe(asked)
        return Response(status_code=202)
    try:
        subscriber = hub.subscribe(asked)
    except FullError:
        answer = problem(
            HTTPStatus.SERVICE_UNAVAILABLE, "The hub has as many subscribers as it takes; try again later."
        )
        answer.headers["Retry-After"] = "60"
        return answer
    base = urlsplit(public_url or str(request.base_url))
    scheme = "wss" if base.scheme == "https" else "ws"
    address = f"{scheme}://{base.netloc}{base.path.rstrip('/')}{SOCKET.format(endpoint=subscriber.endpoint)}"
    content = json.dumps({"hub.channel.endpoint": address})
    return Response(content, 202, media_type="application/json")


def _posted(hub: Hub, event: Event) -> Response:
    try:
        hub.post(event)
    except KeyError:
        raise HTTPException(404, "Nobody is subscribed to that topic.") from None
    except ConflictError as error:
        return problem(HTTPStatus.CONFLICT, str(error))
    return Response(status_code=202)


async def _serve(hub: Hub, subscriber: Subscriber, websocket: WebSocket) -> None:
    """Until the subscriber leaves, or is let go of."""
    parts = [
        asyncio.ensure_future(each)
        for each in (_send(subscriber, websocket), _receive(hub, subscriber, websocket), _watch(hub, subscriber))
    ]
    try:
        done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        code = parts[1].result() if parts[1] in done and not parts[1].exception() else None
        if not subscriber.reason:
            hub.disconnected(subscriber, code or _ABNORMAL)
        elif websocket.client_state is WebSocketState.CONNECTED:
            with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
                await asyncio.wait_for(_say_farewell(subscriber, websocket), timeout=5)
    finally:
        for part in parts:
            part.cancel()
        await asyncio.gather(*parts, return_exceptions=True)
        hub.disconnected(subscriber, NORMAL[0])


async def _send(subscriber: Subscriber, websocket: WebSocket) -> None:
    while True:
        await websocket.send_text(json.dumps(await subscriber.mailbox.get(), ensure_ascii=False))


async def _receive(hub: Hub, subscriber: Subscriber, websocket: WebSocket) -> int:
    """The code that the web socket was closed with."""
    try:
        while True:
            hub.answered(subscriber, await websocket.receive_text())
    except WebSocketDisconnect as error:
        return error.code
    except KeyError:  # binary: nothing of FHIRcast
        return 1003


async def _watch(hub: Hub, subscriber: Subscriber) -> None:
    while not subscriber.reason:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(subscriber.left.wait(), hub.next_sweep_s(subscriber))
        hub.sweep()


async def _say_farewell(subscriber: Subscriber, websocket: WebSocket) -> None:
    await websocket.send_text(json.dumps(subscriber.denial()))
    await websocket.close(NORMAL[0])
