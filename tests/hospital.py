"""A hospital for the whole service: an archive and a FHIR server on loopback, and ``sightline serve`` between them.

The service runs in a process of its own, with every socket that it and its children connect or look up written down.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
from archives import Archive, run_archive
from builders import part10
from fhir_input import attachment, imaging_study, patient, report, typed
from pydicom import dcmread
from servers import ROOT
from year import MemoryFhir

from model.twin.study import study as twin_study
from plugin.dicom.twin import instances_of, storage_of
from plugin.twin import record_of

SEED = 3
#: Put before everything else of every Python process of the service.
WATCHING = """
import os, sys
_file = os.open(os.environ["HOSPITAL_SOCKETS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _note(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        told = args[:2] if event == "socket.getaddrinfo" else args[-1]
        os.write(_file, (event + " " + repr(told) + chr(10)).encode())
sys.addaudithook(_note)
"""
Refusal = tuple[int, bytes]


@dataclass
class Fhir:
    """The FHIR server; *refuse* may answer a request in its place, by method, path and body."""

    memory: MemoryFhir
    base: str = ""
    refuse: Callable[[str, str, bytes], Refusal | None] = lambda *_: None


@contextmanager
def run_fhir() -> Iterator[Fhir]:
    """A FHIR server in memory, on a free loopback port."""
    fhir = Fhir(MemoryFhir())
    alone = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            refusal = fhir.refuse(self.command, self.path, body)
            if refusal is None:
                request = httpx.Request(self.command, f"http://fhir.example{self.path}", content=body)
                with alone:
                    answer = fhir.memory.answer(request)
                refusal = answer.status_code, answer.content
            self.send_response(refusal[0])
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(refusal[1])))
            self.end_headers()
            self.wfile.write(refusal[1])

        do_GET = do_POST = do_PUT = _any  # noqa: N815 - of the base class

        def log_message(self, *_: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        fhir.base = f"http://127.0.0.1:{server.server_port}/fhir"
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        running.start()
        try:
            yield fhir
        finally:
            server.shutdown()
            running.join()


@dataclass(frozen=True)
class Person:
    """A patient as the archive and the FHIR server know them."""

    name: str = "Zwei^Anna"
    number: str = "P-2"
    accession: str = "A-2"
    physician: str = "Drei^Otto"


@dataclass
class Hospital:
    """What a test puts in, and where the service keeps what is its own."""

    folder: Path
    archive: Archive
    fhir: Fhir

    @property
    def peers(self) -> set[str]:
        """The addresses of its two servers."""
        return {repr(("127.0.0.1", urlsplit(url).port)) for url in (self.archive.url, self.fhir.base)}

    def admit(self, uid: str, person: Person, *, text: str, pixels: bool = True) -> None:
        """A patient with a film and its report; without *pixels* the film is cut short."""
        (frontal, *_) = instances_of(twin_study(SEED, size=256), record_of(SEED), storage_of(SEED))
        dataset = dcmread(BytesIO(frontal.content))
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.1"
        dataset.PatientName, dataset.PatientID = person.name, person.number
        dataset.AccessionNumber, dataset.ReferringPhysicianName = person.accession, person.physician
        if not pixels:
            dataset.PixelData = dataset.PixelData[:1000]
        self.archive.add(part10(dataset))
        subject, name = {"reference": f"Patient/p-{uid}"}, [{"family": person.name}]
        identifier = [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}]
        for resource in (
            patient(id=f"p-{uid}", name=name, identifier=[typed(person.number, "MR")]),
            imaging_study(id=f"s-{uid}", subject=subject, basedOn=None, identifier=identifier),
            report(
                id=f"r-{uid}",
                subject=subject,
                basedOn=None,
                imagingStudy=[{"reference": f"ImagingStudy/s-{uid}"}],
                presentedForm=[attachment(text)],
            ),
        ):
            self.fhir.memory.put(resource)


@contextmanager
def run_hospital(folder: Path) -> Iterator[Hospital]:
    """Its two servers, which end with the block."""
    with run_archive(folder / "archive") as archive, run_fhir() as fhir:
        yield Hospital(folder, archive, fhir)


@dataclass
class Service:
    """The running service: how to ask it, what it wrote, and whom it asked."""

    http: httpx.Client
    process: subprocess.Popen[bytes]
    folder: Path
    output: Path
    sockets: Path
    _told: list[str] = field(default_factory=list)

    def jobs(self) -> dict[str, dict[str, Any]]:
        """The jobs by the study they are about."""
        return {job["study_instance_uid"]: job for job in self.http.get("/jobs").json()}

    def connected(self) -> set[str]:
        """Every address that was looked up, connected or sent to, as Python says it."""
        lines = self.sockets.read_text().splitlines() if self.sockets.exists() else []
        return {line.partition(" ")[2] for line in lines}


@contextmanager
def run_service(hospital: Hospital, *, program: str = "", **settings: str) -> Iterator[Service]:
    """``sightline serve`` in the hospital, after *program*; its data, output and temporary files lie in the folder."""
    folder = hospital.folder
    (folder / "watching").mkdir()
    (folder / "watching" / "sitecustomize.py").write_text(WATCHING)
    (folder / "tmp").mkdir()
    output, sockets = folder / "output", folder / "sockets"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")} | {
        "PYTHONPATH": os.pathsep.join((str(folder / "watching"), str(ROOT), str(ROOT / "tests"))),
        "HOSPITAL_SOCKETS": str(sockets),
        "TMPDIR": str(folder / "tmp"),
        "SIGHTLINE_DATA_DIR": str(folder / "data"),
        "SIGHTLINE_ARCHIVE_URL": hospital.archive.url,
        "SIGHTLINE_FHIR_URL": hospital.fhir.base,
        "SIGHTLINE_REPORTS_EVERY_S": "1",
        "SIGHTLINE_REPORTS_BACKLOG": "true",
        "SIGHTLINE_PORT": "0",
        "SIGHTLINE_TIMEOUT_S": "20",
        **{f"SIGHTLINE_{name.upper()}": value for name, value in settings.items()},
    }
    command = f"{program}\nimport sys\nfrom plugin.cli import main\nsys.exit(main(['serve']))"
    with output.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-c", command], stdout=written, stderr=subprocess.STDOUT, env=environment, cwd=folder
        )
    try:
        with httpx.Client(base_url=_address(process, output), timeout=60, trust_env=False) as http:
            yield Service(http, process, folder, output, sockets)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=120)


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    for _ in range(1800):
        found = re.search(r"Serving (http://127\.0\.0\.1:\d+)/", output.read_text(errors="replace"))
        if found:
            return found[1]
        assert process.poll() is None, output.read_text(errors="replace")[-3000:]
        time.sleep(0.1)
    raise AssertionError("the service did not start in three minutes")


def wait_for(condition: Callable[[], bool], *, within_s: float = 100.0) -> None:
    """Until *condition* holds."""
    ends = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < ends, "what was waited for did not come"
        time.sleep(0.2)
