"""The HTTP service over fakes that keep the ports' promises."""

from __future__ import annotations

import base64
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from evidence import CARD, CREATED, kept_of, make_evidence, make_radiograph
from fastapi.testclient import TestClient
from memory import Site, image, report
from PIL import Image

from model.geometry import UPRIGHT, Letterbox, Orientation
from model.values import Grounding, Heatmap, ModelCard, Query, Question, Region, State, Suitability, View
from nlp.phrases import Assertion, Concept, Laterality, Phrase, Reading, Section
from plugin.errors import ConformanceError, InputError, TransientError
from plugin.page.evidence import evidence_json, evidence_page
from plugin.ports import Job, JobState, Step, independent
from plugin.results import KeptReport, ResultFile, ResultFolder
from plugin.service import Check, Services, create_app
from plugin.service.app import serve
from plugin.service.metrics import Metrics
from plugin.values import Radiograph, ReportRef, ReportStatus, StudyRef

UID = "1.2.826.0.1.3680043.8.498.1"
STUDY = StudyRef(UID)
REPORT = ReportRef("report-1", "2")
SECRET = "Müller^Jörg"
SQUARE = Region(((10.0, 20.0), (30.0, 20.0), (30.0, 40.0), (10.0, 40.0)), 0.9)


@dataclass(slots=True)
class SquareGrounder:
    """Finds the same square for every query, and remembers what it was asked."""

    card: ModelCard = CARD
    asked: list[tuple[Query, Orientation]] = field(default_factory=list)

    def ground(
        self, pixels: npt.NDArray[np.float32], orientation: Orientation, queries: tuple[Query, ...]
    ) -> tuple[Grounding, ...]:
        self.asked += [(query, orientation) for query in queries]
        values = np.zeros((16, 16), np.float32)
        values[:8] = 0.5
        heatmap = Heatmap(values, Letterbox(*pixels.shape, orientation))
        return tuple(Grounding(query, State.FOUND, 0.8, (SQUARE,), heatmap) for query in queries)

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        return tuple(self.ground(each.pixels, each.orientation, each.queries) for each in questions)

    def suitability(self, pixels: npt.NDArray[np.float32], orientation: Orientation) -> Suitability:
        return Suitability(View.FRONTAL, orientation)


def read_report(text: str) -> Reading:
    """Knows one finding, denied after "No "; "crash" breaks it, as a defect would, quoting the text."""
    if "crash" in text:
        raise RuntimeError(text)
    start = text.find("effusion")
    if start < 0:
        return Reading(())
    denied = "No " in text
    phrase = Phrase(
        text="effusion",
        start=start,
        end=start + 8,
        start_utf16=start,
        end_utf16=start + 8,
        finding=Concept("pleural effusion"),
        assertion=Assertion.NEGATED if denied else Assertion.AFFIRMED,
        section=Section.UNLABELLED,
        groundable=not denied,
        not_groundable_reason="the report says it is absent" if denied else None,
        laterality=Laterality.LEFT,
    )
    return Reading((phrase,))


def read_dicom(content: bytes) -> Radiograph:
    if content.endswith(b"broken"):
        raise InputError("The pixel data ends too early.")
    return make_radiograph(orientation=Orientation(reverse_columns=True))


@dataclass(slots=True)
class Works:
    """What the service calls, and what it was called with."""

    services: Services
    grounder: SquareGrounder
    grounded: list[Job]
    site: Site


@pytest.fixture
def works(tmp_path: Path) -> Works:
    grounded: list[Job] = []
    grounder = SquareGrounder()
    site = Site(tmp_path / "data")
    for uid in (UID, "1.1", "1.2", "1.3"):
        site.archive.add(image(StudyRef(uid)))
        site.reports.put(report(f"report-{uid}", study_instance_uids=(uid,)))
    services = Services(
        queue=site.queue,
        results=ResultFolder(tmp_path / "results"),
        work=independent(Step("ground", grounded.append)),
        intake=site.intake,
        grounder=lambda: grounder,
        read_report=read_report,
        read_dicom=read_dicom,
    )
    return Works(services, grounder, grounded, site)


@contextmanager
def client_of(services: Services, **settings: Any) -> Iterator[TestClient]:
    """The service without its worker, as reached from this machine."""
    app = create_app(services, **({"work": False} | settings))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def client(works: Works) -> Iterator[TestClient]:
    with client_of(works.services) as client:
        yield client


def is_problem(answer: Any, status: int, *words: str) -> bool:
    body = answer.json()
    return (
        answer.status_code == status == body["status"]
        and answer.headers["content-type"] == "application/problem+json"
        and bool(body["title"])
        and all(word in body["detail"] for word in words)
    )


def encoded(values: npt.NDArray[Any], form: str = "PNG") -> str:
    buffer = BytesIO()
    Image.fromarray(values).save(buffer, form)
    return base64.b64encode(buffer.getvalue()).decode()


GRADIENT = np.tile(np.arange(100, dtype=np.uint8), (80, 1))


class TestStudies:
    def test_a_study_submitted_is_a_queued_job(self, client: TestClient, works: Works) -> None:
        answer = client.post("/studies", json={"study_instance_uid": UID})

        assert answer.status_code == 202
        (job,) = works.services.queue.list()
        assert (job.study, job.report) == (STUDY, ReportRef(f"report-{UID}", "1"))
        assert answer.headers["location"] == f"/jobs/{job.job_id}"
        assert answer.json() == {
            "job_id": job.job_id,
            "study_instance_uid": UID,
            "state": "queued",
            "attempts": 0,
            "updated": "2026-03-01T00:00:00Z",
            "error": None,
            "detail": None,
            "page": f"/studies/{UID}/page",
            "evidence": f"/studies/{UID}/evidence",
        }

    def test_submitting_twice_is_one_job(self, client: TestClient) -> None:
        first = client.post("/studies", json={"study_instance_uid": UID}).json()

        assert client.post("/studies", json={"study_instance_uid": UID}).json() == first
        assert client.get("/jobs").json() == [first]
        assert client.get(first["job_id"].join(("/jobs/", ""))).json() == first

    @pytest.mark.parametrize(
        "body", [{"study_instance_uid": SECRET}, {"study": UID}, {"study_instance_uid": 7}, {SECRET: 1}, [], None]
    )
    def test_what_is_no_study_is_refused_without_being_repeated(self, client: TestClient, body: Any) -> None:
        answer = client.post("/studies", json=body)

        assert is_problem(answer, 422)
        assert SECRET not in answer.text

    def test_a_study_without_a_report_is_taken_and_waits_without_a_job(self, client: TestClient, works: Works) -> None:
        works.site.reports.reports.clear()

        answer = client.post("/studies", json={"study_instance_uid": UID})

        body = answer.json()
        assert (answer.status_code, body["state"], body["job_id"]) == (202, "waiting", None)
        assert "No report" in body["detail"]
        assert "location" not in answer.headers
        assert client.get("/jobs").json() == []

    def test_what_is_no_json_is_refused(self, client: TestClient) -> None:
        answer = client.post("/studies", content=b"{", headers={"content-type": "application/json"})

        assert is_problem(answer, 422)

    def test_a_form_of_another_site_is_refused(self, client: TestClient, works: Works) -> None:
        answer = client.post(
            "/studies", content=f'{{"study_instance_uid": "{UID}"}}', headers={"content-type": "text/plain"}
        )

        assert is_problem(answer, 422)
        assert works.services.queue.list() == ()

    def test_an_unknown_job_is_not_found(self, client: TestClient) -> None:
        assert is_problem(client.get("/jobs/unknown"), 404, "no such job")

    def test_results_are_answered_byte_for_byte(self, client: TestClient, works: Works) -> None:
        evidence = make_evidence()
        document, page = evidence_json(evidence).encode(), evidence_page(evidence).encode()
        files = (ResultFile("evidence.json", document), ResultFile("evidence.html", page))
        works.services.results.write(STUDY, kept_of(evidence), files)  # type: ignore[attr-defined]

        told, shown = client.get(f"/studies/{UID}/evidence"), client.get(f"/studies/{UID}/page")

        assert (told.content, told.headers["content-type"]) == (document, "application/json")
        assert (shown.content, shown.headers["content-type"]) == (page, "text/html; charset=utf-8")

    @pytest.mark.parametrize("name", ["evidence", "page"])
    def test_a_study_without_results_is_not_found(self, client: TestClient, name: str) -> None:
        assert is_problem(client.get(f"/studies/{UID}/{name}"), 404, "no results")

    def test_each_report_of_a_study_has_a_page_and_the_newest_final_one_governs(
        self, client: TestClient, works: Works
    ) -> None:
        results: ResultFolder = works.services.results  # type: ignore[assignment]
        for report_id, status in (("urn:uuid:1", ReportStatus.FINAL), ("draft", ReportStatus.PRELIMINARY)):
            kept = KeptReport(ReportRef(report_id, "1"), status, CREATED)
            files = (ResultFile("evidence.html", report_id.encode()), ResultFile("evidence.json", b"{}"))
            results.write(STUDY, kept, files)

        told = client.get(f"/studies/{UID}/reports").json()

        assert [(each["report_id"], each["status"]) for each in told] == [
            ("urn:uuid:1", "final"),
            ("draft", "preliminary"),
        ]
        assert [client.get(each["page"]).text for each in told] == ["urn:uuid:1", "draft"]
        assert [client.get(each["evidence"]).json() for each in told] == [{}, {}]
        assert client.get(f"/studies/{UID}/page").text == "urn:uuid:1"
        assert is_problem(client.get(f"/studies/{UID}/reports/other/page"), 404, "no results")
        assert client.get("/studies/1.2.3/reports").json() == []

    def test_a_withdrawn_report_is_gone_and_the_other_one_governs(self, client: TestClient, works: Works) -> None:
        results: ResultFolder = works.services.results  # type: ignore[assignment]
        for report_id in ("a", "b"):
            kept = KeptReport(ReportRef(report_id, "1"), ReportStatus.FINAL, CREATED)
            results.write(STUDY, kept, (ResultFile("evidence.html", report_id.encode()),))

        results.withdraw(STUDY, "b")

        assert client.get(f"/studies/{UID}/page").text == "a"
        assert is_problem(client.get(f"/studies/{UID}/reports/b/page"), 410, "withdrawn")
        assert is_problem(client.get(f"/studies/{UID}/reports/b/patient/images/1.2.3"), 410, "withdrawn")
        assert [each["status"] for each in client.get(f"/studies/{UID}/reports").json()] == [
            "final",
            "entered-in-error",
        ]
        results.withdraw(STUDY, "a")
        assert is_problem(client.get(f"/studies/{UID}/page"), 410, "withdrawn")

    @pytest.mark.parametrize("uid", ["..", "%2e%2e", "1.2.x", "1..2", "1" * 65, "..%2F..%2Fetc"])
    def test_a_path_that_is_no_study_reads_nothing(self, client: TestClient, uid: str) -> None:
        assert client.get(f"/studies/{uid}/evidence").status_code in (404, 422)

    def test_a_browser_that_wants_an_icon_gets_none(self, client: TestClient) -> None:
        assert client.get("/favicon.ico").status_code == 204


class TestPredict:
    def ask(self, client: TestClient, text: str = "Left effusion.", image: str | None = None) -> Any:
        return client.post("/predict", json={"text": text, "image": encoded(GRADIENT) if image is None else image})

    def test_a_phrase_and_an_image_give_heatmap_regions_and_probability(self, client: TestClient, works: Works) -> None:
        answer = self.ask(client)

        body = answer.json()
        heatmap = cv2.imdecode(np.frombuffer(base64.b64decode(body["heatmap"]), np.uint8), cv2.IMREAD_UNCHANGED)
        assert answer.status_code == 200
        assert heatmap.shape == GRADIENT.shape
        assert heatmap.dtype == np.uint8
        assert (heatmap[5, 50], heatmap[75, 50]) == (128, 0)
        (region,) = body["regions"]
        assert region["area_px"] == 400
        assert region["box"] == [10, 20, 30, 40]
        assert (body["probability"], body["state"], body["threshold"]) == (0.8, "found", 0.4)
        assert body["model"]["name"] == "sightline-test"
        assert body["phrase"] == "effusion"
        assert works.grounder.asked == [(Query("effusion", "pleural effusion", side="left"), UPRIGHT)]

    def test_a_denied_finding_lights_nothing(self, client: TestClient, works: Works) -> None:
        body = self.ask(client, "No effusion.").json()

        assert (body["state"], body["regions"], body["probability"]) == ("not-groundable", [], 0)
        assert body["reason"] == "the report says it is absent"
        assert works.grounder.asked == []

    def test_words_that_the_reader_does_not_know_are_asked_as_they_are(self, client: TestClient, works: Works) -> None:
        self.ask(client, "Some  Shadow")

        assert works.grounder.asked == [(Query("Some  Shadow", "some shadow"), UPRIGHT)]

    def test_a_dicom_image_brings_its_orientation(self, client: TestClient, works: Works) -> None:
        dicom = base64.b64encode(bytes(128) + b"DICM").decode()

        body = self.ask(client, image=dicom).json()

        assert works.grounder.asked[0][1] == Orientation(reverse_columns=True)
        heatmap = cv2.imdecode(np.frombuffer(base64.b64decode(body["heatmap"]), np.uint8), cv2.IMREAD_UNCHANGED)
        assert heatmap.shape == (96, 80)

    @pytest.mark.parametrize(
        "image",
        [
            encoded(GRADIENT, "JPEG"),
            "data:image/png;base64," + encoded(GRADIENT),
            encoded(np.dstack([GRADIENT] * 3)),
            encoded(GRADIENT.astype(np.uint16) * 40),
        ],
        ids=["jpeg", "data URI", "grey stored in colour", "16 bit"],
    )
    def test_other_forms_of_the_image_are_taken(self, client: TestClient, image: str) -> None:
        assert self.ask(client, image=image).json()["state"] == "found"

    @pytest.mark.parametrize(
        ("image", "words"),
        [
            ("%%%", "base64"),
            ("QUJD" * 10, "neither DICOM, PNG nor JPEG"),
            (encoded(GRADIENT)[:96], "damaged or cut short"),
            (encoded(GRADIENT[:1, :1]), "at least 32 rows"),
            (encoded(np.zeros((64, 64), np.uint8)), "flat"),
            (encoded(np.dstack([GRADIENT, GRADIENT * 2, GRADIENT[::-1] * 0])), "colour"),
            (base64.b64encode(bytes(128) + b"DICM broken").decode(), "ends too early"),
            (base64.b64encode(b"GIF89a" + bytes(100)).decode(), "neither"),
        ],
    )
    def test_an_image_that_cannot_be_used_is_refused(self, client: TestClient, image: str, words: str) -> None:
        assert is_problem(self.ask(client, image=image), 422, words)

    @pytest.mark.parametrize("side", [9_000, 12_000, 20_000])
    def test_an_absurd_size_is_refused_before_the_pixels_are_decoded(self, client: TestClient, side: int) -> None:
        small = base64.b64decode(encoded(GRADIENT))
        header = b"IHDR" + struct.pack(">II", side, side) + small[24:29]
        claims_more = small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]

        answer = self.ask(client, image=base64.b64encode(claims_more).decode())

        assert is_problem(answer, 422, "64000000 pixels")

    @pytest.mark.parametrize("text", ["", "x" * 20_001])
    def test_a_text_of_absurd_length_is_refused(self, client: TestClient, text: str) -> None:
        assert is_problem(self.ask(client, text), 422, "body.text")

    def test_a_text_of_spaces_is_refused(self, client: TestClient) -> None:
        assert is_problem(self.ask(client, "   "), 422)


class TestErrors:
    def test_a_defect_tells_and_logs_nothing_of_the_input(
        self, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        answer = client.post("/predict", json={"text": f"crash {SECRET}", "image": encoded(GRADIENT)})

        assert is_problem(answer, 500, "report it")
        assert "RuntimeError" in caplog.text
        assert SECRET not in answer.text + caplog.text

    def test_a_defect_that_we_know_of_is_logged_too(self, works: Works, caplog: pytest.LogCaptureFixture) -> None:
        works.site.archive.failure = ConformanceError("an id was not valid")

        with client_of(works.services) as client:
            answer = client.post("/studies", json={"study_instance_uid": UID})

        assert is_problem(answer, 500, "report it")
        assert "ConformanceError" in caplog.text

    def test_what_may_pass_is_worth_another_try(self, works: Works) -> None:
        works.site.reports.failure = TransientError("The report store does not answer.")

        with client_of(works.services) as client:
            answer = client.post("/studies", json={"study_instance_uid": UID})

        assert is_problem(answer, 503, "does not answer")
        assert answer.headers["retry-after"] == "30"

    def test_a_body_whose_stated_length_is_too_large_is_refused(self, works: Works) -> None:
        with client_of(works.services, max_body_bytes=100) as client:
            answer = client.post("/studies", json={"study_instance_uid": "1" * 200})

        assert is_problem(answer, 413, "100 bytes")

    def test_a_body_that_grows_too_large_is_refused(self, works: Works) -> None:
        def endless() -> Iterator[bytes]:
            for _ in range(50):
                yield b" " * 10

        with client_of(works.services, max_body_bytes=100) as client:
            answer = client.post("/studies", content=endless(), headers={"content-type": "application/json"})

        assert is_problem(answer, 413, "100 bytes")

    def test_another_name_for_this_machine_is_refused(self, client: TestClient) -> None:
        assert client.get("/jobs", headers={"host": "attacker.example"}).status_code == 400

    def test_a_configured_name_is_accepted(self, works: Works) -> None:
        with client_of(works.services, allowed_hosts=("sightline.hospital.example",)) as client:
            assert client.get("/jobs", headers={"host": "sightline.hospital.example"}).status_code == 200

    @pytest.mark.parametrize("path", ["/", "/jobs", "/nowhere", "/studies/1.2/page", "/health/live"])
    def test_no_answer_is_kept_framed_or_sniffed(self, client: TestClient, path: str) -> None:
        headers = client.get(path).headers

        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].endswith("frame-ancestors 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"

    def test_a_wrong_address_and_a_wrong_method_are_problems_too(self, client: TestClient) -> None:
        assert is_problem(client.get("/nowhere"), 404)
        assert is_problem(client.delete("/jobs"), 405)


class TestJobs:
    def test_a_job_that_ended_is_done_again_and_one_that_waits_let_go(self, client: TestClient, works: Works) -> None:
        job_id = client.post("/studies", json={"study_instance_uid": UID}).json()["job_id"]

        cancelled = client.post(f"/jobs/{job_id}", json={"action": "cancel"}).json()
        replayed = client.post(f"/jobs/{job_id}", json={"action": "replay"}).json()

        assert (cancelled["state"], replayed["state"]) == ("cancelled", "queued")

    @pytest.mark.parametrize("action", ["cancel", "replay"])
    def test_a_job_that_is_not_there_is_not_found(self, client: TestClient, action: str) -> None:
        assert is_problem(client.post("/jobs/nothing", json={"action": action}), 404, "no such job")

    def test_another_action_is_refused(self, client: TestClient) -> None:
        assert is_problem(client.post("/jobs/a", json={"action": "drop"}), 422)

    def test_metrics_are_answered_where_they_are_kept(self, client: TestClient, works: Works) -> None:
        metrics = Metrics()
        metrics.watch(works.services.queue)

        with client_of(replace(works.services, metrics=metrics)) as counted:
            answer = counted.get("/metrics")

        assert 'sightline_jobs{state="queued"} 0.0' in answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert client.get("/metrics").status_code == 404


class TestHealth:
    def test_it_lives(self, client: TestClient) -> None:
        assert client.get("/health/live").json() == {"alive": True}

    def test_it_is_ready_when_every_check_is(self, works: Works) -> None:
        checks = (Check("queue", works.services.queue.list), Check("model", lambda: works.grounder.card))

        with client_of(replace(works.services, checks=checks)) as client:
            answer = client.get("/health/ready")

        assert answer.status_code == 200
        assert answer.json() == {
            "ready": True,
            "checks": [
                {"name": "queue", "ready": True, "detail": ""},
                {"name": "model", "ready": True, "detail": ""},
            ],
        }

    def test_it_is_not_ready_when_one_is_missing(self, works: Works, caplog: pytest.LogCaptureFixture) -> None:
        def away() -> None:
            raise TransientError("The archive does not answer.")

        def broken() -> None:
            raise RuntimeError(SECRET)

        checks = (Check("archive", away), Check("reports", broken), Check("queue", works.services.queue.list))
        with client_of(replace(works.services, checks=checks)) as client:
            answer = client.get("/health/ready")

        assert answer.status_code == 503
        assert [(check["ready"], check["detail"]) for check in answer.json()["checks"]] == [
            (False, "The archive does not answer."),
            (False, "Unexpected RuntimeError."),
            (True, ""),
        ]
        assert SECRET not in answer.text + caplog.text


class TestDescription:
    def test_every_route_is_described_with_its_errors(self, client: TestClient) -> None:
        described = client.get("/openapi.json").json()

        assert set(described["paths"]) == {
            "/",
            "/studies",
            "/events",
            "/review",
            "/review/{report_id}",
            "/review/{report_id}/check",
            "/jobs",
            "/jobs/{job_id}",
            "/studies/{study_instance_uid}/evidence",
            "/studies/{study_instance_uid}/page",
            "/studies/{study_instance_uid}/reports",
            "/studies/{study_instance_uid}/reports/{report_id}/evidence",
            "/studies/{study_instance_uid}/reports/{report_id}/page",
            "/studies/{study_instance_uid}/patient",
            "/studies/{study_instance_uid}/radiologist",
            "/studies/{study_instance_uid}/reports/{report_id}/patient",
            "/studies/{study_instance_uid}/reports/{report_id}/patient/images/{sop_instance_uid}",
            "/studies/{study_instance_uid}/reports/{report_id}/radiologist",
            "/studies/{study_instance_uid}/reports/{report_id}/radiologist/images/{sop_instance_uid}",
            "/studies/{study_instance_uid}/reports/{report_id}/radiologist/heatmaps/{sop_instance_uid}",
            "/studies/{study_instance_uid}/reports/{report_id}/radiologist/files/{name}",
            "/studies/{study_instance_uid}/reports/{report_id}/fhircast",
            "/predict",
            "/api/hub",
            "/api/hub/{topic}",
            "/.well-known/fhircast-configuration",
            "/health/live",
            "/health/ready",
        }
        for path in ("/studies", "/events", "/predict"):
            answers = described["paths"][path]["post"]["responses"]
            assert set(answers["422"]["content"]) == {"application/problem+json"}
            assert "503" in answers
        assert described["components"]["schemas"]["PredictRequest"]["properties"]["text"]["examples"]
        assert "EvidenceDocument" in described["components"]["schemas"]

    def test_no_page_that_loads_scripts_from_elsewhere(self, client: TestClient) -> None:
        assert client.get("/docs").status_code == 404
        assert client.get("/redoc").status_code == 404


def raising(error: Exception) -> Callable[[StudyRef], object]:
    def ground(_: Job) -> object:
        raise error

    return ground


class TestWork:
    def test_a_submitted_study_is_worked_on_at_once(self, works: Works) -> None:
        done = threading.Event()

        def ground(job: Job) -> None:
            works.grounded.append(job)
            done.set()

        with client_of(replace(works.services, work=independent(Step("ground", ground))), work=True) as client:
            client.post("/studies", json={"study_instance_uid": UID})
            assert done.wait(5)

        assert [job.study for job in works.grounded] == [STUDY]
        (job,) = works.services.queue.list()
        assert job.state is JobState.DONE

    def test_a_person_who_asks_goes_before_what_the_archive_told(self, client: TestClient, works: Works) -> None:
        client.post("/events", json={"study_instance_uid": "1.1"})
        client.post("/studies", json={"study_instance_uid": "1.2"})

        first = works.services.queue.take()  # type: ignore[attr-defined]

        assert first.study == StudyRef("1.2")


def test_a_port_that_is_taken_is_named(works: Works) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InputError, match=f"Port {port}"):
            serve(create_app(works.services), host="127.0.0.1", port=port, tell=print)


def test_public_keys_are_there_for_fhir_servers_only_where_there_are_some(works: Works, client: TestClient) -> None:
    with client_of(works.services, public_keys=lambda: {"keys": [{"kid": "a"}]}) as keyed:
        published = keyed.get("/.well-known/jwks.json")

    assert published.json() == {"keys": [{"kid": "a"}]}
    assert published.headers["cache-control"] == "max-age=300"
    assert client.get("/.well-known/jwks.json").status_code == 404
