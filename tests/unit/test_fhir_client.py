"""The FHIR client against the ways in which real servers differ (each named), by a transport that plays them."""

import json

import httpx
import pytest

from plugin.errors import ConformanceError, InputError, TransientError
from plugin.fhir.capability import Release
from plugin.fhir.client import ConflictError, FhirClient, SearchExpiredError, rebased, token

BASE = "https://fhir.example/fhir"
PUTS = '{"resourceType": "Bundle", "type": "transaction", "entry": []}'


def answer(document=None, status=200, **headers):
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json=document, headers=names)


def page(*resources, following=None):
    links = [{"relation": "self", "url": BASE}] + ([{"relation": "next", "url": following}] if following else [])
    entries = [{"fullUrl": f"{BASE}/x", "resource": each} for each in resources]
    return answer({"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries})


def report(number):
    return {"resourceType": "DiagnosticReport", "id": f"r{number}"}


def outcome(code, **issue):
    return {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": code, **issue}]}


class Server:
    """Gives the prepared answers in turn, repeats the last, and remembers requests and waits."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []
        self.waits = []
        self.pool = httpx.Client(transport=httpx.MockTransport(self._handle), follow_redirects=True)
        self.now = 0.0
        self.client = FhirClient(
            BASE,
            client=self.pool,
            headers={"Authorization": "Bearer t"},
            sleep=self.waits.append,
            jitter=lambda: 0.0,
            clock=lambda: self.now,
        )

    def _handle(self, request):
        self.requests.append(request)
        given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(given, Exception):
            raise given
        return given

    def search(self):
        return [hit.id for hit in self.client.search("DiagnosticReport", {"subject": "Patient/p"})]


# Reading


def test_a_resource_is_read_as_json_with_credentials_and_past_caches():
    server = Server(answer(report(1)))

    assert server.client.read("DiagnosticReport/r1").id == "r1"
    (request,) = server.requests
    assert str(request.url) == f"{BASE}/DiagnosticReport/r1"
    assert request.headers["Accept"] == "application/fhir+json"
    assert request.headers["Cache-Control"] == "no-cache"
    assert request.headers["Authorization"] == "Bearer t"


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_or_deleted_resource_is_none(status):
    assert Server(answer(outcome("not-found"), status)).client.read("Patient/p") is None


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 599])
def test_a_busy_server_is_asked_again(status):
    server = Server(answer(status=status), answer(report(1)))

    assert server.client.read("DiagnosticReport/r1").id == "r1"
    assert server.waits == [0.5]


def test_retry_after_in_seconds_is_obeyed():
    server = Server(answer(status=429, retry_after="4"), answer(report(1)))
    server.client.read("DiagnosticReport/r1")

    assert server.waits == [4]


def test_retry_after_as_a_date_is_counted_by_the_servers_own_clock():
    dates = {"date": "Sun, 01 Mar 2026 10:00:00 GMT", "retry_after": "Sun, 01 Mar 2026 10:00:03 GMT"}
    server = Server(answer(status=503, **dates), answer(report(1)))
    server.client.read("DiagnosticReport/r1")

    assert server.waits == [3]


@pytest.mark.parametrize("value", ["soon", "-5", ""])
def test_a_retry_after_that_means_nothing_is_ignored(value):
    server = Server(answer(status=503, retry_after=value), answer(report(1)))
    server.client.read("DiagnosticReport/r1")

    assert server.waits == [0.5]


def test_tries_are_spread_so_that_workers_do_not_come_back_together():
    server = Server(answer(status=503), answer(status=503, retry_after="4"), answer(report(1)))
    client = FhirClient(BASE, client=server.pool, sleep=server.waits.append, jitter=lambda: 0.5)
    client.read("DiagnosticReport/r1")

    assert server.waits == [0.5 + 0.125, 4 + 0.25]


def test_what_a_server_does_not_know_is_not_asked_again():
    server = Server(answer(outcome("not-supported"), 501))

    with pytest.raises(InputError, match="501"):
        server.client.read("DiagnosticReport/r1")
    assert server.waits == []


def test_a_long_retry_after_is_left_to_the_job_queue():
    server = Server(answer(status=503, retry_after="3600"), answer(report(1)))

    with pytest.raises(TransientError, match="503"):
        server.client.read("DiagnosticReport/r1")
    assert server.waits == []


@pytest.mark.parametrize("failure", [answer(status=503), httpx.ConnectError("x"), httpx.DecodingError("x")])
def test_a_server_that_stays_away_is_a_transient_error_after_four_tries(failure):
    server = Server(failure)

    with pytest.raises(TransientError):
        server.client.read("Patient/p")
    assert (len(server.requests), server.waits) == (4, [0.5, 1.0, 2.0])


def test_a_connection_cut_in_the_body_is_tried_again():
    server = Server(httpx.RemoteProtocolError("peer closed connection"), answer(report(1)))

    assert server.client.read("DiagnosticReport/r1").id == "r1"


@pytest.mark.parametrize("body", [b'{"resourceType": "Pat', b"", b"<html>Bad gateway</html>", b'{"a": 1}'])
def test_a_truncated_or_foreign_body_is_a_transient_error(body):
    with pytest.raises(TransientError, match="not complete FHIR JSON"):
        Server(httpx.Response(200, content=body)).client.read("Patient/p")


def test_an_xml_only_server_is_refused_clearly():
    xml = httpx.Response(200, content=b"<Patient/>", headers={"Content-Type": "application/fhir+xml"})

    with pytest.raises(InputError, match="XML"):
        Server(xml).client.read("Patient/p")


@pytest.mark.parametrize("status", [406, 415])
def test_a_server_that_refuses_json_is_refused_clearly(status):
    with pytest.raises(InputError, match="speaks JSON"):
        Server(httpx.Response(status)).client.read("Patient/p")


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_transient_and_name_the_setting(status):
    with pytest.raises(TransientError, match="SIGHTLINE_FHIR_TOKEN"):
        Server(answer(outcome("login"), status)).client.read("Patient/p")


def test_a_redirect_is_not_followed_so_the_token_stays():
    server = Server(answer(status=302, location="https://elsewhere.example/fhir/Patient/p"))

    with pytest.raises(InputError, match="redirects"):
        server.client.read("Patient/p")
    assert [request.url.host for request in server.requests] == ["fhir.example"]


def test_an_operation_outcome_is_told_in_codes_and_paths_but_not_in_its_own_words():
    details = {"text": "Patient Geheim", "coding": [{"code": "MSG_PARAM_INVALID"}]}
    refused = outcome("invalid", diagnostics="Geheim^Gustav", details=details, expression=["Patient.name[0]", 7])

    with pytest.raises(InputError) as caught:
        Server(answer(refused, 400)).client.read("Patient/p")
    assert str(caught.value) == "the FHIR server answered 400 (invalid MSG_PARAM_INVALID Patient.name[0])"


# Searching


def test_a_search_goes_over_all_pages():
    server = Server(
        page(report(1), following=f"{BASE}?page=2"), page(report(2), following=f"{BASE}?page=3"), page(report(3))
    )

    assert server.search() == ["r1", "r2", "r3"]
    assert str(server.requests[0].url) == f"{BASE}/DiagnosticReport?subject=Patient%2Fp"


def test_a_next_link_with_another_host_is_rebased_and_the_token_goes_nowhere_else():
    server = Server(
        page(report(1), following="http://internal:8080/fhir/DiagnosticReport?page=2&x=%7C"), page(report(2))
    )

    assert server.search() == ["r1", "r2"]
    assert str(server.requests[1].url) == f"{BASE}/DiagnosticReport?page=2&x=%7C"
    assert {request.url.host for request in server.requests} == {"fhir.example"}


@pytest.mark.parametrize(
    ("link", "where"),
    [
        (f"{BASE}?_getpages=abc", f"{BASE}?_getpages=abc"),
        (f"{BASE}/DiagnosticReport?page=2", f"{BASE}/DiagnosticReport?page=2"),
        (f"{BASE}/DiagnosticReport/_search?page=2", f"{BASE}/DiagnosticReport/_search?page=2"),
        ("https://fhir.example:444/fhir?p=2", f"{BASE}?p=2"),
        ("http://hapi:8080/internal/DiagnosticReport?p=2", f"{BASE}/DiagnosticReport?p=2"),
        ("http://hapi:8080/?_getpages=abc", f"{BASE}?_getpages=abc"),
        ("DiagnosticReport?p=2", f"{BASE}/DiagnosticReport?p=2"),
        ("?p=2", f"{BASE}?p=2"),
        ("//evil.example/fhir/DiagnosticReport?p=2", f"{BASE}/DiagnosticReport?p=2"),
    ],
)
def test_links_are_rebased_to_the_configured_base(link, where):
    assert rebased(link, base=BASE, resource_type="DiagnosticReport") == where


def test_a_next_link_that_is_no_url_is_a_transient_error():
    with pytest.raises(TransientError, match="no URL"):
        rebased("http://[", base=BASE, resource_type="Patient")


@pytest.mark.parametrize("base", ["localhost:8080/fhir", "ftp://host/fhir", "", "http://"])
def test_a_base_that_is_no_http_address_is_refused(base):
    with pytest.raises(InputError, match="SIGHTLINE_FHIR_URL"):
        FhirClient(base)


def test_links_are_rebased_to_a_base_without_path():
    assert rebased("http://h:1/Patient?p=2", base="https://f.example", resource_type="Patient") == (
        "https://f.example/Patient?p=2"
    )


def test_duplicate_rows_across_pages_count_once():
    server = Server(page(report(1), report(1), following=f"{BASE}?page=2"), page(report(1), report(2)))

    assert server.search() == ["r1", "r2"]


def test_an_operation_outcome_inside_a_searchset_is_no_hit():
    assert Server(page(outcome("incomplete"), report(1))).search() == ["r1"]


def test_entries_without_resource_are_passed_over():
    empty = answer({"resourceType": "Bundle", "entry": [{}, {"resource": 5}, {"resource": report(1)}]})

    assert Server(empty).search() == ["r1"]


def test_a_next_link_that_leads_back_ends_the_search():
    assert Server(page(report(1), following=f"{BASE}?page=2")).search() == ["r1"]


def test_pages_without_end_are_an_error():
    numbers = iter(range(2000))
    pool = httpx.Client(transport=httpx.MockTransport(lambda _: page(following=f"{BASE}?page={next(numbers)}")))

    with pytest.raises(TransientError, match="20 pages"):
        list(FhirClient(BASE, client=pool).pages("Patient", (), most=20))


@pytest.mark.parametrize("status", [400, 404, 410])
def test_after_an_expired_next_link_the_search_begins_again_with_hits_once(status):
    first = page(report(1), following=f"{BASE}?page=2")
    server = Server(first, answer(outcome("not-found"), status), first, page(report(2)))

    assert server.search() == ["r1", "r2"]


def test_next_links_that_always_expire_are_an_error_and_not_the_end():
    first, expired = page(report(1), following=f"{BASE}?page=2"), answer(outcome("not-found"), 410)
    server = Server(*[first, expired] * 4)

    with pytest.raises(SearchExpiredError, match="answered 410 to its own next link"):
        server.search()
    assert len(server.requests) == 8


def test_a_first_page_that_is_refused_is_no_expired_link():
    with pytest.raises(InputError, match="410"):
        Server(answer(outcome("not-found"), 410)).search()


def test_a_new_version_on_a_later_page_is_a_hit_of_its_own():
    older, newer = (report(1) | {"meta": {"versionId": version}} for version in "12")
    server = Server(page(older, following=f"{BASE}?page=2"), page(older, newer))

    hits = server.client.search("DiagnosticReport", {})
    assert [hit.child("meta").string("versionId") for hit in hits] == ["1", "2"]


@pytest.mark.parametrize(
    ("value", "system", "escaped"),
    [("A,1|2$3\\4", None, r"A\,1\|2\$3\\4"), ("1.2", "urn:dicom:uid", "urn:dicom:uid|1.2")],
)
def test_separators_in_search_values_are_escaped(value, system, escaped):
    assert token(value, system=system) == escaped


@pytest.mark.parametrize(
    ("reference", "own"),
    [
        ("Patient/1", "Patient/1"),
        (f"{BASE}/Patient/1", "Patient/1"),
        ("https://other.example/fhir/Patient/1", ""),
        ("urn:uuid:1", ""),
    ],
)
def test_only_own_references_are_relative(reference, own):
    assert Server(answer()).client.relative(reference) == own


# Writing


def entries(*statuses):
    responses = [{"response": {"status": status, "outcome": outcome("invalid")}} for status in statuses]
    return answer({"resourceType": "Bundle", "type": "transaction-response", "entry": responses})


def test_a_transaction_is_posted_to_the_base():
    server = Server(entries("201 Created", "200"))
    server.client.transaction(PUTS)

    (request,) = server.requests
    assert (request.method, str(request.url)) == ("POST", BASE)
    assert request.headers["Content-Type"] == "application/fhir+json"
    assert json.loads(request.content) == json.loads(PUTS)


def test_an_empty_answer_to_a_transaction_is_fine():
    Server(httpx.Response(204)).client.transaction(PUTS)


@pytest.mark.parametrize("status", [409, 412])
def test_conflicts_409_and_412_are_tried_again_alike(status):
    server = Server(answer(outcome("conflict"), status), entries("200"))
    server.client.transaction(PUTS)

    assert len(server.requests) == 2


def test_a_conflict_on_a_read_is_not_tried_again():
    with pytest.raises(InputError, match="409"):
        Server(answer(outcome("conflict"), 409)).client.read("Patient/p")


@pytest.mark.parametrize("status", [400, 404, 405, 410, 413, 422])
def test_a_refused_bundle_is_our_defect(status):
    with pytest.raises(ConformanceError, match=rf"answered {status} \(invalid\)"):
        Server(answer(outcome("invalid"), status)).client.transaction(PUTS)


def test_an_entry_refused_inside_a_successful_answer_is_our_defect():
    with pytest.raises(ConformanceError, match=r"400 to an entry of the bundle \(invalid\)"):
        Server(entries("201", "400 Bad Request")).client.transaction(PUTS)


@pytest.mark.parametrize("status", ["503 Service Unavailable", "412"])
def test_an_entry_that_may_work_later_is_a_transient_error(status):
    with pytest.raises(TransientError):
        Server(entries("201", status)).client.transaction(PUTS)


def test_an_entry_with_a_status_that_is_none_is_our_defect():
    with pytest.raises(ConformanceError):
        Server(entries("oops")).client.transaction(PUTS)


def test_a_conditional_transaction_is_not_tried_again_against_its_conditions():
    server = Server(answer(outcome("conflict"), 412))

    with pytest.raises(ConflictError, match="412"):
        server.client.transaction(PUTS, conditional=True)
    assert len(server.requests) == 1


def versioned(number, **fields):
    return report(1) | {"meta": {"versionId": str(number)}} | fields


def final(there):
    return dict(there.json) | {"status": "final"}


def test_an_update_is_of_the_version_that_was_read():
    server = Server(answer(versioned(1)), answer(versioned(2, status="final")))

    assert server.client.update("DiagnosticReport/r1", final).string("status") == "final"
    assert server.requests[1].headers["If-Match"] == 'W/"1"'
    assert json.loads(server.requests[1].content)["status"] == "final"


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_409_or_412_is_read_again_and_changed_again(status):
    theirs = answer(versioned(2, conclusion="theirs"))
    server = Server(answer(versioned(1)), answer(outcome("conflict"), status), theirs, answer(versioned(3)))
    server.client.update("DiagnosticReport/r1", final)

    again = server.requests[3]
    assert again.headers["If-Match"] == 'W/"2"'
    assert (json.loads(again.content)["conclusion"], json.loads(again.content)["status"]) == ("theirs", "final")


def test_writers_that_keep_being_faster_are_a_conflict_to_try_again():
    server = Server(*[answer(versioned(1)), answer(outcome("conflict"), 409)] * 4)

    with pytest.raises(ConflictError, match="409"):
        server.client.update("DiagnosticReport/r1", final)


def test_an_update_that_was_applied_before_its_500_is_seen_as_done():
    applied = answer(versioned(2, status="final"))
    server = Server(answer(versioned(1)), answer(status=500), answer(outcome("conflict"), 412), applied)

    assert server.client.update("DiagnosticReport/r1", final).string("status") == "final"
    assert [request.method for request in server.requests] == ["GET", "PUT", "PUT", "GET"]


@pytest.mark.parametrize("change", [final, lambda there: None])
def test_an_update_that_changes_nothing_writes_nothing(change):
    server = Server(answer(versioned(1, status="final")))
    server.client.update("DiagnosticReport/r1", change)

    assert [request.method for request in server.requests] == ["GET"]


def test_what_is_not_there_is_not_updated():
    assert Server(answer(status=404)).client.update("DiagnosticReport/r1", final) is None


def test_an_update_that_the_server_refuses_is_our_defect():
    with pytest.raises(ConformanceError, match="422"):
        Server(answer(versioned(1)), answer(outcome("invalid"), 422)).client.update("DiagnosticReport/r1", final)


@pytest.mark.parametrize(
    "made",
    [
        answer(report(1), 201),
        answer(status=201, location=f"{BASE}/DiagnosticReport/r1/_history/1"),
        answer(outcome("informational"), 201, location="DiagnosticReport/r1"),
    ],
)
def test_a_conditional_create_tells_the_name_whatever_the_answer_holds(made):
    server = Server(made)

    assert server.client.create({"resourceType": "DiagnosticReport"}, unless="identifier=a|b") == "DiagnosticReport/r1"
    assert server.requests[0].headers["If-None-Exist"] == "identifier=a|b"


def test_a_conditional_create_that_finds_several_is_a_conflict():
    with pytest.raises(ConflictError):
        Server(answer(outcome("multiple-matches"), 412)).client.create(report(1), unless="identifier=a|b")


@pytest.mark.parametrize(("status", "gone"), [(200, True), (204, True), (404, True), (410, True), (405, False)])
def test_a_deletion_tells_whether_the_resource_is_gone(status, gone):
    assert Server(answer(status=status)).client.delete("Patient/p") is gone


# What the server is


def statement(version):
    return answer({"resourceType": "CapabilityStatement", "fhirVersion": version})


@pytest.mark.parametrize(
    ("version", "release", "noted"),
    [
        ("4.0.1", Release.R4, False),
        ("4.3.0", Release.R4, False),
        ("5.0.0", Release.R5, False),
        ("5.0.0-ballot", Release.R5, False),
        ("6.0.0", Release.R5, True),
        ("3.0.2", Release.R4, True),
        ("soon", Release.R4, True),
        ("", Release.R4, True),
    ],
)
def test_the_release_is_what_the_capability_statement_says(version, release, noted):
    client = Server(statement(version)).client

    assert client.release is release
    assert bool(client.capability.note) is noted


@pytest.mark.parametrize("none", [answer(outcome("not-found"), 404), answer(status=401), answer(report(1))])
def test_a_server_without_capability_statement_is_taken_for_r4_with_a_note(none):
    client = Server(none).client

    assert client.release is Release.R4
    assert "taken for one of R4" in client.capability.note


def test_the_capability_statement_is_read_once_and_again_after_an_hour():
    server = Server(statement("4.0.1"), statement("5.0.0"))
    before = [server.client.release for _ in range(3)]
    server.now = 3600.0

    assert before == [Release.R4] * 3
    assert server.client.release is Release.R5
    assert len(server.requests) == 2


def test_a_server_that_is_away_when_it_is_to_be_read_again_is_what_it_was():
    server = Server(statement("5.0.0"), answer(status=503))
    before = server.client.release
    server.now = 3600.0

    assert (before, server.client.release) == (Release.R5, Release.R5)


def test_who_asks_whether_it_answers_now_asks_once():
    server = Server(answer(status=503))

    with pytest.raises(TransientError, match="503"):
        server.client.impatient().read("Patient/p")
    assert (len(server.requests), server.waits) == (1, [])


def test_an_xml_only_server_is_refused_at_its_capability_statement():
    xml = httpx.Response(200, content=b"<CapabilityStatement/>", headers={"Content-Type": "application/fhir+xml"})

    with pytest.raises(InputError, match="XML"):
        _ = Server(xml).client.release


def test_who_gives_ids_is_told_by_type():
    types = [{"type": "Device", "updateCreate": True}, {"type": "Provenance", "updateCreate": False}, {"type": "Task"}]
    server = Server(answer({"resourceType": "CapabilityStatement", "rest": [{"resource": types}]}))

    assert not server.client.capability.refuses_ids("Device", "Task", "Observation")
    assert server.client.capability.refuses_ids("Device", "Provenance")
