"""Canaries: names, numbers and sentences that exist nowhere else go in, errors come at every step, and none comes out.

They may be found where docs/security.md says that patient data is kept, and nowhere else: in no log, metric, answer of
an error, temporary file or table of jobs.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hospital import Hospital, Person, Refusal, Service, run_hospital, run_service, wait_for
from servers import ROOT

# By dicomweb-client's file client, behind the archive.
pytestmark = pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")

PERSON = Person("Quokkason^Zebedina", "MRN-QX77141", "ACCQX5501", "Okapiton^Doc")
SENTENCE = "Zyzzyva-shaped left pleural effusion. Left-sided pacemaker in place."
CANARIES = ("quokka", "zebedin", "mrn-qx", "accqx", "okapit", "zyzzyva")
#: A name that would begin a line of a log, colour a terminal and run in a page.
HOSTILE = f"\r\n{PERSON.number}: FATAL \x1b[31m<script>{PERSON.name}</script>"

ROOT_UID = "1.2.826.0.1.3680043.8.498.8"
WELL, PIXELS, READER, WRITER, STORE, METADATA, FHIR, DISK = (f"{ROOT_UID}.{number}" for number in range(8))

#: Defects inside, whose messages quote what they were given.
DEFECTS = """
import nlp.reader
import plugin.flow
real_reader, real_writer = nlp.reader.read_report, plugin.flow.structured_report
def reader(text, *more, **named):
    if "READER" in text:
        raise RuntimeError(text)
    return real_reader(text, *more, **named)
def writer(evidence, *more, **named):
    if "WRITER" in evidence.report.text:
        raise KeyError(evidence.report.text)
    return real_writer(evidence, *more, **named)
nlp.reader.read_report, plugin.flow.structured_report = reader, writer
"""


def quoting(status: int) -> Refusal:
    """A refusal that quotes the patient, as servers do."""
    said = f"{PERSON.name} {PERSON.number} {PERSON.accession} {SENTENCE}{HOSTILE}"
    issue = {
        "severity": "error",
        "code": "invalid",
        "diagnostics": said,
        "expression": [said],
        "details": {"text": said},
    }
    return status, json.dumps({"resourceType": "OperationOutcome", "issue": [issue]}).encode()


def admit_all(hospital: Hospital) -> None:
    for uid in (WELL, PIXELS, READER, WRITER, STORE, METADATA, FHIR, DISK):
        mark = {READER: "READER", WRITER: "WRITER"}.get(uid, "")
        hospital.admit(uid, PERSON, text=f"FINDINGS: {SENTENCE} {mark}{HOSTILE}", pixels=uid != PIXELS)
    hospital.archive.refusals = {
        f"POST .*/{STORE}$": quoting(409),
        f"GET .*/{METADATA}/metadata$": (200, f'[{{"00100010": "{PERSON.name}"'.encode()),
    }
    hospital.fhir.refuse = lambda method, _, body: quoting(422) if method == "POST" and FHIR.encode() in body else None
    disk = hospital.folder / "data" / "results" / DISK
    disk.parent.mkdir(parents=True)
    disk.write_text("a file where a folder has to be")


def canaries_in(content: bytes | str) -> set[str]:
    text = content if isinstance(content, str) else content.decode("utf-8", "replace")
    return {canary for canary in CANARIES if canary in text.lower()}


def hostile_requests(service: Service) -> dict[str, str]:
    """Every answer to requests that cannot be met, by what was asked."""
    name, sentence = PERSON.name, SENTENCE
    encoded = base64.b64encode(name.encode()).decode()
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/predict", {"json": {"text": f"READER {sentence}", "image": encoded}}),
        ("POST", "/predict", {"json": {"text": sentence, "image": name}}),
        ("POST", "/predict", {"json": {name: sentence}}),
        ("POST", "/predict", {"content": sentence.encode("utf-16")}),
        ("POST", "/studies", {"json": {"study_instance_uid": name}}),
        ("POST", "/studies", {"json": {"study_instance_uid": PIXELS, PERSON.number: sentence}}),
        ("POST", "/events", {"json": {"study_instance_uid": PERSON.number}}),
        ("GET", f"/studies/{PERSON.number}/page", {}),
        ("GET", f"/studies/{WELL}/reports/{PERSON.number}/page", {}),
        ("GET", f"/jobs/{PERSON.accession}", {}),
        ("GET", f"/{PERSON.number}/{PERSON.accession}", {}),
        ("POST", f"/review/{PERSON.number}", {"json": {"studies": [name], "reviewer": name, "reason": sentence}}),
        ("GET", "/fhir/DiagnosticReport", {"params": {"patient": PERSON.number, name: name}}),
        ("GET", f"/fhir/DiagnosticReport/{PERSON.number}", {}),
        ("GET", "/fhir/Patient", {"params": {"name": name}}),
        ("GET", "/jobs", {"params": {"state": name}}),
        ("GET", "/health/ready", {"headers": {"Host": PERSON.number}}),
    ]
    answers = {}
    for number, (method, path, sent) in enumerate(asked):
        answer = service.http.request(method, path, **sent)
        if answer.status_code >= 400:
            answers[f"{number} {method} {path} {answer.status_code}"] = answer.text + str(answer.headers)
    assert len(answers) > 12
    return answers


def test_no_canary_leaves_the_places_where_patient_data_is_kept(tmp_path: Path) -> None:
    with run_hospital(tmp_path) as hospital:
        admit_all(hospital)
        with run_service(hospital, program=DEFECTS, max_attempts="1") as service:
            uids = (WELL, PIXELS, READER, WRITER, STORE, FHIR, DISK)
            wait_for(lambda: all(uid in service.jobs() for uid in uids))
            wait_for(lambda: all(service.jobs()[uid]["state"] in ("done", "failed") for uid in uids))
            states = {uid: job["state"] for uid, job in service.jobs().items()}
            answers = hostile_requests(service)
            open_to_all = {path: service.http.get(path).text for path in ("/metrics", "/jobs", "/health/ready")}
            page = service.http.get(f"/studies/{WELL}/page").text

        assert service.connected() == hospital.peers
        assert canaries_in(page)  # the bird is alive
        assert states == {uid: "done" if uid == WELL else "failed" for uid in uids}
        assert {asked: found for asked, said in answers.items() if (found := canaries_in(said))} == {}
        assert {path: found for path, said in open_to_all.items() if (found := canaries_in(said))} == {}
        log = (tmp_path / "output").read_bytes()
        assert canaries_in(log) == set()
        assert b"\x1b[31m" not in log
        assert {str(file) for file in (tmp_path / "tmp").rglob("*") if file.is_file()} == set()
        assert places_with_canaries(tmp_path / "data") <= places_told()


def places_with_canaries(data: Path) -> set[str]:
    """Where in the folder of data a canary is: the first part of a path, or a table."""
    found = set()
    for file in data.rglob("*"):
        if not file.is_file() or file.name.endswith(("-shm", "-wal")):
            continue
        if file.suffix == ".sqlite":
            found |= {f"{file.name} {table}" for table in tables_with_canaries(file)}
        elif canaries_in(file.read_bytes()):
            found.add(f"{file.relative_to(data).parts[0]}/")
    return found


def tables_with_canaries(file: Path) -> set[str]:
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        rows = {name: database.execute(f'select * from "{name}"').fetchall() for name in tables}
    database.close()
    return {name for name, content in rows.items() if canaries_in(_decoded(content))}


def _decoded(rows: list[Any]) -> str:
    """All values as text; what is base64 (DBOS pickles arguments so) is looked into, too."""
    text = str(rows)
    inside = (base64.b64decode(part + "==", validate=False) for part in re.findall(r"[A-Za-z0-9+/]{24,}", text))
    return text + "".join(part.decode("latin-1") for part in inside)


def places_told() -> set[str]:
    """The first column of the table in docs/security.md that says where patient data is kept."""
    text = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    section = text.partition("<!-- kept -->")[2].partition("\n\n#")[0]
    return set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
