"""``sightline erase``: remove every trace of ours of a patient or a study, and say what stays elsewhere."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from plugin.access.sessions import Sessions
from plugin.audit.record import AuditRecord, Kind
from plugin.audit.trail import Trail
from plugin.durable.erasing import erase_rows, rows_of, scrub
from plugin.erasing import NOTES, Notebook, Plan, Target, files_of, remove, reports_kept_of, studies_kept_of, words_of
from plugin.errors import SightlineError
from plugin.fhir.life import names_of
from plugin.flow import Edges, withdraw
from plugin.intake import accession_key, patient_key
from plugin.settings import Settings, load_settings
from plugin.values import PatientRef, StudyRef
from plugin.wiring import audit_folder, make_book, make_edges, make_tools, open_databases, sessions_file

STAYS = """Sightline does not remove: the images and reports themselves, which belong to archive and FHIR server; the
audit trail, which the law wants kept and which names studies and people by identifiers alone; backups of this
machine, and blocks of its disk that no file holds any more. While image and report stay where they are, a running
service takes them up again at its next look at everything: remove them there first, or end the service."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where traces are.

    Parameters
    ----------
    folders : of files of FHIR that Sightline wrote or received.
    """

    settings: Settings
    edges: Edges
    folders: tuple[Path, ...]


def run(target: Target, *, archive: bool, dry_run: bool, yes: bool) -> int:
    """Erase *target*; 0 when it is gone, 1 when the person thought better of it.

    Raises
    ------
    TransientError
        If something is in use or away; the same command again goes on where this one ended.
    """
    console = Console(soft_wrap=True, highlight=False)
    settings = load_settings()
    places = places_of(settings)
    notes = Notebook(settings.data_dir / NOTES)
    begun = notes.begun(target)
    plan = begun or plan_of(target, places)
    if begun is not None:
        console.print("An earlier run did not end; this one goes on with it.")
    _tell(console, plan, places)
    if dry_run:
        return 0
    if not yes and not _confirmed(console):
        console.print("Nothing was changed.")
        return 1
    notes.begin(plan)
    if archive:
        take_back(plan, places)
    erase(plan, places)
    Trail(audit_folder(settings)).append([_record(plan)])
    notes.end(plan)
    console.print("Erased here.", *stays(plan, places, taken_back=archive), STAYS, sep="\n")
    return 0


def _record(plan: Plan) -> AuditRecord:
    """That it was done: by whom and of which studies; the patient is not named."""
    who = f"{getpass.getuser()} on this machine"
    return AuditRecord(datetime.now(UTC), Kind.ERASE, "sightline erase", who=who, studies=plan.studies)


def places_of(settings: Settings) -> Places:
    """The places of *settings*: a FHIR folder of ours, and messages that were received over HL7 v2."""
    return Places(settings, make_edges(settings), (settings.data_dir / "fhir", settings.reports_dir / "hl7"))


def plan_of(target: Target, places: Places) -> Plan:
    """Everything that is known of *target*: from results here, the book of reports, and the archive if it answers."""
    results, patient = places.edges.results, target.patient
    told = _told_by_archive(target, places)
    studies = {uid for uid, _ in told}
    studies |= set(studies_kept_of(results, patient)) if patient else {target.study}
    numbers = [number for _, number in told if number]
    keys = [*studies, *map(accession_key, numbers), *([patient_key(PatientRef(patient))] if patient else [])]
    reports = {*make_book(places.settings).about(keys), *reports_kept_of(results, sorted(studies))}
    plan = Plan(target, tuple(sorted(studies)), tuple(sorted(reports)))
    return replace(plan, words=tuple(sorted(set(words_of(results, plan.studies)))))


def _told_by_archive(target: Target, places: Places) -> list[tuple[str, str]]:
    """(study UID, accession number) of the studies that the archive has of *target*; none when it does not answer."""
    study = StudyRef(target.study) if target.study else None
    try:
        found = places.edges.archive.search(study=study, patient_id=target.patient)
    except SightlineError:
        return []
    return [(each.study.study_instance_uid, each.accession.number if each.accession else "") for each in found]


def take_back(plan: Plan, places: Places) -> None:
    """Withdraw our results from archive and FHIR server, as for a report that was withdrawn."""
    tools = make_tools(places.settings)
    for study in plan.studies:
        for report in plan.reports:
            withdraw(StudyRef(study), report, edges=places.edges, tools=tools)


def erase(plan: Plan, places: Places) -> None:
    """Remove rows, then files, then what databases keep of deleted rows; each may be done again."""
    for database in open_databases(places.settings):
        erase_rows(database, plan.values)
    remove(files_of(plan, results=places.edges.results, folders=places.folders))
    if (sessions := sessions_file(places.settings)).exists():
        Sessions(sessions).end_all()  # they name patients by ids of the FHIR server; everybody logs in again
    for database in open_databases(places.settings):
        database.close()
        if not database.on_postgresql:
            scrub(database.file)


def stays(plan: Plan, places: Places, *, taken_back: bool) -> Iterator[str]:
    """What archive and FHIR server still hold of ours, by type and UID or id."""
    if places.settings.database_url is not None:
        yield "PostgreSQL overwrites deleted rows with its own VACUUM; its log and backups are the site's."
    for study in map(StudyRef, plan.studies):
        try:
            found = places.edges.archive.results(study)
            yield from (f"in the archive: {each.image.sop_class_uid} {each.image.sop_instance_uid}" for each in found)
        except SightlineError as error:
            yield f"The archive could not be asked about a study: {error}"
    if places.settings.fhir_url is not None:
        yield from _at_fhir_server(plan, places)
    if not taken_back:
        yield "--archive takes these back, by rejection notes and entered-in-error."


def _at_fhir_server(plan: Plan, places: Places) -> Iterator[str]:
    observations = {word for word in plan.words if word.startswith("Observation/")}
    documents = {
        name for study in plan.studies for report in plan.reports for name in names_of(StudyRef(study), report, ())
    }
    try:
        there = places.edges.reports.written(tuple(sorted(observations | documents)))
        yield from (f"at the FHIR server: {each['resourceType']}/{each['id']}, {each.get('status')}" for each in there)
    except SightlineError as error:
        yield f"The FHIR server could not be asked: {error}"


def _tell(console: Console, plan: Plan, places: Places) -> None:
    files = files_of(plan, results=places.edges.results, folders=places.folders)
    console.print(f"{len(plan.studies)} studies, {len(plan.reports)} reports, {len(files)} folders and files here:")
    console.print(*(f"  {path}" for path in files), sep="\n")
    for database in open_databases(places.settings):
        for table, number in rows_of(database, plan.values).items():
            console.print(f"  {number} rows of {table}")


def _confirmed(console: Console) -> bool:
    return console.input("This cannot be undone. Erase? Type yes: ").strip() == "yes"
