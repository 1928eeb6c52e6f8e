"""A year of report life in fast motion: a site whose reports, images and servers a test moves as it likes.

Everything of Sightline is real: intake, queue's worker, the whole way of a job, the folder archive, the FHIR client.
Only the model, the reader and the FHIR server are fakes that keep the promise of theirs; the real engine can stand in.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import httpx
from books import book_at
from fhir_check import checker
from pydicom import dcmread
from queues import ENDED, MemoryQueue, StandingClock
from stand_ins import Squares, image, read

from plugin.archive import folder_archive
from plugin.attempt import GroundingWork
from plugin.errors import SightlineError, TransientError
from plugin.fhir.client import FhirClient
from plugin.fhir.writing import document_id, observation_id
from plugin.flow import Edges, Tools
from plugin.identity import derived_uid
from plugin.intake import Intake
from plugin.page.document import EvidenceDocument, read_evidence
from plugin.ports import ImageArchive, JobState, StoredResult, report_code
from plugin.reports.rest import FhirReportStore
from plugin.results import ResultFolder
from plugin.values import ReportRef, StudyRef
from plugin.versions import standing

Json = dict[str, Any]
BASE = "http://fhir.test/fhir"
FHIR_JSON = {"content-type": "application/fhir+json"}
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33"

WITHDRAWN = ("entered-in-error", "cancelled")


class DiedError(BaseException):
    """The worker's process ended here: nothing catches it."""


# The FHIR server


@dataclass
class MemoryFhir:
    """A FHIR server in memory: versions, history, atomic transactions, and the searches that Sightline asks."""

    fhir_version: str = "4.0.1"
    versions: dict[str, list[Json | None]] = field(default_factory=dict)  # None: deleted
    _clock: itertools.count[int] = field(default_factory=itertools.count)

    def current(self, name: str) -> Json | None:
        return (self.versions.get(name) or [None])[-1]

    def put(self, resource: Json) -> None:
        name = f"{resource['resourceType']}/{resource['id']}"
        history = self.versions.setdefault(name, [])
        moment = divmod(next(self._clock), 60)
        stamp = f"2026-01-01T{moment[0] // 60 % 24:02}:{moment[0] % 60:02}:{moment[1]:02}Z"
        meta = resource.get("meta", {}) | {"versionId": str(len(history) + 1), "lastUpdated": stamp}
        history.append(json.loads(json.dumps(resource)) | {"meta": meta})

    def delete(self, name: str) -> None:
        self.versions[name].append(None)

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/fhir").strip("/")
        if request.method == "POST":
            return self._transaction(json.loads(request.content))
        if path == "metadata":
            return _told(200, {"resourceType": "CapabilityStatement", "fhirVersion": self.fhir_version})
        if "/" not in path:
            return _told(200, self._found(path, dict(parse_qsl(request.url.query.decode()))))
        name, _, version = path.partition("/_history/")
        history = self.versions.get(name, [])
        found = (
            self.current(name) if not version else history[int(version) - 1] if int(version) <= len(history) else None
        )
        return _told(200, found) if found else _told(410 if history else 404, {"resourceType": "OperationOutcome"})

    def _transaction(self, bundle: Json) -> httpx.Response:
        for entry in bundle["entry"]:
            kind, _, own = entry["request"]["url"].partition("/")
            assert entry["request"]["method"] == "PUT"
            assert (entry["resource"]["resourceType"], entry["resource"]["id"]) == (kind, own)
            there = self.current(entry["request"]["url"]) or {"meta": {"versionId": ""}}
            if entry["request"].get("ifMatch", "") not in ("", f'W/"{there["meta"]["versionId"]}"'):
                return _told(412, {"resourceType": "OperationOutcome"})
        for entry in bundle["entry"]:
            self.put(entry["resource"])
        answers = [{"response": {"status": "200 OK"}} for _ in bundle["entry"]]
        return _told(200, {"resourceType": "Bundle", "type": "transaction-response", "entry": answers})

    def _found(self, kind: str, params: dict[str, str]) -> Json:
        hits = [each for name in self.versions if name.startswith(f"{kind}/") and (each := self.current(name))]
        if "identifier" in params:
            values = {each.rpartition("|")[2] for each in params["identifier"].split(",")}
            hits = [each for each in hits if values & {own["value"] for own in each.get("identifier", ())}]
        if "subject" in params:
            subjects = params["subject"].split(",")
            hits = [each for each in hits if each.get("subject", {}).get("reference") in subjects]
        hits = [] if {"based-on", "basedon", "_tag"} & set(params) else hits
        return {"resourceType": "Bundle", "type": "searchset", "entry": [{"resource": each} for each in hits]}


def _told(status: int, resource: Json) -> httpx.Response:
    return httpx.Response(status, json=resource, headers=FHIR_JSON)


@dataclass
class RealFhir:
    """A real server, which other tests use, too; *tag* makes ids of one's own."""

    base: str
    http: httpx.Client

    def current(self, name: str) -> Json | None:
        answer = self.http.get(f"{self.base}/{name}")
        return answer.json() if answer.status_code == 200 else None

    def put(self, resource: Json) -> None:
        name = f"{resource['resourceType']}/{resource['id']}"
        self.http.put(f"{self.base}/{name}", json=resource).raise_for_status()

    def delete(self, name: str) -> None:
        self.http.delete(f"{self.base}/{name}").raise_for_status()


# What goes wrong


@dataclass
class Trouble:
    """Faults to come: statuses of the FHIR server, refusals of the archive, and the step at which the worker dies."""

    fhir: list[str] = field(default_factory=list)
    archive: list[str] = field(default_factory=list)
    dies_in: int | None = None

    def step(self) -> None:
        """Something is about to be read or written, or was."""
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self.dies_in = None
                raise DiedError

    def clear(self) -> None:
        self.fhir.clear()
        self.archive.clear()
        self.dies_in = None


class TroubledTransport(httpx.BaseTransport):
    """The way to the FHIR server, with its faults."""

    def __init__(self, inner: httpx.BaseTransport, trouble: Trouble) -> None:
        self._inner, self._trouble = inner, trouble

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._trouble.step()
        fault = self._trouble.fhir.pop(0) if self._trouble.fhir else ""
        if fault in ("503", "409"):
            return _told(int(fault), {"resourceType": "OperationOutcome"})
        answer = self._inner.handle_request(request)
        self._trouble.step()
        if fault == "applied-500":
            return _told(500, {"resourceType": "OperationOutcome"})
        if fault == "truncated":
            content = answer.read()
            return httpx.Response(200, content=content[: len(content) // 2], headers=FHIR_JSON)
        return answer


class TroubledArchive:
    """The folder archive, with its faults."""

    def __init__(self, inner: ImageArchive, trouble: Trouble) -> None:
        self._inner, self._trouble = inner, trouble

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def called(*args: Any, **options: Any) -> Any:
            self._trouble.step()
            answer = method(*args, **options)
            self._trouble.step()
            return answer

        return called

    def store(self, study: StudyRef, instances: tuple[bytes, ...]) -> None:
        """All, none, or only the first of *instances*."""
        for number, instance in enumerate(instances):
            self._trouble.step()
            if number == 0 and self._trouble.archive and self._trouble.archive.pop(0) == "none":
                raise TransientError("the archive does not answer")
            self._inner.store(study, (instance,))
            if self._trouble.archive and self._trouble.archive[0] == "half":
                self._trouble.archive.pop(0)
                raise TransientError("the archive did not store all")
        self._trouble.step()


class TroubledResults(ResultFolder):
    """The results folder; the worker may die before and after each change."""

    trouble: Trouble

    def write(self, *args: Any, **options: Any) -> Any:
        return self._stepwise(super().write, *args, **options)

    def withdraw(self, *args: Any, **options: Any) -> Any:
        return self._stepwise(super().withdraw, *args, **options)

    def _stepwise(self, do: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.trouble.step()
        answer = do(*args, **options)
        self.trouble.step()
        return answer


# The site


def _page(_: StudyRef, report_id: str) -> str:
    return f"https://x.example/{report_id}"


@dataclass
class Told:
    """A report as it stands at its source; *status* "deleted": it is there no more."""

    studies: tuple[int, ...]
    said: tuple[str, ...]
    status: str
    issued: int

    @property
    def text(self) -> str:
        return "FINDINGS. " * bool(self.issued % 2) + "".join(f"{each}. " for each in self.said) + "End."

    @property
    def stands(self) -> bool:
        return self.status not in (*WITHDRAWN, "deleted")


class Site:
    """Two studies, any number of reports, and everything that Sightline runs beside them."""

    def __init__(self, folder: Path, server: MemoryFhir | RealFhir, inner: httpx.BaseTransport, *, tag: str) -> None:
        self.tag, self.server, self.trouble = tag, server, Trouble()
        self.studies = tuple(StudyRef(derived_uid("year", tag, str(number))) for number in range(2))
        self.images = [0, 0]
        self.reports: dict[str, Told] = {}
        self.kept: dict[tuple[int, str], tuple[str, ...]] = {}  # tracking UIDs after the last settlement
        self.decided: set[str] = set()
        self.clock = StandingClock()
        self.folder = folder
        (folder / "images").mkdir(parents=True)
        self._issued = itertools.count()
        base = server.base if isinstance(server, RealFhir) else BASE
        self._http = httpx.Client(transport=TroubledTransport(inner, self.trouble))
        self._client = FhirClient(base, client=self._http, sleep=lambda _: None)
        self.archive = folder_archive((folder / "images",), store_in=folder / "images")
        self.queue = MemoryQueue(self.clock)
        self.started()
        server.put({"resourceType": "Patient", "id": f"pat{tag}", "identifier": [{"value": "P1"}]})

    def started(self) -> None:
        """Sightline, started (again): what is not on a disk is forgotten."""
        archive: Any = TroubledArchive(self.archive, self.trouble)
        results = TroubledResults(self.folder / "data")
        object.__setattr__(results, "trouble", self.trouble)
        self.edges = Edges(archive, FhirReportStore(self._client), results)
        tools = Tools(read, "1", Squares(), 2, "ab" * 32, self.clock)
        book = book_at(self.folder / "reports.sqlite")
        self.intake = Intake(archive, self.edges.reports, self.queue, book, lambda: ("1",), self.clock)
        self.runner = self.queue.runner(GroundingWork(self.intake, self.edges, lambda _: tools, _page))
        for job in self.queue.list(1000, state=JobState.RUNNING):
            self.queue.change(job.job_id, JobState.QUEUED, error=None)

    def close(self) -> None:
        self._http.close()

    # What happens at the site

    def add_image(self, study: int) -> None:
        self.images[study] += 1
        uid = self.studies[study].study_instance_uid
        content = image(uid, self.images[study])
        (self.folder / "images" / f"{study}-{self.images[study]}.dcm").write_bytes(content)

    def tell(self, name: str, told: Told) -> None:
        """Put a version of a report on the server."""
        told.issued = next(self._issued)
        self.reports[name] = told
        if told.status == "deleted":
            self.server.delete(f"DiagnosticReport/{self.id(name)}")
            return
        uids = [self.studies[study].study_instance_uid for study in told.studies]
        self.server.put(
            {
                "resourceType": "DiagnosticReport",
                "id": self.id(name),
                "status": told.status,
                "code": {"text": "Chest X-ray"},
                "subject": {"reference": f"Patient/pat{self.tag}"},
                "issued": f"2026-03-01T10:{told.issued // 60 % 60:02}:{told.issued % 60:02}Z",
                "imagingStudy": [
                    {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}} for uid in uids
                ],
                "presentedForm": [{"contentType": "text/plain", "data": base64.b64encode(told.text.encode()).decode()}],
            }
        )

    def id(self, name: str) -> str:
        return f"{name}{self.tag}"

    def decide(self, number: int) -> None:
        """A radiologist accepts one of the phrases that stand."""
        names = [
            f"Observation/{observation_id(uid)}"
            for study in range(2)
            for each in standing(self._stored(study))
            for uid in each.phrases
        ]
        there = self.server.current(names[number % len(names)]) if names else None
        if there is not None and there["status"] == "preliminary":
            self.server.put(there | {"status": "final", "performer": [{"display": "A radiologist"}]})
            self.decided.add(there["id"])

    # What Sightline does

    def notice(self, name: str) -> None:
        """A poll shows the report's version of now; one that is gone is found by the sweep."""
        there = self.server.current(f"DiagnosticReport/{self.id(name)}")
        version = there["meta"]["versionId"] if there else "gone"
        self._try(lambda: self.intake.take_report(ReportRef(self.id(name), version)))

    def look_at(self, study: int) -> None:
        """The archive tells of the study, or a person asks for it."""
        self._try(lambda: self.intake.take_study(self.studies[study]))

    def work(self) -> bool:
        """One job, if one is due."""
        return bool(self._try(self.runner.once))

    def _try(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except SightlineError:
            return None
        except DiedError:
            self.started()
            return True

    def run_again(self, number: int) -> None:
        """A job that is done is done again, as after a restored queue."""
        done = [job for job in self.queue.list(1000) if job.state in ENDED]
        if done:
            self.queue.replay(done[number % len(done)].job_id)

    def lose_data(self) -> None:
        """The results folder is lost with its disk."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def settle(self) -> None:
        """All servers are well again, everything is looked at, and every job is worked off."""
        self.trouble.clear()
        for name in self.reports:
            self.notice(name)
        for study, images in enumerate(self.images):
            if images:
                self.look_at(study)
        for job in self.queue.list(1000, state=JobState.FAILED):
            self.queue.replay(job.job_id)  # as an operator does when all is well again
        for _ in range(200):
            self.clock.advance(3600)
            for report_id in self.intake.book.due(self.clock()):
                self._try(partial(self.intake.take_again, report_id))
            if not self.work():
                return
        raise AssertionError("the queue does not come to an end")

    # What has to be

    def alive(self) -> dict[tuple[int, str], Told]:
        """(study, report) -> the report, for each pair that results are asked of."""
        return {
            (study, name): told
            for name, told in self.reports.items()
            for study in told.studies
            if told.stands and self.images[study]
        }

    def check(self) -> None:
        """FHIR server, archive and pages hold exactly what is asked: nothing missing, twice, or withdrawn."""
        alive = self.alive()
        for study in range(2):
            stored = self._stored(study)
            codes = {report_code(self.id(name)): name for name in self.reports}
            assert {codes[each.report] for each in standing(stored)} == {
                name for at, name in alive if at == study and alive[at, name].said
            }
            for name in self.reports:
                told = alive.get((study, name))
                mine = tuple(each for each in stored if each.report == report_code(self.id(name)))
                notes = tuple(each for each in stored if each.rejects)
                self._check_pair(study, name, told, mine=mine, stands=standing((*mine, *notes)))
            shown = [
                each.ref.report_id
                for each in self.edges.results.reports(self.studies[study])
                if not each.status.withdrawn
            ]
            assert sorted(shown) == sorted(self.id(name) for at, name in alive if at == study)

    def _stored(self, study: int) -> tuple[StoredResult, ...]:
        return self.archive.results(self.studies[study]) if self.images[study] else ()

    def _check_pair(
        self,
        study: int,
        name: str,
        told: Told | None,
        *,
        mine: tuple[StoredResult, ...],
        stands: tuple[StoredResult, ...],
    ) -> None:
        reports = [each for each in stands if each.image.sop_class_uid == SR]
        regions = [each for each in stands if each.image.sop_class_uid == SEG]
        said = told.said if told else ()
        uids = reports[0].phrases if reports else ()
        lit = any(read(f"{each}.").phrases[0].groundable for each in said)
        assert len(reports) == bool(said)
        assert len(uids) == len(said)
        assert len(regions) == (self.images[study] if lit else 0)
        if reports:
            self._check_document(study, reports[0])
        self._check_kept(study, name, said, uids)
        self._check_fhir(study, name, told, uids, ever=frozenset(uid for each in mine for uid in each.phrases))
        self._check_page(study, name, told, uids)

    def _check_document(self, study: int, report: StoredResult) -> None:
        """The structured report is about all images of the study, and no others."""
        path = self.folder / "images" / f"SR-{report.image.sop_instance_uid}.dcm"
        evidence = dcmread(path).CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        named = {str(item.ReferencedSOPInstanceUID) for series in evidence for item in series.ReferencedSOPSequence}
        uid = self.studies[study].study_instance_uid
        images = {derived_uid("year image", uid, str(number + 1)) for number in range(self.images[study])}
        assert images <= named
        assert len(named - images) in (0, self.images[study])  # the Segmentations

    def _check_kept(self, study: int, name: str, said: tuple[str, ...], uids: tuple[str, ...]) -> None:
        """As many phrases as said the same before keep their tracking UIDs."""
        words = dict(zip(uids, said, strict=True))
        before = dict(item.split("|") for item in self.kept.get((study, name), ()))
        kept = Counter(words[uid] for uid in uids if before.get(uid) == words[uid])
        assert kept == Counter(before.values()) & Counter(said)
        self.kept[study, name] = tuple(f"{uid}|{each}" for uid, each in words.items())

    def _check_fhir(
        self, study: int, name: str, told: Told | None, uids: tuple[str, ...], *, ever: frozenset[str]
    ) -> None:
        said = dict(zip(uids, told.said if told else (), strict=True))
        version = (self.server.current(f"DiagnosticReport/{self.id(name)}") or {}).get("meta", {}).get("versionId")
        for uid in ever:
            there = self.server.current(f"Observation/{observation_id(uid)}")
            words = said.get(uid, "Prior")
            if words.startswith("Prior"):
                assert there is None or there["status"] == "entered-in-error"
                continue
            assert there is not None
            assert there["status"] == "preliminary" or there["id"] in self.decided
            assert there["valueCodeableConcept"]["text"].removeprefix("Absent: ") == words
            assert there["focus"] == [{"reference": f"DiagnosticReport/{self.id(name)}/_history/{version}"}]
            self._check_resource(there)
        document = self.server.current(f"DocumentReference/{self._document(study, name)}")
        if told is None:
            withdrawn = {"status": "entered-in-error", "docStatus": "entered-in-error"}
            assert document is None or withdrawn.items() <= document.items()
            return
        assert document is not None
        assert document["status"] == "current"
        assert (document["docStatus"] == "final") == (told.status in ("final", "amended", "corrected", "appended"))
        links = [each["attachment"]["url"] for each in document["content"]]
        assert len(links) == len(set(links))
        self._check_resource(document)

    def _document(self, study: int, name: str) -> str:
        return document_id(self.studies[study].study_instance_uid, self.id(name))

    def _check_page(self, study: int, name: str, told: Told | None, uids: tuple[str, ...]) -> None:
        content = self.edges.results.read(self.studies[study], "evidence.json", self.id(name))
        assert (content is not None) == (told is not None)
        if content is None or told is None:
            return
        evidence: EvidenceDocument = read_evidence(content)
        assert evidence.report.text == told.text
        assert evidence.report.status == told.status
        assert tuple(each.tracking_uid for each in evidence.phrases) == uids
        assert len(evidence.images) == self.images[study]

    @property
    def _release(self) -> str:
        return self.server.fhir_version if isinstance(self.server, MemoryFhir) else "4.0.1"

    def _check_resource(self, resource: Json) -> None:
        check_resource(resource, self._release)


def check_everything(server: MemoryFhir, *, standing: int) -> None:
    """Every version of every resource that Sightline wrote passes the checker; *standing* Observations stand."""
    kinds = ("Device", "Observation", "DocumentReference", "Provenance", "AuditEvent", "ImagingSelection")
    ours = {name: history for name, history in server.versions.items() if name.startswith(kinds)}
    for history in ours.values():
        for each in history:
            if each is not None:
                check_resource(each, server.fhir_version)
    observations = [server.current(name) or {} for name in ours if name.startswith("Observation")]
    stands = [each for each in observations if each["status"] != "entered-in-error"]
    assert len(stands) == standing
    links = {link["reference"] for each in stands for link in each.get("derivedFrom", ())}
    selections = {name: server.current(name) or {} for name in ours if name.startswith("ImagingSelection")}
    assert {name for name, each in selections.items() if each["status"] == "available"} == links


_seen: set[str] = set()


def check_resource(resource: Json, release: str) -> None:
    """*resource* passes the checker; one that is equal but for ids, hashes, times and offsets is checked once."""
    own = {name: value for name, value in resource.items() if name != "meta"}
    shape = release + _shape(json.dumps(own, sort_keys=True))
    if shape not in _seen:
        _seen.add(shape)
        found = checker().written(own) if release.startswith("4") else checker("R5").check(own)
        assert found == []


def _shape(text: str) -> str:
    for pattern in (
        r"[0-9a-f]{8}-[0-9a-f-]{27}",
        r"2\.25\.\d+",
        r"\d{4}-\d\d-\d\dT[0-9:+.Z]+",
        r'"hash": "[^"]+"|"size": "?\d+"?|"valueInteger": \d+|ni:///sha-256;[\w-]+',
        r"DiagnosticReport/[\w.-]+|_history/\d+|Patient/[\w.-]+|https://x.example/[\w.-]+",
    ):
        text = re.sub(pattern, "", text)
    return text
