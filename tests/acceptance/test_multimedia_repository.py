"""A real third-party FHIR R4 engine takes multimedia reports (RAD-141), and gives them back as they were sent."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fhir_check import checker
from lxml import etree
from report_repository_contract import ReportRepositoryContract, World
from servers import run_fhir_server

from plugin.fhir.client import FhirClient
from plugin.fhir.multimedia import about_of
from plugin.fhir.ours import REPORT_SYSTEM
from plugin.fhir.selections import as_basic, selections_of
from plugin.flow import outputs_of
from plugin.page.document import evidence_document
from plugin.reports.repository import FhirReportRepository
from plugin.reports.rest import FhirReportStore

pytestmark = pytest.mark.acceptance


class Site:
    """The engine, and the reports in it."""

    def __init__(self, base_url: str, client: httpx.Client) -> None:
        self.base_url = base_url
        self.client = client
        self.server = FhirClient(base_url, client=client)
        self.repository = FhirReportRepository(self.server)

    def reports(self, key: str) -> list[dict[str, Any]]:
        asked = {"identifier": f"{REPORT_SYSTEM}|{key}"}
        bundle = self.client.get(f"{self.base_url}/DiagnosticReport", params=asked).raise_for_status().json()
        return sorted((entry["resource"] for entry in bundle.get("entry", ())), key=lambda each: str(each["id"]))


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """An engine of its own: it looks through all reports, of which the tests of the feed put thousands."""
    with run_fhir_server("fhir-server-multimedia") as base_url:
        yield base_url


@pytest.fixture
def site(engine: str) -> Iterator[Site]:
    with httpx.Client() as client:
        yield Site(engine, client)


class TestEngine(ReportRepositoryContract):
    """The contract, and what is read back."""

    def test_what_is_read_back_holds_to_imr(self, site: Site, world: World) -> None:
        site.repository.publish(world.bundle())

        (report,) = site.reports(world.key)
        (form,) = report["presentedForm"]
        page = base64.b64decode(form["data"])
        document = evidence_document(world.evidence())
        selections = selections_of(document, about_of(report))
        assert form["size"] == len(page)
        assert base64.b64decode(form["hash"]) == hashlib.sha1(page, usedforsecurity=False).digest()
        assert "".join(etree.fromstring(report["text"]["div"]).itertext()) == document.report.text
        assert checker().multimedia(report, selections=selections) == []

    def test_its_results_are_the_observations_that_are_there(self, site: Site, world: World) -> None:
        FhirReportStore(site.server).write(outputs_of(world.evidence()).bundle)
        site.repository.publish(world.bundle())

        (report,) = site.reports(world.key)
        names = [each["reference"] for each in report["result"]]
        assert len(names) == 8
        assert all(site.client.get(f"{site.base_url}/{name}").status_code == 200 for name in names)

    def test_it_is_found_as_portals_find_reports(self, site: Site, world: World) -> None:
        site.repository.publish(world.bundle())

        for asked in ({"subject": "Patient/p1"}, {"status": "final"}, {"category": "LP29684-5"}):
            bundle = site.client.get(f"{site.base_url}/DiagnosticReport", params=asked | {"_count": "1000"}).json()
            found = [json.dumps(entry["resource"].get("identifier", [])) for entry in bundle["entry"]]
            assert any(world.key in each for each in found), asked

    def test_regions_as_basic_are_taken_too(self, site: Site, world: World) -> None:
        document, report = evidence_document(world.evidence()), json.loads(world.bundle())["entry"][0]["resource"]
        for basic in map(as_basic, selections_of(document, about_of(report))):
            site.client.put(f"{site.base_url}/Basic/{basic['id']}", json=basic).raise_for_status()
            back = site.client.get(f"{site.base_url}/Basic/{basic['id']}").json()
            assert back["extension"] == basic["extension"]
