"""The whole way with the real Orthanc: a study goes in by STOW-RS; its SEG and SR stand in Orthanc, pixel for pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from dicomweb_client import DICOMwebClient
from evidence import make_evidence, make_header, part10
from highdicom.seg import segread
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage
from servers import OrthancServer

from model.values import Region
from plugin.archive import web_archive
from plugin.dicom.seg import segmentations
from plugin.dicom.sr import report as structured_report
from plugin.page.document import EvidenceDocument, PhrasePart, evidence_document

pytestmark = pytest.mark.acceptance


def client_of(server: OrthancServer) -> DICOMwebClient:
    return DICOMwebClient(server.dicomweb_url, headers=server.headers, timeout=60)


def instances_of(client: DICOMwebClient, study_instance_uid: str, sop_class_uid: str) -> list[Dataset]:
    """Every instance of one class in the study: found by QIDO-RS, retrieved by WADO-RS."""
    found = client.search_for_instances(study_instance_uid, search_filters={"SOPClassUID": sop_class_uid})
    refs = [
        (item["0020000D"]["Value"][0], item["0020000E"]["Value"][0], item["00080018"]["Value"][0]) for item in found
    ]
    return [client.retrieve_instance(*ref) for ref in refs]


def mask_of(phrase: PhrasePart, sop_instance_uid: str, *, rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """The regions of *phrase* on one image, as the evidence tells them, bool (rows, columns)."""
    mask = np.zeros((rows, columns), np.bool_)
    for placement in phrase.placements:
        if placement.sop_instance_uid == sop_instance_uid:
            for region in placement.regions:
                mask |= Region(region.outline, region.probability).mask(rows, columns)
    return mask


def assert_segmentations_show(evidence: EvidenceDocument, found: list[Dataset]) -> None:
    """Each lit phrase is one segment on its image with the mask of the evidence; nothing else is lit."""
    shown = {}
    for dataset in found:
        file = DicomBytesIO()
        dataset.save_as(file, enforce_file_format=True)
        file.seek(0)
        segmentation = segread(file)
        ((_, _, source),) = segmentation.get_source_image_uids()
        pixels = segmentation.get_pixels_by_source_instance([str(source)])[0] > 0
        for at, number in enumerate(segmentation.segment_numbers):
            tracking_uid = str(segmentation.get_segment_description(number).tracking_uid)
            shown[str(source), tracking_uid] = pixels[..., at]
    told = {
        (image.sop_instance_uid, phrase.tracking_uid): mask
        for image in evidence.images
        for phrase in evidence.phrases
        if (mask := mask_of(phrase, image.sop_instance_uid, rows=image.rows, columns=image.columns)).any()
    }
    assert told
    assert shown.keys() == told.keys()
    for key, mask in told.items():
        np.testing.assert_array_equal(shown[key], mask)


def phrases_said(dataset: Dataset) -> list[str]:
    """The text of every TEXT item of the SR, in order."""
    said = [dataset.TextValue] if dataset.get("ValueType") == "TEXT" else []
    return said + [text for item in dataset.get("ContentSequence", ()) for text in phrases_said(item)]


def test_what_is_written_reads_back_from_orthanc_pixel_for_pixel(orthanc: OrthancServer) -> None:
    orthanc.reset()
    evidence = make_evidence()
    study = evidence.study
    source = make_header()
    source.PixelData = np.zeros((source.Rows, source.Columns), np.uint16).tobytes()
    written = tuple(
        one.content for one in (*segmentations(evidence), structured_report(evidence, segmentations(evidence)))
    )
    archive = web_archive(orthanc.dicomweb_url, headers=orthanc.headers)

    archive.store(study, (part10(source),))
    archive.store(study, written)
    archive.store(study, written)

    client = client_of(orthanc)
    assert_segmentations_show(
        evidence_document(evidence), instances_of(client, study.study_instance_uid, SegmentationStorage)
    )
    (report,) = instances_of(client, study.study_instance_uid, ComprehensiveSRStorage)
    assert {phrase.phrase.text for phrase in evidence.phrases} <= set(phrases_said(report))
    assert report.SOPInstanceUID == dcmread(DicomBytesIO(written[-1])).SOPInstanceUID
    assert len(archive.describe(study)) == 1
    orthanc.reset()
