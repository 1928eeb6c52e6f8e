"""Our FHIR endpoint in the real application: multimedia reports found, read, rendered, and their regions."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from evidence import STUDY, make_evidence
from fastapi.testclient import TestClient
from fhir_check import checker
from lxml import etree, html
from queues import MemoryQueue

from plugin.fhir.capability import Release
from plugin.fhir.multimedia import Organization, multimedia_id
from plugin.flow import outputs_of
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.shelf import ResultShelf
from plugin.results import ResultFile, ResultFolder, kept_report
from plugin.service import Services, create_app
from plugin.service.fhir import FhirService
from plugin.values import Evidence, PatientRef, ReportRef, ReportStatus

BASE = "http://127.0.0.1"
SERVER = "http://fhir.example/r4"
HOSPITAL = Organization("St. Elsewhere", "http://example.org/organizations", "17")
CARRIED = {
    "category": [{"coding": [{"system": "http://loinc.org", "code": "LP29684-5"}]}],
    "code": {"coding": [{"system": "http://loinc.org", "code": "36643-5"}]},
    "effectiveDateTime": "2026-03-01T08:09:10Z",
    "encounter": {"reference": "Encounter/e1", "type": "Encounter"},
    "performer": [{"reference": "Organization/o1", "type": "Organization"}],
    "resultsInterpreter": [{"reference": "Practitioner/d1", "type": "Practitioner"}],
}
EVIDENCE = replace(
    make_evidence(),
    report=replace(
        make_evidence().report,
        patient=PatientRef("MRN-1", "urn:oid:1.2.3"),
        other_patient_ids=(PatientRef("N-7", "http://example.org/national"),),
        subject_id="p1",
        service_request_ids=("s1",),
        imaging_study_ids=("i1",),
        accession_numbers=("ACC-9",),
        carried=json.dumps(CARRIED),
    ),
)
REPORT_ID = multimedia_id(STUDY.study_instance_uid, "report-1")
REPORT = f"/fhir/DiagnosticReport/{REPORT_ID}"
JSON = {"Accept": "application/fhir+json"}


@cache
def files_of(evidence: Evidence) -> tuple[ResultFile, ...]:
    """What is written for *evidence*, made once."""
    return outputs_of(evidence, organization=HOSPITAL).kept


def keep(results: ResultFolder, evidence: Evidence) -> None:
    """Keep everything that is written for *evidence*."""
    kept = kept_report(evidence.report, created=evidence.provenance.created)
    results.write(evidence.study, kept, files_of(evidence))


@pytest.fixture
def results(tmp_path: Path) -> ResultFolder:
    folder = ResultFolder(tmp_path)
    keep(folder, EVIDENCE)
    return folder


def client_of(results: ResultFolder, *, others: str = SERVER, **settings: Any) -> TestClient:
    nothing: Any = None
    services = Services(MemoryQueue(), results, nothing, nothing, nothing, nothing, nothing)
    fhir = FhirService(MultimediaReports(ResultShelf(results), others), **settings)
    return TestClient(create_app(services, work=False, fhir=fhir), base_url=BASE)


@pytest.fixture
def http(results: ResultFolder) -> Iterator[TestClient]:
    with client_of(results) as client:
        yield client


def ids(bundle: dict[str, Any]) -> list[str]:
    return [entry["resource"]["id"] for entry in bundle.get("entry", ()) if entry["search"]["mode"] == "match"]


def is_outcome(answer: Any, status: int, code: str) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and body["resourceType"] == "OperationOutcome"
        and body["issue"][0]["code"] == code
        and answer.headers["content-type"] == "application/fhir+json"
    )


# Find [RAD-143]


def test_without_parameters_every_report_is_found(http: TestClient) -> None:
    answer = http.get("/fhir/DiagnosticReport")

    bundle = answer.json()
    assert answer.headers["content-type"] == "application/fhir+json; fhirVersion=4.0"
    assert (bundle["type"], bundle["total"], ids(bundle)) == ("searchset", 1, [REPORT_ID])
    assert bundle["entry"][0]["fullUrl"] == f"{BASE}{REPORT}"
    assert bundle["entry"][0]["resource"] == http.get(REPORT).json()
    assert checker().check(bundle) == []


FOUND_BY = [  # IMR 1.1.0, table 2:4.143.4.1.2.1-1, in both spellings, and what R4 adds
    ("_id", REPORT_ID, "other"),
    ("patient", "p1", "p2"),
    ("patient", "Patient/p1", "Patient/p2"),
    ("subject", f"{SERVER}/Patient/p1", "http://elsewhere.example/Patient/p1"),
    ("patient.identifier", "urn:oid:1.2.3|MRN-1", "urn:oid:1.2.4|MRN-1"),
    ("patient.identifier", "N-7", "N-8"),
    ("subject:Patient.identifier", "MRN-1", "MRN-2"),
    ("patient:identifier", "urn:oid:1.2.3|MRN-1", "MRN-2"),
    ("basedOn", "ServiceRequest/s1", "ServiceRequest/s2"),
    ("based-on", "s1", "s2"),
    ("basedOn.identifier", "ACC-9", "ACC-8"),
    ("based-on:ServiceRequest.identifier", "ACC-9", "ACC-8"),
    ("imagingStudy", "ImagingStudy/i1", "ImagingStudy/i2"),
    ("imagingStudy.identifier", f"urn:dicom:uid|urn:oid:{STUDY.study_instance_uid}", "urn:dicom:uid|urn:oid:1.2"),
    ("imagingStudy.identifier", STUDY.study_instance_uid, "1.2"),
    ("imagingStudy.modality", "DX", "CT"),
    ("status", "final", "preliminary"),
    ("status", "preliminary,final", "partial,preliminary"),
    ("status:not", "preliminary", "final"),
    ("category", "http://loinc.org|LP29684-5", "http://loinc.org|LP29683-7"),
    ("code", "36643-5", "18748-4"),
    ("issued", "2026-03-01", "2026-03-02"),
    ("issued", "ge2026-03-01T12:30:15Z", "gt2026-03-01T12:30:15Z"),
    ("date", "2026-03-01T08:09:10Z", "lt2026"),
    ("_lastUpdated", "ge2020-01-01", "lt2020-01-01"),
    ("encounter", "e1", "e2"),
    ("performer", "Organization/o1", "Organization/o2"),
    ("resultsInterpreter", "Practitioner/d1", "Practitioner/d2"),
    ("results-interpreter", "d1", "d2"),
]


@pytest.mark.parametrize(("name", "hit", "miss"), FOUND_BY)
def test_a_report_is_found_by(http: TestClient, name: str, hit: str, miss: str) -> None:
    assert ids(http.get("/fhir/DiagnosticReport", params={name: hit}).json()) == [REPORT_ID]
    assert ids(http.get("/fhir/DiagnosticReport", params={name: miss}).json()) == []


def test_by_when_the_study_was_taken(results: ResultFolder) -> None:
    image = EVIDENCE.images[0]
    taken = replace(image.description, acquired=datetime(2026, 2, 28, 8, 10, tzinfo=UTC))
    keep(results, replace(EVIDENCE, images=(replace(image, description=taken),)))

    with client_of(results) as http:
        assert ids(http.get("/fhir/DiagnosticReport?imagingStudy.started=2026-02-28").json()) == [REPORT_ID]
        assert ids(http.get("/fhir/DiagnosticReport?imagingStudy.started=gt2026-02-28").json()) == []


def test_all_parameters_have_to_hold_also_those_of_the_body(http: TestClient) -> None:
    form = {"patient": "p1", "status": "final"}

    assert ids(http.post("/fhir/DiagnosticReport/_search", data=form).json()) == [REPORT_ID]
    assert ids(http.post("/fhir/DiagnosticReport/_search?code=other", data=form).json()) == []
    assert ids(http.get("/fhir/DiagnosticReport?patient=p1&status=final&status=partial").json()) == []
    assert is_outcome(http.post("/fhir/DiagnosticReport/_search", json=form), 415, "not-supported")


def test_what_is_not_known_is_refused_or_passed_over_as_the_sender_wishes(http: TestClient) -> None:
    strict = http.get("/fhir/DiagnosticReport", params={"patient.name": "Geheim"})
    lenient = http.get("/fhir/DiagnosticReport?patient.name=Geheim", headers={"Prefer": "handling=lenient"}).json()

    assert is_outcome(strict, 400, "not-supported")
    assert "Geheim" not in strict.text
    assert ids(lenient) == [REPORT_ID]
    assert lenient["entry"][-1]["resource"]["issue"][0]["severity"] == "warning"
    assert "Geheim" not in lenient["link"][0]["url"]
    assert checker().check(lenient) == []


def numbered(number: int) -> Evidence:
    """A further report of the same study, released *number* minutes later."""
    issued = datetime(2026, 4, 1, 12, number, tzinfo=UTC)
    return replace(EVIDENCE, report=replace(EVIDENCE.report, ref=ReportRef(f"more-{number}", "1"), issued=issued))


def test_pages_hold_every_report_once_the_newest_first(results: ResultFolder, http: TestClient) -> None:
    for number in range(4):
        keep(results, numbered(number))
    newest = [multimedia_id(STUDY.study_instance_uid, f"more-{number}") for number in (3, 2, 1, 0)]

    seen, url = [], "/fhir/DiagnosticReport?_count=2&status=final"
    while url:
        page = http.get(url).json()
        links = {link["relation"]: link["url"] for link in page["link"]}
        seen += ids(page)
        assert page["total"] == 5
        assert http.get(links["self"]).json() == page
        assert ("previous" in links) == ("_offset" in url)
        url = links.get("next", "")

    assert seen == [*newest, REPORT_ID]
    assert ids(http.get("/fhir/DiagnosticReport?_sort=issued").json()) == seen[::-1]
    assert ids(http.get("/fhir/DiagnosticReport?_sort=_lastUpdated").json()) == [REPORT_ID, *newest[::-1]]
    assert sorted(seen) == ids(http.get("/fhir/DiagnosticReport?_sort=status,_id").json())
    assert http.get("/fhir/DiagnosticReport?_count=0").json()["total"] == 5


def test_an_amended_report_takes_the_place_of_its_predecessor(results: ResultFolder, http: TestClient) -> None:
    before = http.get(REPORT)
    report = replace(EVIDENCE.report, ref=ReportRef("report-1", "3"), status=ReportStatus.AMENDED)
    keep(results, replace(EVIDENCE, report=report))

    after = http.get("/fhir/DiagnosticReport").json()

    assert ids(after) == [REPORT_ID]
    assert after["entry"][0]["resource"]["status"] == "amended"
    assert http.get(REPORT).headers["etag"] != before.headers["etag"]


def test_a_withdrawn_report_is_not_found_and_says_nothing_but_that(results: ResultFolder, http: TestClient) -> None:
    region = http.get("/fhir/ImagingSelection").json()["entry"][0]["resource"]
    observation = http.get(REPORT).json()["result"][0]["reference"]

    results.withdraw(STUDY, "report-1")

    assert http.get("/fhir/DiagnosticReport").json()["total"] == 0
    assert http.get("/fhir/ImagingSelection").json()["total"] == 0
    report = http.get(REPORT)
    assert report.json()["status"] == "entered-in-error"
    assert "effusion" not in report.text
    assert is_outcome(http.get(f"/fhir/Binary/{REPORT_ID}"), 404, "not-found")
    gone = http.get(f"/fhir/ImagingSelection/{region['id']}").json()
    assert (gone["status"], "instance" in gone) == ("entered-in-error", False)
    assert is_outcome(http.get(f"/fhir/{observation}"), 404, "not-found")
    assert checker().check(report.json()) == checker("R5").written(gone) == []


def test_the_summary_is_a_subset_and_says_so(http: TestClient) -> None:
    def with_summary(kind: str) -> dict[str, Any]:
        bundle = http.get("/fhir/DiagnosticReport", params={"_summary": kind}).json()
        assert checker().check(bundle) == []
        return dict(bundle)

    counted = with_summary("count")
    assert (counted["total"], "entry" in counted) == (1, False)
    for kind, gone in (("true", {"text", "presentedForm"}), ("text", {"presentedForm", "issued"}), ("data", {"text"})):
        report = with_summary(kind)["entry"][0]["resource"]
        assert not gone & report.keys()
        assert report["meta"]["tag"][-1]["code"] == "SUBSETTED"
    assert "text" in with_summary("text")["entry"][0]["resource"]
    assert with_summary("false") == http.get("/fhir/DiagnosticReport?_summary=false").json()


def test_observations_are_included_when_asked_for(http: TestClient) -> None:
    bundle = http.get("/fhir/DiagnosticReport?_include=DiagnosticReport:result").json()

    report, *others = (entry["resource"] for entry in bundle["entry"])
    assert [f"Observation/{each['id']}" for each in others] == [each["reference"] for each in report["result"]]
    assert {entry["search"]["mode"] for entry in bundle["entry"][1:]} == {"include"}
    assert bundle["total"] == 1
    assert checker().check(bundle) == []
    for entry in bundle["entry"]:
        assert http.get(urlsplit(entry["fullUrl"]).path).json() == entry["resource"]


def test_observations_are_r4_also_where_the_fhir_server_speaks_r5(results: ResultFolder, http: TestClient) -> None:
    kept = kept_report(EVIDENCE.report, created=EVIDENCE.provenance.created)
    results.write(STUDY, kept, outputs_of(EVIDENCE, organization=HOSPITAL, release=Release.R5).kept)

    bundle = http.get("/fhir/DiagnosticReport?_include=DiagnosticReport:result").json()

    assert len(bundle["entry"]) == 9
    assert checker().check(bundle) == []


# Read


def test_a_report_is_read_with_absolute_references_to_what_others_hold(http: TestClient) -> None:
    report = http.get(REPORT).json()

    assert report["subject"]["reference"] == f"{SERVER}/Patient/p1"
    assert report["extension"][0]["extension"][1]["valueReference"]["reference"].startswith(SERVER)
    assert report["result"][0]["reference"].startswith("Observation/")
    assert report["meta"]["profile"] == ["https://profiles.ihe.net/RAD/IMR/StructureDefinition/imr-diagnosticreport"]
    assert http.get(REPORT).headers["etag"] == f'W/"{report["meta"]["versionId"]}"'


def test_without_a_fhir_server_references_stay_as_they_are(results: ResultFolder) -> None:
    with client_of(results, others="") as http:
        assert http.get(REPORT).json()["subject"]["reference"] == "Patient/p1"


@pytest.mark.parametrize(
    "path",
    [
        "/fhir/DiagnosticReport/other",
        "/fhir/DiagnosticReport/../../etc/passwd",
        "/fhir/Binary/other",
        "/fhir/Observation/other",
        "/fhir/ImagingSelection/other",
    ],
)
def test_what_is_not_there_is_not_found(http: TestClient, path: str) -> None:
    assert http.get(path).status_code == 404
    assert http.get(path).json().get("issue", [{}])[0].get("code") in ("not-found", "not-supported") or ".." in path


def test_other_types_and_writing_are_refused_as_fhir_does_it(http: TestClient) -> None:
    assert is_outcome(http.get("/fhir/Patient/1"), 404, "not-supported")
    for method in ("PUT", "DELETE", "PATCH", "POST"):
        assert is_outcome(http.request(method, REPORT), 405, "not-supported")
    assert is_outcome(http.post("/fhir", json={}), 405, "not-supported")


@pytest.mark.parametrize("path", ["/fhir/DiagnosticReport", REPORT, "/fhir/metadata", "/fhir/ImagingSelection"])
def test_only_json_is_answered(http: TestClient, path: str) -> None:
    assert is_outcome(http.get(path, headers={"Accept": "application/fhir+xml"}), 406, "not-supported")
    assert is_outcome(http.get(path, params={"_format": "xml"}), 406, "not-supported")
    assert http.get(path, params={"_format": "application/fhir+json"}).status_code == 200
    assert http.get(path, headers={"Accept": "application/xml;q=0.9, application/json"}).status_code == 200


# Rendered report [RAD-144]


def test_the_rendered_report_is_at_its_address_with_the_size_and_hash_that_the_report_tells(http: TestClient) -> None:
    (form,) = http.get(REPORT).json()["presentedForm"]
    answer = http.get(urlsplit(form["url"]).path)

    assert form["url"].startswith(BASE)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert form["size"] == len(answer.content)
    assert base64.b64decode(form["hash"]) == hashlib.sha1(answer.content, usedforsecurity=False).digest()


def test_the_rendered_report_runs_nothing_and_fetches_nothing(http: TestClient) -> None:
    answer = http.get(f"/fhir/Binary/{REPORT_ID}")

    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    assert "script" not in policy
    assert not html.document_fromstring(answer.text).xpath("//script | //img | //link | //iframe | //form | //object")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_a_fhir_client_gets_it_as_a_binary(http: TestClient) -> None:
    page = http.get(f"/fhir/Binary/{REPORT_ID}").content
    binary = http.get(f"/fhir/Binary/{REPORT_ID}", headers=JSON).json()

    assert base64.b64decode(binary["data"]) == page
    assert (binary["resourceType"], binary["id"], binary["contentType"]) == ("Binary", REPORT_ID, "text/html")
    assert checker().check(binary) == []
    pdf = http.get(f"/fhir/Binary/{REPORT_ID}", headers={"Accept": "application/pdf"})
    assert is_outcome(pdf, 406, "not-supported")


def test_every_span_has_a_link_that_answers_and_a_region_that_is_there(http: TestClient) -> None:
    report = http.get(REPORT).json()
    spans = etree.fromstring(report["text"]["div"]).xpath("//*[@class='imr-ref-ImagingSelection']")
    page = html.document_fromstring(http.get(f"/fhir/Binary/{REPORT_ID}").text)
    linked = {link["extension"][1]["valueUri"] for link in report["text"]["extension"]}

    assert len(spans) == 5
    for span in spans:
        (anchor,) = page.xpath("//a[@id=$name]", name=span.get("id"))
        shown = http.get(anchor.get("href"))
        assert shown.status_code == 200
        assert f'id="{urlsplit(anchor.get("href")).fragment}"' in shown.text
        region = http.get(f"/fhir/{span.get('id')}")
        assert region.status_code == 200
        assert f"{BASE}/fhir/{span.get('id')}" in linked
    assert all(http.get(each).status_code == 200 for each in linked)


def test_links_and_addresses_begin_where_the_service_is_reached(results: ResultFolder) -> None:
    with client_of(results, public_url="https://sightline.example/xr/") as http:
        report = http.get(REPORT).json()
        page = http.get(f"/fhir/Binary/{REPORT_ID}").text

    assert report["presentedForm"][0]["url"] == f"https://sightline.example/xr/fhir/Binary/{REPORT_ID}"
    assert report["presentedForm"][0]["size"] == len(page.encode())
    assert 'href="https://sightline.example/xr/studies/' in page


def test_the_whole_holds_to_imr(http: TestClient) -> None:
    report = http.get(REPORT).json()
    selections = [entry["resource"] for entry in http.get("/fhir/ImagingSelection").json()["entry"]]
    page = {report["presentedForm"][0]["url"]: http.get(f"/fhir/Binary/{REPORT_ID}").content}

    assert checker().multimedia(report, selections=selections, pages=page) == []


# Regions


def test_regions_are_r5_and_found_by_study_phrase_and_patient(http: TestClient) -> None:
    answer = http.get("/fhir/ImagingSelection", params={"study-uid": STUDY.study_instance_uid})
    bundle = answer.json()
    tracking = bundle["entry"][0]["resource"]["identifier"][0]

    assert answer.headers["content-type"] == "application/fhir+json; fhirVersion=5.0"
    assert (bundle["total"], len(ids(bundle))) == (5, 5)
    assert checker("R5").check(bundle) == []
    for name, hit, miss, count in (
        ("study-uid", STUDY.study_instance_uid, "1.2", 5),
        ("derived-from", "ImagingStudy/i1", "ImagingStudy/i2", 5),
        ("derived-from:identifier", f"urn:oid:{STUDY.study_instance_uid}", "urn:oid:1.2", 5),
        ("subject", "Patient/p1", "Patient/p2", 5),
        ("patient:identifier", "MRN-1", "MRN-2", 5),
        ("based-on", "ServiceRequest/s1", "ServiceRequest/s2", 5),
        ("identifier", f"{tracking['system']}|{tracking['value']}", "urn:oid:1.2", 1),
        ("status", "available", "entered-in-error", 5),
    ):
        assert len(ids(http.get("/fhir/ImagingSelection", params={name: hit}).json())) == count, name
        assert ids(http.post("/fhir/ImagingSelection/_search", data={name: miss}).json()) == [], name


def test_a_region_is_read_alone_with_bare_uids(http: TestClient) -> None:
    first = http.get("/fhir/ImagingSelection?_count=1").json()["entry"][0]
    region = http.get(urlsplit(first["fullUrl"]).path).json()

    assert region == first["resource"]
    assert region["studyUid"] == STUDY.study_instance_uid
    assert region["subject"]["reference"] == f"{SERVER}/Patient/p1"
    r4 = http.get(
        f"/fhir/ImagingSelection/{region['id']}", headers={"Accept": "application/fhir+json; fhirVersion=4.0"}
    )
    assert is_outcome(r4, 406, "not-supported")


# What the endpoint says of itself


@pytest.mark.parametrize("creates", [True, False])
def test_what_the_endpoint_says_of_itself_is_what_it_does(results: ResultFolder, creates: bool) -> None:
    with client_of(results, creates=creates) as http:
        r4 = http.get("/fhir/metadata").json()
        r5 = http.get("/fhir/metadata", headers={"Accept": "application/fhir+json; fhirVersion=5.0"}).json()
        routes = http.get("/openapi.json").json()["paths"]

        assert checker().check(r4) == []
        assert checker("R5").check(r5) == []
        assert (r4["fhirVersion"], r5["fhirVersion"]) == ("4.0.1", "5.0.0")
        assert "Bearer tokens" in r4["rest"][0]["security"]["description"]
        said = {
            (each["type"], code["code"])
            for statement in (r4, r5)
            for each in statement["rest"][0]["resource"]
            for code in each["interaction"]
        }
        done = {
            (path.split("/")[2], "read" if path.endswith("}") else "search-type")
            for path in routes
            if path.startswith("/fhir/") and path != "/fhir/metadata"
        }
        assert said == done
        for statement in (r4, r5):
            for each in statement["rest"][0]["resource"]:
                for parameter in each.get("searchParam", ()):
                    value = {"date": "2026", "token": "x", "reference": "x"}[parameter["type"]]
                    answer = http.get(f"/fhir/{each['type']}", params={parameter["name"]: value})
                    assert answer.status_code == 200, parameter


def test_other_hosts_are_refused_here_too(http: TestClient) -> None:
    assert http.get("/fhir/DiagnosticReport", headers={"Host": "evil.example"}).status_code == 400


def test_a_damaged_file_is_our_defect_and_tells_nothing(results: ResultFolder, http: TestClient) -> None:
    for path in results.path.rglob("evidence.json"):
        path.write_bytes(b'{"report": "Geheim"')

    answer = http.get(REPORT)

    assert is_outcome(answer, 500, "exception")
    assert "Geheim" not in answer.text


def test_results_of_earlier_versions_have_no_multimedia_report(results: ResultFolder, http: TestClient) -> None:
    for path in results.path.rglob("imr.json"):
        path.unlink()

    assert http.get("/fhir/DiagnosticReport").json()["total"] == 0
    assert is_outcome(http.get(REPORT), 404, "not-found")


def test_what_changed_is_seen_at_the_next_request(results: ResultFolder, http: TestClient) -> None:
    for number in range(3):
        keep(results, numbered(number))
        assert http.get("/fhir/DiagnosticReport").json()["total"] == number + 2
    results.withdraw(STUDY, "more-1")
    assert http.get("/fhir/DiagnosticReport").json()["total"] == 3
    keep(results, numbered(1))
    assert http.get("/fhir/DiagnosticReport").json()["total"] == 4
    shutil.rmtree(results.path / STUDY.study_instance_uid)
    assert http.get("/fhir/DiagnosticReport").json()["total"] == 0


@pytest.mark.parametrize("status", [ReportStatus.PRELIMINARY, ReportStatus.CORRECTED, ReportStatus.UNKNOWN])
def test_the_status_is_that_of_the_report(results: ResultFolder, status: ReportStatus) -> None:
    keep(results, replace(EVIDENCE, report=replace(EVIDENCE.report, status=status)))

    with client_of(results) as http:
        assert http.get("/fhir/DiagnosticReport").json()["entry"][0]["resource"]["status"] == status.value
