"""How real FHIR servers differ, line by line: each was measured or read, and each has a test here whose name says it.

A real third-party engine stands behind the proxy of tests/faults.py, which plays what the engine does not do. What
concerns noticing is held by the tests of the feed, too:

- ``gt`` is unsafe, rounded times, late rows: tests/acceptance/test_fhir_report_feed.py, tests/unit/test_report_feeds.py
- subscriptions are off by default, and the reply to a rest-hook is empty: tests/unit/test_subscription.py,
  tests/acceptance/test_subscription.py
- who gives ids at the server: tests/acceptance/test_server_that_gives_ids.py
- signing in: tests/integration/test_fhir_signing_in.py
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import faults as bad
import httpx
import pytest
from evidence import make_evidence, make_report
from faults import Faults, references, run_faults, together
from report_store_contract import World

from plugin.errors import ConformanceError, InputError, TransientError
from plugin.fhir.capability import Release
from plugin.fhir.client import FhirClient, SearchExpiredError, token
from plugin.fhir.multimedia import Organization, store_bundle
from plugin.fhir.resource import Element
from plugin.fhir.writing import bundle_of
from plugin.identity import derived_id
from plugin.reports.feeds import FhirReportFeed
from plugin.reports.rest import FhirReportStore

pytestmark = pytest.mark.acceptance

SECRET = "Geheim^Gustav"


class Site:
    """The engine, the proxy before it, and our client of the proxy."""

    def __init__(self, engine: str, faults: Faults, http: httpx.Client) -> None:
        self.engine = engine
        self.faults = faults
        self.http = http
        self.waits: list[float] = []
        self.tag = uuid.uuid4().hex[:12]
        self.client = self.one_more()

    def one_more(self, *, sleep: Callable[[float], object] | None = None, **settings: Any) -> FhirClient:
        return FhirClient(
            self.faults.base, client=self.http, sleep=sleep or self.waits.append, jitter=lambda: 0.0, **settings
        )

    def report(self, number: int = 1, **fields: Any) -> dict[str, Any]:
        identifier = [{"system": "urn:test", "value": self.tag}]
        own = {"resourceType": "DiagnosticReport", "id": f"r{number}-{self.tag}", "status": "final"}
        return own | {"code": {"text": "Chest X-ray"}, "identifier": identifier} | fields

    def name(self, number: int = 1) -> str:
        return f"DiagnosticReport/r{number}-{self.tag}"

    def put(self, *numbers: int, **fields: Any) -> None:
        """Past the proxy, as another system does."""
        for number in numbers:
            made = self.report(number, **fields)
            self.http.put(f"{self.engine}/{self.name(number)}", json=made).raise_for_status()

    def search(self, **params: str) -> list[Element]:
        asked = {"identifier": token(self.tag, system="urn:test"), "_sort": "_lastUpdated"} | params
        return list(self.client.search("DiagnosticReport", asked))

    def ids(self, **params: str) -> list[str]:
        return [each.id.partition("-")[0] for each in self.search(**params)]


@pytest.fixture
def site(fhir_server: str) -> Iterator[Site]:
    with run_faults(fhir_server) as faults, httpx.Client(limits=httpx.Limits(max_connections=64)) as http:
        yield Site(fhir_server, faults, http)


def transaction(resource: dict[str, Any], *, over: str = "") -> str:
    request = {"method": "PUT", "url": f"{resource['resourceType']}/{resource['id']}"}
    entry = {"resource": resource, "request": request | ({"ifMatch": f'W/"{over}"'} if over else {})}
    return json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})


def final(there: Element) -> dict[str, Any]:
    return dict(there.json) | {"status": "final"}


# `_lastUpdated=gt` is unsafe: a server that renders whole seconds returned 60 of 60 already-seen rows. Use
# `ge{cursor - overlap}` and drop (id, versionId) already seen.


def test_last_updated_gt_shows_seen_rows_again_and_ge_with_an_overlap_misses_none(site: Site) -> None:
    site.faults.always(bad.whole_seconds)
    site.put(1, 2)
    seen = site.search()
    cursor = seen[-1].child("meta").string("lastUpdated")
    again = site.search(_lastUpdated=f"gt{cursor}")
    site.put(3)

    assert {each.id for each in again} <= {each.id for each in seen}
    overlap = datetime.fromisoformat(cursor) - timedelta(seconds=120)
    found = site.search(
        _lastUpdated=f"ge{overlap.astimezone(UTC).isoformat(timespec='seconds').replace('+00:00', 'Z')}"
    )
    known = {(each.id, each.child("meta").string("versionId")) for each in seen}
    new = [each.id for each in found if (each.id, each.child("meta").string("versionId")) not in known]
    assert new == [site.report(3)["id"]]


# HAPI: identical searches are cached 60 s.


def test_hapi_caches_equal_searches_and_polls_and_reads_before_a_write_go_past_the_cache(site: Site) -> None:
    site.faults.always(bad.CachedSearches())
    before = site.ids()
    site.put(1)

    assert (before, site.ids()) == ([], ["r1"])
    feed = FhirReportFeed(site.client)
    list(feed.look(""))
    FhirReportStore(site.client).write(bundle_of(make_evidence(), page_url="cache.html", instances=()))
    asked = [each for each in site.faults.asked if each.method == "GET"]
    assert asked
    assert all(each.headers["cache-control"] == "no-cache" for each in asked)


# HAPI: version conflict is 409 (others 412: treat alike: re-read, re-apply).


@pytest.mark.parametrize("status", [409, 412])
def test_a_version_conflict_is_409_at_hapi_and_412_elsewhere_and_both_are_read_and_applied_again(
    site: Site, status: int
) -> None:
    site.faults.always(bad.answers_as(412, status))
    site.put(1, status="preliminary")
    theirs = iter(["theirs"])

    def change(there: Element) -> dict[str, Any]:
        if (conclusion := next(theirs, None)) is not None:  # another writer, while we think
            site.put(1, status="preliminary", conclusion=conclusion)
        return final(there)

    changed = site.client.update(site.name(), change)

    assert changed is not None
    assert (changed.string("conclusion"), changed.string("status")) == ("theirs", "final")
    assert [each.method for each in site.faults.asked] == ["GET", "PUT", "GET", "PUT"]


@pytest.mark.parametrize("status", [409, 412])
def test_a_transaction_that_meets_another_writer_is_sent_again_on_409_and_412_alike(site: Site, status: int) -> None:
    site.faults.next(bad.refused(status, code="conflict"), when=bad.transactions)
    text = bundle_of(make_evidence(), page_url=f"{site.tag}.html", instances=())

    FhirReportStore(site.client).write(text)

    assert len([each for each in site.faults.asked if bad.transactions(each)]) == 2


@pytest.mark.parametrize("status", [409, 412])
@pytest.mark.parametrize("seen", [True, False], ids=["seen before writing", "told by the server"])
def test_what_another_writer_decided_meanwhile_is_not_written_over(site: Site, status: int, seen: bool) -> None:
    site.faults.always(bad.answers_as(412, status))
    store, name = FhirReportStore(site.client), f"Observation/{derived_id('decided', site.tag)}"
    made = {"resourceType": "Observation", "id": name.partition("/")[2], "status": "preliminary", "code": {"text": "x"}}
    store.write(transaction(made))
    (there,) = store.written((name,))
    theirs = made | {"status": "final"}

    def decide(asked: bad.Asked, forward: bad.Forward) -> bad.Told:
        site.http.put(f"{site.engine}/{name}", json=theirs).raise_for_status()
        return forward(asked)

    if seen:
        site.http.put(f"{site.engine}/{name}", json=theirs).raise_for_status()
    else:
        site.faults.next(decide, when=bad.transactions)

    with pytest.raises(TransientError, match="another writer"):
        store.write(transaction(made | {"code": {"text": "y"}}, over=there["meta"]["versionId"]))
    (now,) = store.written((name,))
    assert (now["status"], now["code"]) == ("final", {"text": "x"})


def test_a_conditional_write_whose_answer_was_lost_is_seen_as_done(site: Site) -> None:
    store, name = FhirReportStore(site.client), f"Device/{derived_id('lost answer', site.tag)}"
    made = {"resourceType": "Device", "id": name.partition("/")[2]}
    store.write(transaction(made))
    (there,) = store.written((name,))
    site.faults.next(bad.reset_after(), when=bad.transactions)

    store.write(transaction(made | {"modelNumber": "2"}, over=there["meta"]["versionId"]))

    assert store.written((name,))[0]["modelNumber"] == "2"


# HAPI: absolute references are refused; purely numeric client ids refused.


def test_hapi_refuses_absolute_references_and_numeric_client_ids_and_we_write_neither(site: Site) -> None:
    site.faults.always(bad.hapi_rules)
    text = bundle_of(make_evidence(), page_url="https://sightline.example/page", instances=())
    FhirReportStore(site.client).write(text)

    report = replace(make_report(), subject_id="17")
    base, hospital = "https://sightline.example", Organization("Hospital")
    multimedia = store_bundle(replace(make_evidence(), report=report), base=base, organization=hospital)
    assert multimedia is not None
    for release in Release:
        text = bundle_of(make_evidence(), page_url="https://sightline.example/page", instances=(), release=release)
        for document in (text, multimedia):
            written = [entry["resource"] for entry in json.loads(document)["entry"]]
            assert not [each for each in references(written) if "://" in each]
            assert not [each for each in written if each.get("id", "").isdecimal()]


def test_an_id_that_we_derive_is_never_of_digits_alone() -> None:
    assert not any(derived_id("Observation", str(number)).isdecimal() for number in range(1000))


def test_what_hapi_refuses_is_told_without_what_it_quotes(site: Site) -> None:
    site.faults.always(bad.hapi_rules)
    numeric = {"resourceType": "Device", "id": "17"}
    entry = {"resource": numeric, "request": {"method": "PUT", "url": "Device/17"}}

    with pytest.raises(ConformanceError, match=r"answered 400 \(processing\)"):
        site.client.transaction(json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]}))


# HAPI: subscriptions off by default; it parses our reply body to a rest-hook as FHIR (tests/unit/test_subscription.py).


def test_subscriptions_are_off_by_default_and_reports_are_found_all_the_same(site: Site) -> None:
    site.faults.always(bad.refused(400, code="not-supported"), when=bad.of("Subscription", "SubscriptionTopic"))
    site.put(1)

    pages = FhirReportFeed(site.client).look("")
    assert site.report(1)["id"] in {ref.report_id for page in pages for ref in page.reports}


# 8 parallel conditional creates duplicated in 9 of 10 rounds; 8 parallel PUTs to one client id never did, though 17 of
# 80 answered 500 (retry).


def test_eight_parallel_conditional_creates_duplicate_so_results_are_put_to_derived_ids(site: Site) -> None:
    site.faults.always(bad.RacyCreates())
    device = {"resourceType": "Device", "identifier": [{"system": "urn:test", "value": site.tag}]}
    condition = f"identifier=urn:test|{site.tag}"

    made = together(8, lambda _: site.client.create(device, unless=condition))
    assert len(set(made)) == 8

    text = bundle_of(make_evidence(), page_url=None, instances=())
    assert {entry["request"]["method"] for entry in json.loads(text)["entry"]} == {"PUT"}


def test_eight_parallel_puts_to_one_id_make_one_resource_and_the_500_among_them_are_tried_again(site: Site) -> None:
    site.faults.always(bad.Racing(500, hold_s=0.01), when=bad.transactions)
    name = f"Device/{derived_id('race', site.tag)}"
    device = {"resourceType": "Device", "id": name.partition("/")[2]}
    device["identifier"] = [{"system": "urn:test", "value": site.tag}]  # type: ignore[assignment]
    entry = {"resource": device, "request": {"method": "PUT", "url": name}}
    bundle = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
    stores = [FhirReportStore(site.one_more(sleep=lambda wait_s: time.sleep(wait_s / 5))) for _ in range(8)]

    def write(number: int) -> bool:
        for _ in range(5):  # as the job queue does
            try:
                stores[number].write(bundle)
            except TransientError:
                continue
            return True
        return False

    assert all(together(8, write))
    found = site.http.get(f"{site.engine}/Device", params={"identifier": f"urn:test|{site.tag}"}).json()
    assert [row["resource"]["id"] for row in found["entry"]] == [device["id"]]
    assert len([each for each in site.faults.asked if bad.transactions(each)]) > 1


# R4 DiagnosticReport has no search parameter for the study. Chains need the type: `based-on:ServiceRequest.identifier`.


def test_r4_cannot_search_reports_by_study_so_study_orders_and_patient_are_asked_first(site: Site) -> None:
    world = World(site.tag)
    for resource in (world.patient(), world.order(), world.study(), world.report()):
        url = f"{site.engine}/{resource['resourceType']}/{resource['id']}"
        site.http.put(url, json=resource).raise_for_status()

    (found,) = FhirReportStore(site.client).find(world.identity)

    assert found.report_id == f"report{site.tag}"
    asked = [each for each in site.faults.asked if each.path == "DiagnosticReport"]
    assert {name for each in asked for name in each.params} == {"based-on", "subject", "_count"}


def test_chains_need_the_type_so_none_without_it_is_asked(site: Site) -> None:
    world = World(site.tag)
    for resource in (world.order(), world.report()):
        url = f"{site.engine}/{resource['resourceType']}/{resource['id']}"
        site.http.put(url, json=resource).raise_for_status()
    typed = {"based-on:ServiceRequest.identifier": f"A{site.tag}"}

    assert [each.id for each in site.client.search("DiagnosticReport", typed)] == [f"report{site.tag}"]
    with pytest.raises(InputError, match="400"):
        list(site.client.search("DiagnosticReport", {"based-on.identifier": f"A{site.tag}"}))

    site.faults.asked.clear()
    FhirReportStore(site.client).find(world.identity)
    assert not [name for each in site.faults.asked for name in each.params if "." in name]


# `next` links may carry another host name: rebase them; never send the bearer token to another origin. They expire.


def test_next_links_with_another_host_name_are_followed_at_the_base_and_the_token_goes_nowhere_else(site: Site) -> None:
    site.faults.always(bad.Tokens({"secret"}))
    site.put(1, 2, 3)
    elsewhere: list[httpx.Request] = []

    class Watched(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if not str(request.url).startswith(site.faults.base):
                elsewhere.append(request)
            return super().handle_request(request)

    with run_faults("http://127.0.0.1:9/fhir") as trap, httpx.Client(transport=Watched()) as http:
        site.faults.always(bad.OtherHost(trap.base))
        client = FhirClient(site.faults.base, client=http, headers={"Authorization": "Bearer secret"})
        hits = client.search("DiagnosticReport", {"identifier": token(site.tag, system="urn:test"), "_count": "1"})

        assert len(list(hits)) == 3
        assert (elsewhere, trap.asked) == ([], [])


@pytest.mark.parametrize("status", [404, 410])
def test_next_links_expire_and_the_search_begins_again_with_each_hit_once(site: Site, status: int) -> None:
    site.put(1, 2, 3)
    site.faults.next(bad.expired_page(status), when=bad.later_pages)

    assert site.ids(_count="2") == ["r1", "r2", "r3"]


def test_next_links_that_expire_again_and_again_are_an_error_and_not_the_end(site: Site) -> None:
    site.put(1, 2, 3)
    site.faults.always(bad.expired_page(), when=bad.later_pages)

    with pytest.raises(SearchExpiredError):
        site.ids(_count="2")


# 429/503 with Retry-After


@pytest.mark.parametrize("status", [429, 503])
def test_429_and_503_with_retry_after_are_tried_again_when_the_server_says(site: Site, status: int) -> None:
    site.put(1)
    site.faults.next(bad.refused(status, retry_after="2"), bad.refused(status, retry_after="4"))

    assert site.client.read(site.name()) is not None
    assert site.waits == [2, 4]


@pytest.mark.parametrize("status", [429, 503])
def test_a_longer_wait_is_not_waited_here_but_told_to_who_asks(site: Site, status: int) -> None:
    site.put(1)
    site.faults.next(bad.refused(status, retry_after="120"))

    with pytest.raises(TransientError, match=str(status)) as told:
        site.client.read(site.name())

    assert told.value.retry_after_s == 120
    assert site.waits == []


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_without_retry_after_the_waits_grow(site: Site, status: int) -> None:
    site.put(1)
    site.faults.next(*[bad.refused(status)] * 3)

    assert site.client.read(site.name()) is not None
    assert site.waits == [0.5, 1.0, 2.0]


# expired token 401 (renewed once: tests/integration/test_fhir_signing_in.py)


def test_an_expired_token_is_a_401_that_names_the_settings(site: Site) -> None:
    tokens = site.faults.always(bad.Tokens({"good"}))
    client = site.one_more(headers={"Authorization": "Bearer good"})
    site.put(1)
    assert client.read(site.name()) is not None

    tokens.valid.clear()

    with pytest.raises(TransientError, match=r"401 .*SIGHTLINE_FHIR_TOKEN") as refused:
        client.read(site.name())
    assert "good" not in str(refused.value)


# slow or truncated body


def test_a_slow_answer_is_given_up_and_tried_again(site: Site) -> None:
    site.put(1)
    site.faults.next(bad.slow(2))

    assert site.one_more(timeout_s=0.5).read(site.name()) is not None
    assert len(site.waits) == 1


def test_a_body_that_comes_in_drips_is_given_up_and_tried_again(site: Site) -> None:
    site.put(1)
    site.faults.next(bad.dripping(0.3))

    assert site.one_more(timeout_s=0.4).read(site.name()) is not None
    assert len(site.waits) == 1


@pytest.mark.parametrize("fault", [bad.truncated(), bad.truncated(0.0), bad.reset(), bad.reset_after()])
def test_a_truncated_body_or_a_lost_connection_is_tried_again(site: Site, fault: bad.Fault) -> None:
    site.put(1)
    site.faults.next(fault)

    assert site.client.read(site.name()) is not None
    assert len(site.waits) == 1


def test_a_truncated_page_loses_no_hit(site: Site) -> None:
    site.put(1, 2, 3)
    site.faults.next(bad.truncated(), bad.truncated(0.9), when=bad.later_pages)

    assert site.ids(_count="1") == ["r1", "r2", "r3"]


# OperationOutcome with `details.text` or `diagnostics`


@pytest.mark.parametrize("words", [{"details": {"text": SECRET}}, {"diagnostics": SECRET}])
def test_an_operation_outcome_may_quote_the_patient_in_details_or_diagnostics_and_its_code_alone_is_told(
    site: Site, words: dict[str, Any]
) -> None:
    said = bad.told(400, bad.outcome("value", expression=["DiagnosticReport.subject"], **words))
    site.faults.always(lambda _asked, _forward: said)

    with pytest.raises(InputError, match=r"answered 400 \(value DiagnosticReport\.subject\)") as refused:
        site.client.read(site.name())
    assert SECRET not in str(refused.value)


# OperationOutcome entries inside a searchset


def test_an_operation_outcome_inside_a_searchset_is_no_hit(site: Site) -> None:
    site.faults.always(bad.outcome_among_hits)
    site.put(1, 2, 3)

    assert site.ids(_count="2") == ["r1", "r2", "r3"]


# duplicate rows across pages


def test_duplicate_rows_across_pages_are_one_hit(site: Site) -> None:
    site.faults.always(bad.DuplicatedRows())
    site.put(1, 2, 3)

    assert site.ids(_count="1") == ["r1", "r2", "r3"]


# rows that appear late with an older lastUpdated


def test_a_row_that_appears_late_with_an_older_last_updated_is_within_the_overlap(site: Site) -> None:
    hidden = site.faults.always(bad.Hidden({site.name(1)}))
    site.put(1, 2)
    feed = FhirReportFeed(site.client)

    def shown(cursor: str) -> tuple[set[str], str]:
        pages = list(feed.look(cursor))
        return {ref.report_id for page in pages for ref in page.reports}, pages[-1].cursor

    first, cursor = shown("")
    hidden.show()
    second, _ = shown(cursor)

    assert site.report(1)["id"] not in first
    assert {site.report(1)["id"], site.report(2)["id"]} <= second


# XML-only servers (refuse clearly)


def test_an_xml_only_server_is_refused_clearly(site: Site) -> None:
    site.put(1)
    site.faults.always(bad.xml_only)

    for ask in (lambda: site.client.read(site.name()), site.ids, lambda: site.client.release):
        with pytest.raises(InputError, match="speaks JSON"):
            ask()


# What the proxy adds to the list: atomicity, and the release.


@pytest.mark.parametrize("fault", [bad.answered(500), bad.reset_after(), bad.in_part(2), bad.refused(500)])
def test_a_transaction_that_fails_in_whole_or_in_part_or_in_its_answer_alone_is_completed_once(
    site: Site, fault: bad.Fault
) -> None:
    site.faults.next(fault, when=bad.transactions)
    text = bundle_of(make_evidence(), page_url=f"{site.tag}.html", instances=())

    FhirReportStore(site.client).write(text)
    versions = [site.http.get(f"{site.engine}/{name}").json()["meta"]["versionId"] for name in names(text)]
    FhirReportStore(site.client).write(text)

    again = [site.http.get(f"{site.engine}/{name}").json()["meta"]["versionId"] for name in names(text)]
    assert again == versions


def names(text: str) -> list[str]:
    return [entry["request"]["url"] for entry in json.loads(text)["entry"]]


def test_a_transaction_that_is_too_large_for_the_server_goes_in_parts(site: Site) -> None:
    """This engine takes 50 updates at most."""
    device = {"resourceType": "Device", "id": derived_id("large", site.tag)}
    observation = {"resourceType": "Observation", "status": "preliminary", "code": {"text": "x"}}
    observation["device"] = {"reference": f"Device/{device['id']}"}
    ids = [derived_id("large", site.tag, str(number)) for number in range(60)]
    entries = [json.loads(transaction(each))["entry"][0] for each in (*(observation | {"id": i} for i in ids), device)]
    bundle = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    store = FhirReportStore(site.client)

    store.write(bundle)

    assert len(store.written(tuple(entry["request"]["url"] for entry in entries))) == 61
    parts = [each.json["entry"] for each in site.faults.asked if bad.transactions(each)]
    assert [len(part) for part in parts] == [61, 40, 21]
    assert parts[1][0]["resource"]["resourceType"] == "Device"


@pytest.mark.parametrize(("version", "release"), [("4.0.1", Release.R4), ("5.0.0", Release.R5)])
def test_the_release_is_the_one_of_the_capability_statement(site: Site, version: str, release: Release) -> None:
    site.faults.always(bad.Release(version))

    assert site.client.release is release


def test_a_server_without_metadata_is_one_of_r4_with_a_note(site: Site) -> None:
    site.faults.always(bad.no_metadata)

    assert site.client.release is Release.R4
    assert "HTTP 404" in site.client.capability.note
