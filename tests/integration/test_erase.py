"""``sightline erase``: afterwards nothing in the data folder or its databases tells of the patient; others stay."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from dbos._schemas.system_database import SystemSchema
from evidence import CARD, decision, kept_of, make_evidence, make_header, make_radiograph, part10
from servers import ROOT

import plugin.commands.erase as command
from plugin.access.caller import Caller, Proof, Role
from plugin.access.sessions import Sessions
from plugin.audit.trail import Trail
from plugin.cli import main
from plugin.durable import Database, DatabaseDecisionBook, DatabaseReportBook, DurableQueue
from plugin.durable.erasing import NAMING, erase_rows, rows_of
from plugin.erasing import NOTES
from plugin.errors import TransientError
from plugin.flow import Tools, outputs_of
from plugin.hl7v2.inbox import Inbox
from plugin.hl7v2.reports import ReceivedReport
from plugin.identity import derived_id, derived_uid
from plugin.intake import patient_key
from plugin.ports import Entry, KeptDecision, Look, Outcome, Sighting
from plugin.settings import Settings
from plugin.values import Evidence, PatientRef, ReportRef, Ruling, StudyRef
from plugin.watch import WatchBook
from plugin.wiring import make_book, make_edges, make_queue, open_databases, sessions_file

# By dicomweb-client's file client.
pytestmark = pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")

GONE, STAYS = "CANARY-PATIENT-7", "1"  # a value that versions and numbers have, too
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _uid(patient: str, what: str) -> str:
    return derived_uid("test erase", patient, what)


def _report_id(patient: str) -> str:
    return f"report-of-{patient}"


def _source(patient: str) -> Any:
    header = make_header(patient_id=patient, patient_name=f"NAME-OF-{patient}")
    header.StudyInstanceUID, header.SOPInstanceUID = _uid(patient, "study"), _uid(patient, "image")
    header.SeriesInstanceUID, header.AccessionNumber = _uid(patient, "series"), f"ORDER{patient}"[:16]
    return header


def _evidence(patient: str) -> Evidence:
    radiograph, study = make_radiograph(_source(patient)), StudyRef(_uid(patient, "study"))
    image = replace(radiograph.ref, study=study)
    radiograph = replace(radiograph, description=replace(radiograph.description, image=image))
    made = make_evidence(radiograph)
    phrases = tuple(
        replace(
            phrase,
            tracking_uid=_uid(patient, f"phrase {number}"),
            placements=tuple(replace(each, image=image) for each in phrase.placements),
        )
        for number, phrase in enumerate(made.phrases)
    )
    report = replace(
        made.report,
        ref=ReportRef(_report_id(patient), "1"),
        patient=PatientRef(patient),
        study_instance_uids=(study.study_instance_uid,),
    )
    return replace(made, phrases=phrases, report=report)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A site with results, jobs, books, sightings and messages of two patients."""
    settings = Settings(data_dir=tmp_path / "data", archive_dir=tmp_path / "dicom", reports_dir=tmp_path / "reports")
    for name in ("data_dir", "archive_dir", "reports_dir"):
        monkeypatch.setenv(f"SIGHTLINE_{name.upper()}", str(getattr(settings, name)))
    edges, book, queue = make_edges(settings), make_book(settings), make_queue(settings)
    for patient in (GONE, STAYS):
        evidence = _evidence(patient)
        study, report = evidence.study, evidence.report.ref
        outputs = outputs_of(evidence)
        edges.results.write(study, kept_of(evidence), outputs.kept)
        with edges.results.alone(study):
            edges.reports.write(outputs.bundle)
        assert edges.decisions is not None
        edges.decisions.keep(KeptDecision(study, report.report_id, decision(evidence.phrases[1], Ruling.ACCEPTED)))
        queue.put(f"job-of-{patient}", study, report)
        keys = (study.study_instance_uid, patient_key(PatientRef(patient)))
        entry = Entry(report.report_id, "1", Outcome.QUEUED, "", NOW, NOW, joined=(study,), keys=keys)
        book.settle(entry, after=None)
        WatchBook(settings.data_dir / "watch.sqlite", "a feed").record(
            Look((Sighting(study, "a mark"),), "cursor"), due=NOW
        )
        subject = {"resourceType": "Patient", "id": "p", "identifier": [{"value": patient}]}
        received = {"resourceType": "DiagnosticReport", "id": derived_id("hl7", patient), "status": "final"}
        message = ReceivedReport(derived_id("hl7", patient), NOW, (subject, received), f"hash of {patient}", "control")
        Inbox(settings.reports_dir / "hl7").keep(message, now=NOW)
    reader = Caller("issuer|1", frozenset({Role.RADIOLOGIST}), Proof.SESSION, study=_uid(GONE, "study"))
    themselves = Caller("issuer|2", frozenset({Role.PATIENT}), Proof.SESSION, patient=f"Patient/{GONE}")
    sessions = Sessions(sessions_file(settings))
    sessions.open(reader)
    sessions.open(themselves)
    sessions.begin_login({"to": f"/studies/{_uid(GONE, 'study')}/page"})
    _leave_half_written(settings)
    with contextlib.closing(sqlite3.connect(settings.data_dir / "reports.sqlite.taken-over")) as old, old:
        old.execute("CREATE TABLE keys (key TEXT, report_id TEXT)")
        old.execute("INSERT INTO keys VALUES ('a key', ?)", (_report_id(GONE),))
    queue.close()
    return settings


def _leave_half_written(settings: Settings) -> None:
    """What writers leave that are killed: a message, a resource, a version of results, the plan of an erasure."""
    half = f'{{"value": "{GONE}", "text": "{_uid(GONE, "study")}'
    results, fhir, hl7 = settings.data_dir / "results", settings.data_dir / "fhir", settings.reports_dir / "hl7"
    part = hl7 / "07" / ".tmp7.part"
    written = [part, results / f".{_uid(GONE, 'study')}.tmp7" / "evidence.json"]
    written += [results / _uid(GONE, "study") / _report_id(GONE) / ".1.tmp7" / "sr.dcm"]
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(half, encoding="utf-8")
    os.utime(part, (0, 0))
    whole = fhir / ".fhir.tmp7" / "bundle.json"
    whole.parent.mkdir(parents=True, exist_ok=True)
    known = {"resourceType": "ImagingStudy", "identifier": [{"value": f"urn:oid:{_uid(GONE, 'study')}"}]}
    whole.write_text(json.dumps(known), encoding="utf-8")


def _found(settings: Settings, patient: str) -> set[str]:
    """The files, by name or content, that tell of *patient*."""
    words = (f"NAME-OF-{patient}", _report_id(patient), f"job-of-{patient}", _uid(patient, "study"))
    words = (
        *words,
        _uid(patient, "image"),
        _uid(patient, "phrase 1"),
        f'"value": "{patient}"',
        derived_id("hl7", patient),
        *((GONE, f"ORDER{GONE}"[:16]) if patient == GONE else ()),
    )
    return {
        str(path.relative_to(settings.data_dir.parent))
        for root in (settings.data_dir, settings.reports_dir)
        for path in root.rglob("*")
        if "audit" not in path.parts  # it stays, and says that it does
        if any(word in str(path) or (path.is_file() and word.encode() in path.read_bytes()) for word in words)
    }


def test_nothing_of_a_patient_is_left_in_any_byte_of_the_data_folder(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    before, others = _found(settings, GONE), _found(settings, STAYS)
    kept = {path: path.read_bytes() for path in settings.data_dir.parent.rglob("*.json") if GONE not in str(path)}

    assert main(["erase", "--patient", GONE, "--yes"]) == 0

    assert len(before) > 10
    assert {"data/jobs.sqlite", "data/sessions.sqlite", "data/watch.sqlite"} < {
        name.removesuffix("-wal") for name in before
    }
    assert _found(settings, GONE) == set()
    others -= {name for name in others if name.endswith(("-wal", "-shm"))}
    assert {name for name in others if name not in _found(settings, STAYS)} == set()
    assert make_queue(settings).get(f"job-of-{STAYS}") is not None
    assert all(path.read_bytes() == content for path, content in kept.items() if path.exists())
    (line,) = (line for _, line in Trail(settings.data_dir / "audit").lines())
    assert _uid(GONE, "study") in line
    assert GONE not in line
    said = capsys.readouterr().out
    assert "audit trail" in said
    assert "belong to archive and FHIR server" in said


def test_every_place_of_the_data_folder_is_told_with_what_erasing_does_there() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "plugin").rglob("*.py")))
    places = set(re.findall(r'data_dir / "([^"]+)"', code)) | {NOTES, "backfill-"}
    told = (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8").partition("## Erasing")[2].partition("\n## ")[0]

    assert len(places) > 8
    assert {place for place in places if f"`{place}" not in told} == set()


def test_a_message_that_is_being_written_is_left_alone(settings: Settings) -> None:
    part = settings.reports_dir / "hl7" / "08" / ".tmp8.part"
    part.parent.mkdir(exist_ok=True)
    part.write_text("{", encoding="utf-8")

    assert main(["erase", "--patient", GONE, "--yes"]) == 0

    assert part.exists()


def test_the_plan_of_a_run_that_was_killed_while_it_wrote_it_goes(settings: Settings) -> None:
    half = settings.data_dir / NOTES / f".{NOTES}.tmp7" / "plan.json"
    half.parent.mkdir(parents=True)
    half.write_text(json.dumps({"studies": [_uid(GONE, "study")]}), encoding="utf-8")

    assert main(["erase", "--patient", GONE, "--yes"]) == 0

    assert _found(settings, GONE) == set()
    assert not (settings.data_dir / NOTES).exists()


def test_a_study_is_erased_by_its_uid(settings: Settings) -> None:
    assert main(["erase", "--study", _uid(GONE, "study"), "--yes"]) == 0

    left = _found(settings, GONE)
    assert {name.split("/")[1] for name in left} <= {"hl7"}  # a message that names the patient, and no study


def test_a_dry_run_counts_and_changes_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    before = _found(settings, GONE)

    assert main(["erase", "--patient", GONE, "--dry-run"]) == 0

    assert _found(settings, GONE) == before
    assert "1 studies, 1 reports" in capsys.readouterr().out


def test_without_the_word_yes_nothing_is_erased(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _found(settings, GONE)
    monkeypatch.setattr("builtins.input", lambda *_: "y")

    assert main(["erase", "--patient", GONE]) == 1

    assert _found(settings, GONE) == before


@pytest.mark.parametrize("step", ["erase_rows", "remove", "scrub"])
def test_an_erasure_that_was_cut_off_goes_on_where_it_ended(
    step: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real: Callable[..., object] = getattr(command, step)

    def cut_off(*arguments: Any) -> None:
        real(*arguments)  # it was done, and nobody was told
        raise TransientError("cut off")

    with monkeypatch.context() as patched:
        patched.setattr(command, step, cut_off)
        assert main(["erase", "--patient", GONE, "--yes"]) == 75

    assert main(["erase", "--patient", GONE, "--yes"]) == 0
    assert "An earlier run did not end" in capsys.readouterr().out
    assert _found(settings, GONE) == set()
    assert not (settings.data_dir / "erasures").exists()


def test_what_stays_in_the_archive_is_listed_and_taken_back_when_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence, archive = _evidence(GONE), make_edges(settings).archive
    header = _source(GONE)
    header.PixelData = bytes(2 * header.Rows * header.Columns)
    (settings.archive_dir / "source.dcm").write_bytes(part10(header))
    archive.store(evidence.study, tuple(each.content for each in outputs_of(evidence).instances))
    monkeypatch.setattr(command, "make_tools", lambda _: _tools())

    assert main(["erase", "--patient", GONE, "--yes", "--archive"]) == 0

    results = make_edges(settings).archive.results(evidence.study)
    written, notes = [r for r in results if not r.rejects], [r for r in results if r.rejects]
    assert {uid for note in notes for uid in note.rejects} == {each.image.sop_instance_uid for each in written}
    said = capsys.readouterr().out
    assert all(each.image.sop_instance_uid in said for each in results)
    assert _found(settings, GONE) == set()


def _tools() -> Tools:
    class Grounder:
        card = CARD

    return Tools(
        read_report=None,  # type: ignore[arg-type] - not asked
        reader_version="1",
        grounder=Grounder(),  # type: ignore[arg-type]
        max_frontals=1,
        settings_sha256="",
        clock=lambda: NOW,
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_rows_and_jobs_are_erased_from_either_database(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    on_server = kind == "postgresql"
    database = Database(
        request.getfixturevalue("postgresql").database() if on_server else f"sqlite:///{tmp_path}/jobs.sqlite"
    )
    book, decisions, queue = DatabaseReportBook(database), DatabaseDecisionBook(database), DurableQueue(database)
    for patient in (GONE, STAYS):
        evidence = _evidence(patient)
        study, report = evidence.study, evidence.report.ref
        queue.put(f"job-of-{patient}", study, report)
        book.settle(Entry(report.report_id, "1", Outcome.QUEUED, "", NOW, NOW, keys=("a key",)), after=None)
        decisions.keep(KeptDecision(study, report.report_id, decision(evidence.phrases[1], Ruling.ACCEPTED)))
    values = frozenset({_uid(GONE, "study"), _report_id(GONE)})
    assert rows_of(database, values) == {"jobs": 1, "reports": 1, "report_keys": 1, "region_decisions": 1}

    for _ in range(2):
        erase_rows(database, values)

    assert rows_of(database, values) == {}
    assert queue.get(f"job-of-{GONE}") is None
    assert queue.get(f"job-of-{STAYS}") is not None
    assert book.about(["a key"]) == (_report_id(STAYS),)
    assert len(decisions.every()) == 1
    queue.close()


def test_files_beside_a_database_are_not_taken_for_one(settings: Settings) -> None:
    before = open_databases(settings)

    for beside in ("-journal", "-wal", "-shm"):
        (settings.data_dir / f"other.sqlite{beside}").write_bytes(b"half a page")

    assert len(open_databases(settings)) == len(before)


def test_every_table_that_tells_of_patients_has_a_column_that_erasing_goes_by(settings: Settings) -> None:
    told = {"report_feeds", "sightline_tables", "cursors", "sqlite_sequence"}  # nothing of a patient
    told |= {"kept"}  # sessions, which all end
    told |= {table.name for table in SystemSchema.metadata_obj.tables.values()} | {"dbos_migrations"}  # by job
    for database in open_databases(settings):
        for table in set(sa.inspect(database.engine).get_table_names()) - told:
            columns = {each["name"] for each in sa.inspect(database.engine).get_columns(table)}
            assert columns & set(NAMING), f"{table} ({database.file.name}) would not be erased"
