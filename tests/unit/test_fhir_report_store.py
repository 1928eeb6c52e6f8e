"""What the report store asks of a FHIR server, on a transport that holds resources in memory."""

import json

import httpx
import pytest
from evidence import make_evidence
from fhir_input import IDENTITY, TEXT, attachment, imaging_study, order, patient, report

from plugin.errors import ConformanceError, InputError
from plugin.fhir.client import FhirClient
from plugin.fhir.writing import bundle_of
from plugin.ports import StudyIdentity
from plugin.reports.rest import FhirReportStore
from plugin.values import ReportRef, StudyRef

BASE = "https://fhir.example/fhir"


class Server:
    """Answers reads from what it holds and every search with all resources of the type, as a careless server might."""

    def __init__(self, *resources):
        self.held = {f"{each['resourceType']}/{each['id']}": each for each in resources}
        self.asked = []
        self.posted = []
        client = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.store = FhirReportStore(FhirClient(BASE, client=client, sleep=lambda _: None))

    def _answer(self, request):
        name = request.url.path.removeprefix("/fhir").strip("/")
        self.asked.append(f"{name}?{request.url.query.decode()}" if request.url.query else name)
        if request.method == "POST":
            return self._store(json.loads(request.content))
        if request.url.query:
            hits = [{"resource": each} for each in self.held.values() if each["resourceType"] == name]
            return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": hits})
        return httpx.Response(200, json=self.held[name]) if name in self.held else httpx.Response(404)

    def _store(self, bundle):
        self.posted.append(bundle)
        for entry in bundle["entry"]:
            self.held[entry["request"]["url"]] = entry["resource"] | {"meta": {"versionId": str(len(self.posted))}}
        return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response"})


def test_study_orders_and_patient_are_looked_up_before_reports():
    server = Server(patient(), order(), imaging_study(), report())

    assert server.store.find(IDENTITY) == (ReportRef("report", "3"),)
    kinds = [asked.partition("?")[0] for asked in server.asked]
    assert kinds[:5] == ["ImagingStudy", "ServiceRequest", "ImagingStudy", "Patient", "DiagnosticReport"]
    assert "identifier=urn%3Adicom%3Auid%7Curn%3Aoid%3A" in server.asked[0]
    assert kinds.count("DiagnosticReport") == 2


def test_a_study_known_by_uid_only_is_enough():
    server = Server(patient(), order(), imaging_study(), report())
    identity = StudyIdentity(IDENTITY.study)

    assert server.store.find(identity) == (ReportRef("report", "3"),)
    assert not any(asked.startswith(("Patient?", "ServiceRequest?")) for asked in server.asked)


def test_a_careless_server_does_not_make_us_take_other_studies_reports():
    server = Server(patient(), order(), imaging_study(), report())

    assert server.store.find(StudyIdentity(StudyRef("1.2.3.4"), "OTHER", IDENTITY.patient)) == ()


def test_what_completion_brings_may_speak_against_a_report():
    another = imaging_study(id="other", identifier=[{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}])
    server = Server(patient(), order(), report(imagingStudy=[{"reference": "ImagingStudy/other"}]))
    server.held["ImagingStudy/other"] = another | {"resourceType": "Hidden"}

    assert server.store.find(IDENTITY) == (ReportRef("report", "3"),)
    server.held["ImagingStudy/other"] = another
    assert server.store.find(IDENTITY) == ()


def test_absolute_references_to_the_server_itself_are_followed_and_others_are_not():
    own = report(
        subject={"reference": f"{BASE}/Patient/pat"}, imagingStudy=[{"reference": f"{BASE}/ImagingStudy/study"}]
    )
    foreign = report(subject={"reference": "https://other.example/fhir/Patient/pat"})

    assert Server(patient(), order(), imaging_study(), own).store.read(ReportRef("report", "3")).patient is not None
    assert Server(patient(), order(), imaging_study(), foreign).store.read(ReportRef("report", "3")).patient is None


def test_a_binary_of_the_server_is_read_as_the_reports_text():
    binary = {"resourceType": "Binary", "id": "b", "data": attachment(TEXT)["data"]}
    server = Server(binary, report(presentedForm=[{"contentType": "text/plain", "url": "Binary/b"}]))

    assert server.store.read(ReportRef("report", "3")).text == TEXT


def test_a_report_that_changed_since_is_refused():
    server = Server(report(meta=None))

    with pytest.raises(InputError, match="newer by now"):
        server.store.read(ReportRef("report", "sha256:00"))


def test_only_what_changed_is_put():
    server = Server()
    first, second = (bundle_of(make_evidence(), page_url=url, instances=()) for url in ("one", "two"))

    for bundle in (first, first, second):
        server.store.write(bundle)

    assert [len(posted["entry"]) for posted in server.posted] == [len(json.loads(first)["entry"]), 1]


def test_what_is_no_bundle_of_puts_never_leaves():
    server = Server()

    with pytest.raises(ConformanceError):
        server.store.write('{"resourceType": "Bundle", "type": "transaction"}')
    assert server.asked == []
