"""A portal or a proxy stands in the archive's place and answers 200 with a page: jobs wait, and nothing is believed."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from faults import Asked, Faults, Forward, Told, run_faults
from fhir_input import as_bytes, patient, typed
from fhir_input import report as fhir_report
from servers import OrthancServer
from stand_ins import Squares, image, read

from plugin import wiring
from plugin.archive import web_archive
from plugin.breaker import Breaker
from plugin.endpoint import Endpoint
from plugin.errors import TransientError
from plugin.flow import Tools
from plugin.identity import derived_uid
from plugin.policy import Policy
from plugin.ports import JobState, Outcome
from plugin.service.parts import Services
from plugin.settings import Settings
from plugin.values import StudyRef

pytestmark = pytest.mark.acceptance

PAGE = Told(200, b"<!doctype html><title>Sign in</title>", {"content-type": "text/html; charset=utf-8"})
SERVICES = {
    "QIDO-RS": ("GET", r"dicom-web/(.*/)?(studies|series|instances)"),
    "WADO-RS": ("GET", r"dicom-web/.*/(metadata|instances/[0-9.]+)"),
    "STOW-RS": ("POST", r"dicom-web/.*"),
}


@dataclass
class Site:
    """Sightline before the real Orthanc, where any service of DICOMweb may be answered with a page."""

    orthanc: OrthancServer
    faults: Faults
    services: Services
    met: int = 0

    def spoil(self, service: str) -> None:
        method, path = SERVICES[service]
        spoilt = lambda asked: asked.method == method and re.fullmatch(path, asked.path) is not None  # noqa: E731
        self.faults.always(self._page, when=spoilt)

    def _page(self, _asked: Asked, _forward: Forward) -> Told:
        self.met += 1
        return PAGE

    def results(self, study: StudyRef) -> int:
        return len(web_archive(Endpoint(self.orthanc.dicomweb_url, self.orthanc.headers)).results(study))


@pytest.fixture
def site(orthanc: OrthancServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    orthanc.reset()
    monkeypatch.setattr(wiring, "Policy", partial(Policy, first_s=0.1, most_s=0.2))
    monkeypatch.setattr(wiring, "Breaker", partial(Breaker, rest_s=0.1))
    with run_faults(orthanc.base_url, at="") as faults:
        settings = Settings(
            data_dir=tmp_path / "data",
            reports_dir=tmp_path / "reports",
            archive_url=f"{faults.base}/dicom-web",
            archive_user=orthanc.username,
            archive_password=orthanc.password,
            max_attempts=1000,
        )
        tools = Tools(read, "1", Squares(), 2, "ab", lambda: datetime.now(UTC))
        services = wiring.make_services(settings, tools)
        yield Site(orthanc, faults, services)
        services.queue.close()


def told_of(folder: Path, *resources: dict[str, Any], **changes: Any) -> None:
    """A report in the folder."""
    (folder / "reports").mkdir(exist_ok=True)
    words = [{"contentType": "text/plain", "data": base64.b64encode(b"Effusion. Nodule.").decode()}]
    told = fhir_report(id="r", basedOn=None, presentedForm=words, **changes)
    entries = [{"resource": each} for each in (*resources, told)]
    (folder / "reports" / "r.json").write_bytes(
        as_bytes({"resourceType": "Bundle", "type": "collection", "entry": entries})
    )


@pytest.mark.parametrize("service", ["WADO-RS", "STOW-RS"])
def test_a_page_in_place_of_an_answer_holds_the_job_up_and_nothing_else(
    service: str, site: Site, tmp_path: Path
) -> None:
    study = StudyRef(derived_uid("pages", service))
    send(site.orthanc, study)
    logical = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{study.study_instance_uid}"}}
    told_of(tmp_path, imagingStudy=[logical], subject=None)
    queue = site.services.queue
    (job,) = site.services.intake.take_study(study)
    site.spoil(service)
    runner = queue.runner(site.services.work)
    runner.start()
    try:
        wait_until(lambda: site.met >= 3)
        held, there = queue.get(job.job_id), site.results(study)
        site.faults.clear()
        wait_until(lambda: (now := queue.get(job.job_id)) is not None and now.state is JobState.DONE)
    finally:
        runner.stop(5)

    assert held is not None
    assert held.state in (JobState.QUEUED, JobState.RUNNING)
    assert there == 0
    assert site.results(study) == 2  # a Segmentation and a structured report


def test_a_page_in_place_of_a_search_keeps_the_report_for_later(site: Site, tmp_path: Path) -> None:
    study, intake = StudyRef(derived_uid("pages", "search")), site.services.intake
    send(site.orthanc, study)
    person = patient(id="pat", identifier=[typed("P1", "MR")])
    told_of(tmp_path, person, imagingStudy=None, subject={"reference": "Patient/pat"})
    site.spoil("QIDO-RS")

    with pytest.raises(TransientError, match="not DICOMweb"):
        intake.take_again("r")
    kept = intake.book.entry("r")
    site.faults.clear()
    taken = intake.take_again("r")

    assert kept is not None
    assert (kept.outcome, kept.due is None, kept.candidates) == (Outcome.WAITING, False, ())
    assert taken.outcome is Outcome.REVIEW
    assert (entry := intake.book.entry("r")) is not None
    assert entry.candidates == (study,)


def send(server: OrthancServer, study: StudyRef) -> None:
    with server.http() as http:
        http.post("/instances", content=image(study.study_instance_uid, 1)).raise_for_status()


def wait_until(said: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not said():
        assert time.monotonic() < deadline
        time.sleep(0.05)
