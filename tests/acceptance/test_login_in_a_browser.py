"""Logging in with a real browser, and what pages of other sites get out of it there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from places import ALICE, BOB, Place, run_place
from servers import free_port
from traps import run_trap

pytestmark = pytest.mark.acceptance


@dataclass
class Open:
    """A browser of its own, and the service on real sockets."""

    place: Place
    context: Any
    page: Any

    def status(self, path: str) -> int:
        """Of an answer to the browser, with its cookies."""
        return int(self.context.request.get(f"{self.place.ours}{path}", headers={"Accept": "*/*"}).status)


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    port = free_port()
    with run_place(tmp_path_factory.mktemp("place"), ours=f"http://127.0.0.1:{port}") as place:
        config = uvicorn.Config(place.app, host="127.0.0.1", port=port, access_log=False, log_level="warning")
        server = uvicorn.Server(config)
        running = threading.Thread(target=server.run, daemon=True)
        running.start()
        try:
            yield place
        finally:
            server.should_exit = True
            running.join()


@pytest.fixture
def there(serving: Place, chromium: Any) -> Iterator[Open]:
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    try:
        yield Open(serving, context, page)
    finally:
        context.close()


def test_a_person_comes_to_the_page_that_was_wanted_and_logs_out(there: Open) -> None:
    wanted = f"{there.place.ours}/studies/{BOB.uid}/reports/{BOB.report_id}/radiologist"

    there.page.goto(wanted)
    there.page.wait_for_url(wanted)
    there.page.wait_for_selector(".phrase")

    (cookie,) = [each for each in there.context.cookies() if each["name"] == "sightline-session"]
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
    assert there.page.evaluate("document.cookie") == ""
    there.page.goto(f"{there.place.ours}/logout")
    there.page.get_by_role("button", name="Log out").click()
    there.page.get_by_text("You are logged out").wait_for()
    assert there.status("/jobs") == 401


def test_a_patient_is_launched_from_a_portal_of_another_site(there: Open) -> None:
    authority = there.place.authority
    authority.user = {"sub": "a", "fhirUser": "Patient/alice"}
    authority.context = {"patient": "alice"}
    launch = f"{there.place.ours}/launch?iss={authority.fhir}&launch=x"
    with run_trap(lambda _: (200, {"Content-Type": "text/html"}, f'<a href="{launch}">X-ray</a>'.encode())) as portal:
        there.page.goto(portal.base.replace("127.0.0.1", "localhost"))
        there.page.get_by_text("X-ray").click()
        there.page.wait_for_url(f"**/studies/{ALICE.uid}/reports/{ALICE.report_id}/patient")

    there.page.wait_for_selector(".phrase")
    assert there.status(f"/studies/{BOB.uid}/page") == 404


def test_attack_pages_of_another_site(there: Open) -> None:
    """A form, a picture, a script's request and a frame: none comes in by the cookie of whoever logged in."""
    authority, ours = there.place.authority, there.place.ours
    authority.user, authority.context = {"sub": "dr-1", "roles": ["radiologist"]}, {}
    there.page.goto(f"{ours}/jobs")
    there.page.wait_for_url(f"{ours}/jobs")
    image = f"{ours}/studies/{BOB.uid}/reports/{BOB.report_id}/radiologist/images/{BOB.image}"
    assert there.status(image.removeprefix(ours)) == 200
    evil = f"""<form method=post action="{ours}/logout"><button>Win</button></form>
        <img src="{image}" onload="this.alt='seen'" onerror="this.alt='refused'">
        <iframe src="{ours}/studies/{BOB.uid}/page"></iframe>
        <script>fetch("{ours}/jobs", {{credentials: "include"}}).then(
            () => document.title = "read", () => document.title = "refused")</script>"""
    with run_trap(lambda _: (200, {"Content-Type": "text/html"}, evil.encode())) as site:
        there.page.goto(site.base.replace("127.0.0.1", "localhost"))
        there.page.wait_for_function("document.title && document.querySelector('img').alt")
        seen = (there.page.title(), there.page.locator("img").get_attribute("alt"))
        framed = there.page.frames[1].url
        with there.page.expect_response(f"{ours}/logout") as answer:
            there.page.get_by_text("Win").click()

    assert seen == ("refused", "refused")
    assert framed.startswith("chrome-error:")
    assert answer.value.status in (401, 403)
    assert there.status("/jobs") == 200, "still logged in"
