"""Files, sorted by what they are: the evidence, what was written of it, and what it was made from."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pydicom import Dataset
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage

from plugin.dicom.header import is_own, is_radiograph, read_part10, text
from plugin.errors import InputError
from plugin.page.document import EvidenceDocument, read_evidence


@dataclass(frozen=True, slots=True, eq=False)
class DicomFile:
    """A DICOM file under its name; *dataset* is its header."""

    name: str
    content: bytes
    dataset: Dataset

    @property
    def uid(self) -> str:
        """Its SOP Instance UID, "" when it has none."""
        return text(self.dataset, "SOPInstanceUID")


@dataclass(slots=True, eq=False)
class Material:
    """What there is to compare.

    Parameters
    ----------
    content : the bytes of ``evidence.json``.
    pages : evidence pages by name.
    sources : radiographs that somebody else made.
    others : further objects of ours: pictures, heat maps, rejection notes.
    """

    document: EvidenceDocument
    content: bytes
    bundle: dict[str, Any] | None = None
    pages: dict[str, bytes] = field(default_factory=dict)
    segmentations: list[DicomFile] = field(default_factory=list)
    reports: list[DicomFile] = field(default_factory=list)
    sources: list[DicomFile] = field(default_factory=list)
    others: list[DicomFile] = field(default_factory=list)


def material_of(files: Iterable[tuple[str, bytes]]) -> Material:
    """*files* (name, content), sorted; what is nothing of ours and no radiograph is passed over.

    Raises
    ------
    InputError
        If there is not exactly one evidence document that this software reads, or more than one FHIR Bundle.
    """
    files = tuple(files)
    documents = [(name, content) for name, content in files if _is_evidence(content)]
    if len(documents) != 1:
        raise InputError(f"{len(documents)} evidence documents were found; name the files of one result")
    try:
        material = Material(read_evidence(documents[0][1]), documents[0][1])
    except ValueError:
        raise InputError(f"{documents[0][0]} is not evidence of a version that this software knows") from None
    for name, content in files:
        _add(material, name, content)
    return material


def sources_among(files: Iterable[tuple[str, bytes]]) -> dict[str, DicomFile]:
    """The radiographs that somebody else made, by SOP Instance UID; what is no DICOM is passed over.

    Raises
    ------
    InputError
        If a DICOM file cannot be read.
    """
    read = (
        DicomFile(name, content, read_part10(content, header_only=True))
        for name, content in files
        if _is_dicom(content)
    )
    return {file.uid: file for file in read if is_radiograph(file.dataset)}


def _is_dicom(content: bytes) -> bool:
    return content[128:132] == b"DICM"


def _is_evidence(content: bytes) -> bool:
    parsed = _object(content)
    return parsed is not None and parsed.get("format") == "sightline-evidence"


def _object(content: bytes) -> dict[str, Any] | None:
    """The JSON object of *content*, or None."""
    if content.lstrip()[:1] != b"{":
        return None
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _add(material: Material, name: str, content: bytes) -> None:
    if _is_dicom(content):
        _add_dicom(material, DicomFile(name, content, read_part10(content, header_only=True)))
    elif name.endswith(".html"):
        material.pages[name] = content
    elif (parsed := _object(content)) is not None and parsed.get("resourceType") == "Bundle":
        if parsed.get("type") == "transaction" and material.bundle is None:
            material.bundle = parsed
        elif parsed.get("type") == "transaction":
            raise InputError("several FHIR transactions were found; name the files of one result")


def _add_dicom(material: Material, file: DicomFile) -> None:
    kind = text(file.dataset, "SOPClassUID")
    if kind == SegmentationStorage:
        material.segmentations.append(file)
    elif kind == ComprehensiveSRStorage:
        material.reports.append(file)
    elif is_own(file.dataset):
        material.others.append(file)
    elif is_radiograph(file.dataset):
        material.sources.append(file)
