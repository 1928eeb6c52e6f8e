"""``sightline deidentify``: images with their results for research, without whom they are about."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from plugin.audit.record import AuditRecord, Kind
from plugin.audit.trail import Trail
from plugin.chain.material import DicomFile, Material, material_of, sources_among
from plugin.deidentify.burnt_in import suspicions
from plugin.deidentify.dicom import image_without_identity, known_words
from plugin.deidentify.evidence import evidence_without_identity
from plugin.deidentify.pseudonyms import Pseudonyms, key_in
from plugin.dicom.header import text
from plugin.dicom.pixels import radiograph_of
from plugin.errors import InputError
from plugin.flow import outputs_of
from plugin.results import ResultFile, write_results
from plugin.settings import load_settings
from plugin.values import Radiograph
from plugin.wiring import audit_folder

IMAGES = "images"
PROMISES = """What this cannot promise: a name that no header holds and no title stands before, a fact that fits one
person only, a face or a rare finding in the image, writing that looks like none, and a report in a language whose
dates and titles the rules do not know. Dates move by a secret number of weeks and keep their distances. The key ties
pseudonyms to patients: keep it as you keep the images, or delete it. Have a person look at what is published."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something that was not exported, and why."""

    what: str
    why: str


def run(paths: tuple[Path, ...], *, out: Path, key_file: Path | None, keep_flagged: bool) -> int:
    """Write every result among *paths* with its images into *out*; 0 when all of them were, else 1.

    Parameters
    ----------
    key_file : the secret that pseudonyms are derived with; made when it is not there. None: a key that nobody keeps.

    Raises
    ------
    InputError
        If there is no result, a file cannot be read, or *out* is not empty.
    """
    console = Console(soft_wrap=True, highlight=False)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name a new folder")
    pseudonyms = Pseudonyms(key_in(key_file))
    files = tuple((path, path.read_bytes()) for path in _files(paths, besides=out))
    sources = sources_among((str(path), content) for path, content in files)
    results = tuple(_results(files))
    if not results:
        raise InputError("there is no result (evidence.json) among these files")
    left = [each for result in results for each in _export(result, sources, pseudonyms, out, keep_flagged=keep_flagged)]
    studies = tuple(sorted({result.document.study_instance_uid for result in results}))
    who = f"{getpass.getuser()} on this machine"
    record = AuditRecord(datetime.now(UTC), Kind.EXPORT, "sightline deidentify", who=who, studies=studies)
    Trail(audit_folder(load_settings())).append([record])
    console.print(
        f"{len(results)} results of {len(studies)} studies went to {out}, but for:" if left else f"{out} is written."
    )
    console.print(*(f"  {each.what}: {each.why}" for each in left), PROMISES, sep="\n")
    return 1 if left else 0


def _files(paths: tuple[Path, ...], *, besides: Path) -> Iterator[Path]:
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist")
        found = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        yield from (each for each in found if not each.is_relative_to(besides))


def _results(files: tuple[tuple[Path, bytes], ...]) -> Iterator[Material]:
    """What lies beside each ``evidence.json``; of results that the service keeps, the newest version alone."""
    folders = sorted({path.parent for path, _ in files if path.name == "evidence.json"})
    for folder in folders:
        newest = folder.parent / "newest"
        if newest.is_file() and f'"{folder.name}"' not in newest.read_text(encoding="utf-8"):
            continue
        beside = ((str(path), content) for path, content in files if path.parent == folder and path.suffix != ".html")
        yield material_of(beside)


def _export(
    result: Material,
    sources: dict[str, DicomFile],
    pseudonyms: Pseudonyms,
    out: Path,
    *,
    keep_flagged: bool,
) -> Iterator[Left]:
    """Write one result; what of it was left."""
    document = result.document
    wanted = [each.sop_instance_uid for each in document.images]
    given = [sources[uid] for uid in wanted if uid in sources]
    others = [sources[each.sop_instance_uid] for each in document.references if each.sop_instance_uid in sources]
    known = {
        word for file in (*given, *others, *result.segmentations, *result.reports) for word in known_words(file.dataset)
    }
    patient = next((text(file.dataset, "PatientID") for file in given), "")
    images: dict[str, Radiograph] = {}
    written: list[ResultFile] = []
    for file in (*given, *others):
        try:
            content = image_without_identity(file.content, pseudonyms)
            read = radiograph_of(content)
        except InputError as error:
            yield Left(file.name, str(error))
            continue
        flags = tuple(suspicions(file.dataset, read.pixels))
        if flags and not keep_flagged:
            yield Left(file.name, "; ".join(flags))
            continue
        images[file.uid] = read
        written.append(ResultFile(f"{read.ref.sop_instance_uid}.dcm", content))
    try:
        evidence = evidence_without_identity(document, images, pseudonyms, patient=patient, known=known)
    except InputError as error:
        yield Left(f"a result of study {document.study_instance_uid}", str(error))
        return
    folder = out / evidence.study.study_instance_uid
    write_results(folder / evidence.report.ref.report_id, outputs_of(evidence).files)
    write_results(folder / IMAGES, tuple(written))
