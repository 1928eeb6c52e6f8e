"""What Sightline wrote earlier, as an archive's metadata tells it: enough to know versions and rejections."""

from __future__ import annotations

import re
from collections.abc import Iterator
from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage, SegmentationStorage

from plugin.dicom.codes import QUALITATIVE_EVALUATIONS, SOURCE_REPORT
from plugin.dicom.header import image_ref_of, items, text
from plugin.ports import StoredResult, report_code
from plugin.values import ImageRef, StudyRef

# Who and what an instance is about: identification, patient, clinical trial, study and series.
_GROUPS = (0x0008, 0x0010, 0x0012, 0x0020)
_SOURCE_REPORT = re.compile(r"id (.+); version .+; SHA-256 [0-9a-f]{64}$", re.DOTALL)  # as plugin/dicom/sr.py writes it


def stored_result(dataset: Dataset) -> StoredResult:
    """The instance of *dataset* (metadata of one that Sightline wrote).

    Raises
    ------
    InputError
        If one of its UIDs is missing or not valid.
    """
    image = image_ref_of(dataset)
    sources = (item for series in items(dataset, "ReferencedSeriesSequence") for item in _instances(series))
    evidence = _references(dataset, "CurrentRequestedProcedureEvidenceSequence")
    rejection = image.sop_class_uid == KeyObjectSelectionDocumentStorage
    return StoredResult(
        image=image,
        header=_header(dataset),
        source_uids=tuple(text(item, "ReferencedSOPInstanceUID") for item in sources)
        if image.sop_class_uid == SegmentationStorage
        else (),
        follows=tuple(_references(dataset, "PredecessorDocumentsSequence")),
        follows_series=tuple(text(item, "SeriesInstanceUID") for item in items(dataset, "RelatedSeriesSequence")),
        rejects=tuple(reference.sop_instance_uid for reference in evidence) if rejection else (),
        report=_report(dataset),
        phrases=_phrases(dataset),
    )


def patient_of(content: bytes) -> str:
    """The Patient ID of a DICOM file that Sightline wrote."""
    return text(dcmread(BytesIO(content), specific_tags=["PatientID"]), "PatientID")


def _report(dataset: Dataset) -> str:
    """Which report it is about: documents say it in their content, other objects by their procedure step."""
    named = (_SOURCE_REPORT.match(text(item, "TextValue")) for item in _content(dataset, SOURCE_REPORT))
    return next((report_code(name[1]) for name in named if name), text(dataset, "PerformedProcedureStepID"))


def _phrases(dataset: Dataset) -> tuple[str, ...]:
    """The tracking UIDs of a report's statements (TID 1501), by the number that begins their tracking identifiers."""
    numbered = {}
    for container in _content(dataset, QUALITATIVE_EVALUATIONS):
        for group in items(container, "ContentSequence"):
            names = [text(item, "TextValue") for item in _content(group, codes.DCM.TrackingIdentifier)]
            uids = [text(item, "UID") for item in _content(group, codes.DCM.TrackingUniqueIdentifier)]
            if names and uids and (number := re.match(r"\d+", names[0])):
                numbered[int(number[0])] = uids[0]
    return tuple(uid for _, uid in sorted(numbered.items()))


def _content(dataset: Dataset, name: Code) -> Iterator[Dataset]:
    """The content items of *dataset* with the concept name *name*."""
    for item in items(dataset, "ContentSequence"):
        for concept in items(item, "ConceptNameCodeSequence"):
            if (text(concept, "CodeValue"), text(concept, "CodingSchemeDesignator")) == (
                name.value,
                name.scheme_designator,
            ):
                yield item


def _instances(series: Dataset) -> tuple[Dataset, ...]:
    return items(series, "ReferencedInstanceSequence")


def _references(dataset: Dataset, keyword: str) -> Iterator[ImageRef]:
    """The instances of a Hierarchical SOP Instance Reference Macro (PS3.3 C.17.2.1)."""
    for study in items(dataset, keyword):
        for series in items(study, "ReferencedSeriesSequence"):
            for item in items(series, "ReferencedSOPSequence"):
                yield ImageRef(
                    StudyRef(text(study, "StudyInstanceUID")),
                    text(series, "SeriesInstanceUID"),
                    text(item, "ReferencedSOPInstanceUID"),
                    text(item, "ReferencedSOPClassUID"),
                )


def _header(dataset: Dataset) -> bytes:
    header = Dataset()
    header.update({element.tag: element for element in dataset if element.tag.group in _GROUPS})
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stream = BytesIO()
    dcmwrite(stream, header, enforce_file_format=True)
    return stream.getvalue()
