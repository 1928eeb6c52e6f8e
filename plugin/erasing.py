"""What of a patient or a study lies on this machine, and its removal: files here, rows in :mod:`plugin.durable`.

An erasure is written down before anything goes, since whoever begins again after a kill could no longer find what is
half gone; the note goes last. Doing it twice changes nothing.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from plugin.dicom.stored import patient_of
from plugin.errors import InputError, TransientError
from plugin.fhir.life import names_of
from plugin.identity import derived_id
from plugin.page.document import EvidenceDocument, read_evidence
from plugin.results import ResultFile, ResultFolder, write_results
from plugin.values import StudyRef

NOTES = "erasures"
_LEFT_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Whose traces go: everything of a patient (id), or of one study (UID); the other is ""."""

    patient: str = ""
    study: str = ""

    def __post_init__(self) -> None:
        if bool(self.patient) == bool(self.study):
            raise ValueError("an erasure is of a patient or of a study")
        if self.study:
            StudyRef(self.study)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure is about.

    Parameters
    ----------
    studies : UIDs.
    reports : ids of the reports about them, or about the patient.
    words : what else is of them alone: UIDs of images, results and phrases, ids of resources.
    """

    target: Target
    studies: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def values(self) -> frozenset[str]:
        """Whatever makes a row one of theirs, in a column that names studies, reports, images or phrases."""
        return frozenset({*self.studies, *self.reports, *self.words})

    def holds(self, value: Any) -> bool:
        """Whether JSON names one of them; a number or a version that happens to look like an id does not."""
        uids = {*self.studies, *self.words, *(f"urn:oid:{uid}" for uid in self.studies)}
        return any(
            uids.intersection(each for each in part.values() if isinstance(each, str))
            or (part.get("resourceType") == "DiagnosticReport" and part.get("id") in self.reports)
            or _report_of(part.get("reference")) in self.reports
            or (self.target.patient and self.target.patient in _patients(part))
            for part in _parts(value)
        )


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in JSON."""
    if isinstance(value, dict):
        yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _parts(each)


def _report_of(reference: object) -> str | None:
    """The id of a DiagnosticReport that a reference names."""
    kind, _, rest = reference.partition("/") if isinstance(reference, str) else ("", "", "")
    return rest.partition("/")[0] if kind == "DiagnosticReport" else None


def _patients(part: dict[str, Any]) -> Iterator[object]:
    """Values of identifiers of patients, in a Patient or in a reference to one."""
    if part.get("resourceType") == "Patient":
        yield from (each.get("value") for each in part.get("identifier", ()) if isinstance(each, dict))
    for name in ("subject", "patient", "what"):
        reference = part.get(name)
        if isinstance(reference, dict) and isinstance(reference.get("identifier"), dict):
            yield reference["identifier"].get("value")


@dataclass(frozen=True, slots=True)
class Notebook:
    """Erasures that are not over."""

    folder: Path

    def begun(self, target: Target) -> Plan | None:
        """That of *target*, when an earlier run did not end."""
        try:
            told = json.loads(self._path(target).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        parts = {name: tuple(told[name]) for name in ("studies", "reports", "words")}
        return Plan(Target(**told["target"]), **parts)

    def begin(self, plan: Plan) -> None:
        """Write *plan* down, on the disk before this returns."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(plan.target)
        write_results(self.folder, (ResultFile(path.name, json.dumps(asdict(plan)).encode()),))

    def end(self, plan: Plan) -> None:
        """It is over: nothing is left of it, not even that it was."""
        self._path(plan.target).unlink(missing_ok=True)
        for half in self.folder.glob(f".{self.folder.name}.*"):  # of a run that was killed while it wrote
            shutil.rmtree(half)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _path(self, target: Target) -> Path:
        return self.folder / f"{derived_id('erasure', target.patient, target.study)}.json"


def studies_kept_of(results: ResultFolder, patient: str) -> Iterator[str]:
    """The studies with results here whose objects or resources name *patient*."""
    for folder in sorted(each for each in results.path.glob("*") if each.is_dir() and not each.name.startswith(".")):
        if any(_names(file, patient) for file in folder.rglob("*") if file.is_file()):
            yield folder.name


def _names(file: Path, patient: str) -> bool:
    if file.suffix == ".dcm":
        return patient_of(file.read_bytes()) == patient
    return file.suffix == ".json" and any(patient in _patients(part) for part in _parts(_json(file)))


def _json(file: Path) -> Any:
    """The content of a JSON file; None when it is none."""
    try:
        return json.loads(file.read_bytes())
    except (ValueError, OSError, RecursionError):
        return None


def reports_kept_of(results: ResultFolder, studies: Iterable[str]) -> Iterator[str]:
    """The reports with results of *studies*, of withdrawn ones, too."""
    for study in studies:
        yield from (kept.ref.report_id for kept in results.reports(StudyRef(study)))


def words_of(results: ResultFolder, studies: Iterable[str]) -> Iterator[str]:
    """UIDs and ids that only results of *studies* have."""
    for study in studies:
        for file in sorted((results.path / study).rglob("evidence.json")):
            try:
                document = read_evidence(file.read_bytes())
            except (ValueError, OSError):
                continue
            yield from _words(document)


def _words(document: EvidenceDocument) -> Iterator[str]:
    uids = [phrase.tracking_uid for phrase in document.phrases]
    images = [image.sop_instance_uid for image in document.images]
    images += [image.sop_instance_uid for image in document.references]
    for uid in (*uids, *images):
        yield from (uid, f"urn:oid:{uid}")
    for name in names_of(StudyRef(document.study_instance_uid), document.report.report_id, uids):
        yield from (name, name.partition("/")[2])


def files_of(plan: Plan, *, results: ResultFolder, folders: tuple[Path, ...]) -> tuple[Path, ...]:
    """Every folder and file of *plan*: results with their locks, and files of FHIR in *folders* that name one of it.

    What a writer that was killed left half written in *folders* goes, too: whom it is about cannot be read any more.
    """
    locks = results.path / ".locks"
    found = [path for study in plan.studies for path in (results.path / study, locks / study) if path.exists()]
    staged = results.path.glob(".*.*")  # of a writer that was killed
    found += [path for path in staged if any(study in path.name for study in plan.studies)]
    for folder in folders:
        files = (path for path in folder.rglob("*.json") if path.is_file())
        found += [path for path in files if plan.holds(_json(path))]
        found += [path for path in folder.rglob(".*.part") if _is_left(path)]
    return tuple(sorted(dict.fromkeys(found)))


def _is_left(part: Path) -> bool:
    """Whether nobody writes *part* any more: that takes milliseconds."""
    try:
        return time.time() - part.stat().st_mtime > _LEFT_S
    except FileNotFoundError:
        return False


def remove(paths: tuple[Path, ...]) -> None:
    """Remove files and folders; one that is gone is none.

    Raises
    ------
    TransientError
        If the disk refuses.
    """
    try:
        for path in paths:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise TransientError(f"a file cannot be removed ({error.strerror}); run the same command again") from error


def target_of(patient: str | None, study: str | None) -> Target:
    """The target of a command.

    Raises
    ------
    InputError
        If it names both or none, or no UID.
    """
    try:
        return Target((patient or "").strip(), (study or "").strip())
    except ValueError:
        raise InputError("name a patient by --patient ID, or a study by --study UID") from None
