"""orthanc/sightline.py inside the real Orthanc; in Sightline's place a receiver that can be up, down or refusing."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    SegmentationStorage,
    generate_uid,
)
from servers import OUTPUT, ROOT, OrthancServer, free_port, run_orthanc

from plugin.service import SignedEvents

pytestmark = pytest.mark.acceptance

TOKEN = "token-of-the-test"
SECRET = "event secret of the test"
QUIET_S = 3.0  # longer than Orthanc's StableAge in the tests: one more post would have come by then


@dataclass
class Receiver:
    """Stands where Sightline stands: keeps what is posted with a good signature, and answers *status*."""

    port: int
    status: int = 202
    posts: list[dict[str, Any]] = field(default_factory=list)
    authorizations: set[str | None] = field(default_factory=set)
    admit: SignedEvents = field(default_factory=lambda: SignedEvents(SECRET))

    @property
    def studies(self) -> list[str]:
        return [post["study_instance_uid"] for post in self.posts]

    @contextmanager
    def up(self) -> Iterator[None]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.admit(self.headers["Sightline-Signature"], body)
                if self.path == "/events" and receiver.status < 300:
                    receiver.posts.append(json.loads(body))
                receiver.authorizations.add(self.headers.get("Authorization"))
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver(port=free_port())


@pytest.fixture
def start(receiver: Receiver, tmp_path: Path) -> Callable[[], Any]:
    """Starts Orthanc with the script on one storage; may be called again for a restart."""
    overrides = {
        "PythonScript": str(ROOT / "orthanc" / "sightline.py"),
        "Sightline": {
            "Url": f"http://127.0.0.1:{receiver.port}",
            "Token": TOKEN,
            "Secret": SECRET,
            "ReconcileSeconds": 1,
            "Viewer": True,
        },
    }
    return lambda: run_orthanc(tmp_path / "storage", overrides=overrides, name="orthanc-script")


def instance(study_instance_uid: str, sop_class_uid: str, **attributes: Any) -> bytes:
    """The smallest instance that Orthanc files: 8 x 8 pixels for an image, header only for the others."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    dataset.StudyInstanceUID = study_instance_uid
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.PatientID, dataset.PatientName = "SYNTHETIC-1", "Synthetic^Patient"
    if sop_class_uid == DigitalXRayImageStorageForPresentation:
        dataset.Modality, dataset.Rows, dataset.Columns = "DX", 8, 8
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
        dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.PixelData = np.zeros((8, 8), np.uint16).tobytes()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def image(study_instance_uid: str) -> bytes:
    return instance(study_instance_uid, DigitalXRayImageStorageForPresentation)


def our_results(study_instance_uid: str) -> tuple[bytes, bytes]:
    return (
        instance(study_instance_uid, SegmentationStorage, Modality="SEG", Manufacturer="Sightline"),
        instance(study_instance_uid, ComprehensiveSRStorage, Modality="SR", Manufacturer="Sightline"),
    )


def upload(server: OrthancServer, *instances: bytes) -> None:
    with server.http() as http:
        for content in instances:
            http.post("/instances", content=content).raise_for_status()


def status(server: OrthancServer) -> dict[str, Any]:
    with server.http() as http:
        return dict(http.get("/sightline/status").raise_for_status().json())


def eventually(condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)


def test_a_stable_study_is_told_once_with_the_token(receiver: Receiver, start: Callable[[], Any]) -> None:
    study = generate_uid(prefix=None)

    with receiver.up(), start() as server:
        upload(server, image(study), image(study))
        eventually(lambda: bool(receiver.posts))
        time.sleep(QUIET_S)

    assert receiver.posts == [{"study_instance_uid": study}]
    assert receiver.authorizations == {f"Bearer {TOKEN}"}


def test_our_own_results_and_duplicates_are_no_news(receiver: Receiver, start: Callable[[], Any]) -> None:
    study = generate_uid(prefix=None)
    content = image(study)

    with receiver.up(), start() as server:
        upload(server, content)
        eventually(lambda: bool(receiver.posts))
        upload(server, *our_results(study), content)
        time.sleep(QUIET_S)

        assert receiver.studies == [study]
        assert status(server)["pending"] == 0


def test_a_later_image_or_a_report_of_another_maker_is_news(receiver: Receiver, start: Callable[[], Any]) -> None:
    study = generate_uid(prefix=None)

    with receiver.up(), start() as server:
        upload(server, image(study))
        eventually(lambda: len(receiver.posts) == 1)
        upload(server, image(study))
        eventually(lambda: len(receiver.posts) == 2)
        upload(server, instance(study, ComprehensiveSRStorage, Modality="SR", Manufacturer="Another"))
        eventually(lambda: len(receiver.posts) == 3)

    assert set(receiver.studies) == {study}


def test_studies_that_come_while_sightline_is_down_are_told_later(receiver: Receiver, start: Callable[[], Any]) -> None:
    studies = [generate_uid(prefix=None) for _ in range(20)]

    with start() as server:
        upload(server, *(image(study) for study in studies))
        eventually(lambda: status(server)["later"] > 0)
        assert not status(server)["answering"]
        with receiver.up():
            eventually(lambda: len(receiver.posts) == len(studies), timeout_s=90)
            eventually(lambda: status(server)["pending"] == 0)

    assert sorted(receiver.studies) == sorted(studies)


def test_a_restart_of_orthanc_loses_and_repeats_nothing(receiver: Receiver, start: Callable[[], Any]) -> None:
    told, unstable, down = (generate_uid(prefix=None) for _ in range(3))

    with receiver.up(), start() as server:
        upload(server, image(told))
        eventually(lambda: bool(receiver.posts))
    with start() as server:
        upload(server, image(down))
        eventually(lambda: status(server)["later"] > 0)
        upload(server, image(unstable))  # Orthanc ends before it calls this study stable
    with receiver.up(), start():
        eventually(lambda: len(receiver.posts) == 3)
        time.sleep(QUIET_S)

    assert receiver.studies[0] == told
    assert sorted(receiver.studies[1:]) == sorted([down, unstable])


def test_orthanc_killed_while_it_tells_loses_nothing(receiver: Receiver, start: Callable[[], Any]) -> None:
    studies = [generate_uid(prefix=None) for _ in range(60)]

    with start() as server:
        upload(server, *(image(study) for study in studies))
    with receiver.up():
        with start() as server:
            eventually(lambda: len(receiver.posts) >= 20)
            os.kill(server.pid, signal.SIGKILL)
        with start():
            eventually(lambda: set(receiver.studies) == set(studies), timeout_s=90)

    # The one that was told in the very moment may be told twice: at least once is the promise.
    assert len(receiver.posts) <= len(studies) + 1


def test_a_study_that_sightline_refuses_is_not_asked_again(receiver: Receiver, start: Callable[[], Any]) -> None:
    receiver.status = 422

    with receiver.up(), start() as server:
        upload(server, image(generate_uid(prefix=None)))
        eventually(lambda: status(server)["refused"] == 1)
        receiver.status = 202
        time.sleep(QUIET_S)

        assert status(server)["pending"] == 0
    assert receiver.posts == []


def test_orthanc_stops_at_once_while_sightline_is_silent(tmp_path: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        overrides = {
            "PythonScript": str(ROOT / "orthanc" / "sightline.py"),
            "Sightline": {"Url": f"http://127.0.0.1:{silent.getsockname()[1]}", "TimeoutSeconds": 60},
        }
        with run_orthanc(tmp_path / "storage", overrides=overrides, name="orthanc-silent") as server:
            upload(server, image(generate_uid(prefix=None)))
            silent.settimeout(30)
            connection, _ = silent.accept()
            begin = time.monotonic()
    connection.close()

    assert time.monotonic() - begin < 15


def test_the_log_of_orthanc_names_neither_patient_nor_token(receiver: Receiver, start: Callable[[], Any]) -> None:
    with receiver.up(), start() as server:
        upload(server, image(generate_uid(prefix=None)))
        eventually(lambda: bool(receiver.posts))

        log = server.log.read_text()

    assert "Synthetic" not in log
    assert "SYNTHETIC" not in log
    assert TOKEN not in log
    assert SECRET not in log
    assert "ignature" not in log


def test_a_study_without_radiographs_is_not_told(receiver: Receiver, start: Callable[[], Any]) -> None:
    radiograph, tomography = generate_uid(prefix=None), generate_uid(prefix=None)

    with receiver.up(), start() as server:
        upload(server, instance(tomography, CTImageStorage, Modality="CT"), image(radiograph))
        eventually(lambda: bool(receiver.posts))
        time.sleep(QUIET_S)

        assert receiver.studies == [radiograph]
        assert status(server)["pending"] == 0


def test_a_person_asks_on_the_study_page_of_orthanc_and_opens_the_evidence(
    receiver: Receiver, start: Callable[[], Any], chromium: Browser
) -> None:
    study = generate_uid(prefix=None)

    with receiver.up(), start() as server:
        upload(server, image(study))
        eventually(lambda: len(receiver.posts) == 1)
        with server.http() as http:
            (orthanc_id,) = http.get("/studies").json()
        context = chromium.new_context(http_credentials={"username": server.username, "password": server.password})
        page = context.new_page()
        page.set_default_timeout(90_000)
        page.goto(f"{server.base_url}/app/explorer.html#study?uuid={orthanc_id}", wait_until="commit")
        page.wait_for_selector("#sightline-evidence[href^=http]")
        addresses = [page.get_attribute(f"#sightline-{name}", "href") for name in ("evidence", "viewer")]
        page.click("#sightline-ground")
        page.wait_for_selector("#sightline-said:has-text('Asked for')")
        eventually(lambda: len(receiver.posts) == 2)
        OUTPUT.mkdir(exist_ok=True)
        page.screenshot(path=OUTPUT / "orthanc-study-page.png")
        context.close()

    root = f"http://127.0.0.1:{receiver.port}/studies/{study}"
    assert addresses == [f"{root}/radiologist", f"{root}/viewer"]
    assert set(receiver.studies) == {study}


def test_asking_for_what_is_no_radiograph_is_answered_with_the_reason(
    receiver: Receiver, start: Callable[[], Any]
) -> None:
    with start() as server, server.http() as http:
        upload(server, instance(generate_uid(prefix=None), CTImageStorage, Modality="CT"))
        (tomography,) = http.get("/studies").json()
        asked = [http.post(f"/sightline/studies/{study}/ground") for study in (tomography, "0-0")]
        looked = http.get(f"/sightline/studies/{tomography}/ground")

    assert [(answer.status_code, answer.json()["message"]) for answer in asked] == [
        (409, "This study holds no radiograph."),
        (404, "There is no such study."),
    ]
    assert looked.status_code == 405


def test_an_empty_password_keeps_orthanc_from_starting(tmp_path: Path) -> None:
    overrides = {"PythonScript": str(ROOT / "orthanc" / "sightline.py"), "RegisteredUsers": {"sightline": ""}}

    with (
        pytest.raises(pytest.fail.Exception, match="empty password"),
        run_orthanc(tmp_path / "storage", overrides=overrides, name="orthanc-refused"),
    ):
        pass
