"""Radiologists' decisions as training data, in the form that ``model.data`` reads; docs/training-data.md tells it.

Beside the JSON lines lie the images, upright and 8 bits, for outlines are told on them. Patients are named by a hash:
it is for splitting by patient, and for nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from plugin.decisions import last_of
from plugin.errors import InputError, MissingError
from plugin.identity import derived_id
from plugin.page.document import EvidenceDocument, ImagePart, PhrasePart, read_evidence
from plugin.page.shapes import letterbox_of_part, outline_on_upright
from plugin.ports import DecisionBook, ImageArchive, KeptDecision
from plugin.results import ResultFolder
from plugin.values import ImageRef, Radiograph, RegionDecision, Ruling, StudyRef

IMAGES = "images"
SOURCE = "Sightline"


@dataclass(slots=True)
class Exported:
    """What became of the decisions that count: *written* lines, and how many were left out, by the reason."""

    written: int = 0
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str, number: int = 1) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + number


class Disguise(Protocol):
    """What becomes of lines and images before they are written."""

    def name(self, sop_instance_uid: str) -> str:
        """What the file of an image is called."""

    def refusal(self, radiograph: Radiograph) -> str:
        """Why an image, and what was decided about it, is left out; "": it is not."""

    def line(self, line: dict[str, Any], radiograph: Radiograph) -> dict[str, Any]:
        """The line as it is written."""


class AsItIs:
    """For use within the site."""

    def name(self, sop_instance_uid: str) -> str:
        """The UID of the image."""
        return sop_instance_uid

    def refusal(self, radiograph: Radiograph) -> str:  # noqa: ARG002
        """None is."""
        return ""

    def line(self, line: dict[str, Any], radiograph: Radiograph) -> dict[str, Any]:  # noqa: ARG002
        """As it is."""
        return line


def export(
    book: DecisionBook, results: ResultFolder, archive: ImageArchive, out: Path, *, disguise: Disguise | None = None
) -> Exported:
    """Write the last decision about every phrase on every image to the file *out*, and images beside it.

    The same book gives the same file; one that is there is replaced when the new one is whole.

    Parameters
    ----------
    disguise : of patients, for research elsewhere; None: none.

    Raises
    ------
    InputError
        If the file cannot be written.
    TransientError
        If book or archive do not answer.
    """
    told = Exported()
    part = out.with_name(f"{out.name}.part")
    try:
        (out.parent / IMAGES).mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as stream:
            for study, report_id, words in _by_report(book):
                for line in _lines(study, report_id, words, results, archive, out.parent, told, disguise or AsItIs()):
                    stream.write(json.dumps(line, ensure_ascii=False) + "\n")
                    told.written += 1
        part.replace(out)
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error.strerror}.") from error
    return told


def _by_report(book: DecisionBook) -> Iterator[tuple[StudyRef, str, list[RegionDecision]]]:
    """The decisions that count, of one study and report after the other."""
    group: list[KeptDecision] = []
    for kept in _every(book):
        if group and (group[0].study, group[0].report_id) != (kept.study, kept.report_id):
            yield _counting(group)
            group = []
        group.append(kept)
    if group:
        yield _counting(group)


def _every(book: DecisionBook) -> Iterator[KeptDecision]:
    page = book.every()
    while page:
        yield from page
        page = book.every(after=page[-1])


def _counting(group: list[KeptDecision]) -> tuple[StudyRef, str, list[RegionDecision]]:
    last = last_of(each.decision for each in group).values()
    words = sorted((each for each in last if each.ruling is not Ruling.TAKEN_BACK), key=lambda each: each.place)
    return group[0].study, group[0].report_id, words


def _lines(  # noqa: PLR0917 - one call
    study: StudyRef,
    report_id: str,
    words: Iterable[RegionDecision],
    results: ResultFolder,
    archive: ImageArchive,
    folder: Path,
    told: Exported,
    disguise: Disguise,
) -> Iterator[dict[str, Any]]:
    read: dict[str, Radiograph | None] = {}
    refused: dict[str, str] = {}
    documents = list(_documents(results.versions(study, report_id, "evidence.json")))
    for word in words:
        found = next((found for document in documents if (found := _found(document, word))), None)
        if found is None:
            told.leave_out("no results are kept that hold the phrase")
            continue
        phrase, image = found
        uid = image.sop_instance_uid
        if uid not in read:
            read[uid] = radiograph = _radiograph(archive, study, image)
            refused[uid] = disguise.refusal(radiograph) if radiograph else ""
            if not refused[uid]:
                _save(radiograph, image, folder / IMAGES / f"{disguise.name(uid)}.png")
        radiograph = read[uid]
        if radiograph is None:
            told.leave_out("the archive no longer holds the image")
            continue
        if refused[uid]:
            told.leave_out(refused[uid])
            continue
        line = line_of(word, phrase, image, radiograph) | {"image": f"{IMAGES}/{disguise.name(uid)}.png"}
        yield disguise.line(line, radiograph)


def _documents(contents: Iterable[bytes]) -> Iterator[EvidenceDocument]:
    """Those that can be read: an earlier release may have kept others, and a disk damages some."""
    for content in contents:
        with suppress(ValueError):
            yield read_evidence(content)


def _found(document: EvidenceDocument, word: RegionDecision) -> tuple[PhrasePart, ImagePart] | None:
    phrase = next((each for each in document.phrases if each.tracking_uid == word.tracking_uid), None)
    image = next((each for each in document.images if each.sop_instance_uid == word.sop_instance_uid), None)
    return (phrase, image) if phrase and image else None


def _radiograph(archive: ImageArchive, study: StudyRef, image: ImagePart) -> Radiograph | None:
    try:
        return archive.read(ImageRef(study, image.series_instance_uid, image.sop_instance_uid, image.sop_class_uid))
    except (MissingError, InputError):
        return None


def _save(radiograph: Radiograph | None, image: ImagePart, file: Path) -> None:
    if radiograph is None:
        return
    upright = letterbox_of_part(image).orientation.apply(radiograph.pixels)
    _, encoded = cv2.imencode(".png", np.rint(np.ascontiguousarray(upright) * 255).astype(np.uint8))
    file.write_bytes(encoded.tobytes())


def line_of(word: RegionDecision, phrase: PhrasePart, image: ImagePart, radiograph: Radiograph) -> dict[str, Any]:
    """One decision as a line of training data; its outlines are on the upright image."""
    box = letterbox_of_part(image)
    patient = radiograph.description.patient
    named = (patient.issuer, patient.patient_id) if patient else ("", radiograph.ref.study.study_instance_uid)
    return {
        "image": f"{IMAGES}/{image.sop_instance_uid}.png",
        "patient": derived_id("training patient", *named),
        "phrase": phrase.text,
        "finding": phrase.finding.name,
        "view": image.view_position,
        "source": SOURCE,
        "decision": word.ruling.value,
        "reason": word.reason,
        "polygons": [outline_on_upright(region.outline, box).round(2).tolist() for region in word.regions],
        "model": word.model,
        "weights_sha256": word.weights_sha256,
        "made": word.made.isoformat(),
    }
