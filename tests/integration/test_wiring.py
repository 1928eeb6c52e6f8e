"""What the composition root decides: what a job is, and what the doctor finds at servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from archives import Archive, run_archive
from builders import STUDY, chest, part10
from evidence import CARD
from fhir_input import as_bytes, report
from servers import free_port

from plugin.doctor import archive as archive_check
from plugin.doctor import change_log, events
from plugin.errors import InputError, TransientError, UnavailableError
from plugin.flow import Tools
from plugin.ports import Job, JobState
from plugin.service import Services
from plugin.settings import Settings
from plugin.values import ReportRef, StudyRef
from plugin.wiring import make_services

# By dicomweb-client's file client.
pytestmark = pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")

SECRET = "a secret of the tests"


@dataclass(frozen=True)
class Grounder:
    """Names a model, and is not asked for more."""

    card: Any = CARD


@pytest.fixture
def tools() -> Tools:
    return Tools(
        read_report=None,  # type: ignore[arg-type] - not asked
        reader_version="1",
        grounder=Grounder(),  # type: ignore[arg-type]
        max_frontals=1,
        settings_sha256="",
        clock=lambda: datetime.now(UTC),
    )


@pytest.fixture
def services(tmp_path: Path, tools: Tools) -> Services:
    """Over folders with one study and its report."""
    settings = Settings(
        data_dir=tmp_path / "data", archive_dir=tmp_path / "dicom", reports_dir=tmp_path / "reports", max_frontals=1
    )
    services = make_services(settings, tools)
    logical = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY}"}}
    (settings.reports_dir / "report.json").write_bytes(as_bytes(report(imagingStudy=[logical], subject=None)))
    return services


def test_a_late_image_is_another_job_and_our_own_results_are_not(services: Services, tmp_path: Path) -> None:
    folder, study = tmp_path / "dicom", StudyRef(STUDY)
    (folder / "a.dcm").write_bytes(part10(chest()))
    (before,) = services.intake.take_study(study)
    ours = chest(name="s", Modality="SEG", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Manufacturer="Sightline")
    (folder / "s.dcm").write_bytes(part10(ours))
    (after_results,) = services.intake.take_study(study)
    (folder / "b.dcm").write_bytes(part10(chest(name="b")))

    assert after_results == before
    assert before.report == ReportRef("report", "3")
    (after_images,) = services.intake.take_study(study)
    assert after_images.job_id != before.job_id


def test_an_archive_that_is_away_is_left_alone_by_the_jobs(tmp_path: Path, tools: Tools) -> None:
    away = f"http://127.0.0.1:{free_port()}/dicom-web"
    services = make_services(
        Settings(data_dir=tmp_path / "data", archive_url=away, reports_dir=tmp_path, max_attempts=5), tools
    )
    job = Job("a", StudyRef(STUDY), JobState.RUNNING, 1, datetime.now(UTC))
    failures = []
    for _ in range(6):
        with services.work(job) as (match, *_), pytest.raises(TransientError) as caught:
            match.run(job)
        failures.append(type(caught.value))

    assert failures == [TransientError] * 5 + [UnavailableError]


def test_a_study_without_radiographs_is_no_job(services: Services, tmp_path: Path) -> None:
    scan = chest(Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    (tmp_path / "dicom" / "a.dcm").write_bytes(part10(scan))

    with pytest.raises(InputError, match="no chest radiograph"):
        services.intake.take_study(StudyRef(STUDY))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Archive]:
    with run_archive(tmp_path / "archive") as archive:
        archive.add(part10(chest()))
        yield archive


def test_the_doctor_signs_in_as_the_service_does(server: Archive) -> None:
    server.revoke()
    client = {"archive_token_url": server.token_url, "archive_client_id": "sightline"}
    right = Settings(archive_url=server.url, archive_client_secret="client sécret", **client)
    wrong = Settings(archive_url=server.url, archive_client_secret="another", **client)
    unsigned = Settings(archive_url=server.url)

    assert archive_check(right).ok
    assert "refused the client (400)" in archive_check(wrong).detail
    assert archive_check(unsigned).detail == "refuses us (HTTP 401)"


def test_the_doctor_looks_at_the_change_log_where_one_is_set(server: Archive) -> None:
    no_orthanc = change_log(Settings(orthanc_url=server.url.removesuffix("/dicom-web")))
    away = change_log(Settings(orthanc_url="http://127.0.0.1:9", timeout_s=1))

    assert (no_orthanc.detail, no_orthanc.mend[:30]) == ("answers HTTP 404", "check that SIGHTLINE_ORTHANC_U")
    assert away.detail.startswith("no answer")


@pytest.mark.parametrize(
    ("settings", "ok"),
    [({}, True), ({"host": "0.0.0.0"}, False), ({"host": "0.0.0.0", "event_secret": SECRET}, True)],
)
def test_the_doctor_says_whose_events_are_taken(settings: dict[str, Any], ok: bool) -> None:
    found = events(Settings(**settings))

    assert found.ok is ok
    assert SECRET not in found.detail + found.mend
