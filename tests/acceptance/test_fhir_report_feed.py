"""A real third-party FHIR R4 engine keeps the report feed's promises, also on its bad days."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Iterator
from typing import Any

import faults as bad
import httpx
import pytest
from faults import Faults, run_faults
from fhir_input import report
from report_feed_contract import ReportFeedContract, looked

from plugin.errors import TransientError
from plugin.fhir.client import FhirClient
from plugin.reports.feeds import FhirReportFeed
from plugin.reports.rest import FhirReportStore

pytestmark = pytest.mark.acceptance

MANY = int(os.environ.get("TEST_REPORTS", "1000"))


class Site:
    """The server, filled by PUT."""

    def __init__(self, base_url: str, client: httpx.Client) -> None:
        self.base_url = base_url
        self.client = client
        server = FhirClient(base_url, client=client)
        self.feed, self.store = FhirReportFeed(server), FhirReportStore(server)

    def put(self, resource: dict[str, Any]) -> None:
        self.client.put(f"{self.base_url}/DiagnosticReport/{resource['id']}", json=resource).raise_for_status()


@pytest.fixture
def site(fhir_server: str) -> Iterator[Site]:
    with httpx.Client() as client:
        yield Site(fhir_server, client)


class TestFhirServer(ReportFeedContract):
    """The contract, and what only a server does."""

    def test_a_server_that_is_gone_is_a_transient_error(self) -> None:
        with httpx.Client() as pool, pytest.raises(TransientError):
            list(FhirReportFeed(FhirClient("http://127.0.0.1:9/fhir", client=pool, sleep=lambda _: None)).look(""))

    def test_only_the_sites_categories_are_shown(self, site: Site, tag: str) -> None:
        site.put(report(id=f"{tag}-lab", category=[category("LAB")]))
        site.put(report(id=f"{tag}-rad", category=[category("RAD")]))
        feed = FhirReportFeed(FhirClient(site.base_url, client=site.client), categories="IMG,http://example.org|RAD")

        assert set(looked(feed, tag=tag)[0]) == {f"{tag}-rad"}


# Behind a proxy that has a real server's bad days


def category(code: str) -> dict[str, Any]:
    return {"coding": [{"system": "http://example.org", "code": code}]}


@pytest.fixture
def faults(fhir_server: str) -> Iterator[Faults]:
    with run_faults(fhir_server) as proxy:
        yield proxy


@pytest.fixture
def tag() -> str:
    return uuid.uuid4().hex[:12]


def put_all(faults: Faults, tag: str, count: int, *, begin: int = 0, **changes: Any) -> set[str]:
    """*count* reports of the category *tag*, a thousand in one transaction, straight to the engine; their names."""
    names = [f"{tag}-{number}" for number in range(begin, begin + count)]
    for some in (names[at : at + 1000] for at in range(0, count, 1000)):
        entries = [
            {
                "request": {"method": "PUT", "url": f"DiagnosticReport/{name}"},
                "resource": report(id=name, meta=None, category=[category(tag)], **changes),
            }
            for name in some
        ]
        bundle = {"resourceType": "Bundle", "type": "batch", "entry": entries}
        httpx.post(faults.upstream, json=bundle, timeout=60).raise_for_status()
    return set(names)


@pytest.fixture
def feed(faults: Faults, tag: str) -> Iterator[FhirReportFeed]:
    with httpx.Client() as pool:
        server = FhirClient(faults.base, client=pool, timeout_s=2, sleep=lambda _: None)
        yield FhirReportFeed(server, categories=tag)


def versions_there(faults: Faults, tag: str) -> set[tuple[str, str]]:
    """Every report of the category and its version, as the engine itself has them now."""
    asked = {"category": tag, "_count": "100000"}
    found = httpx.get(f"{faults.upstream}/DiagnosticReport", params=asked, timeout=60).json()
    return {(each["resource"]["id"], each["resource"]["meta"]["versionId"]) for each in found["entry"]}


def test_no_report_is_missed_and_none_shown_under_a_version_that_it_never_had(
    faults: Faults, feed: FhirReportFeed, tag: str
) -> None:
    chance = random.Random(6)
    ways = [bad.refused(503), bad.refused(429), bad.answered(500), bad.reset(), bad.reset_after(), bad.truncated()]
    faults.always(bad.Sometimes(chance, 0.25, ways))
    faults.always(bad.Sometimes(chance, 0.05, [bad.expired_page()], when=bad.later_pages))
    faults.always(bad.DuplicatedRows())
    faults.always(bad.OtherHost())
    faults.always(bad.whole_seconds)
    faults.always(bad.outcome_among_hits)
    faults.always(bad.CachedSearches())
    seen: set[tuple[str, str]] = set()
    there: set[tuple[str, str]] = set()
    cursor, broken = "", 0

    for part in range(5):
        put_all(faults, tag, MANY // 5, begin=part * (MANY // 5))
        put_all(faults, tag, MANY // 50, status="amended")  # a change of what was shown before
        there |= versions_there(faults, tag)
        while True:
            try:
                for page in feed.look(cursor):
                    seen |= {(ref.report_id, ref.version) for ref in page.reports}
                    cursor = page.cursor
            except TransientError:
                broken += 1
                continue
            break

    assert seen == there
    assert broken < 100


def test_a_row_that_appears_late_with_an_older_time_is_shown_by_the_next_look(
    faults: Faults, feed: FhirReportFeed, tag: str
) -> None:
    names = put_all(faults, tag, 3)
    late = min(names)
    hidden = faults.always(bad.Hidden({f"DiagnosticReport/{late}"}))
    first, cursor = looked(feed, tag=tag)
    hidden.show()

    second, _ = looked(feed, cursor, tag=tag)

    assert set(first) == names - {late}
    assert late in second


def test_a_server_that_renders_whole_seconds_shows_what_came_in_the_same_second(
    faults: Faults, feed: FhirReportFeed, tag: str
) -> None:
    faults.always(bad.whole_seconds)
    put_all(faults, tag, 1)
    _, cursor = looked(feed, tag=tag)
    names = put_all(faults, tag, 20, begin=1)

    assert names <= set(looked(feed, cursor, tag=tag)[0])


def test_a_cached_search_is_not_taken_for_news(faults: Faults, feed: FhirReportFeed, tag: str) -> None:
    faults.always(bad.CachedSearches())
    put_all(faults, tag, 1)
    looked(feed, tag=tag)
    names = put_all(faults, tag, 1, begin=1)

    assert names <= set(looked(feed, tag=tag)[0])


def test_next_links_with_another_host_and_repeated_rows_are_followed_to_the_end(
    faults: Faults, feed: FhirReportFeed, tag: str
) -> None:
    faults.always(bad.OtherHost())
    faults.always(bad.DuplicatedRows())
    names = put_all(faults, tag, 450)

    assert set(looked(feed, tag=tag)[0]) == names


@pytest.mark.parametrize("status", [400, 404, 410])
def test_an_expired_next_link_begins_the_search_again(
    faults: Faults, feed: FhirReportFeed, tag: str, status: int
) -> None:
    names = put_all(faults, tag, 450)
    faults.next(bad.expired_page(status), bad.expired_page(status), when=bad.later_pages)

    assert set(looked(feed, tag=tag)[0]) == names
    assert faults.pending == 0
