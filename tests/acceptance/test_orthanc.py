"""The whole way with the real Orthanc: a study goes in by STOW-RS; its SEG and SR stand in Orthanc, pixel for pixel."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from dicomweb_client import DICOMwebClient
from evidence import make_evidence, make_header, part10
from highdicom.seg import segread
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ComprehensiveSRStorage, SegmentationStorage
from servers import ROOT, OrthancServer, free_port, run_orthanc, run_sightline, sightline

from model.values import Region
from plugin.archive import web_archive
from plugin.dicom.seg import segmentations
from plugin.dicom.sr import report as structured_report
from plugin.endpoint import Endpoint
from plugin.page.document import EvidenceDocument, PhrasePart, evidence_document, read_evidence

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
    archive = web_archive(Endpoint(orthanc.dicomweb_url, orthanc.headers))

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


def synthetic_studies(folder: Path, *, seed: int, count: int) -> list[Path]:
    """Folders of the synthetic twin: in each a study's .dcm files, its FHIR Bundle and the truth."""
    sightline("synth", "--out", str(folder), "--seed", str(seed), "--count", str(count))
    return sorted(path for path in folder.iterdir() if path.is_dir())


def bundle_of(study: Path) -> bytes:
    """The FHIR Bundle of a synthetic study."""
    (bundle,) = (
        content
        for path in study.glob("*.json")
        if json.loads(content := path.read_bytes()).get("resourceType") == "Bundle"
    )
    return bundle


def stow(server: OrthancServer, study: Path) -> str:
    """Store every DICOM file of a folder by STOW-RS; their study UID."""
    datasets = [dcmread(path) for path in sorted(study.glob("*.dcm"))]
    client_of(server).store_instances(datasets)
    (study_instance_uid,) = {dataset.StudyInstanceUID for dataset in datasets}
    return str(study_instance_uid)


def everything_in(server: OrthancServer) -> dict[str, str]:
    """The hash of each instance that Orthanc holds, by its SOP Instance UID."""
    with server.http() as http:
        instances = http.get("/instances?expand").raise_for_status().json()
        return {
            each["MainDicomTags"]["SOPInstanceUID"]: hashlib.sha256(
                http.get(f"/instances/{each['ID']}/file").content
            ).hexdigest()
            for each in instances
        }


def eventually(condition: Callable[[], bool], *, told: Callable[[], Any], timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, told()
        time.sleep(0.2)


def test_a_study_sent_to_orthanc_is_grounded_with_no_further_action(tmp_path: Path) -> None:
    first, second = synthetic_studies(tmp_path / "studies", seed=11, count=2)
    reports = tmp_path / "reports"
    reports.mkdir()
    for study in (first, second):
        (reports / f"{study.name}.json").write_bytes(bundle_of(study))
    port = free_port()
    overrides = {
        "PythonScript": str(ROOT / "orthanc" / "sightline.py"),
        "Sightline": {"Url": f"http://127.0.0.1:{port}", "ReconcileSeconds": 1},
    }
    with run_orthanc(tmp_path / "storage", overrides=overrides, name="orthanc-whole-way") as server:
        uids = [stow(server, first)]  # Sightline is not up yet
        settings = {
            "archive_url": server.dicomweb_url,
            "archive_user": server.username,
            "archive_password": server.password,
            "reports_dir": str(reports),
        }
        with run_sightline(tmp_path / "sightline", port=port, settings=settings) as service:
            uids.append(stow(server, second))
            jobs = lambda: service.get("/jobs").json()  # noqa: E731 - told when it does not come about
            eventually(lambda: [job["state"] for job in jobs()] == ["done", "done"], told=jobs)

            for uid in uids:
                evidence = read_evidence(service.get(f"/studies/{uid}/evidence").raise_for_status().content)
                client = client_of(server)
                assert_segmentations_show(evidence, instances_of(client, uid, SegmentationStorage))
                (report,) = instances_of(client, uid, ComprehensiveSRStorage)
                assert {phrase.text for phrase in evidence.phrases} <= set(phrases_said(report))

            before = everything_in(server)
            stow(server, first)
            service.post("/studies", json={"study_instance_uid": uids[0]}).raise_for_status()
            time.sleep(5)  # Orthanc calls a study stable after one second: a loop would have begun

            assert everything_in(server) == before
            assert len(jobs()) == 2
            with server.http() as http:
                status = http.get("/sightline/status").json()
            assert (status["taken"], status["pending"], status["answering"]) == (2, 0, True)
