"""``sightline backfill`` of a real Orthanc: counted, taken at the agreed rate, killed, gone on with, and told of.

``SIGHTLINE_BACKFILL=300`` takes some hundred studies instead of a few.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from contextlib import closing
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from fhir_input import as_bytes
from fhir_input import report as fhir_report
from pydicom import dcmread
from servers import OUTPUT, ROOT, SIGHTLINE, OrthancServer
from stand_ins import image

from plugin.durable import Database, DurableQueue
from plugin.identity import derived_uid
from plugin.ports import Priority

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

STUDIES = int(os.environ.get("SIGHTLINE_BACKFILL", "24"))
BEGIN, DAYS = date(2026, 1, 1), 6
PER_S = 4
UIDS = [derived_uid("backfill", str(number)) for number in range(STUDIES)]


def send(server: OrthancServer) -> None:
    """Studies of six days, and one of the day after."""
    with server.http() as http:
        for number, uid in enumerate([*UIDS, derived_uid("backfill", "later")]):
            dataset = dcmread(BytesIO(image(uid, 1)))
            day = BEGIN + timedelta(days=number % DAYS if number < STUDIES else DAYS)
            dataset.StudyDate, dataset.Modality = f"{day:%Y%m%d}", "DX"
            content = BytesIO()
            dataset.save_as(content, enforce_file_format=True)
            http.post("/instances", content=content.getvalue()).raise_for_status()


def tell(folder: Path) -> None:
    """A report of every study but the first."""
    folder.mkdir()
    for number, uid in enumerate(UIDS[1:]):
        logical = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}
        told = fhir_report(id=f"r{number}", imagingStudy=[logical], subject=None, basedOn=None)
        (folder / f"{number}.json").write_bytes(as_bytes(told))


def backfill(server: OrthancServer, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [*SIGHTLINE, "backfill", "--from", f"{BEGIN}", "--to", f"{BEGIN + timedelta(days=DAYS - 1)}"]
    command += ["--modality", "DX", "--rate", str(60 * PER_S), "--most-queued", "100000", *more]
    settings = {
        "SIGHTLINE_DATA_DIR": str(folder / "data"),
        "SIGHTLINE_REPORTS_DIR": str(folder / "reports"),
        "SIGHTLINE_ARCHIVE_URL": server.dicomweb_url,
        "SIGHTLINE_ARCHIVE_USER": server.username,
        "SIGHTLINE_ARCHIVE_PASSWORD": server.password,
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "200",
    }
    OUTPUT.mkdir(exist_ok=True)
    with (OUTPUT / "backfill.log").open("ab") as log:
        return subprocess.Popen(command, env=os.environ | settings, stdout=subprocess.PIPE, stderr=log, text=True)


def said(process: subprocess.Popen[str]) -> str:
    answer, _ = process.communicate(timeout=580)
    assert process.returncode == 0, answer
    return answer


def queued(folder: Path) -> Counter[str]:
    """How many jobs each study has; all of them are behind everything else."""
    if not (folder / "data" / "jobs.sqlite").exists():
        return Counter()
    queue = DurableQueue(Database(f"sqlite:///{folder}/data/jobs.sqlite"))
    jobs = queue.list(10 * STUDIES)
    queue.close()
    assert {job.priority for job in jobs} <= {Priority.BACKFILL}
    return Counter(job.study.study_instance_uid for job in jobs)


def written(folder: Path) -> int:
    """How many jobs there are while others make the tables, and write."""
    if not (folder / "data" / "jobs.sqlite").exists():
        return 0
    with closing(sqlite3.connect(f"file:{folder}/data/jobs.sqlite?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute("SELECT count(*) FROM workflow_status").fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def test_what_an_archive_holds_is_taken_once_at_the_agreed_rate_whoever_is_killed(
    orthanc: OrthancServer, tmp_path: Path
) -> None:
    orthanc.reset()
    send(orthanc)
    tell(tmp_path / "reports")

    counted = said(backfill(orthanc, tmp_path, "--dry-run"))
    assert f"{STUDIES} studies with DX on {DAYS} days" in counted
    assert queued(tmp_path) == Counter()

    first = backfill(orthanc, tmp_path)
    while written(tmp_path) < STUDIES // 2:
        assert first.poll() is None
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before, began = queued(tmp_path).total(), time.monotonic()
    told = said(backfill(orthanc, tmp_path))
    took_s = time.monotonic() - began

    assert before < STUDIES - 1
    assert "An earlier run finished 2026-01-0" in told
    assert f"{STUDIES} studies: {STUDIES - 1} jobs, 1 wait for a report" in told
    assert queued(tmp_path) == Counter(UIDS[1:])
    assert took_s >= (STUDIES - 1 - before - 1) / PER_S
    assert f"{STUDIES} studies: {STUDIES - 1} jobs" in said(backfill(orthanc, tmp_path))
    orthanc.reset()
