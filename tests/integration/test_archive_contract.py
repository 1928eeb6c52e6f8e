"""What every image archive promises: the same tests on files, on Orthanc, and on an archive that is neither."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import Archive, run_archive
from builders import chest, gradient, part10
from pydicom import Dataset, dcmread
from pydicom.filebase import DicomBytesIO
from pydicom.uid import SegmentationStorage

from model.values import View
from plugin.archive import DicomwebArchive, folder_archive, web_archive
from plugin.endpoint import Endpoint
from plugin.errors import ConformanceError, InputError, MissingError, TransientError
from plugin.identity import derived_uid
from plugin.ports import ImageArchive
from plugin.values import ImageRef, StudyRef

# By dicomweb-client's file client.
pytestmark = pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")


@dataclass(frozen=True)
class Bench:
    """An archive under test, and how the instances of a modality come into it and are seen in it."""

    put: Callable[..., ImageArchive]
    stored: Callable[[str], tuple[bytes, ...]]


@pytest.fixture(params=["files", "another", pytest.param("orthanc", marks=pytest.mark.acceptance)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "another":
        with run_archive(tmp_path / "archive") as archive:
            yield _another(archive)
    else:
        yield _files(tmp_path) if request.param == "files" else _orthanc(request.getfixturevalue("orthanc"))


def _another(archive: Archive) -> Bench:
    def put(*instances: bytes) -> ImageArchive:
        archive.add(*instances)
        return web_archive(Endpoint(archive.url))

    def stored(study: str) -> tuple[bytes, ...]:
        return tuple(file for file in archive.files(study) if dcmread(DicomBytesIO(file)).Modality == "SEG")

    return Bench(put, stored)


def _files(folder: Path) -> Bench:
    source, results = folder / "source with # and space", folder / "results"
    source.mkdir()

    def put(*instances: bytes) -> ImageArchive:
        for number, instance in enumerate(instances):
            (source / f"IM{number}").write_bytes(instance)
        return folder_archive((source,), store_in=results)

    return Bench(put, lambda _study: tuple(path.read_bytes() for path in sorted(results.glob("*"))))


def _orthanc(server: Any) -> Bench:
    server.reset()

    def put(*instances: bytes) -> ImageArchive:
        with server.http() as http:
            for instance in instances:
                http.post("/instances", content=instance).raise_for_status()
        return web_archive(Endpoint(server.dicomweb_url, server.headers))

    def stored(study: str) -> tuple[bytes, ...]:
        with server.http() as http:
            found = http.post("/tools/find", json={"Level": "Instance", "Query": {"StudyInstanceUID": study}}).json()
            files = (http.get(f"/instances/{instance}/file").content for instance in found)
            return tuple(file for file in files if dcmread(DicomBytesIO(file)).Modality == "SEG")

    return Bench(put, stored)


STUDY = StudyRef(derived_uid("test", "contract"))


def radiograph(name: str, **attributes: Any) -> bytes:
    return part10(chest(name=name, StudyInstanceUID=STUDY.study_instance_uid, **attributes))


def result(name: str = "seg", **attributes: Any) -> bytes:
    """A derived object: what the pipeline stores."""
    return radiograph(name, **{"SOPClassUID": SegmentationStorage, "Modality": "SEG", **attributes})


class TestAnImageArchive:
    def test_describes_the_radiographs_of_a_study_and_nothing_else(self, bench: Bench) -> None:
        archive = bench.put(
            radiograph("pa", InstanceNumber=3, IssuerOfPatientID="HOSP"),
            radiograph("ll", ViewPosition="LL"),
            result(),
            part10(chest(name="elsewhere")),
        )

        described = archive.describe(STUDY)

        assert {image.view for image in described} == {View.FRONTAL, View.LATERAL}
        frontal = next(image for image in described if image.view is View.FRONTAL)
        assert frontal.image.study == STUDY
        assert (frontal.rows, frontal.columns, frontal.instance_number) == (40, 48, 3)
        assert (frontal.patient.patient_id, frontal.patient.issuer) == ("P1", "HOSP")  # type: ignore[union-attr]
        assert frontal.accession_number == "A1"

    def test_describes_in_a_stable_order(self, bench: Bench) -> None:
        archive = bench.put(*(radiograph(name) for name in "abcde"))

        order = [image.image for image in archive.describe(STUDY)]

        assert order == [image.image for image in archive.describe(STUDY)]
        assert order == sorted(order, key=lambda image: image.sop_instance_uid)

    def test_reads_an_image_whole(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa", WindowCenter=2048, WindowWidth=4096))

        read = archive.read(archive.describe(STUDY)[0].image)

        assert read.pixels == pytest.approx(gradient() / 4095, abs=1e-3)
        assert dcmread(DicomBytesIO(read.header)).PatientID == "P1"
        assert read.description == archive.describe(STUDY)[0]

    def test_has_no_such_study(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))

        with pytest.raises(MissingError, match="no such study"):
            archive.describe(StudyRef("1.2.3.4.5"))
        assert archive.search(study=StudyRef("1.2.3.4.5")) == ()

    def test_has_no_such_image(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))
        known = archive.describe(STUDY)[0].image

        with pytest.raises(InputError, match="no such study or instance"):
            archive.read(ImageRef(STUDY, known.series_instance_uid, "1.2.3.4", known.sop_class_uid))

    def test_says_why_an_image_cannot_be_used(self, bench: Bench) -> None:
        archive = bench.put(radiograph("flat", PixelData=b"\1\0" * 40 * 48))

        with pytest.raises(InputError, match="flat"):
            archive.read(archive.describe(STUDY)[0].image)

    def test_finds_studies_by_uid_by_accession_number_and_by_patient(self, bench: Bench) -> None:
        other = {"StudyInstanceUID": derived_uid("test", "other"), "PatientID": "P2"}
        archive = bench.put(
            radiograph("pa", StudyDescription="Chest"),
            part10(chest(name="b", AccessionNumber="A1", **other)),
            part10(chest(name="c", StudyInstanceUID=derived_uid("test", "third"), AccessionNumber="A12")),
        )

        (found,) = archive.search(study=STUDY)

        assert (found.study, found.date, found.description) == (STUDY, "20240102", "Chest")
        assert found.modalities == ("CR",)
        assert (found.accession.number, found.patient.patient_id) == ("A1", "P1")  # type: ignore[union-attr]
        assert {each.study for each in archive.search(accession_number=" A1 ")} == {
            STUDY,
            StudyRef(other["StudyInstanceUID"]),
        }
        assert [each.study for each in archive.search(accession_number="A1", patient_id="P1")] == [STUDY]
        assert len(archive.search(patient_id="P1")) == 2

    @pytest.mark.parametrize("value", ["", " ", "*", "A?", "A1\\A12", "A", "a1x"])
    def test_finds_whole_values_only(self, bench: Bench, value: str) -> None:
        archive = bench.put(radiograph("pa"))

        assert archive.search(accession_number=value) == ()
        assert archive.search(patient_id=value) == ()
        assert archive.search() == ()

    def test_tells_who_issued_numbers(self, bench: Bench) -> None:
        issuer = Dataset()
        issuer.UniversalEntityID, issuer.UniversalEntityIDType = "1.2.3", "ISO"
        archive = bench.put(radiograph("pa", IssuerOfAccessionNumberSequence=[issuer], IssuerOfPatientID="HOSP"))

        (described,), (found,) = archive.describe(STUDY), archive.search(study=STUDY)

        assert described.accession_issuer == "urn:oid:1.2.3"
        assert found.accession.issuer in ("urn:oid:1.2.3", "")  # type: ignore[union-attr] - a search need not tell it
        assert found.patient.issuer in ("HOSP", "")  # type: ignore[union-attr]

    def test_stores_results_beside_the_images(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))

        archive.store(STUDY, (result("one"), result("two")))

        stored = [dcmread(DicomBytesIO(content)) for content in bench.stored(STUDY.study_instance_uid)]
        assert {dataset.SOPInstanceUID for dataset in stored} == {
            derived_uid("test", "instance", n) for n in ("one", "two")
        }
        assert np.array_equal(stored[0].pixel_array, gradient())
        assert len(archive.describe(STUDY)) == 1

    def test_stores_the_same_instance_once(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))

        archive.store(STUDY, (result(),))
        before = bench.stored(STUDY.study_instance_uid)
        archive.store(STUDY, (result(),))

        assert bench.stored(STUDY.study_instance_uid) == before
        assert len(before) == 1

    def test_never_overwrites_an_instance(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))

        archive.store(STUDY, (result(ContentLabel="FIRST"),))
        archive.store(STUDY, (result(ContentLabel="SECOND"),))

        (stored,) = bench.stored(STUDY.study_instance_uid)
        assert dcmread(DicomBytesIO(stored)).ContentLabel == "FIRST"

    def test_refuses_an_instance_of_another_study(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))

        with pytest.raises(ConformanceError, match="another study"):
            archive.store(STUDY, (part10(chest(name="x", StudyInstanceUID="1.2.3")),))
        assert bench.stored(STUDY.study_instance_uid) == ()

    def test_storing_nothing_changes_nothing(self, bench: Bench) -> None:
        archive = bench.put(radiograph("pa"))

        archive.store(STUDY, ())

        assert bench.stored(STUDY.study_instance_uid) == ()


@pytest.mark.acceptance
def test_orthanc_asks_for_credentials(orthanc: Any) -> None:
    orthanc.reset()

    with pytest.raises(InputError, match="credentials"):
        web_archive(Endpoint(orthanc.dicomweb_url)).describe(STUDY)


def test_an_archive_that_does_not_answer_is_transient() -> None:
    archive = web_archive(Endpoint("http://127.0.0.1:9/dicom-web", timeout_s=1))  # the discard port: nobody listens

    with pytest.raises(TransientError, match="does not answer") as failed:
        archive.describe(STUDY)
    assert failed.value.retryable


def test_the_archive_works_over_the_file_client_of_dicomweb_client_too(tmp_path: Path) -> None:
    from dicomweb_client import DICOMfileClient

    (tmp_path / "a.dcm").write_bytes(radiograph("pa"))
    archive = DicomwebArchive(DICOMfileClient(tmp_path.as_uri(), in_memory=True))

    described = archive.describe(STUDY)
    assert archive.read(described[0].image).pixels.shape == (40, 48)
    archive.store(STUDY, (result(),))
    assert len(archive.describe(STUDY)) == 1
