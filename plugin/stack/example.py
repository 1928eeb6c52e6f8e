"""The example study goes the way of every study: the report into the FHIR server, the images into the archive."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from plugin.errors import TransientError


def send(study: Path, *, orthanc: httpx.Client, fhir: httpx.Client) -> None:
    """Put report and images of the folder *study*; twice changes nothing. The report first: images start the work.

    Raises
    ------
    TransientError
        If one of the servers does not take them.
    """
    try:
        bundle = json.loads((study / "report.json").read_text(encoding="utf-8"))
        for resource in (entry["resource"] for entry in bundle["entry"]):
            fhir.put(f"{resource['resourceType']}/{resource['id']}", json=resource).raise_for_status()
        for file in sorted(study.glob("*.dcm")):
            orthanc.post("instances", content=file.read_bytes()).raise_for_status()
    except httpx.HTTPError as error:
        raise TransientError(f"the example study was not taken ({type(error).__name__}); see the logs") from None


def wait_for_results(
    study_instance_uid: str, *, service: httpx.Client, tell: Callable[[str], object], timeout_s: float = 300.0
) -> None:
    """Return once the service holds results of the study; *tell* is told each new state of its job.

    Raises
    ------
    TransientError
        If there are none in time, or the job has failed.
    """
    deadline, told = time.monotonic() + timeout_s, ""
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):  # busy with the study
            if service.get(f"studies/{study_instance_uid}/evidence").is_success:
                return
            state = _state(service.get("jobs").json(), study_instance_uid)
            if state != told:
                tell(told := state)
        time.sleep(0.5)
    raise TransientError("the example study was not grounded in time; see the logs")


def _state(jobs: list[dict[str, str]], study_instance_uid: str) -> str:
    newest = next((job for job in jobs if job["study_instance_uid"] == study_instance_uid), None)
    if newest is None:
        return "waiting for Orthanc to call the study complete"
    if newest["state"] in ("failed", "cancelled"):
        raise TransientError(f"the example study was not grounded: {newest['error']}")
    return newest["state"]
