"""``POST /events``: taken once, from whoever knows the secret, within the replay window."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from memory import Site, image, report

from plugin.commands.serve import admission
from plugin.service import Services, SignedEvents, any_event, create_app, no_event
from plugin.service.events import REPLAY_WINDOW_S
from plugin.settings import Settings
from plugin.values import StudyRef

UID = "1.2.826.0.1.3680043.8.498.1"
SECRET = "a secret of the tests"
NOW_S = 1_800_000_000
BODY = json.dumps({"study_instance_uid": UID}).encode()


def signed(body: bytes = BODY, *, secret: str = SECRET, at_s: int = NOW_S, nonce: str = "0" * 32) -> dict[str, str]:
    """Headers of an event, built from the rule in plugin/service/events.py and not by the code under test."""
    mac = hmac.new(secret.encode(), f"{at_s}.{nonce}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Content-Type": "application/json", "Sightline-Signature": f"t={at_s},n={nonce},v1={mac}"}


@pytest.fixture
def services(tmp_path: Path) -> Services:
    site = Site(tmp_path)
    site.archive.add(image(StudyRef(UID)))
    site.reports.put(report(study_instance_uids=(UID,)))
    return Services(
        queue=site.queue,
        results=None,  # type: ignore[arg-type] - no test here reads results
        work=lambda _: nullcontext(()),
        intake=site.intake,
        grounder=None,  # type: ignore[arg-type]
        read_report=None,  # type: ignore[arg-type]
        read_dicom=None,  # type: ignore[arg-type]
    )


@pytest.fixture
def client(services: Services) -> Iterator[TestClient]:
    app = create_app(services, admit=SignedEvents(SECRET, clock=lambda: float(NOW_S)), work=False)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


def test_a_signed_event_is_a_queued_job(client: TestClient) -> None:
    answer = client.post("/events", content=BODY, headers=signed())

    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["location"] == f"/jobs/{answer.json()['job_id']}"


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ({}, "no usable Sightline-Signature"),
        ({"Sightline-Signature": "t=1,v1=0"}, "no usable"),
        (signed(secret="another secret of tests"), "does not match"),
        (signed(b"another body"), "does not match"),
        (signed(at_s=NOW_S - REPLAY_WINDOW_S - 1), "set both clocks"),
        (signed(at_s=NOW_S + REPLAY_WINDOW_S + 1), "set both clocks"),
    ],
    ids=["unsigned", "malformed", "wrong secret", "wrong body", "too old", "of the future"],
)
def test_what_is_not_proven_is_not_taken(
    client: TestClient, services: Services, headers: dict[str, str], words: str
) -> None:
    answer = client.post("/events", content=BODY, headers=headers)

    assert answer.status_code == 401
    assert words in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == "Sightline-Signature"
    assert services.queue.list() == ()


def test_an_event_is_taken_once_and_the_next_with_another_nonce_again(client: TestClient) -> None:
    statuses = [
        client.post("/events", content=BODY, headers=headers).status_code
        for headers in (signed(), signed(), signed(nonce="1" * 32))
    ]

    assert statuses == [202, 401, 202]


def test_used_signatures_are_forgotten_when_their_time_is_over() -> None:
    now = [float(NOW_S)]
    admit = SignedEvents(SECRET, clock=lambda: now[0])
    for step in range(5):
        now[0] = NOW_S + step * 2 * REPLAY_WINDOW_S + step
        admit(signed(at_s=int(now[0]))["Sightline-Signature"], BODY)

    assert len(admit._used) == 1


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"study_instance_uid": 7}', b'{"study_instance_uid": "x", "y": 1}'])
def test_a_signed_event_that_names_no_study_is_refused_for_good(client: TestClient, body: bytes) -> None:
    assert client.post("/events", content=body, headers=signed(body)).status_code == 422


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"event_secret": SECRET, "host": "0.0.0.0"}, SignedEvents),
        ({"event_secret": SECRET}, SignedEvents),
        ({}, any_event),
        ({"host": "0.0.0.0"}, no_event),
        ({"public_url": "https://sightline.example"}, no_event),
    ],
)
def test_without_a_secret_only_a_service_on_loopback_takes_events(settings: dict[str, Any], kind: Any) -> None:
    admit = admission(Settings(**settings))

    assert admit is kind or isinstance(admit, SignedEvents) is (kind is SignedEvents)


def test_a_service_that_others_reach_says_what_to_set(services: Services) -> None:
    with TestClient(create_app(services, admit=no_event, work=False), base_url="http://127.0.0.1") as client:
        answer = client.post("/events", content=BODY, headers=signed())

    assert answer.status_code == 403
    assert "SIGHTLINE_EVENT_SECRET" in answer.json()["detail"]


def test_a_service_on_loopback_takes_events_as_they_are(services: Services) -> None:
    with TestClient(create_app(services, work=False), base_url="http://127.0.0.1") as client:
        assert client.post("/events", json={"study_instance_uid": UID}).status_code == 202
