"""Multimedia reports in a folder, and what the networked repository asks of a FHIR server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from report_repository_contract import ReportRepositoryContract, World

from plugin.errors import TransientError
from plugin.fhir.client import FhirClient
from plugin.fhir.ours import REPORT_SYSTEM
from plugin.reports.repository import FhirReportRepository, FolderReportRepository

BASE = "https://fhir.example/fhir"


class FolderSite:
    """A folder, and the reports in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.repository = FolderReportRepository(folder)

    def reports(self, key: str) -> list[dict[str, Any]]:
        found = [json.loads(path.read_bytes()) for path in sorted(self.folder.glob("*.json"))]
        return [each for each in found if each["identifier"][0]["value"] == key]


class TestFolder(ReportRepositoryContract):
    @pytest.fixture
    def site(self, tmp_path: Path) -> FolderSite:
        return FolderSite(tmp_path / "multimedia")

    def test_a_folder_that_cannot_be_is_a_transient_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()

        with pytest.raises(TransientError):
            FolderReportRepository(tmp_path / "file").publish(World().bundle())


class Server:
    """A FHIR server in memory that gives ids itself, answers every search with all it holds, and notes requests."""

    def __init__(self, *, version: str = "4.0.1") -> None:
        self.version = version
        self.held: dict[str, dict[str, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        self.bundles: list[dict[str, Any]] = []
        client = httpx.Client(transport=httpx.MockTransport(self._answer))
        self.repository = FhirReportRepository(FhirClient(BASE, client=client, sleep=lambda _: None))

    def reports(self, key: str) -> list[dict[str, Any]]:
        return [each for each in self.held.values() if key in json.dumps(each.get("identifier"))]

    def hold(self, resource: dict[str, Any], name: str) -> None:
        before = int(self.held.get(name, {}).get("meta", {}).get("versionId", "0"))
        meta = resource.get("meta", {}) | {"versionId": str(before + 1)}
        self.held[name] = resource | {"id": name.partition("/")[2], "meta": meta}

    def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.removeprefix("/fhir").strip("/")
        self.asked.append((request.method, name))
        if name == "metadata":
            return httpx.Response(200, json={"resourceType": "CapabilityStatement", "fhirVersion": self.version})
        if request.method == "POST":
            bundle = json.loads(request.content)
            self.bundles.append(bundle)
            self.hold(bundle["entry"][0]["resource"], f"DiagnosticReport/{len(self.held) + 100}")
            return httpx.Response(200, json={"resourceType": "Bundle", "type": "transaction-response"})
        if request.method == "PUT":
            assert request.headers["if-match"] == f'W/"{self.held[name]["meta"]["versionId"]}"'
            self.hold(json.loads(request.content), name)
            return httpx.Response(200, json=self.held[name])
        if request.url.query:
            hits = [{"resource": each} for each in self.held.values()]
            return httpx.Response(200, json={"resourceType": "Bundle", "type": "searchset", "entry": hits})
        return httpx.Response(200, json=self.held[name]) if name in self.held else httpx.Response(404)


class TestServer(ReportRepositoryContract):
    @pytest.fixture
    def site(self) -> Server:
        return Server()

    def test_a_careless_search_touches_no_other_report(self, site: Server, world: World) -> None:
        radiologists = {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "x"}}
        other = World()
        site.hold(radiologists, "DiagnosticReport/1")
        site.repository.publish(other.bundle())
        before = dict(site.held)

        site.repository.publish(world.bundle())
        site.repository.retract(world.key)

        assert {name: site.held[name] for name in before} == before

    def test_the_report_is_created_unless_its_version_is_there(self, site: Server, world: World) -> None:
        site.repository.publish(world.bundle())
        (bundle,) = site.bundles

        (entry,) = bundle["entry"]
        version = entry["resource"]["identifier"][1]["value"]
        assert entry["request"]["ifNoneExist"] == f"identifier={REPORT_SYSTEM}|{version}"
        assert entry["request"]["method"] == "POST"
        assert bundle["meta"]["profile"][0].endswith("imr-store-multimedia-report-bundle")

    def test_results_under_the_servers_own_ids_are_named_by_identifier(self, site: Server, world: World) -> None:
        site.repository.publish(world.bundle())
        named = site.reports(world.key)[0]["result"]
        sent = json.loads(world.bundle())["entry"][0]["resource"]["result"]

        assert [each["identifier"]["value"] for each in named] == [
            each["reference"].replace("Observation/", "urn:uuid:") for each in sent
        ]

        again = Server()
        for each in sent:
            again.hold({"resourceType": "Observation"}, each["reference"])
        again.repository.publish(world.bundle())
        assert again.reports(world.key)[0]["result"] == sent

    def test_duplicates_of_other_writers_are_withdrawn(self, site: Server, world: World) -> None:
        site.repository.publish(world.bundle())
        site.hold(site.reports(world.key)[0], "DiagnosticReport/999")

        site.repository.publish(world.bundle())

        assert sorted(each["status"] for each in site.reports(world.key)) == ["entered-in-error", "final"]

    def test_the_release_is_the_servers(self) -> None:
        assert Server(version="5.0.0").repository.r5
