"""A real third-party FHIR R4 engine keeps the report store's promises."""

import httpx
import pytest
from report_store_contract import ReportStoreContract

from plugin.errors import TransientError
from plugin.fhir.client import FhirClient
from plugin.reports.rest import FhirReportStore

pytestmark = pytest.mark.acceptance


class Site:
    """The server, filled by PUT."""

    def __init__(self, base_url, client):
        self.base_url = base_url
        self.client = client
        self.store = FhirReportStore(FhirClient(base_url, client=client))

    def put(self, *resources):
        for resource in resources:
            url = f"{self.base_url}/{resource['resourceType']}/{resource['id']}"
            self.client.put(url, json=resource).raise_for_status()

    def written(self, kind, name):
        found = self.client.get(f"{self.base_url}/{kind}/{name}").raise_for_status().json()
        return {field: value for field, value in found.items() if field != "meta"}

    def everything(self, bundle):
        entries = httpx.Response(200, content=bundle.encode()).json()["entry"]
        urls = [entry["request"]["url"] for entry in entries]
        return [self.client.get(f"{self.base_url}/{url}").raise_for_status().json() for url in urls]


@pytest.fixture
def site(fhir_server):
    with httpx.Client() as client:
        yield Site(fhir_server, client)


class TestFhirServer(ReportStoreContract):
    """The contract, and what only a server does."""

    def test_an_earlier_version_is_read_from_history(self, site, world):
        site.put(world.patient(), world.order(), world.study(), world.report(conclusion="first"))
        (first,) = site.store.find(world.identity)
        site.put(world.report(conclusion="second"))
        (second,) = site.store.find(world.identity)

        assert first.report_id == second.report_id
        assert first.version != second.version
        assert site.store.read(first).ref == first
        assert site.store.read(second).ref == second

    def test_a_server_that_is_gone_is_a_transient_error(self, world):
        with httpx.Client() as client:
            store = FhirReportStore(FhirClient("http://127.0.0.1:9/fhir", client=client, sleep=lambda _: None))
            with pytest.raises(TransientError):
                store.find(world.identity)
