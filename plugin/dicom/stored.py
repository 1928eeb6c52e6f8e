"""What Sightline wrote earlier, as an archive's metadata tells it: enough to know versions and rejections."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom import Dataset, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, KeyObjectSelectionDocumentStorage, SegmentationStorage

from plugin.dicom.header import image_ref_of, items, text
from plugin.ports import StoredResult
from plugin.values import ImageRef, StudyRef

# Who and what an instance is about: identification, patient, clinical trial, study and series.
_GROUPS = (0x0008, 0x0010, 0x0012, 0x0020)


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
    )


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
