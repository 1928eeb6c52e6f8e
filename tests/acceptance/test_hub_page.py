"""A phrase chosen on the page is selected in the person's other programs, and the other way round, in a browser."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from evidence import kept_of, make_evidence
from playwright.sync_api import Browser, Page
from queues import MemoryQueue
from serving import served
from websockets.sync.client import ClientConnection, connect

from plugin.fhir.writing import observation_id
from plugin.flow import outputs_of
from plugin.results import ResultFolder
from plugin.service import Services, create_app

pytestmark = pytest.mark.acceptance

# Places in make_evidence().
EFFUSION, OPACITY = 1, 2
EVENTS = "DiagnosticReport-open,DiagnosticReport-select"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The service with the results of one report."""
    evidence = make_evidence()
    results = ResultFolder(tmp_path)
    results.write(evidence.study, kept_of(evidence), outputs_of(evidence).kept)
    unused: Any = None
    services = Services(MemoryQueue(), results, unused, unused, unused, unused, unused)
    with served(create_app(services, work=False)) as address:
        yield address


@contextmanager
def outside(address: str, topic: str) -> Iterator[tuple[httpx.Client, ClientConnection]]:
    """Another program of the same person."""
    form = {"hub.channel.type": "websocket", "hub.mode": "subscribe", "hub.topic": topic, "hub.events": EVENTS}
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as http:
        endpoint = http.post("/api/hub", data=form).json()["hub.channel.endpoint"]
        with connect(endpoint, proxy=None) as socket:
            assert json.loads(socket.recv(timeout=60))["hub.mode"] == "subscribe"
            yield http, socket


def told(socket: ClientConnection) -> dict[str, Any]:
    """The next event, answered."""
    message = json.loads(socket.recv(timeout=60))
    socket.send(json.dumps({"id": message["id"], "status": 200}))
    event: dict[str, Any] = message["event"]
    return event


def selected(event: dict[str, Any]) -> list[str]:
    (context,) = [each["reference"] for each in event["context"] if each["key"] == "select"]
    return [each["reference"] for each in context]


def lit(page: Page) -> list[str | None]:
    return [each.get_attribute("data-phrases") for each in page.locator(".picture:not([hidden]) .region.on").all()]


def test_what_is_selected_on_either_side_is_lit_on_the_other(chromium: Browser, address: str) -> None:
    evidence, topic = make_evidence(), str(uuid.uuid4())
    report = evidence.report.ref.report_id
    below = f"/studies/{evidence.study.study_instance_uid}/reports/{report}"
    names = [f"Observation/{observation_id(each.tracking_uid)}" for each in evidence.phrases]
    with outside(address, topic) as (http, socket):
        page = chromium.new_page()
        page.goto(f"{address}{below}/radiologist?hub.topic={topic}")
        page.wait_for_selector('html[data-hub="open"]')
        opened = told(socket)
        page.locator(f"#phrase-{EFFUSION}").click()
        chosen = told(socket)
        page.keyboard.press("Escape")
        cleared = told(socket)
        page.mouse.move(2, 2)
        event = {
            "hub.topic": topic,
            "hub.event": "DiagnosticReport-select",
            "context": [
                {"key": "report", "reference": [{"reference": f"DiagnosticReport/{report}"}]},
                {"key": "select", "reference": [{"reference": names[OPACITY]}]},
            ],
        }
        message = {"timestamp": "2026-03-01T00:00:00Z", "id": str(uuid.uuid4()), "event": event}
        assert http.post("/api/hub", json=message).status_code == 202
        page.wait_for_selector(f"#phrase-{OPACITY}.on")

        assert opened["hub.event"] == "DiagnosticReport-open"
        assert [each["key"] for each in opened["context"]] == ["report", "study"]
        assert selected(chosen) == [names[EFFUSION]]
        assert selected(cleared) == []
        assert set(lit(page)) == {str(OPACITY)}
        assert selected(told(socket)) == [names[OPACITY]]  # its own; the page told nothing again
        with pytest.raises(TimeoutError):
            socket.recv(timeout=1)
        page.close()


def test_without_a_session_in_its_address_the_page_asks_no_hub(chromium: Browser, address: str) -> None:
    evidence = make_evidence()
    asked: list[str] = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))

    below = f"/studies/{evidence.study.study_instance_uid}/reports/{evidence.report.ref.report_id}"
    page.goto(f"{address}{below}/radiologist")
    page.locator(f"#phrase-{EFFUSION}").click()
    page.wait_for_selector(f"#phrase-{EFFUSION}.on")

    assert asked
    assert not [url for url in asked if "/api/hub" in url or url.endswith("/fhircast")]
    page.close()
