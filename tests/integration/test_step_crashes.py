"""A worker that is killed in its real steps: every report ends with the results that an undisturbed worker writes.

``SIGHTLINE_CHAOS=1`` kills at every boundary of every step, on both databases.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path

import pytest
from small_site import SmallSite, wait_for_end
from step_worker import BOUNDARIES, worker_on

from plugin.archive import folder_archive
from plugin.fhir.writing import document_id
from plugin.ports import JobState, report_code
from plugin.versions import standing

CHAOS = int(os.environ.get("SIGHTLINE_CHAOS", "0"))
# The first is not half of the FHIR results: they are still one folder, which appears at once.
KILLED_AT = BOUNDARIES if CHAOS else ("ground after", "write-dicom within", "write-fhir within")
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33"


@pytest.fixture(params=["sqlite", "postgresql"] if CHAOS else ["sqlite"])
def url(request: pytest.FixtureRequest) -> str:
    return "" if request.param == "sqlite" else str(request.getfixturevalue("postgresql").database())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> SmallSite:
    site = SmallSite(tmp_path_factory.mktemp("undisturbed"), len(KILLED_AT))
    assert work_off(site, {}) == 1
    return site


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_kill_in_any_real_step_leaves_what_an_undisturbed_worker_leaves(
    url: str, undisturbed: SmallSite, tmp_path: Path
) -> None:
    disturbed = SmallSite(tmp_path, len(KILLED_AT), url)
    (disturbed.folder / "data" / "fhir").mkdir()  # who writes first would rename it whole, and could not die within
    deaths = dict(zip((study.study_instance_uid for study in disturbed.studies), KILLED_AT, strict=True))
    began = time.monotonic()

    starts = work_off(disturbed, deaths)

    print({"kills": starts - 1, "seconds": round(time.monotonic() - began)})
    assert starts == 1 + len(KILLED_AT)
    assert disturbed.written() == undisturbed.written()
    archive = folder_archive((disturbed.folder / "archive",))
    fhir = {path.name for path in (disturbed.folder / "data" / "fhir").iterdir()}
    for number, study in enumerate(disturbed.studies):
        stored = archive.results(study)
        assert stored == standing(stored)
        assert {each.report for each in stored} == {report_code(f"report-{number}")}
        assert Counter(each.image.sop_class_uid for each in stored) == {SEG: 2, SR: 1}
        document = document_id(study.study_instance_uid, f"report-{number}")
        assert f"DocumentReference-{document}.json" in fhir
    assert sum(name.startswith("DocumentReference-") for name in fhir) == len(KILLED_AT)


def work_off(site: SmallSite, deaths: dict[str, str]) -> int:
    """How often a worker had to be started until the jobs of all studies were done."""
    worker = worker_on(site.settings, site.folder / "marks", deaths)
    with site.intake() as intake:
        for study in site.studies:
            intake.take_study(study)
        with worker:
            jobs = wait_for_end(intake.queue, site.count, timeout_s=120 * site.count, meanwhile=worker.up)
    assert {job.state for job in jobs} == {JobState.DONE}, jobs
    assert len(jobs) == site.count
    return worker.starts
