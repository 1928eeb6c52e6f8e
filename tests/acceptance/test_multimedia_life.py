"""A multimedia report on a real FHIR engine, beside the radiologist's: made, amended, withdrawn, and never read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import matrix
import numpy as np
import pytest
from evidence import CARD, CREATED, REPORT_TEXT, STUDY, phrases_of_every_fate
from fastapi.testclient import TestClient
from fhir_check import checker
from fhir_input import attachment, imaging_study, order, patient, report, typed
from lxml import html
from queues import MemoryQueue

from model.geometry import Orientation
from model.values import Grounding, ModelCard, Query, Question, Region, State, Suitability, View
from nlp.phrases import Reading
from plugin.archive import folder_archive
from plugin.errors import WithdrawnError
from plugin.fhir.client import FhirClient
from plugin.fhir.multimedia import Organization, multimedia_id
from plugin.fhir.ours import REPORT_SYSTEM
from plugin.flow import Edges, Publication, Tools, process
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.shelf import ResultShelf
from plugin.reports.repository import FhirReportRepository
from plugin.reports.rest import FhirReportStore
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.fhir import FhirService

pytestmark = pytest.mark.acceptance
BASE = "http://127.0.0.1"
KEY = multimedia_id(STUDY.study_instance_uid, "life")


@dataclass
class Squares:
    """A grounder that finds everything asked in one square."""

    card: ModelCard = field(default_factory=lambda: CARD)

    def ground(self, pixels: np.ndarray, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        square = Region(((10.0, 10.0), (50.0, 10.0), (50.0, 50.0), (10.0, 50.0)), 0.9)
        return tuple(Grounding(query, State.FOUND, 0.9, regions=(square,)) for query in queries)

    def ground_all(self, questions: tuple[Question, ...]) -> tuple[tuple[Grounding, ...], ...]:
        return tuple(self.ground(each.pixels, each.orientation, each.queries) for each in questions)

    def suitability(self, pixels: np.ndarray, orientation: Orientation) -> Suitability:
        return Suitability(View.FRONTAL, orientation)


def read(text: str) -> Reading:
    """Three phrases, two of them lit."""
    return Reading(tuple(phrase for phrase, *_ in phrases_of_every_fate()[:3]))


TOOLS = Tools(read, "test", Squares(), 2, "ab", lambda: CREATED, organization=Organization("St. Elsewhere"))


@dataclass
class Site:
    """A FHIR engine with a study and its report, an archive with the images, and our results."""

    base_url: str
    client: httpx.Client
    edges: Edges

    def put(self, *resources: dict[str, Any]) -> None:
        for each in resources:
            self.client.put(f"{self.base_url}/{each['resourceType']}/{each['id']}", json=each).raise_for_status()

    def process(self, tools: Tools = TOOLS) -> None:
        process(STUDY, edges=self.edges, tools=tools, page_url=None)

    def regions(self) -> dict[str, str]:
        """Status and version of each region that stands there as a Basic, by its id."""
        bundle = self.client.get(f"{self.base_url}/Basic", params={"_count": "1000"}).raise_for_status().json()
        found = (entry["resource"] for entry in bundle.get("entry", ()))
        return {each["id"]: f"{each['extension'][0]['valueCode']} {each['meta']['versionId']}" for each in found}

    def multimedia(self) -> list[dict[str, Any]]:
        asked = {"identifier": f"{REPORT_SYSTEM}|{KEY}"}
        bundle = self.client.get(f"{self.base_url}/DiagnosticReport", params=asked).raise_for_status().json()
        return [entry["resource"] for entry in bundle.get("entry", ())]


def radiologists(**changes: Any) -> dict[str, Any]:
    """The radiologist's report."""
    own = {
        "id": "life",
        "subject": {"reference": "Patient/life"},
        "basedOn": [{"reference": "ServiceRequest/life"}],
        "imagingStudy": [{"reference": "ImagingStudy/life"}],
        "presentedForm": [attachment(REPORT_TEXT)],
        "resultsInterpreter": [{"reference": "Practitioner/d1", "display": "Dr. Strahl"}],
        "encounter": {"reference": "Encounter/e1"},
    }
    return report(**(own | changes))


@pytest.fixture
def site(fhir_server: str, tmp_path: Path) -> Iterator[Site]:
    for number, source in enumerate(matrix.sources_of(matrix.ORDINARY)):
        (tmp_path / f"{number}.dcm").write_bytes(source)
    archive = folder_archive((tmp_path,), store_in=tmp_path)
    (image, *_) = archive.describe(STUDY)
    assert image.patient is not None
    with httpx.Client(timeout=60) as client:
        server = FhirClient(fhir_server, client=client)
        publication = Publication(FhirReportRepository(server), BASE)
        site = Site(
            fhir_server, client, Edges(archive, FhirReportStore(server), ResultFolder(tmp_path / "r"), publication)
        )
        subject = {"subject": {"reference": "Patient/life"}}
        uid = {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY.study_instance_uid}"}
        site.put(
            patient(id="life", identifier=[typed(image.patient.patient_id, "MR")]),
            order(id="life", **subject),
            imaging_study(id="life", identifier=[uid], basedOn=[{"reference": "ServiceRequest/life"}], **subject),
            radiologists(),
        )
        yield site


def test_a_multimedia_report_lives_and_ends_with_the_radiologists(site: Site) -> None:
    before = site.client.get(f"{site.base_url}/DiagnosticReport/life").json()
    site.process()
    site.process()

    (first,) = site.multimedia()
    assert first["resultsInterpreter"][0]["display"] == "Dr. Strahl"
    assert first["encounter"]["reference"] == "Encounter/e1"
    assert first["performer"] == [{"type": "Organization", "display": "St. Elsewhere"}]
    assert first["imagingStudy"][0]["reference"] == "ImagingStudy/life"
    assert checker().check(first) == []
    assert site.client.get(f"{site.base_url}/DiagnosticReport/life").json() == before

    site.put(radiologists(status="amended", presentedForm=[attachment(REPORT_TEXT + "\nAddendum: none.")]))
    site.process()
    standing = [each for each in site.multimedia() if each["status"] != "entered-in-error"]
    assert [each["status"] for each in standing] == ["amended"]
    assert "Addendum: none." in standing[0]["text"]["div"]
    assert "effusion" not in json.dumps([each for each in site.multimedia() if each not in standing])

    site.put(radiologists(status="entered-in-error"))
    with pytest.raises(WithdrawnError):
        site.process()
    assert {each["status"] for each in site.multimedia()} == {"entered-in-error"}


def test_what_was_stored_links_to_pages_and_regions_that_our_endpoint_has(site: Site) -> None:
    site.process()
    nothing: Any = None
    services = Services(MemoryQueue(), site.edges.results, nothing, nothing, nothing, nothing, nothing)
    fhir = FhirService(MultimediaReports(ResultShelf(site.edges.results), site.base_url))

    (stored,) = [each for each in site.multimedia() if each["status"] != "entered-in-error"]
    with TestClient(create_app(services, work=False, fhir=fhir), base_url=BASE) as http:
        page = html.document_fromstring(http.get(f"/fhir/Binary/{KEY}").content)
        hrefs = [anchor.get("href") for anchor in page.find_class("imr-ref-ImagingSelection")]
        regions = [link["extension"][1]["valueUri"] for link in stored["text"]["extension"]]
        assert len(hrefs) == len(regions) == 2
        assert {http.get(each).status_code for each in (*hrefs, *regions)} == {200}
        ours = http.get(f"/fhir/DiagnosticReport/{KEY}").json()
    assert ours["text"]["div"] == stored["text"]["div"]
    assert {name: ours["presentedForm"][0][name] for name in ("size", "hash")} == {
        name: stored["presentedForm"][0][name] for name in ("size", "hash")
    }
    for reference in (
        ours["subject"]["reference"],
        ours["imagingStudy"][0]["reference"],
        ours["basedOn"][0]["reference"],
    ):
        assert site.client.get(reference).status_code == 200


def test_regions_are_resources_of_their_own_by_option(site: Site) -> None:
    tools = replace(TOOLS, basic_regions=True)
    elsewhere = set(site.regions())
    site.process()
    assert set(site.regions()) == elsewhere

    site.process(tools)
    first = {name: state for name, state in site.regions().items() if name not in elsewhere}
    site.process(tools)
    assert {name: state for name, state in site.regions().items() if name in first} == first
    assert len(first) == 2
    assert all(state.startswith("available") for state in first.values())

    only_one = replace(tools, read_report=lambda text: Reading(read(text).phrases[:2]))
    site.put(radiologists(status="amended"))
    site.process(only_one)
    states = sorted(state.partition(" ")[0] for name, state in site.regions().items() if name in first)
    assert states == ["available", "entered-in-error"]

    site.put(radiologists(status="entered-in-error"))
    for _ in range(2):
        with pytest.raises(WithdrawnError):
            site.process(tools)
    assert {state.partition(" ")[0] for name, state in site.regions().items() if name in first} == {"entered-in-error"}
