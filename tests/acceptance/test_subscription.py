"""Our Subscription at a real third-party FHIR R4 engine, which keeps it and delivers nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import faults as bad
import httpx
import pytest
from faults import run_faults

from plugin.doctor import hook
from plugin.fhir.client import FhirClient
from plugin.fhir.subscription import Hook, registered
from plugin.settings import Settings
from plugin.wiring import hook_of

pytestmark = pytest.mark.acceptance

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "a secret of the tests"


def settings(fhir_url: str, address: str) -> Settings:
    return Settings(fhir_url=fhir_url, hook_secret=SECRET, hook_url=address, timeout_s=5)


def at(base_url: str, wanted: Hook) -> str:
    with httpx.Client() as pool:
        return registered(FhirClient(base_url, client=pool, sleep=lambda _: None), wanted, now=NOW)


def test_it_stands_there_once_and_the_doctor_sees_it(fhir_server: str) -> None:
    site = settings(fhir_server, "https://one.example/")
    before = hook(site)

    for _ in range(2):
        assert at(fhir_server, hook_of(site)) == "requested"

    history = httpx.get(f"{fhir_server}/{hook_of(site).name}/_history").json()
    assert len(history["entry"]) == 1
    assert "no subscription" in before.detail
    assert hook(site).detail == "the subscription is requested"
    assert before.ok
    assert hook(site).ok


def test_a_server_that_takes_none_is_no_error_and_the_doctor_says_that_it_is_polled(fhir_server: str) -> None:
    site = settings(fhir_server, "https://two.example")
    with run_faults(fhir_server) as proxy:
        proxy.always(bad.refused(405), when=bad.of("Subscription"))

        assert at(proxy.base, hook_of(site)) == ""

    assert hook(site).ok
    assert "polls" in hook(site).detail


def test_one_that_the_server_gave_up_is_something_to_mend(fhir_server: str) -> None:
    site = settings(fhir_server, "https://three.example")
    at(fhir_server, hook_of(site))
    url = f"{fhir_server}/{hook_of(site).name}"
    httpx.put(url, json=httpx.get(url).json() | {"status": "error"}).raise_for_status()

    assert "is error" in hook(site).detail
    assert "SIGHTLINE_HOOK_URL" in hook(site).mend
    assert at(fhir_server, hook_of(site)) == "requested"


def test_a_server_that_is_away_is_told_and_nothing_to_mend_here() -> None:
    found = hook(settings("http://127.0.0.1:9/fhir", "https://four.example"))

    assert found.ok
    assert "polling goes on" in found.detail


def test_a_secret_without_an_address_is_to_be_mended() -> None:
    assert "SIGHTLINE_HOOK_URL" in hook(Settings(fhir_url="http://127.0.0.1:9/fhir", hook_secret=SECRET)).mend
    assert "polling alone" in hook(Settings(fhir_url="http://127.0.0.1:9/fhir")).detail
