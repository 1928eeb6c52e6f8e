"""FHIR and files in, reports out; and every input that cannot be a report."""

import json
from datetime import UTC, datetime

import pytest
from fhir_input import (
    ACCESSION,
    ISSUER,
    PATIENT_ID,
    STUDY_UID,
    TEXT,
    around,
    as_bytes,
    attachment,
    bundle,
    imaging_study,
    order,
    patient,
    report,
    typed,
)

from plugin.errors import InputError
from plugin.fhir.reading import described, report_from_file, report_from_text, reports_from
from plugin.fhir.resource import MAX_BYTES, Element, Resources
from plugin.values import Accession, PatientRef, ReportRef, ReportStatus


def read(document):
    (found,) = reports_from(as_bytes(document))
    return found


def file(folder, content, name="report.json"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else as_bytes(content))
    return path


# What is read


def test_a_bundle_tells_everything_about_its_report():
    found = read(bundle())

    assert found.ref == ReportRef("report", "3")
    assert found.status is ReportStatus.FINAL
    assert found.text == TEXT
    assert found.patient == PatientRef(PATIENT_ID, ISSUER)
    assert found.other_patient_ids == (PatientRef("N-1", "http://example.org/national"),)
    assert found.study_instance_uids == (STUDY_UID,)
    assert found.accession_numbers == (ACCESSION,)
    assert found.issued == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert (found.subject_id, found.service_request_ids, found.imaging_study_ids) == ("pat", ("order",), ("study",))


def test_a_report_alone_tells_what_its_own_references_say():
    found = read(report())

    assert found.patient is None
    assert found.study_instance_uids == ()
    assert (found.subject_id, found.service_request_ids, found.imaging_study_ids) == ("pat", ("order",), ("study",))


@pytest.mark.parametrize("value", [f"urn:oid:{STUDY_UID}", STUDY_UID])
@pytest.mark.parametrize("field", ["imagingStudy", "study"])
def test_the_study_uid_is_read_with_and_without_prefix_in_r4_and_r5(value, field):
    study = imaging_study(identifier=[{"system": "urn:dicom:uid", "value": value}])

    found = read(bundle(report(**{"imagingStudy": None, field: [{"reference": "ImagingStudy/study"}]}), study))

    assert found.study_instance_uids == (STUDY_UID,)


def test_logical_references_are_followed_by_their_identifier():
    logical = report(
        subject={"identifier": typed(PATIENT_ID, "MR", system=ISSUER)},
        imagingStudy=[{"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{STUDY_UID}"}}],
        basedOn=[{"type": "ServiceRequest", "identifier": typed(ACCESSION, "ACSN")}],
    )

    found = read(logical)

    assert found.patient == PatientRef(PATIENT_ID, ISSUER)
    assert (found.study_instance_uids, found.accession_numbers) == ((STUDY_UID,), (ACCESSION,))
    assert (found.subject_id, found.service_request_ids, found.imaging_study_ids) == (None, (), ())


def test_contained_resources_are_followed():
    contained = [patient(id="p"), imaging_study(id="s", basedOn=None)]
    found = read(report(subject={"reference": "#p"}, imagingStudy=[{"reference": "#s"}], contained=contained))

    assert found.patient == PatientRef(PATIENT_ID, ISSUER)
    assert found.study_instance_uids == (STUDY_UID,)
    assert (found.subject_id, found.imaging_study_ids) == (None, ())


def test_urn_uuid_references_are_followed_within_the_bundle():
    document = bundle(patient(id=None), report(subject={"reference": "urn:uuid:1"}))
    document["entry"][0]["fullUrl"] = "urn:uuid:1"

    found = read(document)

    assert found.patient == PatientRef(PATIENT_ID, ISSUER)
    assert found.subject_id is None


def test_the_same_id_at_another_server_is_another_resource():
    document = bundle(patient(), report(subject={"reference": "https://one.example/fhir/Patient/pat"}))
    document["entry"][0]["fullUrl"] = "https://two.example/fhir/Patient/pat"

    assert read(document).patient is None


def test_an_absolute_reference_finds_its_full_url():
    document = bundle(patient(), report(subject={"reference": "https://one.example/fhir/Patient/pat"}))
    document["entry"][0]["fullUrl"] = "https://one.example/fhir/Patient/pat"

    assert read(document).patient == PatientRef(PATIENT_ID, ISSUER)


def test_an_accession_number_is_read_from_report_order_and_study():
    found = read(
        bundle(
            report(identifier=[typed("A-1", "ACSN"), typed("R-1", "FILL")], basedOn=None),
            imaging_study(identifier=[typed("A-2", "ACSN")]),
            order(identifier=[typed("A-3", "ACSN")]),
        )
    )

    assert found.accession_numbers == ("A-1", "A-3", "A-2")


def test_a_patient_without_record_number_goes_by_what_there_is():
    found = read(
        bundle(report(), patient(identifier=[{"value": "X", "assigner": {"display": "Ward"}}, {"value": " "}]))
    )

    assert (found.patient, found.other_patient_ids) == (PatientRef("X", "Ward"), ())


@pytest.mark.parametrize("uid", ["not a uid", "1.2." + "3" * 70, "1.02.3"])
def test_an_invalid_study_uid_is_passed_over(uid):
    study = imaging_study(identifier=[{"system": "urn:dicom:uid", "value": uid}, {"system": "other", "value": "1.2"}])

    assert read(bundle(report(), study)).study_instance_uids == ()


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"issued": "2026-03"}, "issued", None),
        ({"issued": "2026-03-01T10:00:00"}, "issued", None),
        ({"issued": 5}, "issued", None),
        ({"status": "brand-new"}, "status", ReportStatus.UNKNOWN),
        ({"status": None}, "status", ReportStatus.UNKNOWN),
        ({"subject": "Patient/pat"}, "patient", None),
        ({"imagingStudy": {"reference": "ImagingStudy/study"}}, "study_instance_uids", (STUDY_UID,)),
        ({"basedOn": [{"reference": "CarePlan/c"}, 7]}, "service_request_ids", ()),
        ({"unknownField": {"x": [1]}}, "text", TEXT),
    ],
)
def test_reading_is_tolerant_of_odd_fields(changes, field, value):
    assert getattr(read(around(report(**changes))), field) == value


def test_a_report_without_version_is_versioned_by_its_text():
    one, other = read(report(meta=None)), read(report(meta=None, presentedForm=[attachment("Other.")]))

    assert one.ref.report_id == other.ref.report_id == "report"
    assert one.ref.version.startswith("sha256:")
    assert one.ref.version != other.ref.version


def test_a_report_without_id_is_known_by_its_identifier_then_by_its_text():
    named = [read(report(id=None, identifier=[typed("R-1", "FILL")], status=status)) for status in ("final", "amended")]
    unnamed = read(report(id=None))

    assert named[0].ref.report_id == named[1].ref.report_id != unnamed.ref.report_id
    assert unnamed.ref.report_id.startswith("urn:uuid:")


def test_an_id_that_breaks_the_rules_is_not_taken_over():
    assert read(report(id="../../etc/passwd")).ref.report_id.startswith("urn:uuid:")


def test_several_reports_of_a_bundle_are_all_read_and_unusable_ones_left_out():
    found = reports_from(as_bytes(bundle(report(id="a"), report(id="b", status="cancelled"), report(id="c"))))

    assert [each.ref.report_id for each in found] == ["a", "c"]


# Files


def test_a_text_file_becomes_a_report_known_by_its_text(tmp_path):
    (found,) = report_from_file(file(tmp_path, b"FINDINGS: none\n", "a.txt"))
    (again,) = report_from_file(file(tmp_path, b"FINDINGS: none\n", "b.txt"))

    assert found == again == report_from_text(b"FINDINGS: none\n")
    assert found.text == "FINDINGS: none\n"
    assert (found.patient, found.status, found.text_source) == (None, ReportStatus.UNKNOWN, "file")


@pytest.mark.parametrize("name", ["report.json", "report.JSON", "report", "report.txt"])
def test_fhir_json_is_told_by_its_content(tmp_path, name):
    (found,) = report_from_file(file(tmp_path, b"\xef\xbb\xbf \n" + as_bytes(report()), name))

    assert found.text == TEXT


# Bad input: one clear error each


BAD = {
    "wrong JSON": (b'{"resourceType": "DiagnosticReport",}', r"not valid JSON \(line 1, column 3\d\)"),
    "JSON that is not FHIR": (b'{"a": 1}', "not FHIR"),
    "NaN in JSON": (b'{"resourceType": "DiagnosticReport", "x": NaN}', "not valid JSON"),
    "an absurd number": (b'{"resourceType": "X", "x": ' + b"9" * 5000 + b"}", "not valid JSON"),
    "JSON in UTF-16": ('{"resourceType": "X"}'.encode("utf-16-le") + b"\xff", "not UTF-8"),
    "half a character": (b'{"resourceType": "DiagnosticReport", "conclusion": "\\ud800"}', "half a character"),
    "deep JSON": (b'{"resourceType": "Bundle", "x": ' + b"[" * 500 + b"]" * 500 + b"}", "100 levels"),
    "very deep JSON": (b'{"resourceType": "Bundle", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "deep"),
    "no report in the bundle": (as_bytes(bundle(patient())), "no DiagnosticReport"),
    "an empty bundle": (b'{"resourceType": "Bundle"}', "no DiagnosticReport"),
    "another resource": (as_bytes(patient()), "no DiagnosticReport"),
    "an empty report": (as_bytes(report(presentedForm=None)), "report is empty"),
    "a withdrawn report": (as_bytes(report(status="entered-in-error")), "withdrawn .*entered-in-error"),
    "a cancelled report": (as_bytes(report(status="cancelled")), "withdrawn .*cancelled"),
    "a report behind a link": (as_bytes(report(presentedForm=[{"url": "https://x/y"}])), "not fetched"),
    "invalid base64": (as_bytes(report(presentedForm=[{"data": "A"}])), "not valid base64"),
    "a PDF inside": (as_bytes(report(presentedForm=[attachment("%PDF-1.7")])), "PDF"),
    "an RTF inside": (as_bytes(report(presentedForm=[attachment(r"{\rtf1 x}")])), "RTF"),
    "5 MB of text inside": (as_bytes(report(presentedForm=[attachment("x" * 5_000_000)])), "5,000,000 characters"),
    "FHIR in XML": (b'<DiagnosticReport xmlns="http://hl7.org/fhir"/>', "FHIR in XML"),
    "an empty file": (b"", "report is empty"),
    "a PDF file": (b"%PDF-1.7", "the report is a PDF"),
    "an RTF file": (rb"{\rtf1 x}", "the report is RTF"),
    "5 MB of text": (b"x" * 5_000_000, "5,000,000 characters"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_clear_error(tmp_path, name):
    content, says = BAD[name]

    with pytest.raises(InputError, match=says) as caught:
        report_from_file(file(tmp_path, content, "report"))

    assert not caught.value.retryable


@pytest.mark.parametrize("content", [b"[]", b"7", b'"text"', b"null", b'{"resourceType": 5}'])
def test_json_that_is_no_resource_is_refused(content):
    with pytest.raises(InputError, match="not FHIR"):
        reports_from(content)


def test_a_json_file_that_is_not_json_is_refused_as_such(tmp_path):
    with pytest.raises(InputError, match="not valid JSON"):
        report_from_file(file(tmp_path, b"FINDINGS: none", "report.json"))


def test_a_file_too_large_for_any_report_is_refused_unread(tmp_path):
    path = tmp_path / "huge.txt"
    with path.open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)

    with pytest.raises(InputError, match="larger than 50,000,000 bytes"):
        report_from_file(path)


def test_fhir_input_too_large_is_refused():
    with pytest.raises(InputError, match="at most 50,000,000"):
        reports_from(b" " * (MAX_BYTES + 1))


@pytest.mark.parametrize("name", ["missing.txt", "."])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="cannot be read"):
        report_from_file(tmp_path / name)


def test_errors_name_no_patient(tmp_path):
    document = json.loads(as_bytes(around(report(status="cancelled"))))

    with pytest.raises(InputError) as caught:
        report_from_file(file(tmp_path, document))

    assert not any(secret in str(caught.value) for secret in ("Geheim", PATIENT_ID, str(tmp_path)))


V2 = "http://terminology.hl7.org/CodeSystem/v2-0074"
LOINC = "http://loinc.org"


@pytest.mark.parametrize(
    ("codes", "may"),
    [
        ([], True),
        ([(V2, "RAD")], True),
        ([(V2, "RX")], True),
        ([(V2, "LAB")], False),
        ([(V2, "CT"), (V2, "NMR")], False),
        ([(V2, "LAB"), (V2, "RAD")], True),
        ([(LOINC, "LP29684-5"), (V2, "CT")], True),
        ([("urn:oid:1.2.3", "LAB")], True),
    ],
)
def test_a_report_of_other_services_alone_is_not_one_of_radiographs(codes, may):
    category = [{"coding": [{"system": system, "code": code}]} for system, code in codes]
    element = Element(report(category=category))

    assert described(element, Resources([("", element)])).radiograph is may


def test_the_issuer_of_an_accession_number_is_kept():
    element = Element(report(basedOn=None, imagingStudy=None, identifier=[typed("A-1", "ACSN", system="urn:oid:1.2")]))

    assert described(element, Resources([("", element)])).accessions == (Accession("A-1", "urn:oid:1.2"),)


def test_studies_that_are_only_compared_with_are_not_what_the_report_is_about():
    """All of imagingStudy is the report's own; what its Observations or R5's supportingInfo refer to is not."""
    prior = {
        "resourceType": "ImagingStudy",
        "id": "prior",
        "identifier": [{"system": "urn:dicom:uid", "value": "1.2.9"}],
    }
    derived = {"resourceType": "Observation", "id": "o", "derivedFrom": [{"reference": "ImagingStudy/prior"}]}
    document = bundle(
        patient(),
        imaging_study(),
        prior,
        derived,
        report(
            basedOn=None,
            result=[{"reference": "Observation/o"}],
            supportingInfo=[{"reference": {"reference": "ImagingStudy/prior"}}],
            extension=[{"url": "http://example.org/comparison", "valueReference": {"reference": "ImagingStudy/prior"}}],
        ),
    )

    (found,) = reports_from(as_bytes(document))

    assert found.study_instance_uids == (STUDY_UID,)
