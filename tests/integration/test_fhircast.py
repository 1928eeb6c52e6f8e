"""The FHIRcast hub as programs written after the specification meet it: on sockets, with clients of their own."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI
from servers import NPM, ROOT, require
from serving import served
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from plugin.access.caller import Caller, Proof, Role
from plugin.access.ports import Credentials
from plugin.fhircast.messages import Event, answer_of, event_of, subscription_of
from plugin.service.entrance import Access, Entrance
from plugin.service.hub import Bounds, Hub, hub_router
from plugin.service.problems import answer_with_problems

EVENTS = "DiagnosticReport-open,DiagnosticReport-close,DiagnosticReport-update,DiagnosticReport-select,SyncError"
REPORT = {"resourceType": "DiagnosticReport", "id": "r1", "subject": {"reference": "Patient/p1"}}
PATIENT = {"key": "patient", "resource": {"resourceType": "Patient", "id": "p1"}}
STUDY = {"key": "study", "resource": {"resourceType": "ImagingStudy", "id": "s1"}}
OPENED = [{"key": "report", "resource": REPORT}, PATIENT, STUDY]
NAMED = {"key": "report", "reference": [{"reference": "DiagnosticReport/r1"}]}
OBSERVATION = {"resourceType": "Observation", "id": "o1", "status": "preliminary"}


def identify(credentials: Credentials) -> Caller | None:
    """A radiologist, or one whose scopes are of a single patient; whoever brings nothing is nobody."""
    if not credentials.bearer:
        return None
    scopes = ("patient/*.rs",) if credentials.bearer == "narrow" else ()
    roles = frozenset({Role.PATIENT if credentials.bearer == "patient" else Role.RADIOLOGIST})
    ends = time.time() + 100 if credentials.bearer == "short" else None
    return Caller("one", roles, Proof.TOKEN, patient="Patient/p1", scopes=scopes, ends=ends)


@contextmanager
def hub_served(bounds: Bounds | None = None, *, trusting: bool = False) -> Iterator[httpx.Client]:
    app = FastAPI()
    app.include_router(hub_router(Hub(bounds), public_url=None))
    answer_with_problems(app)
    app.add_middleware(Entrance, access=Access() if trusting else Access(identify))
    with (
        served(app) as address,
        httpx.Client(
            base_url=address, headers={"Authorization": "Bearer radiologist"}, trust_env=False, timeout=30
        ) as http,
    ):
        for _ in range(600):
            try:
                http.get("/.well-known/fhircast-configuration")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield http


@pytest.fixture(scope="module")
def usual() -> Iterator[httpx.Client]:
    with hub_served() as client:
        yield client


@pytest.fixture
def http(usual: httpx.Client) -> Iterator[httpx.Client]:
    """Of a hub that other tests use, too, each with a topic of its own."""
    with httpx.Client(base_url=usual.base_url, headers=usual.headers, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def topic() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@dataclass
class Client:
    """A subscriber after FHIRcast 3.0, 2.4 and 2.5."""

    socket: ClientConnection
    endpoint: str
    confirmation: dict[str, Any]

    def get(self, *, status: int | str | None = 200) -> dict[str, Any]:
        """The next message, answered with *status*."""
        told: dict[str, Any] = json.loads(self.socket.recv(timeout=30))
        if "id" in told and status is not None:
            self.socket.send(json.dumps({"id": told["id"], "status": status}))
        return told

    def event(self, **options: Any) -> tuple[str, dict[str, Any]]:
        told = self.get(**options)
        return told["event"]["hub.event"], told["event"]

    def silent(self) -> bool:
        """Whether nothing comes, as far as a short while tells."""
        try:
            self.socket.recv(timeout=0.3)
        except TimeoutError:
            return True
        return False


def form(topic: str, *, events: str = EVENTS, mode: str = "subscribe", **further: str) -> dict[str, str]:
    body = {"hub.channel.type": "websocket", "hub.mode": mode, "hub.topic": topic}
    return body | ({"hub.events": events} if events else {}) | further


def subscribed(http: httpx.Client, stack: ExitStack, topic: str, **options: Any) -> Client:
    answer = http.post("/api/hub", data=form(topic, **options))
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    endpoint = answer.json()["hub.channel.endpoint"]
    socket = stack.enter_context(connect(endpoint, proxy=None))
    return Client(socket, endpoint, json.loads(socket.recv(timeout=30)))


def told(http: httpx.Client, topic: str, name: str, context: list[Any], **event: Any) -> httpx.Response:
    message = {
        "timestamp": "2026-03-01T01:37:05.14Z",
        "id": str(event.pop("id", uuid.uuid4())),
        "event": {"hub.topic": topic, "hub.event": name, "context": context} | event,
    }
    return http.post("/api/hub", json=message)


def test_a_subscription_is_accepted_and_confirmed_on_its_web_socket(
    http: httpx.Client, stack: ExitStack, topic: str
) -> None:
    client = subscribed(http, stack, topic, **{"hub.lease_seconds": "600"})

    assert client.endpoint.startswith(f"ws://127.0.0.1:{http.base_url.port}/api/hub/socket/")
    assert len(client.endpoint.rpartition("/")[2]) >= 43  # 256 bits
    assert client.confirmation["hub.mode"] == "subscribe"
    assert client.confirmation["hub.topic"] == topic
    assert set(client.confirmation["hub.events"].split(",")) == {each.lower() for each in EVENTS.split(",")}
    assert 590 <= client.confirmation["hub.lease_seconds"] <= 600
    with pytest.raises(InvalidStatus), connect(client.endpoint, proxy=None):
        pytest.fail("an address opens one web socket")


def test_what_one_opens_and_selects_the_others_are_told_and_itself_too(
    http: httpx.Client, stack: ExitStack, topic: str
) -> None:
    page, viewer = (subscribed(http, stack, topic) for _ in range(2))

    opened = told(http, topic, "diagnosticreport-OPEN", OPENED, id="e1")
    selected = told(
        http,
        topic,
        "DiagnosticReport-select",
        [NAMED, {"key": "select", "reference": [{"reference": "Observation/o1"}]}],
    )
    cleared = told(http, topic, "DiagnosticReport-select", [NAMED, {"key": "select", "reference": []}])

    assert [each.status_code for each in (opened, selected, cleared)] == [202, 202, 202]
    for client in (page, viewer):
        first = client.get()
        assert first["id"] == "e1"
        assert first["timestamp"] == "2026-03-01T01:37:05.14Z"
        assert first["event"]["hub.event"] == "DiagnosticReport-open"
        assert first["event"]["context"] == OPENED
        name, event = client.event()
        assert name == "DiagnosticReport-select"
        assert event["context"][1]["reference"] == [{"reference": "Observation/o1"}]
        assert event["context.versionId"] == first["event"]["context.versionId"]
        assert client.event()[1]["context"][1]["reference"] == []


def test_an_event_sent_again_is_not_told_again(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    client = subscribed(http, stack, topic)

    for _ in range(3):
        assert told(http, topic, "DiagnosticReport-open", OPENED, id="once").status_code == 202

    assert client.event()[0] == "DiagnosticReport-open"
    assert client.silent()


def test_content_is_shared_by_versions_and_who_is_late_gets_a_conflict(
    http: httpx.Client, stack: ExitStack, topic: str
) -> None:
    client = subscribed(http, stack, topic)
    told(http, topic, "DiagnosticReport-open", OPENED)
    first = client.event()[1]["context.versionId"]

    def update(version: str, *entries: dict[str, Any]) -> httpx.Response:
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
        updates = {"key": "updates", "resource": bundle}
        return told(http, topic, "DiagnosticReport-update", [NAMED, updates], **{"context.versionId": version})

    added = update(first, {"request": {"method": "PUT", "url": "Observation/o1"}, "resource": OBSERVATION})
    late = update(first, {"request": {"method": "PUT"}, "resource": OBSERVATION | {"id": "o2"}})
    event = client.event()[1]
    second = event["context.versionId"]
    current = http.get(f"/api/hub/{topic}").json()
    half = update(
        second,
        {"request": {"method": "PUT"}, "resource": OBSERVATION | {"id": "o3"}},
        {"request": {"method": "DELETE", "url": "Observation/not-there"}},
    )

    assert (added.status_code, late.status_code, half.status_code) == (202, 409, 422)
    assert event["context.priorVersionId"] == first
    assert second != first
    assert current["context.type"] == "DiagnosticReport"
    assert current["context.versionId"] == second
    assert current["context"][:-1] == OPENED
    shared = current["context"][-1]
    assert shared["key"] == "content"
    assert shared["resource"] == {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": OBSERVATION}]}
    assert http.get(f"/api/hub/{topic}").json() == current  # nothing of the half
    assert update(second, {"request": {"method": "DELETE", "url": "Observation/o1"}}).status_code == 202
    assert "entry" not in http.get(f"/api/hub/{topic}").json()["context"][-1]["resource"]


def test_what_is_closed_is_open_no_more(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    subscribed(http, stack, topic)
    told(http, topic, "ImagingStudy-open", [STUDY, PATIENT])
    told(http, topic, "DiagnosticReport-open", OPENED)
    other = [{"key": "report", "resource": REPORT | {"id": "another"}}]

    wrong = told(http, topic, "DiagnosticReport-close", other)
    right = told(http, topic, "DiagnosticReport-close", OPENED)
    below = http.get(f"/api/hub/{topic}").json()
    told(http, topic, "ImagingStudy-close", [STUDY, PATIENT])
    nothing = http.get(f"/api/hub/{topic}").json()
    selected = told(http, topic, "DiagnosticReport-select", [NAMED, {"key": "select", "reference": []}])

    assert (wrong.status_code, right.status_code, selected.status_code) == (409, 202, 409)
    assert below["context.type"] == "ImagingStudy"
    assert (nothing["context.type"], nothing["context"]) == ("", [])


def test_who_comes_later_is_told_what_is_open(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    subscribed(http, stack, topic)
    told(http, topic, "DiagnosticReport-open", OPENED, id="earlier")

    late = subscribed(http, stack, topic).get()

    assert (late["id"], late["event"]["hub.event"]) == ("earlier", "DiagnosticReport-open")
    assert late["event"]["context.versionId"]


def test_who_listens_to_studies_alone_is_told_of_the_study_that_a_report_opens(
    http: httpx.Client, stack: ExitStack, topic: str
) -> None:
    client = subscribed(http, stack, topic, events="ImagingStudy-open")

    told(http, topic, "DiagnosticReport-open", OPENED)

    name, event = client.event()
    assert name == "ImagingStudy-open"
    assert [each["key"] for each in event["context"]] == ["patient", "study"]


@pytest.mark.parametrize("status", [409, "500"])
def test_a_refusal_is_told_to_the_others_as_a_sync_error(
    http: httpx.Client, stack: ExitStack, topic: str, status: int | str
) -> None:
    page = subscribed(http, stack, topic)
    viewer = subscribed(http, stack, topic, **{"subscriber.name": "Acme Viewer"})

    told(http, topic, "DiagnosticReport-open", OPENED, id="e7")
    page.get()
    viewer.get(status=status)
    name, event = page.event()

    assert name == "SyncError"
    (entry,) = event["context"]
    (issue,) = entry["resource"]["issue"]
    coded = {each["system"].rpartition("/")[2]: each["code"] for each in issue["details"]["coding"]}
    assert entry["key"] == "operationoutcome"
    assert issue["severity"] == "warning"
    assert coded == {"eventid": "e7", "eventname": "DiagnosticReport-open", "subscriber": "Acme Viewer"}
    assert viewer.silent()
    told(http, topic, "DiagnosticReport-select", [NAMED, {"key": "select", "reference": []}])
    assert viewer.event()[0] == "DiagnosticReport-select"  # it is still subscribed


def test_a_sync_error_of_a_subscriber_goes_to_all(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    client = subscribed(http, stack, topic)
    outcome = {"key": "operationoutcome", "resource": {"resourceType": "OperationOutcome", "issue": []}}

    assert told(http, topic, "syncerror", [outcome]).status_code == 202
    assert client.event()[0] == "SyncError"


def test_who_does_not_answer_is_unsubscribed_and_the_others_are_told(stack: ExitStack, topic: str) -> None:
    http = stack.enter_context(hub_served(Bounds(answer_s=1.0)))
    page = subscribed(http, stack, topic)
    viewer = subscribed(http, stack, topic, **{"subscriber.name": "Acme Viewer"})

    told(http, topic, "DiagnosticReport-open", OPENED)
    page.get()
    viewer.get(status=None)
    name, event = page.event()
    denied = viewer.get()

    assert name == "SyncError"
    assert "Acme Viewer did not answer" in json.dumps(event)
    assert denied["hub.mode"] == "denied"
    assert "not answered in time" in denied["hub.reason"]
    with pytest.raises(ConnectionClosed):
        viewer.get()


def test_a_lost_connection_is_told_and_a_normal_end_is_not(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    page, good, bad = (subscribed(http, stack, topic) for _ in range(3))

    good.socket.close(1000)
    bad.socket.close(1011)
    name, event = page.event()

    assert name == "SyncError"
    assert "was lost" in json.dumps(event)
    assert page.silent()


def test_a_subscription_ends_when_it_is_asked_to_and_when_its_time_is_over(
    http: httpx.Client, stack: ExitStack, topic: str
) -> None:
    asked = subscribed(http, stack, topic)
    short = subscribed(http, stack, topic, **{"hub.lease_seconds": "1"})
    ended = {"hub.channel.endpoint": asked.endpoint}

    answer = http.post("/api/hub", data=form(topic, events="", mode="unsubscribe", **ended))

    assert answer.status_code == 202
    assert asked.get()["hub.mode"] == "denied"
    assert short.get()["hub.reason"] == "the lease is over"
    assert http.post("/api/hub", data=form(topic, events="", mode="unsubscribe", **ended)).status_code == 422
    assert told(http, topic, "DiagnosticReport-open", OPENED).status_code == 404  # nobody is left, and nothing is kept
    assert http.get(f"/api/hub/{topic}").status_code == 404


def test_no_subscription_outlasts_the_token_that_asked_for_it(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    http.headers["Authorization"] = "Bearer short"

    client = subscribed(http, stack, topic, **{"hub.lease_seconds": "7200"})

    assert 0 < client.confirmation["hub.lease_seconds"] <= 100


def test_a_subscription_is_changed_in_place(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    client = subscribed(http, stack, topic, events="Patient-open")

    again = http.post("/api/hub", data=form(topic, **{"hub.channel.endpoint": client.endpoint}))
    confirmation = client.get()
    told(http, topic, "DiagnosticReport-open", OPENED)

    assert again.json()["hub.channel.endpoint"] == client.endpoint
    assert "diagnosticreport-open" in confirmation["hub.events"]
    assert client.event()[0] == "DiagnosticReport-open"


def test_topics_do_not_mix(http: httpx.Client, stack: ExitStack, topic: str) -> None:
    mine, other = subscribed(http, stack, topic), subscribed(http, stack, str(uuid.uuid4()))

    told(http, topic, "DiagnosticReport-open", OPENED)

    assert mine.event()[0] == "DiagnosticReport-open"
    assert other.silent()


@pytest.mark.parametrize(("token", "status"), [("", 401), ("patient", 403), ("narrow", 403)])
def test_nobody_gets_in_who_may_not_go_from_patient_to_patient(
    http: httpx.Client, stack: ExitStack, topic: str, token: str, status: int
) -> None:
    subscribed(http, stack, topic)
    http.headers["Authorization"] = f"Bearer {token}" if token else ""

    assert http.post("/api/hub", data=form(topic)).status_code == status
    assert http.get(f"/api/hub/{topic}").status_code == status
    assert told(http, topic, "DiagnosticReport-open", OPENED).status_code == status
    with (
        pytest.raises(InvalidStatus),
        connect(f"ws://127.0.0.1:{http.base_url.port}/api/hub/socket/guessed", proxy=None),
    ):
        pytest.fail("a guessed address")


@pytest.mark.parametrize(
    "wrong",
    [
        {"hub.channel.type": "webhook"},
        {"hub.mode": "listen"},
        {"hub.topic": ""},
        {"hub.events": "everything"},
        {"hub.lease_seconds": "-1"},
        {"hub.channel.endpoint": "ws://x/api/hub/socket/guessed"},
    ],
)
def test_a_wrong_request_is_refused_with_the_reason(http: httpx.Client, topic: str, wrong: dict[str, str]) -> None:
    answer = http.post("/api/hub", data=form(topic) | wrong)

    assert answer.status_code == 422
    assert answer.json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[" * 100_000,
        b"[]",
        json.dumps({"id": "1", "timestamp": "yesterday", "event": {}}).encode(),
        json.dumps({"id": "1", "timestamp": "2026-03-01T00:00:00Z", "event": {"hub.topic": "t"}}).encode(),
    ],
)
def test_what_is_no_event_is_refused(http: httpx.Client, body: bytes) -> None:
    answer = http.post("/api/hub", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422


@pytest.mark.parametrize("value", ["NaN", "1e999", r'"\ud800"', "[" * 300 + "]" * 300])
def test_what_cannot_be_told_on_is_refused_and_the_others_stay(
    http: httpx.Client, stack: ExitStack, topic: str, value: str
) -> None:
    mine = subscribed(http, stack, topic)
    resource = '{"resourceType": "DiagnosticReport", "id": "r1", "x": VALUE}'.replace("VALUE", value)
    body = (
        '{"timestamp": "2026-03-01T01:37:05Z", "id": "1", "event": {"hub.topic": "TOPIC", "hub.event": '
        '"DiagnosticReport-open", "context": [{"key": "report", "resource": RESOURCE}]}}'
    )
    body = body.replace("TOPIC", topic).replace("RESOURCE", resource)

    answer = http.post("/api/hub", content=body, headers={"Content-Type": "application/json"})

    assert answer.status_code == 422
    assert told(http, topic, "DiagnosticReport-open", OPENED).status_code == 202
    assert mine.event()[0] == "DiagnosticReport-open"
    assert http.get(f"/api/hub/{topic}").status_code == 200


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", '{"status": "ok"}', '{"status": NaN}', '{"status": 1e999}', '{"status": 99}']
)
def test_what_is_no_answer_to_an_event_is_nobodys_concern(text: str) -> None:
    assert answer_of(text) is None


def test_the_hub_is_bounded(stack: ExitStack, topic: str) -> None:
    http = stack.enter_context(hub_served(Bounds(topics=2, subscribers=2, event_bytes=2000)))
    for _ in range(2):
        subscribed(http, stack, topic)
    third = http.post("/api/hub", data=form(topic))
    subscribed(http, stack, str(uuid.uuid4()))
    many = http.post("/api/hub", data=form(str(uuid.uuid4())))
    large = told(http, topic, "DiagnosticReport-open", [*OPENED, {"key": "x", "resource": {"text": "x" * 3000}}])

    assert (third.status_code, many.status_code, large.status_code) == (503, 503, 413)
    assert third.headers["Retry-After"]


def test_who_takes_nothing_or_never_connects_is_let_go_of() -> None:
    now = [0.0]
    hub = Hub(Bounds(waiting=3, connect_s=60), clock=lambda: now[0])
    asked = subscription_of(urlencode(form("topic")).encode())
    slow, absent = hub.subscribe(asked), hub.subscribe(asked)
    hub.connect(slow.endpoint)

    def opened(number: int) -> Event:
        context = [{"key": "report", "resource": REPORT}]
        event = {"hub.topic": "topic", "hub.event": "DiagnosticReport-open", "context": context}
        return event_of(json.dumps({"id": str(number), "timestamp": "2026-03-01T00:00:00Z", "event": event}).encode())

    for number in range(3):
        hub.post(opened(number))
    now[0] = 61.0
    hub.sweep()

    assert slow.reason == "too much was not taken"
    assert absent.reason == "nobody connected"
    with pytest.raises(KeyError):
        hub.current("topic")


def test_what_the_hub_can_do_is_told(http: httpx.Client) -> None:
    for path in ("/.well-known/fhircast-configuration", "/api/hub/.well-known/fhircast-configuration"):
        configuration = http.get(path).json()

        assert "DiagnosticReport-select" in configuration["eventsSupported"]
        assert configuration["websocketSupport"] is True
        assert configuration["getCurrentSupport"] is True


@contextmanager
def client_of_others(hub: str, topic: str) -> Iterator[subprocess.Popen[str]]:
    """Medplum's client, which prints what it is told."""
    modules = NPM / "node_modules"
    require("node", *([] if (modules / "@medplum" / "core").is_dir() else ["Medplum (tests/install-npm-packages)"]))
    command = ["node", str(ROOT / "tests" / "fhircast-client.cjs"), str(modules), hub, topic, EVENTS.rpartition(",")[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running
        finally:
            running.kill()


def test_a_client_that_others_wrote_takes_part(stack: ExitStack, topic: str) -> None:
    """Medplum's speaks the form of subscriptions, the web socket and the payloads of FHIRcast by itself."""
    http = stack.enter_context(hub_served(trusting=True))
    theirs = stack.enter_context(client_of_others(str(http.base_url.join("/api/hub")), topic))
    assert theirs.stdin is not None
    assert theirs.stdout is not None

    def heard() -> dict[str, Any]:
        line: dict[str, Any] = json.loads(theirs.stdout.readline())  # type: ignore[union-attr]
        return line

    def said(event: str, context: list[Any], **further: Any) -> None:
        theirs.stdin.write(json.dumps({"event": event, "context": context, **further}) + "\n")  # type: ignore[union-attr]
        theirs.stdin.flush()  # type: ignore[union-attr]

    assert heard() == {"connected": 202}
    mine = subscribed(http, stack, topic)
    report = REPORT | {"status": "final", "code": {"text": "Chest"}}
    patient = {"resourceType": "Patient", "id": "p1", "identifier": [{"system": "x", "value": "1"}]}
    study = {"resourceType": "ImagingStudy", "id": "s1", "status": "available", "subject": {"reference": "Patient/p1"}}
    study |= {"identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}]}
    said(
        "DiagnosticReport-open",
        [{"key": key, "resource": each} for key, each in (("report", report), ("patient", patient), ("study", study))],
    )
    opened = mine.event()[1]
    echoes = [heard(), heard()]
    chosen = [NAMED, {"key": "select", "reference": [{"reference": "Observation/o1"}]}]
    told(http, topic, "DiagnosticReport-select", chosen)

    assert opened["context"][0]["resource"]["id"] == "r1"
    assert {"posted": 202} in echoes
    assert [each["event"]["hub.event"] for each in echoes if "event" in each] == ["DiagnosticReport-open"]
    assert heard()["event"]["context"][1]["reference"] == [{"reference": "Observation/o1"}]
    assert mine.event()[0] == "DiagnosticReport-select"
    assert mine.silent()  # no SyncError: it answers each event
