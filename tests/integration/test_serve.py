"""The service on a real port: it takes a study, works, and answers its page."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from plugin.audit.record import Kind, problems
from plugin.audit.trail import Trail

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from evidence import CARD, kept_of, make_evidence
from memory import Site, image, report
from plugin.durable import Database, DurableQueue
from plugin.ports import Step, independent
from plugin.results import ResultFile, ResultFolder
from plugin.service import Services, create_app, serve
from plugin.service.entrance import Access
from plugin.settings import Settings
from plugin.values import StudyRef
from plugin.wiring import make_audit

folder = Path(sys.argv[1])
queue = DurableQueue(Database(f"sqlite:///{folder}/jobs.sqlite"))
site = Site(folder, queue=queue, clock=lambda: datetime.now(UTC))
site.archive.add(image(StudyRef("1.2.3")))
site.reports.put(report(study_instance_uids=("1.2.3",)))
results = ResultFolder(folder / "results")
FILES = (ResultFile("evidence.html", b"<p>page</p>"),)
services = Services(
    queue=queue,
    results=results,
    work=independent(Step("ground", lambda job: results.write(job.study, kept_of(make_evidence()), FILES))),
    intake=site.intake,
    grounder=None,
    read_report=None,
    read_dicom=None,
)
audit = make_audit(Settings(data_dir=folder))
app = create_app(services, access=Access(observe=audit.observe), beside=audit.parts)
serve(app, host="127.0.0.1", port=0, tell=lambda address: print(address, flush=True))
"""


def test_a_study_posted_is_worked_on_and_its_page_answered(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        with httpx.Client(base_url=told_by(process), timeout=30, trust_env=False) as http:
            posted = http.post("/studies", json={"study_instance_uid": "1.2.3"})
            assert posted.status_code == 202
            wait_until_done(http, posted.headers["location"])
            assert http.get("/studies/1.2.3/page").text == "<p>page</p>"
            assert "server" not in http.get("/health/live").headers
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
    trail = Trail(tmp_path / "audit")
    assert not list(problems(trail.lines()))
    records = [link.record for link in trail.after(0)]
    assert [record.kind for record in records if record.what == "POST submit"] == [Kind.CHANGE]
    (page,) = (record for record in records if record.what == "GET page")
    assert (page.kind, page.ok, page.studies, page.who) == (Kind.READ, True, ("1.2.3",), "demo")
    assert not any("live" in record.what for record in records)


def test_who_listens_is_told_of_a_change_and_holds_up_no_end(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        with httpx.Client(base_url=told_by(process), timeout=60, trust_env=False) as http:
            with http.stream("GET", "/changes") as first:
                lines = (line for line in first.iter_lines() if line.startswith(("id", "data")))
                tag, _ = next(lines), next(lines)
                http.post("/studies", json={"study_instance_uid": "1.2.3"}).raise_for_status()
                assert (next(lines) != tag, next(lines)) == (True, "data: changed")
            with http.stream("GET", "/changes") as listening:
                listening.iter_lines()
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=60)  # a stream goes on for five minutes
    finally:
        process.kill()
        process.wait(timeout=60)
        assert process.stdout is not None
        process.stdout.close()


def told_by(process: subprocess.Popen[str]) -> str:
    """The address that the service prints, within two minutes on a busy machine."""
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()  # type: ignore[union-attr]
    return lines.get(timeout=120).strip()


def wait_until_done(http: httpx.Client, job: str) -> None:
    for _ in range(300):
        if http.get(job).json()["state"] == "done":
            return
        time.sleep(0.1)
    pytest.fail("the job was not done in 30 s")
