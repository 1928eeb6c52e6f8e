"""What a header tells: the view, the body part, who it is; odd elements cost nothing but themselves."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
from builders import STUDY, chest, part10
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from model.values import View
from plugin.dicom import header
from plugin.dicom.header import description_of, header_bytes, radiographs_among, read_part10, text
from plugin.errors import InputError
from plugin.values import PatientRef


def coded(value: str, meaning: str = "") -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return [item]


SILENT = {"ViewPosition": None}
NO_BODY = {"BodyPartExamined": None}


@pytest.mark.parametrize(
    ("attributes", "view", "why"),
    [
        ({"ViewPosition": "PA"}, View.FRONTAL, "ViewPosition PA"),
        ({"ViewPosition": "AP"}, View.FRONTAL, "ViewPosition AP"),
        ({"ViewPosition": "LL"}, View.LATERAL, "ViewPosition LL"),
        ({"ViewPosition": "RL"}, View.LATERAL, "ViewPosition RL"),
        ({"ViewPosition": "LATERAL"}, View.LATERAL, "ViewPosition LATERAL"),
        ({"ViewPosition": "LLD"}, View.FRONTAL, "ViewPosition LLD"),
        ({"ViewPosition": "RAO"}, View.OTHER, "ViewPosition RAO"),
        ({"ViewPosition": "AP SUPINE"}, View.FRONTAL, "ViewPosition"),
        ({**SILENT, "ViewCodeSequence": coded("272479007")}, View.FRONTAL, "ViewCodeSequence"),
        ({**SILENT, "ViewCodeSequence": coded("R-10206")}, View.FRONTAL, "ViewCodeSequence"),
        ({**SILENT, "ViewCodeSequence": coded("399173006")}, View.LATERAL, "ViewCodeSequence"),
        ({**SILENT, "SeriesDescription": "W034 Chest PA"}, View.FRONTAL, "SeriesDescription"),
        ({**SILENT, "SeriesDescription": "Thorax lat."}, View.LATERAL, "SeriesDescription"),
        ({**SILENT, "ProtocolName": "CHEST_PORTABLE"}, View.FRONTAL, "ProtocolName"),
        ({**SILENT, "SeriesDescription": "LATERAL", "StudyDescription": "CHEST PA"}, View.LATERAL, "SeriesDescription"),
        ({**SILENT, "StudyDescription": "CHEST 2 VIEWS PA AND LATERAL"}, View.UNKNOWN, "does not tell"),
        ({**SILENT, "StudyDescription": "Chest, apical view"}, View.UNKNOWN, "does not tell"),
        (SILENT, View.UNKNOWN, "does not tell"),
        ({"BodyPartExamined": "HAND"}, View.OTHER, "BodyPartExamined"),
        ({"BodyPartExamined": "ABDOMEN"}, View.OTHER, "BodyPartExamined"),
        ({"BodyPartExamined": "THORAX"}, View.FRONTAL, "ViewPosition PA"),
        ({"BodyPartExamined": "LUNG"}, View.FRONTAL, "ViewPosition PA"),
        ({"BodyPartExamined": "UNKNOWN", "StudyDescription": "XR CHEST"}, View.FRONTAL, "ViewPosition PA"),
        ({**NO_BODY, "StudyDescription": "Left hand 3 views"}, View.OTHER, "StudyDescription"),
        ({**NO_BODY, "StudyDescription": "Chest and abdomen"}, View.UNKNOWN, "body part is not stated"),
        (NO_BODY, View.UNKNOWN, "ViewPosition PA, but the body part is not stated"),
        ({**NO_BODY, "ViewPosition": "LL"}, View.LATERAL, "ViewPosition LL"),
        ({"AnatomicRegionSequence": coded("51185008"), "BodyPartExamined": "HAND"}, View.FRONTAL, "ViewPosition PA"),
        ({"AnatomicRegionSequence": coded("T-D8810", "Hand")}, View.OTHER, "AnatomicRegionSequence"),
    ],
)
def test_the_view_comes_from_the_attribute_that_tells_it(attributes: dict[str, Any], view: View, why: str) -> None:
    description = description_of(chest(**attributes))

    assert description.view is view
    assert why in description.why


def test_a_view_position_is_derived_from_code_and_words() -> None:
    assert description_of(chest(**SILENT, ViewCodeSequence=coded("399348003"))).view_position == "AP"
    assert description_of(chest(**SILENT, SeriesDescription="chest pa")).view_position == "PA"


def test_identity_and_size_are_told() -> None:
    description = description_of(chest(IssuerOfPatientID="HOSP", InstanceNumber=7))

    assert description.image.study.study_instance_uid == STUDY
    assert description.patient == PatientRef("P1", "HOSP")
    assert (description.accession_number, description.modality) == ("A1", "CR")
    assert (description.rows, description.columns, description.instance_number) == (40, 48, 7)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"AcquisitionDateTime": "20240203101112.5+0100", "StudyDate": "20240102"}, "2024-02-03T10:11:12+01:00"),
        ({"AcquisitionDate": "20240203", "AcquisitionTime": "101112"}, "2024-02-03T10:11:12+00:00"),
        ({"ContentDate": "20240203", "ContentTime": "1011", "StudyDate": "20240102"}, "2024-02-03T10:11:00+00:00"),
        ({"SeriesDate": "20240203", "TimezoneOffsetFromUTC": "-0430"}, "2024-02-03T00:00:00-04:30"),
        ({"StudyDate": "20240102", "StudyTime": "235960"}, None),
        ({"StudyDate": "20240102", "StudyTime": "070000.123456"}, "2024-01-02T07:00:00+00:00"),
        ({"StudyDate": None, "StudyTime": "101112"}, None),
        ({"ContentDate": "20241399", "StudyDate": "20240102"}, "2024-01-02T00:00:00+00:00"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, while the bad dates are set
def test_the_time_of_the_image_is_told(attributes: dict[str, Any], expected: str | None) -> None:
    acquired = description_of(chest(**attributes)).acquired

    assert (acquired and acquired.isoformat()) == expected


def test_the_issuer_may_stand_in_the_qualifiers() -> None:
    item = Dataset()
    item.UniversalEntityID, item.UniversalEntityIDType = "1.2.3", "ISO"

    assert description_of(chest(IssuerOfPatientIDQualifiersSequence=[item])).patient == PatientRef("P1", "1.2.3")


def test_no_patient_id_is_no_patient() -> None:
    assert description_of(chest(PatientID="")).patient is None


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom, while the bad UIDs are set
@pytest.mark.parametrize("uid", ["1.2.03", "1..2", "not a uid", "1." + "2" * 70])
def test_a_uid_that_is_none_is_refused_without_being_quoted(uid: str) -> None:
    with pytest.raises(InputError, match=r"PS3\.5 9\.1") as refused:
        description_of(chest(SOPInstanceUID=uid))

    assert uid not in str(refused.value)


# Which instances are radiographs


def of_class(sop_class: str, name: str, **attributes: Any) -> Dataset:
    return chest(name=name, SOPClassUID=sop_class, **attributes)


CR, DX = chest(name="cr"), of_class(DigitalXRayImageStorageForPresentation, "dx", Modality="DX")
SEG = of_class(SegmentationStorage, "seg", Modality="SEG")
PDF = of_class(EncapsulatedPDFStorage, "pdf", Modality="DOC")
SC_CHEST = of_class(SecondaryCaptureImageStorage, "sc chest", Modality="OT")
SC_CR = of_class(SecondaryCaptureImageStorage, "sc cr", Modality="CR", BodyPartExamined=None)
SC_SCAN = of_class(SecondaryCaptureImageStorage, "sc scan", Modality="OT", BodyPartExamined=None)


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        ((CR, DX, SEG, PDF), (CR, DX)),
        ((CR, SC_SCAN), (CR,)),
        ((CR, SC_CHEST, SC_CR), (CR, SC_CHEST, SC_CR)),
        ((SC_SCAN, SEG), (SC_SCAN,)),
        ((SEG, PDF), ()),
    ],
)
def test_derived_objects_and_scans_are_not_radiographs(
    study: tuple[Dataset, ...], expected: tuple[Dataset, ...]
) -> None:
    assert radiographs_among(study) == expected


# Reading what breaks the rules


def test_a_file_without_preamble_and_meta_information_is_read() -> None:
    content = part10(chest(StudyDescription="x"))
    at = content.index(b"\x08\x00\x16\x00UI")

    assert description_of(read_part10(content[at:])).view is View.FRONTAL


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_element_that_breaks_its_vr_costs_only_itself() -> None:
    dataset = chest(InstanceNumber=None)
    content = part10(dataset).replace(b"\x20\x00\x20\x00CS", b"\x20\x00\x13\x00IS")

    description = description_of(read_part10(content))

    assert description.instance_number == 0
    assert description.view is View.FRONTAL


@pytest.mark.parametrize("charset", ["ISO_IR 999", "ISO 2022 IR 87", "\\\\", "GB18030"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_odd_character_set_does_not_stop_reading(charset: str) -> None:
    content = part10(chest(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jürgen", PatientID="Ä1"))
    padded = charset.encode().ljust(10)
    assert len(padded) <= 14
    content = content.replace(b"CS\x0a\x00ISO_IR 100", b"CS" + len(padded).to_bytes(2, "little") + padded)

    read = read_part10(content)

    assert description_of(read).patient is not None
    assert dcmread(DicomBytesIO(header_bytes(read))).StudyInstanceUID == STUDY


def test_a_header_drops_only_what_cannot_be_written() -> None:
    dataset = chest()
    dataset["Rows"]._value = "many"

    written = dcmread(DicomBytesIO(header_bytes(dataset)))

    assert "Rows" not in written
    assert written.PatientID == "P1"


def test_a_header_of_a_file_without_meta_information_gets_one() -> None:
    content = part10(chest())
    read = read_part10(content[content.index(b"\x08\x00\x16\x00UI") :])

    written = dcmread(DicomBytesIO(header_bytes(read)))

    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID


def test_implicit_files_keep_their_encoding() -> None:
    dataset = chest()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian

    written = dcmread(DicomBytesIO(header_bytes(read_part10(part10(dataset)))))

    assert written.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert written.PatientID == "P1"


def test_values_are_read_as_plain_text() -> None:
    dataset = chest(ImageType=["DERIVED", "PRIMARY"], PatientID="P1 ")
    dataset.add_new(0x00091001, "UN", b"abc")

    assert text(dataset, "ImageType") == "DERIVED\\PRIMARY"
    assert text(dataset, "PatientID") == "P1"
    assert text(dataset, "SeriesDescription") == ""


def test_values_of_the_file_never_reach_the_log(caplog: pytest.LogCaptureFixture) -> None:
    content = part10(chest()).replace(b"CS\x06\x00CHEST ", b"CS\x06\x00smith ")

    description_of(read_part10(content))

    assert caplog.text == ""


def test_a_deflated_file_is_read() -> None:
    dataset = chest()
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian

    assert description_of(read_part10(part10(dataset))).view is View.FRONTAL


def test_a_deflated_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MAX_INFLATED_BYTES", 2**20)
    dataset = chest(PixelData=None)
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = part10(dataset)
    meta = content[: len(content) - len(_deflated_part(content))]
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = squeeze.compress(b"\0" * 2**22) + squeeze.flush()

    with pytest.raises(InputError, match="grows beyond 1 MiB"):
        read_part10(meta + bomb)


def _deflated_part(content: bytes) -> bytes:
    """What follows the file meta information, whose length its first element states (PS3.10 7.1)."""
    length = int.from_bytes(content[140:144], "little")
    return content[144 + length :]


def test_a_dicomdir_is_named_as_what_it_is() -> None:
    directory = Dataset()
    directory.DirectoryRecordSequence = []
    directory.SOPClassUID, directory.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3"
    directory.file_meta = chest().file_meta

    with pytest.raises(InputError, match="DICOMDIR"):
        read_part10(part10(directory))


def test_a_file_cut_in_its_header_is_refused() -> None:
    content = part10(chest())

    with pytest.raises(InputError, match=r"lacks|cannot be read"):
        description_of(read_part10(content[:300]))
