"""``sightline synth``: write synthetic studies with their reports and the truth about both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from model.twin.study import TwinStudy, study
from plugin.dicom.twin import TwinInstance, instances_of, storage_of
from plugin.errors import InputError
from plugin.fhir.twin import report_bundle
from plugin.twin import record_of

_SEEDS = 10_000


def run(*, out: Path, seed: int, count: int, size: int | None = None) -> None:
    """Write the studies *seed* to *seed* + *count* - 1 into one folder each, ``study-<seed>``, under *out*.

    A folder holds the DICOM files, ``report.json`` (a FHIR Bundle) and ``truth/``; *size* as in
    :func:`model.twin.study.study`.

    Raises
    ------
    InputError
        If a seed is outside 0 to 9999, *count* is not positive, or *out* cannot be written.
    """
    if count < 1 or seed < 0 or seed + count > _SEEDS:
        raise InputError(f"seeds of studies are 0 to {_SEEDS - 1} and the count is at least 1: choose others")
    try:
        for each in track(range(seed, seed + count), description="Making studies", transient=True):
            _place(out / f"study-{each}", files_of(each, size=size))
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise InputError(f"the studies cannot be written ({reason}): check --out") from None


def files_of(seed: int, *, size: int | None = None) -> dict[str, bytes]:
    """The files of the study of *seed* by their path in its folder; equal arguments give equal bytes."""
    made, record, storage = study(seed, size=size), record_of(seed), storage_of(seed)
    instances = instances_of(made, record, storage)
    report = report_bundle(record, text=made.report.text, modality=storage.modality)
    files = {instance.file_name: instance.content for instance in instances}
    return files | {"report.json": report.encode()} | _truth(made, instances)


def _truth(made: TwinStudy, instances: tuple[TwinInstance, ...]) -> dict[str, bytes]:
    """truth.json, and a PNG mask for each finding on each frontal; 255 is the finding."""
    files: dict[str, bytes] = {}
    named: dict[str, list[str]] = {}
    for image, instance in zip(made.images, instances, strict=True):
        stem = Path(instance.file_name).stem
        names = [f"{stem}-finding-{index + 1}.png" for index in range(len(image.masks))]
        named[instance.sop_instance_uid] = names
        files |= {f"truth/{name}": _png(mask) for name, mask in zip(names, image.masks, strict=True)}
    phrases = []
    for phrase in made.report.phrases:
        index = phrase.finding
        masks = {uid: names[index] for uid, names in named.items() if names} if index is not None else {}
        phrases.append(
            {
                "start": phrase.start,
                "end": phrase.end,
                "text": phrase.text,
                "concept": phrase.concept,
                "assertion": phrase.assertion,
                "side": phrase.side,
                "sites": list(phrase.sites),
                "finding": index,
                "masks": masks,
            }
        )
    findings = [
        {"concept": each.concept, "side": each.side, "sites": list(each.sites), "count": each.count}
        for each in made.findings
    ]
    views = {instance.sop_instance_uid: image.view for image, instance in zip(made.images, instances, strict=True)}
    truth = {"seed": made.seed, "views": views, "findings": findings, "phrases": phrases}
    return files | {"truth/truth.json": (json.dumps(truth, indent=1) + "\n").encode()}


def _png(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bytes:
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def _place(folder: Path, files: dict[str, bytes]) -> None:
    """Write *files* beside *folder* first, so that a study that is there is whole."""
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    for name, content in files.items():
        target = staging / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    if not folder.exists():
        staging.rename(folder)
        return
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).replace(folder / name)
    shutil.rmtree(staging)
