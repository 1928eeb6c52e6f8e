"""The fault-injecting proxy before the real FHIR engine: each fault does what it says, and nothing else happens."""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Iterator
from typing import Any

import faults as ways
import httpx
import pytest
from faults import Faults, run_faults, together

pytestmark = pytest.mark.acceptance


class Site:
    """The proxy before the session's server, and plain HTTP to it."""

    def __init__(self, faults: Faults, http: httpx.Client) -> None:
        self.faults = faults
        self.http = http
        self.tag = uuid.uuid4().hex[:12]

    def id(self, number: int) -> str:
        return f"a{number}-{self.tag}"

    def patient(self, number: int, **fields: Any) -> dict[str, Any]:
        identifier = [{"system": "urn:faults", "value": self.tag}]
        return {"resourceType": "Patient", "id": self.id(number), "identifier": identifier, **fields}

    def put(self, number: int, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        url = f"{self.faults.base}/Patient/{self.id(number)}"
        return self.http.put(url, json=self.patient(number, **fields), headers=headers)

    def get(self, number: int) -> httpx.Response:
        return self.http.get(f"{self.faults.base}/Patient/{self.id(number)}")

    def search(self, **params: Any) -> dict[str, Any]:
        identifier = f"urn:faults|{self.tag}"
        found = self.http.get(f"{self.faults.base}/Patient", params={"identifier": identifier, **params})
        return found.raise_for_status().json()

    def post(self, *entries: dict[str, Any]) -> httpx.Response:
        bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
        return self.http.post(self.faults.base, json=bundle)

    def entry(self, number: int) -> dict[str, Any]:
        request = {"method": "PUT", "url": f"Patient/{self.id(number)}"}
        return {"resource": self.patient(number), "request": request}


@pytest.fixture
def site(fhir_server: str) -> Iterator[Site]:
    with run_faults(fhir_server) as faults, httpx.Client(timeout=5) as http:
        yield Site(faults, http)


def ids(searchset: dict[str, Any]) -> list[str]:
    return [row["resource"].get("id", "") for row in searchset.get("entry", [])]


# The engine and its shell, through a proxy that does nothing


def test_without_faults_the_engine_answers_as_itself(site: Site) -> None:
    put, got = site.put(1), site.get(1)

    assert (put.status_code, got.status_code) == (200, 200)
    assert got.json()["meta"]["versionId"] in got.headers["etag"]
    assert [asked.method for asked in site.faults.asked] == ["PUT", "GET"]
    assert site.http.get(f"{site.faults.base}/metadata").json()["fhirVersion"] == "4.0.1"


def test_an_update_of_another_version_is_a_412(site: Site) -> None:
    version = site.put(1).headers["etag"]
    assert site.put(1, headers={"If-Match": version}, active=True).status_code == 200
    assert site.put(1, headers={"If-Match": version}, active=False).status_code == 412
    assert site.get(1).json()["active"] is True


def test_a_search_comes_in_pages_of_one_snapshot(site: Site) -> None:
    for number in range(5):
        site.put(number)

    page = site.search(_count=2, _sort="_lastUpdated")
    site.put(9)
    seen = ids(page)
    while following := [link["url"] for link in page["link"] if link["relation"] == "next"]:
        page = site.http.get(following[0]).json()
        seen += ids(page)

    assert seen == [site.id(number) for number in range(5)]
    assert page["total"] == 5


# Faults that one request meets


@pytest.mark.parametrize("status", [408, 409, 412, 429, 500, 503])
def test_a_refused_request_changes_nothing_and_the_next_one_is_served(site: Site, status: int) -> None:
    site.faults.next(ways.refused(status, retry_after="7"))

    first, second = site.put(1), site.get(1)

    assert (first.status_code, first.headers["retry-after"], second.status_code) == (status, "7", 404)
    assert site.faults.pending == 0


def test_faults_wait_for_the_requests_they_are_meant_for(site: Site) -> None:
    site.faults.next(ways.refused(503), ways.refused(429), when=ways.transactions)

    assert site.put(1).status_code == 200
    assert [site.post(site.entry(2)).status_code for _ in range(3)] == [503, 429, 200]


@pytest.mark.parametrize("fault", [ways.answered(500), ways.reset_after()])
def test_what_was_applied_stands_though_the_answer_does_not_say_so(site: Site, fault: ways.Fault) -> None:
    site.faults.next(fault)
    with contextlib.suppress(httpx.TransportError):
        assert site.put(1).status_code == 500

    assert site.get(1).status_code == 200


def test_a_connection_is_reset_before_anything_was_done(site: Site) -> None:
    site.faults.next(ways.reset())

    with pytest.raises(httpx.ReadError):
        site.put(1)
    assert site.get(1).status_code == 404


def test_a_body_is_truncated(site: Site) -> None:
    site.put(1)
    site.faults.next(ways.truncated())

    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        site.get(1)


@pytest.mark.parametrize("fault", [ways.slow(0.4), ways.dripping(0.05)])
def test_an_answer_takes_its_time(site: Site, fault: ways.Fault) -> None:
    site.put(1)
    site.faults.next(fault)
    began = time.monotonic()

    assert site.get(1).json()["id"] == site.id(1)
    assert time.monotonic() - began >= 0.3


def test_a_transaction_is_applied_in_part(site: Site) -> None:
    site.faults.next(ways.in_part(1), when=ways.transactions)

    assert site.post(site.entry(1), site.entry(2)).status_code == 500
    assert (site.get(1).status_code, site.get(2).status_code) == (200, 404)


def test_a_next_link_expires_once(site: Site) -> None:
    for number in range(3):
        site.put(number)
    site.faults.next(ways.expired_page(), when=ways.later_pages)
    following = site.search(_count=2)["link"][0]["url"].replace(site.faults.upstream, site.faults.base)

    assert [site.http.get(following).status_code for _ in range(2)] == [410, 200]


# Standing ways


def test_a_hidden_row_appears_later_with_the_time_it_always_had(site: Site) -> None:
    hidden = site.faults.always(ways.Hidden({f"Patient/{site.id(1)}"}))
    written = [site.put(number).json()["meta"]["lastUpdated"] for number in (1, 2)]
    assert (ids(site.search()), site.get(1).status_code) == ([site.id(2)], 200)

    hidden.show()

    found = site.search(_sort="_lastUpdated")
    assert [row["resource"]["meta"]["lastUpdated"] for row in found["entry"]] == written


def test_whole_seconds_are_rendered_while_the_search_compares_in_full(site: Site) -> None:
    site.put(1)
    site.faults.always(ways.whole_seconds)
    (row,) = site.search()["entry"]
    rendered = row["resource"]["meta"]["lastUpdated"]

    assert len(rendered) == len("2026-01-01T00:00:00Z")
    assert ids(site.search(_lastUpdated=f"gt{rendered}")) == [site.id(1)]


def test_next_links_name_a_host_of_the_servers_own(site: Site) -> None:
    for number in range(3):
        site.put(number)
    site.faults.always(ways.OtherHost())

    assert site.search(_count=2)["link"][0]["url"].startswith("http://internal.example:8080/fhir?_getpages=")


def test_rows_are_duplicated_across_pages(site: Site) -> None:
    for number in range(3):
        site.put(number)
    site.faults.always(ways.DuplicatedRows())
    first = site.search(_count=2, _sort="_lastUpdated")
    following = first["link"][0]["url"].replace(site.faults.upstream, site.faults.base)

    assert ids(site.http.get(following).json()) == [site.id(1), site.id(2)]


def test_an_outcome_stands_among_the_hits(site: Site) -> None:
    site.put(1)
    site.faults.always(ways.outcome_among_hits)

    assert [row["resource"]["resourceType"] for row in site.search()["entry"]] == ["OperationOutcome", "Patient"]


def test_an_equal_search_is_cached_unless_the_request_says_no_cache(site: Site) -> None:
    site.faults.always(ways.CachedSearches())
    before = ids(site.search())
    site.put(1)

    assert (before, ids(site.search())) == ([], [])
    site.http.headers["Cache-Control"] = "no-cache"
    assert ids(site.search()) == [site.id(1)]


def test_eight_parallel_conditional_creates_make_eight_resources(site: Site) -> None:
    site.faults.always(ways.RacyCreates())
    body = {name: value for name, value in site.patient(0).items() if name != "id"}
    headers = {"If-None-Exist": f"identifier=urn:faults|{site.tag}"}

    made = together(8, lambda _: site.http.post(f"{site.faults.base}/Patient", json=body, headers=headers))

    assert [each.status_code for each in made] == [201] * 8
    assert len(ids(site.search())) == 8
    assert site.http.post(f"{site.faults.base}/Patient", json=body, headers=headers).status_code == 412


def test_of_parallel_writers_of_one_resource_some_get_a_500(site: Site) -> None:
    site.faults.always(ways.Racing())

    statuses = [each.status_code for each in together(8, lambda _: site.put(1))]

    assert set(statuses) == {200, 500}
    assert len(ids(site.search())) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 422])
def test_without_update_as_create_only_the_server_gives_ids(site: Site, status: int) -> None:
    site.faults.always(ways.NoUpdateAsCreate(status, told_so=True))

    assert (site.put(1).status_code, site.post(site.entry(2)).status_code) == (status, status)
    made = site.http.post(f"{site.faults.base}/Patient", json=site.patient(3)).json()
    assert made["id"] != site.id(3)
    assert site.http.put(f"{site.faults.base}/Patient/{made['id']}", json=made).status_code == 200
    (rest,) = site.http.get(f"{site.faults.base}/metadata").json()["rest"]
    assert rest["resource"][0]["updateCreate"] is False


def test_hapi_refuses_numeric_ids_and_absolute_references(site: Site) -> None:
    site.faults.always(ways.hapi_rules)
    numeric = {"resourceType": "Patient", "id": "123"}
    absolute = site.entry(1)
    absolute["resource"]["managingOrganization"] = {"reference": f"{site.faults.base}/Organization/o"}

    assert site.http.put(f"{site.faults.base}/Patient/123", json=numeric).status_code == 400
    assert site.post(absolute).status_code == 400
    assert site.put(1).status_code == 200


def test_a_server_speaks_xml_alone_or_another_release_or_tells_nothing(site: Site) -> None:
    metadata = f"{site.faults.base}/metadata"
    site.faults.always(ways.Release("5.0.0"))
    assert site.http.get(metadata).json()["fhirVersion"] == "5.0.0"

    site.faults.always(ways.xml_only)
    assert site.http.get(metadata).content.endswith(b'<CapabilityStatement xmlns="http://hl7.org/fhir"/>')

    site.faults.clear()
    site.faults.always(ways.no_metadata)
    assert site.http.get(metadata).status_code == 404


def test_tokens_are_taken_only_while_they_are_valid(site: Site) -> None:
    tokens = site.faults.always(ways.Tokens({"one"}))
    site.http.headers["Authorization"] = "Bearer one"
    assert site.put(1).status_code == 200

    tokens.valid.clear()

    assert site.put(1).status_code == 401


def test_chance_is_the_same_for_the_same_seed(site: Site) -> None:
    def history(seed: int) -> list[int]:
        site.faults.clear()
        site.faults.always(ways.Sometimes(random.Random(seed), 0.5, [ways.refused(429), ways.refused(503)]))
        return [site.get(1).status_code for _ in range(30)]

    assert history(1) == history(1)
    assert set(history(1)) == {404, 429, 503}
