"""A site under chaos: Orthanc, FHIR engine, database, service and workers, each of which may be killed at any moment.

Whoever dies is started again at once, as a service manager does it; images and reports come meanwhile, and are sent
until they are taken, as modalities and report systems do it. :meth:`Site.wrongs` says what is not as it has to be.
"""

from __future__ import annotations

import base64
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from faults import Faults, references, run_faults
from servers import NPM, OUTPUT, ROOT, Part, PostgresServer, free_port, orthanc_settings, program
from stand_ins import SENTENCES, image, read

from plugin.archive import web_archive
from plugin.durable import Database, DurableQueue
from plugin.endpoint import Endpoint
from plugin.errors import TransientError
from plugin.fhir.writing import document_id, observation_id
from plugin.identity import derived_uid
from plugin.ports import Job, JobState, StoredResult, report_code
from plugin.values import StudyRef
from plugin.versions import standing

Json = dict[str, Any]
SEG, SR = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.33"
OURS = ("Observation", "DocumentReference", "Device", "Provenance", "AuditEvent")
TAKEN_S = 180


def log_of(part: str) -> Path:
    return OUTPUT / f"chaos-{part}.log"


@dataclass
class Told:
    """A report as it stands at its source, and how many versions it had."""

    study: StudyRef
    said: tuple[str, ...]
    status: str = "final"
    versions: int = 1


class Site:
    """Everything on loopback; ``victims`` are killed by name."""

    def __init__(self, folder: Path, server: PostgresServer | None, *, seed: int) -> None:
        self.folder, self.server, self.chance = folder, server, random.Random(seed)
        self.url = f"sqlite:///{folder}/data/jobs.sqlite" if server is None else server.database()
        self.orthanc, self.fhir = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        self.service = f"http://127.0.0.1:{free_port()}"
        self.reports: dict[str, Told] = {}
        self.kills: Counter[str] = Counter()
        self.http = httpx.Client(timeout=20)
        self._issued = itertools.count()
        self._ending = threading.Event()
        self._lock = threading.Lock()
        (folder / "orthanc").mkdir(parents=True)
        settings = orthanc_settings(folder / "orthanc", int(self.orthanc.rpartition(":")[2]), {})
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self.user = next(iter(settings["RegisteredUsers"].items()))
        journal = [str(NPM / "fhir-server.cjs"), self.fhir.rpartition(":")[2], str(folder / "fhir.journal")]
        self.parts = {
            "orthanc": Part([str(program("Orthanc")), str(folder / "orthanc.json")], log_of("orthanc")),
            "fhir": Part([str(program("node")), *journal], log_of("fhir")),
        }

    @property
    def victims(self) -> tuple[str, ...]:
        return (*self.parts, "postgresql") if self.server is not None else tuple(self.parts)

    @contextmanager
    def up(self, *ways: Callable[[Faults], object]) -> Iterator[None]:
        """All of it runs until the block ends; *ways* are told of the proxies before Orthanc and FHIR engine."""
        with ExitStack() as stack:
            stack.callback(self.http.close)
            stack.callback(self._end)
            orthanc, fhir = self.orthanc, f"{self.fhir}/fhir"
            if ways:
                proxies = [stack.enter_context(run_faults(self.orthanc, at="")), stack.enter_context(run_faults(fhir))]
                orthanc, fhir = (each.base for each in proxies)
                for way, proxy in itertools.product(ways, proxies):
                    way(proxy)
            self._sightline(orthanc, fhir)
            for part in self.parts.values():
                part.up()
            manager = threading.Thread(target=self._manage, daemon=True)
            manager.start()
            stack.callback(manager.join)
            stack.callback(self._ending.set)
            patient = {"resourceType": "Patient", "id": "pat", "identifier": [{"value": "P1"}]}
            self._send("PUT", f"{self.fhir}/fhir/Patient/pat", json=patient)
            self._answers(f"{self.orthanc}/system")
            self._answers(f"{self.service}/health/live")
            yield

    def _sightline(self, orthanc: str, fhir: str) -> None:
        settings = {
            "DATA_DIR": str(self.folder / "data"),
            "ARCHIVE_URL": f"{orthanc}/dicom-web",
            "ORTHANC_URL": orthanc,
            "ARCHIVE_USER": self.user[0],
            "ARCHIVE_PASSWORD": self.user[1],
            "FHIR_URL": fhir,
            "WATCH_S": "0.5",
            "WATCH_QUIET_S": "0.5",
            "WATCH_BACKLOG": "true",
            "REPORTS_EVERY_S": "0.5",
            "REPORTS_BACKLOG": "true",
            "TIMEOUT_S": "3",
            "MAX_ATTEMPTS": "1000",
            "JOBS_AT_ONCE": "2",
            "PORT": self.service.rpartition(":")[2],
        }
        environment = {f"SIGHTLINE_{name}": value for name, value in settings.items()}
        environment["CHAOS_BEGAN"] = str(time.time())
        if self.server is not None:
            environment["SIGHTLINE_DATABASE_URL"] = self.url
        command = [sys.executable, str(ROOT / "tests" / "chaos_process.py")]
        self.parts["service"] = Part([*command, "serve"], log_of("service"), environment)
        for name in ("worker1", "worker2"):
            self.parts[name] = Part([*command, "work"], log_of(name), environment)

    def _manage(self) -> None:
        while not self._ending.wait(0.1):
            for part in self.parts.values():
                with self._lock:
                    if not self._ending.is_set():
                        part.up()

    def _end(self) -> None:
        self._ending.set()
        with self._lock:
            for part in self.parts.values():
                part.kill()

    # What happens

    def kill(self, name: str) -> None:
        """``kill -9``; the database restarts as an operator does it who waits for nobody."""
        self.kills[name] += 1
        if name == "postgresql" and self.server is not None:
            self.server.restart()
            return
        with self._lock:
            self.parts[name].kill()

    def something_happens(self) -> None:
        """A study and its report come, or a report is amended or taken back; whoever noticed says so, twice."""
        alive = [name for name, told in self.reports.items() if told.status != "entered-in-error"]
        what = self.chance.random() if alive else 0.0
        if what < 0.6:
            number = len(self.reports)
            study = StudyRef(derived_uid("chaos", self.folder.name, str(number)))
            steps = [lambda: self._image(study), lambda: self._report(f"r{number}", Told(study, self._said()))]
            self.chance.shuffle(steps)
            for step in steps:
                step()
        else:
            name = self.chance.choice(alive)
            told = self.reports[name]
            study, status = told.study, "entered-in-error" if what > 0.9 else "amended"
            self._report(name, Told(study, self._said(), status, told.versions + 1))
        for path in ("events", "events", "studies"):
            with suppress(httpx.HTTPError):
                told_uid = {"study_instance_uid": study.study_instance_uid}
                self.http.post(f"{self.service}/{path}", json=told_uid, timeout=5)

    def _said(self) -> tuple[str, ...]:
        return tuple(self.chance.sample(SENTENCES, self.chance.randint(1, 3)))

    def _image(self, study: StudyRef) -> None:
        self._send("POST", f"{self.orthanc}/instances", content=image(study.study_instance_uid, 1), auth=self.user)

    def _report(self, name: str, told: Told) -> None:
        self.reports[name] = told
        text = f"Version {next(self._issued)}. " + "".join(f"{each}. " for each in told.said)
        report = {
            "resourceType": "DiagnosticReport",
            "id": name,
            "status": told.status,
            "code": {"text": "Chest X-ray"},
            "subject": {"reference": "Patient/pat"},
            "imagingStudy": [
                {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{told.study.study_instance_uid}"}}
            ],
            "presentedForm": [{"contentType": "text/plain", "data": base64.b64encode(text.encode()).decode()}],
        }
        self._send("PUT", f"{self.fhir}/fhir/DiagnosticReport/{name}", json=report)

    def _send(self, method: str, url: str, **content: Any) -> None:
        """Until it was taken."""
        deadline = time.monotonic() + TAKEN_S
        while True:
            with suppress(httpx.HTTPError):
                if self.http.request(method, url, **content).is_success:
                    return
            assert time.monotonic() < deadline, url
            time.sleep(0.1)

    def _answers(self, url: str) -> None:
        self._send("GET", url, auth=self.user if url.startswith(self.orthanc) else None)

    # What has to be

    def settle(self, *, timeout_s: float) -> None:
        """Wait until nothing is wrong.

        Raises
        ------
        AssertionError
            If that does not come to be; it says what is wrong.
        """
        deadline = time.monotonic() + timeout_s
        while wrongs := self._looked():
            assert time.monotonic() < deadline, wrongs
            time.sleep(0.5)

    def _looked(self) -> list[str]:
        try:
            return [*self.jobs_wrong(), *self.wrongs()]
        except (httpx.HTTPError, TransientError) as error:
            return [f"a server does not answer yet: {error}"]

    def jobs_wrong(self) -> list[str]:
        """Jobs that have not ended well, and versions with more than one.

        One that met its report taken back, before the poll did, is cancelled with that reason, and rightly so.
        """
        queue = DurableQueue(Database(self.url))
        try:
            jobs = queue.list(100_000)
        finally:
            queue.close()
        back = {name for name, told in self.reports.items() if told.status == "entered-in-error"}
        ended = [
            job for job in jobs if job.state is JobState.DONE or (job.state is JobState.CANCELLED and let_go(job, back))
        ]
        pairs = Counter((job.study, job.report) for job in jobs if job.report and not job.report.withdrawn)
        return [
            *(f"job {job.job_id} is {job.state}: {job.error}" for job in jobs if job not in ended),
            *(f"{number} jobs for {pair}" for pair, number in pairs.items() if number > 1),
        ]

    def wrongs(self) -> list[str]:
        """What is missing, twice, or without its owner, in Orthanc and at the FHIR server."""
        archive = web_archive(
            Endpoint(
                f"{self.orthanc}/dicom-web",
                {"Authorization": "Basic " + base64.b64encode(":".join(self.user).encode()).decode()},
            )
        )
        resources = {f"{each['resourceType']}/{each['id']}": each for kind in OURS for each in self._all(kind)}
        known = {"Patient/pat", *(f"DiagnosticReport/{name}" for name in self.reports), *resources}
        wrongs, stands, documents = [], set(), set()
        for name, told in self.reports.items():
            stored = archive.results(told.study)
            wrongs += [f"{name}: {each}" for each in self._wrong_in_archive(name, told, stored)]
            alive = told.status != "entered-in-error"
            uids = [uid for each in standing(stored) for uid in each.phrases]
            names = {f"Observation/{observation_id(uid)}": said for uid, said in zip(uids, told.said, strict=False)}
            stands |= {each for each, said in names.items() if not said.startswith("Prior")}
            document = f"DocumentReference/{document_id(told.study.study_instance_uid, name)}"
            documents.add(document)
            if alive and resources.get(document, {}).get("status") != "current":
                wrongs.append(f"{name}: no current DocumentReference")
            if not alive and resources.get(document, {}).get("status", "entered-in-error") != "entered-in-error":
                wrongs.append(f"{name}: its DocumentReference was not taken back")
        there = {
            name
            for name, each in resources.items()
            if name.startswith("Observation/") and each["status"] != "entered-in-error"
        }
        wrongs += [f"{name} is missing" for name in stands - there]
        wrongs += [f"{name} stands for nothing" for name in there - stands]
        wrongs += [f"{name} is of nothing" for name in resources if name.startswith("Doc") and name not in documents]
        for name, each in resources.items():
            gone = {one.partition("/_history/")[0] for one in references(each) if one.count("/") in (1, 3)} - known
            wrongs += [f"{name} refers to {one}, which is not there" for one in gone]
        return wrongs

    def _wrong_in_archive(self, name: str, told: Told, stored: tuple[StoredResult, ...]) -> Iterator[str]:
        strangers = [each for each in stored if not each.rejects and each.report != report_code(name)]
        if strangers:
            yield f"{len(strangers)} results of no report"
        stands = standing(stored)
        ever, now = (Counter(each.image.sop_class_uid for each in some) for some in (stored, stands))
        alive = told.status != "entered-in-error"
        lit = any(read(f"{each}.").phrases[0].groundable for each in told.said)
        if now[SR] != alive or now[SEG] != (alive and lit):
            yield f"{dict(now)} stand for {told}"
        if ever[SR] > told.versions or ever[SEG] > ever[SR]:
            yield f"{dict(ever)} were written for {told.versions} versions"
        if alive and [len(each.phrases) for each in stands if each.image.sop_class_uid == SR] != [len(told.said)]:
            yield "its structured report tells of other phrases"

    def _all(self, kind: str) -> list[Json]:
        answer = self.http.get(f"{self.fhir}/fhir/{kind}", params={"_count": "100000"}).raise_for_status().json()
        return [row["resource"] for row in answer.get("entry", [])]


def let_go(job: Job, back: set[str]) -> bool:
    """Whether *job* was let go of since its report is one of *back*."""
    return job.report is not None and job.report.report_id in back and "withdrawn" in (job.error or "")
