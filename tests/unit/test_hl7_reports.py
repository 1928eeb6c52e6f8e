"""ORU^R01 as FHIR: which field becomes what, by the tables of HL7 v2."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir_input import OTHER_STUDY_UID, STUDY_UID
from hl7_input import MSH, OBR, OBX, ORC, PID, TEXT, ZDS, field, obx, oru

from plugin.fhir.reading import identity_of
from plugin.fhir.resource import Element, Resources
from plugin.fhir.text import text_of_report
from plugin.hl7v2.message import Code, MessageError, message_of
from plugin.hl7v2.reports import ACCESSION_FIELDS, ReceivedReport, reports_in
from plugin.values import PatientRef


def received(content: bytes, accession: tuple[str, ...] = ("OBR-3", "OBR-18")) -> tuple[ReceivedReport, ...]:
    return reports_in(message_of(content, otherwise="windows-1252"), accession_fields=accession)


def the_report(content: bytes, accession: tuple[str, ...] = ("OBR-3", "OBR-18")) -> dict[str, Any]:
    (found,) = received(content, accession)
    return found.resources[-1]


def identity(content: bytes, accession: tuple[str, ...] = ("OBR-3", "OBR-18")) -> Any:
    (found,) = received(content, accession)
    resources = Resources(("", Element(each)) for each in found.resources)
    return identity_of(Element(found.resources[-1]), resources)


def text(content: bytes) -> str:
    return text_of_report(Element(the_report(content)), Resources(())).text


def test_a_message_becomes_valid_fhir_with_everything_that_it_says() -> None:
    (found,) = received(oru())
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": e} for e in found.resources]}

    Bundle.model_validate(json.loads(json.dumps(bundle)))
    report = found.resources[-1]
    assert [each["resourceType"] for each in found.resources] == [
        "Patient",
        "ServiceRequest",
        "ImagingStudy",
        "DiagnosticReport",
    ]
    assert (report["status"], report["issued"], report["effectiveDateTime"]) == (
        "final",
        "2026-03-01T08:59:00Z",
        "2026-03-01T08:30:00Z",
    )
    assert report["category"][0]["coding"][0]["code"] == "RAD"
    assert report["code"]["coding"] == [
        {"system": "http://loinc.org", "code": "36643-5", "display": "XR Chest 2 Views"}
    ]
    assert text(oru()) == TEXT


def test_the_patient_goes_by_every_identifier_with_its_authority_and_type() -> None:
    who = identity(oru())

    assert who.patient == PatientRef("MRN-42", "urn:oid:1.2.826.0.1.3680043.9")
    assert who.other_patient_ids == (PatientRef("N-1", "NATIONAL"),)


def test_the_medical_record_number_comes_first_wherever_it_stands() -> None:
    who = identity(oru(pid="PID|1||N-1^^^NATIONAL^NI~M-1^^^HOSPITAL^MR"))

    assert who.patient == PatientRef("M-1", "HOSPITAL")


def test_an_old_sender_names_the_patient_in_pid_2() -> None:
    assert identity(oru(pid="PID|1|OLD-1|")).patient == PatientRef("OLD-1")


def test_names_birth_dates_and_addresses_are_not_taken_over() -> None:
    (found,) = received(oru())

    assert "Geheim" not in json.dumps(found.resources)
    assert "1950" not in json.dumps(found.resources)


@pytest.mark.parametrize("zds", [ZDS, f"ZDS|{STUDY_UID}", obx(STUDY_UID, kind="ST", named="113014^DICOM Study^DCM")])
def test_the_study_is_named_by_zds_or_by_an_observation(zds: str) -> None:
    assert identity(oru(ORC, OBR, *OBX, zds)).study_instance_uids == (STUDY_UID,)
    assert text(oru(ORC, OBR, *OBX, zds)) == TEXT


def test_a_study_uid_that_is_none_is_left_out() -> None:
    assert identity(oru(ORC, OBR, *OBX, "ZDS|not a uid")).study_instance_uids == ()


@pytest.mark.parametrize("name", ACCESSION_FIELDS)
def test_the_accession_number_stands_where_the_site_says(name: str) -> None:
    orc, obr = "ORC|RE|a||", field(field("OBR|1||filler|x", 25, "F"), 3, "filler")
    segments = {"ORC": orc, "OBR": obr}
    segments[name[:3]] = field(segments[name[:3]], int(name[4:]), "HERE")

    found = identity(oru(segments["ORC"], segments["OBR"], *OBX), (name,))

    assert [each.number for each in found.accessions] == ["HERE"]


def test_an_accession_number_has_the_authority_that_is_named_for_good() -> None:
    obr = field(OBR, 3, "ACC-7^RIS^1.2.3^ISO")

    (accession,) = identity(oru(ORC, obr, *OBX)).accessions

    assert (accession.number, accession.issuer) == ("ACC-7", "urn:oid:1.2.3")


@pytest.mark.parametrize(
    ("result", "status"),
    [  # HL7 table 0123
        ("O", "registered"),
        ("I", "registered"),
        ("S", "registered"),
        ("A", "partial"),
        ("R", "partial"),
        ("P", "preliminary"),
        ("F", "final"),
        ("C", "corrected"),
        ("X", "cancelled"),
        ("Y", "unknown"),
        ("Z", "unknown"),
        ("f", "final"),
        ("", "final"),
        ("?", "final"),
    ],
)
def test_the_status_of_the_result_is_the_status_of_the_report(result: str, status: str) -> None:
    assert the_report(oru(ORC, field(OBR, 25, result), *OBX))["status"] == status


@pytest.mark.parametrize(
    ("lines", "status"),
    [  # HL7 table 0085, where OBR-25 is silent
        ("F", "final"),
        ("U", "final"),
        ("C", "corrected"),
        ("FC", "corrected"),
        ("P", "preliminary"),
        ("FP", "preliminary"),
        ("R", "partial"),
        ("S", "partial"),
        ("I", "registered"),
        ("X", "cancelled"),
        ("W", "entered-in-error"),
        ("D", "entered-in-error"),
        ("WX", "entered-in-error"),
        ("DF", "final"),
        ("", "unknown"),
    ],
)
def test_the_lines_tell_the_status_when_the_order_does_not(lines: str, status: str) -> None:
    observations = [obx("Text", status=line) for line in lines] or [obx("Text", status="")]

    assert the_report(oru(field(OBR, 25, ""), *observations))["status"] == status


def test_a_final_result_of_corrected_lines_is_a_correction() -> None:
    assert the_report(oru(OBR, obx("Text", status="C")))["status"] == "corrected"


def test_a_result_whose_every_line_was_wrong_is_withdrawn_whatever_the_order_says() -> None:
    report = the_report(oru(OBR, obx("For another patient", status="W")))

    assert report["status"] == "entered-in-error"
    assert "presentedForm" not in report


def test_deleted_lines_are_left_out() -> None:
    assert text(oru(OBR, obx("Stays."), obx("Gone.", status="D"))) == "Stays."


# Text


@pytest.mark.parametrize("kind", ["TX", "FT", "ST", ""])
def test_each_observation_and_each_repetition_is_a_line(kind: str) -> None:
    assert (
        text(oru(OBR, obx("One.~Two.", kind=kind), obx("", kind=kind), obx("Four.", kind=kind)))
        == "One.\nTwo.\n\nFour."
    )


def test_other_observations_are_no_text() -> None:
    assert text(oru(OBR, obx("12", kind="NM"), obx("Left.", kind="TX"), obx("a^b", kind="CE"))) == "Left."


@pytest.mark.parametrize(
    ("named", "heading"),
    [
        ("36643-5&GDT^XR", "FINDINGS"),
        ("36643-5&IMP^XR", "IMPRESSION"),
        ("GDT", "FINDINGS"),
        ("IMP", "IMPRESSION"),
        ("59776-5^Findings^LN", "FINDINGS"),
        ("19005-8^Impression^LN", "IMPRESSION"),
        ("L1^local^99LOC^19005-8^Impression^LN", "IMPRESSION"),
        ("36643-5&ADT", "ADDENDUM"),
        ("36643-5&REC", "RECOMMENDATION"),
        ("18834-2^^LN", "COMPARISON"),
    ],
)
def test_what_an_observation_is_named_becomes_a_heading(named: str, heading: str) -> None:
    assert text(oru(OBR, obx("Words.", named=named))) == f"{heading}:\nWords."


def test_a_section_that_begins_with_its_heading_gets_no_second_one() -> None:
    sections = (obx("FINDINGS: Left.", named="GDT"), obx("Impression:", named="IMP"), obx("Left.", named="IMP"))

    assert text(oru(OBR, *sections)) == "FINDINGS: Left.\n\nImpression:\nLeft."


def test_unnamed_lines_after_a_section_are_set_apart() -> None:
    assert text(oru(OBR, obx("Left.", named="IMP"), obx("Dictated."))) == "IMPRESSION:\nLeft.\n\nDictated."


def ed(content: bytes, *, subtype: str = "PDF", kind: str = "AP", encoding: str = "Base64") -> str:
    data = base64.b64encode(content).decode() if encoding == "Base64" else content.hex()
    return obx(f"RIS^{kind}^{subtype}^{encoding}^{data}", kind="ED")


@pytest.mark.parametrize(
    ("document", "media", "content"),
    [
        (ed(b"%PDF-1.7"), "application/pdf", b"%PDF-1.7"),
        (ed(b"%PDF-1.7", encoding="Hex"), "application/pdf", b"%PDF-1.7"),
        (ed(b"<p>Left</p>", subtype="HTML", kind="TEXT"), "text/html; charset=utf-8", b"<p>Left</p>"),
        (ed("Größe".encode(), subtype="PLAIN", kind="TEXT"), "text/plain; charset=utf-8", "Größe".encode()),
        (ed("Größe".encode("latin-1"), subtype="", kind="TEXT"), "text/plain; charset=utf-8", None),
        (ed(b"x", subtype="Octet-stream"), "application/octet-stream", b"x"),
    ],
)
def test_a_document_within_the_message_is_kept_as_it_is(document: str, media: str, content: bytes | None) -> None:
    (form,) = the_report(oru(OBR, document))["presentedForm"]

    assert form["contentType"] == media
    assert content is None or base64.b64decode(form["data"]) == content


def test_text_stands_before_documents() -> None:
    forms = the_report(oru(OBR, ed(b"%PDF-1.7"), obx("Left.")))["presentedForm"]

    assert [form["contentType"].partition(";")[0] for form in forms] == ["text/plain", "application/pdf"]


# Several orders


def test_each_order_becomes_a_report_of_its_own() -> None:
    second = field(field(OBR, 3, "ACC-8"), 18, "ACC-8")
    content = oru(ORC, OBR, obx("One."), ZDS, field(ORC, 3, "ACC-8"), second, obx("Two."), f"ZDS|{OTHER_STUDY_UID}")

    found = received(content)

    assert len({each.report_id for each in found}) == 2
    studies = [[r["identifier"][0]["value"] for r in f.resources if r["resourceType"] == "ImagingStudy"] for f in found]
    assert studies == [[f"urn:oid:{STUDY_UID}"], [f"urn:oid:{OTHER_STUDY_UID}"]]


def test_orders_of_one_number_are_one_report() -> None:
    content = oru(OBR, obx("One.", named="GDT"), OBR, obx("Two.", named="IMP"))

    assert text(content) == "FINDINGS:\nOne.\n\nIMPRESSION:\nTwo."


def test_the_least_settled_of_such_orders_tells_the_status() -> None:
    assert the_report(oru(OBR, obx("One."), field(OBR, 25, "P"), obx("Two.")))["status"] == "preliminary"


def test_a_second_patient_begins_with_pid() -> None:
    other = "PID|2||OTHER^^^HOSPITAL^MR"
    first, second = received(oru(OBR, obx("One."), other, field(OBR, 3, "ACC-9"), obx("Two.")))

    assert first.resources[0]["identifier"][0]["value"] == "MRN-42"
    assert second.resources[0]["identifier"][0]["value"] == "OTHER"


def test_the_same_order_has_the_same_ids_whatever_else_the_message_says() -> None:
    (one,), (two,) = received(oru()), received(oru(OBR, obx("Amended."), msh=field(MSH, 10, "MSG-2")))

    assert [r["id"] for r in one.resources if r["resourceType"] != "ImagingStudy"] == [r["id"] for r in two.resources]
    assert one.report_id == two.report_id
    assert one.content_sha256 != two.content_sha256


def test_the_same_number_at_another_facility_is_another_report() -> None:
    (one,), (two,) = received(oru()), received(oru(msh=field(MSH, 4, "ELSEWHERE")))

    assert one.report_id != two.report_id


@pytest.mark.parametrize(
    ("content", "code", "where"),
    [
        (oru(msh=field(MSH, 9, "ADT^A01")), Code.MESSAGE_TYPE, "MSH^1^9"),
        (oru(msh=field(MSH, 9, "ORU^R30")), Code.EVENT, "MSH^1^9"),
        (oru(msh=field(MSH, 9, "ORU")), Code.EVENT, "MSH^1^9"),
        (oru(msh=field(MSH, 12, "3.0")), Code.VERSION, "MSH^1^12"),
        (oru(msh=field(MSH, 12, "")), Code.VERSION, "MSH^1^12"),
        (oru(msh=field(MSH, 10, "")), Code.MISSING, "MSH^1^10"),
        (oru(pid="PID|1||"), Code.MISSING, "PID^1^3"),
        (oru(pid="NTE|1"), Code.SEQUENCE, "PID^1"),
        (oru("NTE|1"), Code.SEQUENCE, "OBR^1"),
        (oru("OBR|1||||"), Code.MISSING, "OBR^1^3"),
        (oru(OBR, obx("RIS^AP^PDF^Base64^%%%", kind="ED")), Code.DATA_TYPE, "OBX^1^5"),
    ],
)
def test_a_message_that_cannot_become_a_report_is_refused_with_its_place(
    content: bytes, code: Code, where: str
) -> None:
    with pytest.raises(MessageError) as refused:
        received(content)

    assert (refused.value.code, refused.value.where) == (code, where)


def test_patient_segment_needs_no_particular_place_in_the_header() -> None:
    assert PID in oru("PV1|1|O", OBR, *OBX).decode()
    assert text(oru("PV1|1|O", OBR, *OBX)) == TEXT
