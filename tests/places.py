"""Our service beside the server that people log in at, with results of two patients: for tests of who comes in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from authority import CLIENT, SECRET, Authority, run_authority
from charts import Chart
from fastapi.testclient import TestClient
from memory import Site

from plugin.access.events import AccessEvent
from plugin.endpoint import Endpoint
from plugin.imr.endpoint import MultimediaReports
from plugin.imr.shelf import ResultShelf
from plugin.results import ResultFolder
from plugin.service import Services, create_app
from plugin.service.fhir import FhirService
from plugin.service.viewer import Viewer
from plugin.settings import Settings
from plugin.values import ReportStatus
from plugin.wiring import make_access, make_doors, make_shield

OURS = "https://sightline.example"
PAGE = {"Accept": "text/html"}
ALICE, BOB, DRAFT = Chart("alice"), Chart("bob"), Chart("alice", 2, ReportStatus.PRELIMINARY)
PATIENT_SCOPE = (
    "launch/patient openid fhirUser patient/DiagnosticReport.rs patient/Observation.rs patient/ImagingStudy.rs"
)


@dataclass
class Place:
    """Our service, the server that people log in at, and a browser."""

    authority: Authority
    app: Any
    results: ResultFolder
    ours: str
    told: list[AccessEvent] = field(default_factory=list)

    def browser(self) -> TestClient:
        return TestClient(self.app, base_url=self.ours, follow_redirects=False)

    def to_provider(self, browser: TestClient, at: str) -> str:
        """Where a login that begins with *at* leads the browser."""
        answer = browser.get(at, headers=PAGE)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def granted(self, browser: TestClient, at: str) -> str:
        """The address by which the provider sends the browser back."""
        back = httpx.get(self.to_provider(browser, at)).headers["Location"]
        assert back.startswith(f"{self.ours}/callback?")
        return back.removeprefix(self.ours)

    def log_in(self, at: str = "/login", browser: TestClient | None = None) -> TestClient:
        browser = browser or self.browser()
        answer = browser.get(self.granted(browser, at), headers=PAGE)
        assert answer.status_code == 200, answer.text
        return browser

    def as_patient(self, patient: str) -> TestClient:
        self.authority.user = {"sub": patient, "fhirUser": f"{self.authority.fhir}/Patient/{patient}"}
        self.authority.grants, self.authority.context = PATIENT_SCOPE, {"patient": patient}
        return self.log_in(f"/launch?iss={self.authority.fhir}")


@contextmanager
def run_place(folder: Path, *, key: Path | None = None, ours: str = OURS, **more: Any) -> Iterator[Place]:
    with run_authority() as authority:
        settings = Settings(
            data_dir=folder,
            public_url=ours,
            fhir_url=authority.fhir,
            login_issuer=authority.base,
            login_client_id=CLIENT,
            **({"login_client_secret": SECRET} if key is None else {"fhir_key_file": key}),
        )
        results = ResultFolder(folder / "results")
        for chart in (ALICE, BOB, DRAFT):
            chart.keep(results)
        site, unused = Site(folder / "site"), None
        services = Services(site.queue, results, (), site.intake, *[unused] * 3)  # type: ignore[arg-type]
        (folder / "ohif").mkdir()
        (folder / "ohif" / "index.html").write_text("ohif", encoding="utf-8")
        archive = Endpoint("http://127.0.0.1:9/dicom-web", timeout_s=1)
        place = Place(authority, None, results, ours)
        access = make_access(settings)
        place.app = create_app(
            services,
            work=False,
            allowed_hosts=settings.host_names,
            viewer=Viewer(folder / "ohif", archive, lambda _: "1.2"),
            fhir=FhirService(MultimediaReports(ResultShelf(results))),
            access=type(access)(access.identify, place.told.append, access.cookie, access.way_in),
            shield=make_shield(settings),
            login=make_doors(settings),
            **more,
        )
        yield place
