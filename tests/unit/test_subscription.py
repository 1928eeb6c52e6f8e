"""The Subscription that is asked for, and the hook that it calls."""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from queues import MemoryQueue

from plugin.errors import TransientError
from plugin.fhir.capability import Release
from plugin.fhir.client import FhirClient
from plugin.fhir.subscription import HOOK_HEADER, LIFE, Hook, registered, subscription, topic
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.hooks import MOST_BYTES, Coalesced, hooks_router
from plugin.service.subscriber import Subscriber

BASE = "https://fhir.example/fhir"
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "a secret of the tests"
HOOK = Hook("https://sightline.example/hooks/reports", SECRET, categories="RAD,IMG")
WITH_TOPIC = Hook(HOOK.endpoint, SECRET, categories="RAD", topic="http://example.org/topics/reports")


class Server:
    """A FHIR server of some release that keeps what is put; *refuses*: Subscriptions are answered with that."""

    def __init__(self, release: str = "4.0.1", *, refuses: int = 0, becomes: str = "active") -> None:
        self.release, self.refuses, self.becomes = release, refuses, becomes
        self.held: dict[str, Any] = {}
        self.puts: list[str] = []
        pool = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.client = FhirClient(BASE, client=pool, sleep=lambda _: None)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.removeprefix("/fhir/")
        if name == "metadata":
            return httpx.Response(200, json={"resourceType": "CapabilityStatement", "fhirVersion": self.release})
        if request.method == "PUT":
            self.puts.append(name)
            if self.refuses:
                return httpx.Response(self.refuses, json={"resourceType": "OperationOutcome"})
            self.held[name] = json.loads(request.content)
            if name.startswith("Subscription/"):
                self.held[name]["status"] = self.becomes
            return httpx.Response(200, json=self.held[name])
        return httpx.Response(200, json=self.held[name]) if name in self.held else httpx.Response(404)


@pytest.mark.parametrize(
    ("hook", "release", "package"),
    [
        (HOOK, Release.R4, "R4B."),
        (Hook(HOOK.endpoint, SECRET), Release.R4, "R4B."),
        (WITH_TOPIC, Release.R4, "R4B."),
        (HOOK, Release.R5, ""),
        (WITH_TOPIC, Release.R5, ""),
    ],
)
def test_what_is_asked_for_is_valid_fhir_with_the_secret_in_its_header(
    hook: Hook, release: Release, package: str
) -> None:
    asked = subscription(hook, release, end=NOW)

    importlib.import_module(f"fhir.resources.{package}subscription").Subscription.model_validate(asked)
    assert asked["end"] == "2026-03-01T12:00:00Z"
    assert f"Subscription/{asked['id']}" == hook.name
    told = json.dumps(asked)
    assert HOOK.endpoint in told
    assert HOOK_HEADER in told
    assert SECRET in told
    assert SECRET not in repr(hook)


def test_r4_asks_by_criteria_of_the_sites_categories() -> None:
    assert subscription(HOOK, Release.R4, end=NOW)["criteria"] == "DiagnosticReport?category=RAD,IMG"
    assert subscription(Hook("e", "s"), Release.R4, end=NOW)["criteria"] == "DiagnosticReport?"
    assert "payload" not in subscription(HOOK, Release.R4, end=NOW)["channel"]


def test_the_backport_asks_by_topic_with_the_criteria_as_its_filter_and_an_empty_payload() -> None:
    asked = subscription(WITH_TOPIC, Release.R4, end=NOW)

    assert asked["criteria"] == WITH_TOPIC.topic
    assert asked["meta"]["profile"][0].endswith("/backport-subscription")
    (criteria,) = asked["_criteria"]["extension"]
    assert criteria["url"].endswith("/backport-filter-criteria")
    assert criteria["valueString"] == "DiagnosticReport?category=RAD"
    (content,) = asked["channel"]["_payload"]["extension"]
    assert content["valueCode"] == "empty"


def test_r5_asks_by_a_topic_which_is_ours_when_the_site_names_none() -> None:
    importlib.import_module("fhir.resources.subscriptiontopic").SubscriptionTopic.model_validate(topic(HOOK))
    asked = subscription(HOOK, Release.R5, end=NOW)

    assert (asked["topic"], asked["content"]) == (topic(HOOK)["url"], "empty")
    assert asked["filterBy"][0]["value"] == "RAD,IMG"
    assert subscription(WITH_TOPIC, Release.R5, end=NOW)["topic"] == WITH_TOPIC.topic


def test_it_is_put_under_the_same_id_and_then_left_alone() -> None:
    server = Server()

    assert registered(server.client, HOOK, now=NOW) == "active"
    assert registered(server.client, HOOK, now=NOW + timedelta(hours=1)) == "active"
    assert server.puts == [HOOK.name]


def test_it_is_renewed_when_half_of_its_life_is_over() -> None:
    server = Server()
    registered(server.client, HOOK, now=NOW)

    registered(server.client, HOOK, now=NOW + LIFE * 0.6)

    assert server.puts == [HOOK.name] * 2
    assert server.held[HOOK.name]["end"] == "2026-03-12T16:48:00Z"


@pytest.mark.parametrize(
    "change", [{"status": "error"}, {"status": "off"}, {"criteria": "Patient?"}, {"end": None}, {"end": "never"}]
)
def test_one_that_the_server_gave_up_or_somebody_changed_is_asked_for_again(change: dict[str, Any]) -> None:
    server = Server()
    registered(server.client, HOOK, now=NOW)
    server.held[HOOK.name] |= change

    assert registered(server.client, HOOK, now=NOW) == "active"


def test_an_r5_server_gets_our_topic_first() -> None:
    server = Server("5.0.0")

    assert registered(server.client, HOOK, now=NOW) == "active"
    assert server.puts == [f"SubscriptionTopic/{topic(HOOK)['id']}", HOOK.name]


@pytest.mark.parametrize("status", [400, 404, 405, 422])
@pytest.mark.parametrize("release", ["4.0.1", "5.0.0"])
def test_a_server_that_takes_no_subscriptions_is_no_error(status: int, release: str) -> None:
    assert registered(Server(release, refuses=status).client, HOOK, now=NOW) == ""


def test_a_server_that_is_away_is_waited_for() -> None:
    with pytest.raises(TransientError):
        registered(Server(refuses=503).client, HOOK, now=NOW)


def said_by(server: Server, caplog: pytest.LogCaptureFixture, *, rounds: int = 3) -> list[str]:
    caplog.set_level("INFO", logger="plugin.service.subscriber")
    subscriber = Subscriber(server.client, HOOK, every_s=0.01, clock=lambda: NOW)
    looks = len(server.puts) + rounds
    subscriber.start()
    for _ in range(500):
        if len(server.puts) >= looks or (server.held and not server.refuses):
            break
        asyncio.run(asyncio.sleep(0.01))
    subscriber.stop()
    return caplog.messages


def test_the_subscriber_says_once_that_the_server_takes_none(caplog: pytest.LogCaptureFixture) -> None:
    said = said_by(Server(refuses=405), caplog)

    assert said == ["the subscription is not taken by the FHIR server; polling goes on"]


def test_the_subscriber_says_what_became_of_it(caplog: pytest.LogCaptureFixture) -> None:
    assert said_by(Server(becomes="active"), caplog) == ["the subscription is active; polling goes on"]


def test_credentials_that_do_not_suffice_are_told_without_them(caplog: pytest.LogCaptureFixture) -> None:
    (said,) = said_by(Server(refuses=403), caplog)

    assert "403" in said
    assert SECRET not in said


# The hook


class Woken:
    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def woken() -> Woken:
    return Woken()


@pytest.fixture
def http(woken: Woken) -> Any:
    app = FastAPI()
    app.include_router(hooks_router(SECRET, woken))
    with TestClient(app, headers={HOOK_HEADER: SECRET}) as client:
        yield client


def settled(client: TestClient) -> None:
    """Until what the last request set going has happened."""
    client.portal.call(asyncio.sleep, 0.02)  # type: ignore[union-attr]


NOTIFICATION = {
    "resourceType": "Bundle",
    "type": "history",
    "entry": [{"resource": {"resourceType": "Parameters", "parameter": [{"name": "type", "valueCode": "handshake"}]}}],
}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "", b""),
        ("POST", "", json.dumps(NOTIFICATION).encode()),
        ("POST", "", json.dumps({"resourceType": "Bundle", "type": "subscription-notification"}).encode()),
        ("POST", "", b'{"resourceType": "DiagnosticReport", "id": "x"}'),
        ("POST", "", b"<DiagnosticReport/> not even FHIR \xff"),
        ("POST", "/DiagnosticReport/x", b"{}"),
        ("PUT", "/DiagnosticReport/x", b'{"resourceType": "DiagnosticReport", "id": "x"}'),
        ("DELETE", "/DiagnosticReport/x", b""),
    ],
)
def test_whatever_a_server_sends_wakes_the_poll_and_is_answered_without_a_body(
    http: TestClient, woken: Woken, method: str, path: str, body: bytes
) -> None:
    answer = http.request(method, f"/hooks/reports{path}", content=body)
    settled(http)

    assert (answer.status_code, answer.content) == (200, b"")
    assert woken.times == 1


@pytest.mark.parametrize("secret", [None, "", "another", SECRET + " ", "größe"])
def test_without_the_secret_nothing_happens(http: TestClient, woken: Woken, secret: str | None) -> None:
    http.headers.pop(HOOK_HEADER)
    headers = {} if secret is None else {HOOK_HEADER: secret.encode("latin-1")}

    answer = http.post("/hooks/reports", headers=headers)  # type: ignore[arg-type]
    settled(http)

    assert (answer.status_code, answer.content) == (401, b"")
    assert woken.times == 0


def test_a_body_that_is_too_large_is_not_read_to_its_end(http: TestClient, woken: Woken) -> None:
    assert http.post("/hooks/reports", content=b"x" * (MOST_BYTES + 1)).status_code == 413
    assert woken.times == 0


def test_the_service_answers_the_hook_without_a_body(tmp_path: Path, woken: Woken) -> None:
    services = Services(
        queue=MemoryQueue(),
        results=ResultFolder(tmp_path / "results"),
        work=lambda _: nullcontext(()),
        intake=None,  # type: ignore[arg-type] - not asked
        grounder=None,  # type: ignore[arg-type]
        read_report=None,  # type: ignore[arg-type]
        read_dicom=None,  # type: ignore[arg-type]
    )
    app = create_app(services, work=False, allowed_hosts=("testserver",), hook=hooks_router(SECRET, woken))

    with TestClient(app) as client:
        answers = [client.post("/hooks/reports", headers={HOOK_HEADER: secret}) for secret in (SECRET, "no")]
        settled(client)

    assert [(answer.status_code, answer.content) for answer in answers] == [(200, b""), (401, b"")]
    assert woken.times == 1


def test_a_flood_wakes_at_most_once_a_second(http: TestClient, woken: Woken) -> None:
    began = time.monotonic()
    for _ in range(200):
        assert http.post("/hooks/reports").status_code == 200
    settled(http)

    assert 1 <= woken.times <= 2 + (time.monotonic() - began)


def test_what_comes_while_it_waits_is_not_lost() -> None:
    async def flood(woken: Woken) -> list[int]:
        soon = Coalesced(woken, least_s=0.1)
        counts = []
        for _ in range(3):
            soon()
            soon()
            await asyncio.sleep(0.02)
            counts.append(woken.times)
        await asyncio.sleep(0.15)
        return [*counts, woken.times]

    assert asyncio.run(flood(Woken())) == [1, 1, 1, 2]
