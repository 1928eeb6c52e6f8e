"""The ladder that joins a report and a study, and the one mismatch that is fatal."""

from dataclasses import replace

import pytest
from fhir_input import ACCESSION, IDENTITY, OTHER_STUDY_UID, PATIENT_ID, STUDY_UID, TEXT

from plugin.errors import InputError
from plugin.matching import MatchedBy, check_same_patient, match, report_about
from plugin.values import PatientRef, Report, ReportRef, ReportStatus

NOBODY = replace(IDENTITY, patient=None)


def report(*, uids=(), accessions=(), patient=PATIENT_ID, issuer="", others=(), report_id="r"):
    return Report(
        ReportRef(report_id, "1"),
        ReportStatus.FINAL,
        text=TEXT,
        text_source="file",
        patient=None if patient is None else PatientRef(patient, issuer),
        other_patient_ids=others,
        study_instance_uids=uids,
        accession_numbers=accessions,
    )


RIGHT, WRONG = (STUDY_UID,), (OTHER_STUDY_UID,)


@pytest.mark.parametrize(
    ("given", "study", "by"),
    [
        (report(uids=RIGHT), IDENTITY, MatchedBy.STUDY_UID),
        (report(uids=(*WRONG, *RIGHT)), IDENTITY, MatchedBy.STUDY_UID),
        (report(uids=RIGHT, patient=None), IDENTITY, MatchedBy.STUDY_UID),
        (report(uids=RIGHT), NOBODY, MatchedBy.STUDY_UID),
        (report(uids=RIGHT, accessions=("X",)), IDENTITY, MatchedBy.STUDY_UID),
        (report(uids=WRONG), IDENTITY, MatchedBy.NOTHING),
        (report(uids=WRONG, accessions=(ACCESSION,)), IDENTITY, MatchedBy.NOTHING),
        (report(accessions=(ACCESSION,)), IDENTITY, MatchedBy.ACCESSION),
        (report(accessions=("X", ACCESSION)), IDENTITY, MatchedBy.ACCESSION),
        (report(accessions=("X",)), IDENTITY, MatchedBy.NOTHING),
        (report(accessions=(ACCESSION,), patient=None), IDENTITY, MatchedBy.CALLER),
        (report(accessions=(ACCESSION,)), NOBODY, MatchedBy.CALLER),
        (report(accessions=(ACCESSION,)), replace(IDENTITY, accession_number=" "), MatchedBy.CALLER),
        (report(), IDENTITY, MatchedBy.CALLER),
        (report(patient=None), IDENTITY, MatchedBy.CALLER),
    ],
)
def test_the_ladder(given, study, by):
    found = match(given, study)

    assert found.by is by
    assert found.proven == (by in (MatchedBy.STUDY_UID, MatchedBy.ACCESSION))


@pytest.mark.parametrize(
    ("given", "notes"),
    [
        (report(uids=RIGHT), 0),
        (report(uids=RIGHT, patient=None), 1),
        (report(accessions=(ACCESSION,)), 0),
        (report(), 1),
        (report(accessions=(ACCESSION,), patient=None), 2),
        (report(patient=None), 1),
    ],
)
def test_what_was_not_checked_is_noted(given, notes):
    assert len(match(given, IDENTITY).notes) == notes


def test_bare_text_is_allowed_and_noted():
    (note,) = match(report(patient=None), IDENTITY).notes

    assert note == "the report names neither patient nor study: it was taken as the report of these images"


@pytest.mark.parametrize("rung", [{"uids": RIGHT}, {"accessions": (ACCESSION,)}, {}])
def test_a_report_of_another_patient_is_refused_on_every_rung_without_naming_anyone(rung):
    with pytest.raises(InputError, match="of another patient") as caught:
        match(report(patient="SOMEBODY", **rung), IDENTITY)

    assert not any(word in str(caught.value) for word in ("SOMEBODY", PATIENT_ID, STUDY_UID, ACCESSION))


@pytest.mark.parametrize(
    ("report_issuer", "image_issuer", "same"),
    [
        ("", "", True),
        ("urn:oid:1.2.3", "", True),
        ("", "HOSPITAL", True),
        ("urn:oid:1.2.3", "1.2.3", True),
        ("urn:oid:1.2.3", "HOSPITAL", True),
        ("http://hospital.example/mrn", "http://hospital.example/mrn", True),
        ("urn:oid:1.2.3", "urn:oid:1.2.4", False),
        ("HOSPITAL", "CLINIC", False),
        ("http://hospital.example/mrn", "1.2.3", False),
    ],
)
def test_issuers_count_where_they_can_be_compared(report_issuer, image_issuer, same):
    given, patient = report(issuer=report_issuer), PatientRef(f" {PATIENT_ID} ", image_issuer)

    if same:
        assert check_same_patient(given, patient)
    else:
        with pytest.raises(InputError):
            check_same_patient(given, patient)


def test_any_identifier_of_the_patient_will_do():
    assert check_same_patient(report(patient="N-1", others=(PatientRef(PATIENT_ID),)), IDENTITY.patient)


def test_an_empty_patient_id_names_nobody():
    assert not check_same_patient(report(), PatientRef(" "))


def test_the_report_about_the_study_is_picked():
    right = report(uids=RIGHT, report_id="right")

    found, how = report_about((report(uids=WRONG), right, report(patient="SOMEBODY", uids=RIGHT)), IDENTITY)

    assert (found, how.by) == (right, MatchedBy.STUDY_UID)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((report(uids=WRONG),), "another study"),
        ((report(patient="SOMEBODY"),), "another patient"),
        ((report(uids=WRONG), report(uids=WRONG)), "none of them is"),
        ((report(), report()), "none of them is"),
        ((report(uids=RIGHT), report(accessions=(ACCESSION,))), "2 of them are"),
    ],
)
def test_no_report_or_several_about_the_study_are_refused(given, says):
    with pytest.raises(InputError, match=says):
        report_about(given, IDENTITY)


def test_a_single_report_that_nothing_contradicts_is_taken():
    given = report(patient=None)

    assert report_about((given,), IDENTITY)[0] is given
