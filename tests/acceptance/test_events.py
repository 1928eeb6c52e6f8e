"""Nothing is lost and nothing twice: 200 studies, while Sightline is down and the real Orthanc is killed in between.

In the model's place stands a stub that stores one small SEG for each study, as the real one does, and keeps a ledger.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from archives import run_archive
from builders import chest, part10
from fhir_input import as_bytes
from fhir_input import report as fhir_report
from pydicom.uid import SegmentationStorage
from servers import OUTPUT, ROOT, OrthancServer, free_port, run_orthanc

from plugin.identity import derived_uid

pytestmark = pytest.mark.acceptance

SECRET = "event secret of the test"
PROGRAM = """
import time
from dataclasses import replace
from datetime import datetime, UTC

from builders import chest, part10
from evidence import CARD
from pydicom.uid import SegmentationStorage

from plugin.commands.serve import admission
from plugin.durable import Database, DurableQueue
from plugin.flow import Tools
from plugin.identity import derived_uid
from plugin.policy import Policy
from plugin.ports import Step, independent
from plugin.service import create_app, serve
from plugin.settings import load_settings
from plugin.wiring import make_archive, make_services, make_watch

class Grounder:
    card = CARD

def now():
    return datetime.now(UTC)

settings = load_settings()
archive = make_archive(settings)
ledger = settings.data_dir / "ledger"

def ground(job):
    study = job.study
    assert archive.describe(study)
    uid = study.study_instance_uid
    names = {"SeriesInstanceUID": derived_uid("ours", "series", uid), "SOPInstanceUID": derived_uid("ours", uid)}
    kind = {"SOPClassUID": SegmentationStorage, "Modality": "SEG", "Manufacturer": "Sightline"}
    ours = chest(StudyInstanceUID=uid, **kind, **names)
    archive.store(study, (part10(ours),))
    with ledger.open("a") as lines:
        lines.write(uid + "\\n")

tools = Tools(read_report=None, reader_version="1", grounder=Grounder(), max_frontals=2, settings_sha256="", clock=now)
# A retry comes after a second, not after 30.
queue = DurableQueue(Database(f"sqlite:///{settings.data_dir}/jobs.sqlite"), Policy(first_s=1), poll_s=0.05)
services = make_services(settings, tools)
intake = replace(services.intake, queue=queue)
services = replace(services, work=independent(Step("ground", ground)), queue=queue, intake=intake)
app = create_app(services, admit=admission(settings), watch=make_watch(settings))
serve(app, host="127.0.0.1", port=settings.port, tell=lambda address: print(address, flush=True))
"""


@dataclass(frozen=True)
class Service:
    """The service with the stub, and what it kept."""

    port: int
    data: Path

    @property
    def grounded(self) -> Counter[str]:
        """How often each study was grounded."""
        ledger = self.data / "ledger"
        return Counter(ledger.read_text().split()) if ledger.exists() else Counter()

    @contextmanager
    def up(self, settings: Mapping[str, str]) -> Iterator[None]:
        OUTPUT.mkdir(exist_ok=True)
        self.data.mkdir(parents=True, exist_ok=True)
        variables = {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
            "SIGHTLINE_DATA_DIR": str(self.data),
            "SIGHTLINE_REPORTS_DIR": str(self.data / "reports"),
            "SIGHTLINE_PORT": str(self.port),
            **{f"SIGHTLINE_{name.upper()}": value for name, value in settings.items()},
        }
        (self.data / "reports").mkdir(exist_ok=True)
        for number, uid in enumerate(uids_of(0, 200)):
            logical = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}}
            report = fhir_report(id=f"report-{number}", imagingStudy=[logical], subject=None, basedOn=None)
            (self.data / "reports" / f"{number}.json").write_bytes(as_bytes(report))
        with (OUTPUT / "events-service.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM],
                env=os.environ | variables,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("http://"), (OUTPUT / "events-service.log").read_text()[-2000:]
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
            process.stdout.close()


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(free_port(), tmp_path / "data")


def eventually(condition: Callable[[], bool], *, told: Callable[[], object], timeout_s: float = 240) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.1)


def uids_of(begin: int, end: int) -> list[str]:
    return [derived_uid("events", str(number)) for number in range(begin, end)]


def send(server: OrthancServer, uids: list[str]) -> None:
    """One small radiograph for each study, as a modality sends it."""
    with server.http() as http:
        for uid in uids:
            http.post("/instances", content=part10(chest(name=uid, StudyInstanceUID=uid))).raise_for_status()


def credentials(server: OrthancServer) -> dict[str, str]:
    return {
        "archive_url": server.dicomweb_url,
        "archive_user": server.username,
        "archive_password": server.password,
        "timeout_s": "10",
    }


def killed(server: OrthancServer) -> None:
    os.kill(server.pid, signal.SIGKILL)


def own_objects(server: OrthancServer) -> Counter[str]:
    """How many SEG of ours each study holds."""
    with server.http() as http:
        query = {"Level": "Instance", "Expand": True, "Query": {"SOPClassUID": str(SegmentationStorage)}}
        found = http.post("/tools/find", json=query | {"RequestedTags": []}).raise_for_status().json()
        parents = [http.get(f"/instances/{one['ID']}/study").json() for one in found]
    return Counter(parent["MainDicomTags"]["StudyInstanceUID"] for parent in parents)


@pytest.mark.parametrize(("way", "count"), [("script", 200), ("change log", 60)])
def test_studies_are_grounded_once_each_whoever_dies(way: str, count: int, service: Service, tmp_path: Path) -> None:
    port = free_port()
    script = {
        "PythonScript": str(ROOT / "orthanc" / "sightline.py"),
        "Sightline": {"Url": f"http://127.0.0.1:{service.port}", "Secret": SECRET, "ReconcileSeconds": 1},
    }
    overrides = script if way == "script" else {}

    def orthanc() -> AbstractContextManager[OrthancServer]:
        return run_orthanc(tmp_path / "storage", overrides=overrides, port=port, name=f"orthanc-events-{way[:6]}")

    def settings(server: OrthancServer) -> dict[str, str]:
        watch = {"watch_s": "0.5", "watch_quiet_s": "1", "watch_backlog": "true", "orthanc_url": server.base_url}
        return credentials(server) | ({"event_secret": SECRET} if way == "script" else watch)

    with orthanc() as server:
        send(server, uids_of(0, count // 2))
        killed(server)
    with orthanc() as server:
        send(server, uids_of(count // 2, count))
        with service.up(settings(server)):
            eventually(lambda: len(service.grounded) >= count // 4, told=lambda: service.grounded)
            killed(server)
    with orthanc() as server, service.up(settings(server)):
        eventually(lambda: len(service.grounded) == count, told=lambda: service.grounded)
        time.sleep(3)  # our own objects made every study stable again: a loop would have begun

        assert service.grounded == Counter(uids_of(0, count))
        assert own_objects(server) == Counter(uids_of(0, count))
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}") as http:
            assert {job["state"] for job in http.get("/jobs").json()} == {"done"}


def test_a_script_and_a_watcher_that_tell_of_the_same_study_make_one_job(service: Service, tmp_path: Path) -> None:
    script = {
        "PythonScript": str(ROOT / "orthanc" / "sightline.py"),
        "Sightline": {"Url": f"http://127.0.0.1:{service.port}", "Secret": SECRET, "ReconcileSeconds": 1},
    }
    with run_orthanc(tmp_path / "storage", overrides=script, name="orthanc-both") as server:
        watch = {"watch_s": "0.2", "watch_quiet_s": "0.5", "watch_backlog": "true", "orthanc_url": server.base_url}
        with service.up(credentials(server) | watch | {"event_secret": SECRET}):
            send(server, uids_of(0, 5))
            eventually(lambda: len(service.grounded) == 5, told=lambda: service.grounded)
            time.sleep(3)

    assert service.grounded == Counter(uids_of(0, 5))


@pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")  # by dicomweb-client's file client
def test_new_studies_of_an_archive_that_tells_nobody_are_found(service: Service, tmp_path: Path) -> None:
    with run_archive(tmp_path / "archive") as archive:
        archive.habits.page = 3
        archive.habits.shown = ("X-API-Key", SECRET)
        settings = {
            "archive_url": archive.url,
            "archive_header": f"X-API-Key: {SECRET}",
            "watch_s": "0.3",
            "watch_quiet_s": "0.5",
        }
        archive.add(part10(chest(name="old", StudyInstanceUID=derived_uid("events", "old"))))
        with service.up(settings):
            eventually((service.data / "watch.sqlite").exists, told=lambda: "no look yet")
            time.sleep(1)
            archive.add(*(part10(chest(name=uid, StudyInstanceUID=uid)) for uid in uids_of(0, 7)))
            eventually(lambda: len(service.grounded) == 7, told=lambda: service.grounded)
        archive.add(*(part10(chest(name=uid, StudyInstanceUID=uid)) for uid in uids_of(7, 9)))  # while it is down
        with service.up(settings):
            eventually(lambda: len(service.grounded) == 9, told=lambda: service.grounded)
            time.sleep(2)

    assert service.grounded == Counter(uids_of(0, 9))
