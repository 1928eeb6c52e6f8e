"""SIGHUP puts other weights in force in a running worker with jobs in flight: none is lost, none mixes two models."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load, save
from small_site import ENDED, SmallSite, wait_for_end
from step_worker import worker_on

from model.weights import FILE_NAME, SHIPPED
from plugin.archive import folder_archive
from plugin.intake import Intake
from plugin.ports import JobState
from plugin.results import ResultFolder
from plugin.values import StudyRef
from plugin.versions import standing

NEXT = "next"


def put_other_weights(folder: Path) -> None:
    """The shipped ones, a little off, under another version."""
    manifest = json.loads((SHIPPED / "manifest.json").read_text())
    tensors = load((SHIPPED / FILE_NAME).read_bytes())
    name = next(each for each in tensors if each.endswith("bias"))
    tensors[name] = tensors[name] + 0.001
    content = save(tensors)
    manifest |= {"version": NEXT, "sha256": hashlib.sha256(content).hexdigest()}
    (folder / FILE_NAME).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def versions_of(site: SmallSite, study: StudyRef) -> list[str]:
    """Of the models that results of *study* are kept of, the newest results first."""
    results = ResultFolder(site.folder / "data" / "results")
    (kept,) = results.reports(study)
    contents = results.versions(study, kept.ref.report_id, "evidence.json")
    return [json.loads(content)["provenance"]["model"]["version"] for content in contents]


def until(happened: Callable[[], bool], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def put(intake: Intake, studies: tuple[StudyRef, ...]) -> None:
    for study in studies:
        intake.take_study(study)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sighup_under_work_loses_no_job_and_each_result_set_is_of_one_model(tmp_path: Path) -> None:
    site, weights, log = SmallSite(tmp_path, 8), tmp_path / "weights", tmp_path / "worker.log"
    shutil.copytree(SHIPPED, weights)
    settings = site.settings | {"SIGHTLINE_MODEL_DIR": str(weights), "SIGHTLINE_JOBS_AT_ONCE": "2"}
    before, after = site.studies[:5], site.studies[5:]

    with site.intake() as intake, worker_on(settings, tmp_path / "marks", log=log) as worker:
        queue = intake.queue
        put(intake, before)
        until(lambda: bool(queue.list(state=JobState.DONE)) and bool(queue.list(state=JobState.RUNNING)))
        put_other_weights(weights)
        begun = {job.study for job in queue.list() if job.state in (JobState.RUNNING, *ENDED)}
        assert worker.process is not None
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: f"the model is now sightline {NEXT}" in log.read_text())
        put(intake, after)
        wait_for_end(queue, len(site.studies), timeout_s=240, meanwhile=lambda: None)
        first = {study: versions_of(site, study) for study in site.studies}
        put(replace(intake, makers=lambda: ("tests", NEXT)), before)
        jobs = wait_for_end(queue, len(site.studies) + len(before), timeout_s=240, meanwhile=lambda: None)
        assert worker.process.poll() is None

    shipped = json.loads((SHIPPED / "manifest.json").read_text())["version"]
    print({version: sum(each == [version] for each in first.values()) for version in (shipped, NEXT)})
    assert {job.state for job in jobs} == {JobState.DONE}
    assert all(first[study] == [shipped] for study in begun)
    assert all(first[study] == [NEXT] for study in after)
    assert all(each in ([shipped], [NEXT]) for each in first.values())
    archive = folder_archive((site.folder / "archive",))
    for study in site.studies:
        assert versions_of(site, study) == ([NEXT] if first[study] == [NEXT] else [NEXT, shipped])
        stored = archive.results(study)
        assert len(standing(stored)) == 3  # two SEGs and an SR, of one model
        assert len(stored) == (3 if first[study] == [NEXT] else 7)  # both sets, and the note that rejects the earlier
