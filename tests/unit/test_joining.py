"""The ladder from the report's side: what joins, what waits, what a person has to say, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from memory import report

from plugin.joining import (
    Decision,
    Rung,
    Seen,
    decided_by_accession,
    decided_by_itself,
    decided_by_patient,
    decided_by_studies,
    rung_of,
)
from plugin.ports import Decided, Outcome, StudyIdentity
from plugin.values import Accession, PatientRef, ReportStatus, StudyRef

A, B = StudyRef("1.2.1"), StudyRef("1.2.2")
ORDER = (Accession("A1"),)


def seen(
    study: StudyRef = A, *, patient: str | None = "P1", issuer: str = "", images: int = 1, fault: str = ""
) -> Seen:
    """A study under accession number A1."""
    who = PatientRef(patient) if patient else None
    return Seen(StudyIdentity(study, "A1", who, issuer), tuple(map(str, range(images))), fault)


def word(*studies: StudyRef, among: tuple[StudyRef, ...] = (A, B)) -> Decided:
    return Decided(studies, among, "a person", "", datetime(2026, 3, 1, tzinfo=UTC))


def joined(decision: Decision) -> tuple[Outcome, tuple[StudyRef, ...]]:
    return decision.outcome, tuple(each.study for each in decision.studies)


@pytest.mark.parametrize(
    ("changes", "rung"),
    [
        ({"study_instance_uids": ("1.2",), "accessions": ORDER}, Rung.STUDY),
        ({"accessions": ORDER}, Rung.ACCESSION),
        ({}, Rung.PATIENT),
        ({"patient": None}, Rung.NOTHING),
    ],
)
def test_the_first_thing_that_the_report_names_is_what_it_is_joined_by(changes: dict[str, Any], rung: Rung) -> None:
    assert rung_of(report(**changes)) is rung


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"ours": True, "status": ReportStatus.CANCELLED}, Outcome.IGNORED),
        ({"status": ReportStatus.CANCELLED}, Outcome.WITHDRAWN),
        ({"status": ReportStatus.ENTERED_IN_ERROR, "unusable": "the report has no text"}, Outcome.WITHDRAWN),
        ({"radiograph": False}, Outcome.IGNORED),
        ({"status": ReportStatus.REGISTERED, "unusable": "the report has no text"}, Outcome.IGNORED),
        ({"unusable": "the report is a PDF"}, Outcome.REFUSED),
        ({"patient": None}, Outcome.REFUSED),
        ({"status": ReportStatus.PRELIMINARY}, None),
        ({"status": ReportStatus.APPENDED}, None),
        ({"study_instance_uids": ("1.2",), "patient": None}, None),
    ],
)
def test_what_a_report_alone_decides(changes: dict[str, Any], outcome: Outcome | None) -> None:
    decision = decided_by_itself(report(**changes))

    assert (decision and decision.outcome) is outcome
    assert decision is None or (decision.reason and decision.keeps == ())


def test_a_report_that_is_there_no_more_is_withdrawn() -> None:
    assert decided_by_itself(None) == Decision(Outcome.WITHDRAWN, "the report was deleted", recheck=True)


class TestByStudies:
    BOTH = report(study_instance_uids=("1.2.1", "1.2.2"))

    def test_all_studies_that_it_names_are_its_own(self) -> None:
        assert joined(decided_by_studies(self.BOTH, (seen(A), seen(B)))) == (Outcome.QUEUED, (A, B))

    def test_what_is_not_there_yet_is_waited_for_beside_what_is(self) -> None:
        decision = decided_by_studies(self.BOTH, (seen(A),))

        assert joined(decision) == (Outcome.QUEUED, (A,))
        assert decision.recheck

    def test_a_study_that_is_not_there_yet_is_waited_for(self) -> None:
        decision = decided_by_studies(self.BOTH, ())

        assert (decision.outcome, decision.recheck) == (Outcome.WAITING, True)

    def test_a_study_without_radiographs_is_not_ours(self) -> None:
        assert decided_by_studies(self.BOTH, (seen(A, images=0), seen(B, images=0))).outcome is Outcome.IGNORED
        assert joined(decided_by_studies(self.BOTH, (seen(A), seen(B, images=0)))) == (Outcome.QUEUED, (A,))

    def test_one_study_of_another_patient_refuses_the_report(self) -> None:
        decision = decided_by_studies(self.BOTH, (seen(A), seen(B, patient="P2")))

        assert joined(decision) == (Outcome.REFUSED, ())
        assert "another patient" in decision.reason
        assert "P2" not in decision.reason

    def test_a_patient_that_is_not_stated_does_not_speak_against_it(self) -> None:
        assert decided_by_studies(self.BOTH, (seen(A, patient=None), seen(B))).outcome is Outcome.QUEUED

    def test_images_of_several_patients_are_refused(self) -> None:
        assert decided_by_studies(self.BOTH, (seen(A, fault="several patients"),)).reason == "several patients"


class TestByAccession:
    REPORT = report(accessions=ORDER)

    @pytest.mark.parametrize(
        ("found", "outcome", "studies"),
        [
            ((), Outcome.WAITING, ()),
            ((seen(A),), Outcome.QUEUED, (A,)),
            ((seen(A, images=0),), Outcome.IGNORED, ()),
            ((seen(A), seen(B)), Outcome.REVIEW, ()),
            ((seen(A), seen(B, images=0)), Outcome.REVIEW, ()),
            ((seen(A, patient=None),), Outcome.REVIEW, ()),
            ((seen(A), seen(B, patient=None)), Outcome.REVIEW, ()),
            ((seen(A), seen(B, patient="P2")), Outcome.QUEUED, (A,)),
            ((seen(A, patient="P2"),), Outcome.WAITING, ()),
            ((seen(A, fault="several patients"),), Outcome.REFUSED, ()),
        ],
        ids=[
            "no images yet",
            "one study",
            "one without radiographs",
            "two studies: nobody knows",
            "two, one without radiographs: it may be the report of that one",
            "no patient to compare",
            "one proven, one not",
            "the same number of another patient elsewhere",
            "only of another patient: ours may still come",
            "several patients",
        ],
    )
    def test_the_order(self, found: tuple[Seen, ...], outcome: Outcome, studies: tuple[StudyRef, ...]) -> None:
        assert joined(decided_by_accession(self.REPORT, found)) == (outcome, studies)

    def test_candidates_are_what_a_person_chooses_from(self) -> None:
        assert decided_by_accession(self.REPORT, (seen(A), seen(B))).candidates == (A, B)

    def test_a_report_without_a_patient_is_never_joined_by_its_accession_number_alone(self) -> None:
        bare = report(accessions=ORDER, patient=None)

        assert decided_by_accession(bare, (seen(A),)).outcome is Outcome.REVIEW

    @pytest.mark.parametrize(
        ("mine", "theirs", "outcome"),
        [
            ("urn:oid:1.2", "urn:oid:1.2", Outcome.QUEUED),
            ("urn:oid:1.2", "1.2", Outcome.QUEUED),
            ("urn:oid:1.2", "HOSPITAL", Outcome.QUEUED),
            ("urn:oid:1.2", "", Outcome.QUEUED),
            ("urn:oid:1.2", "urn:oid:1.3", Outcome.WAITING),
            ("HOSPITAL", "CLINIC", Outcome.WAITING),
        ],
    )
    def test_an_accession_number_of_another_issuer_is_another_order(
        self, mine: str, theirs: str, outcome: Outcome
    ) -> None:
        given = report(accessions=(Accession("A1", mine),))

        assert decided_by_accession(given, (seen(A, issuer=theirs),)).outcome is outcome

    def test_the_same_order_of_another_patient_is_fatal_when_issuers_prove_that_it_is_the_same(self) -> None:
        given = report(accessions=(Accession("A1", "urn:oid:1.2"),))

        decision = decided_by_accession(given, (seen(A, issuer="urn:oid:1.2", patient="P2"), seen(B)))

        assert (decision.outcome, decision.keeps) == (Outcome.REFUSED, ())

    def test_a_site_may_say_that_a_report_is_about_its_whole_order(self) -> None:
        found = (seen(A), seen(B), seen(StudyRef("1.2.3"), images=0), seen(StudyRef("1.2.4"), patient=None))

        assert joined(decided_by_accession(self.REPORT, found, whole_orders=True)) == (Outcome.QUEUED, (A, B))

    @pytest.mark.parametrize(
        ("said", "found", "outcome", "studies"),
        [
            (word(B), (seen(A), seen(B)), Outcome.QUEUED, (B,)),
            (word(A, B), (seen(A), seen(B)), Outcome.QUEUED, (A, B)),
            (word(A), (seen(A, patient=None),), Outcome.QUEUED, (A,)),
            (word(), (seen(A), seen(B)), Outcome.IGNORED, ()),
            (word(among=(A,)), (seen(A), seen(B)), Outcome.REVIEW, ()),
            (word(B), (seen(A), seen(B, patient="P2")), Outcome.QUEUED, (A,)),
            (word(B), (seen(A, patient=None),), Outcome.REVIEW, ()),
        ],
        ids=[
            "one of two",
            "both",
            "where the patient cannot be compared",
            "none of them",
            "none of those that there were, but now there is another",
            "the chosen one is of another patient by now: never",
            "the chosen one is gone",
        ],
    )
    def test_a_persons_word_settles_what_is_open_and_goes_against_nothing(
        self, said: Decided, found: tuple[Seen, ...], outcome: Outcome, studies: tuple[StudyRef, ...]
    ) -> None:
        assert joined(decided_by_accession(self.REPORT, found, word=said)) == (outcome, studies)


class TestByPatient:
    def test_the_patient_alone_joins_nothing(self) -> None:
        decision = decided_by_patient(report(), (seen(A),))

        assert (decision.outcome, decision.candidates) == (Outcome.REVIEW, (A,))

    def test_only_studies_with_radiographs_are_asked_about(self) -> None:
        assert decided_by_patient(report(), (seen(A, images=0),)).outcome is Outcome.WAITING
        assert decided_by_patient(report(), (seen(A), seen(B, images=0))).candidates == (A,)

    def test_a_persons_word_joins(self) -> None:
        assert joined(decided_by_patient(report(), (seen(A), seen(B)), word=word(A))) == (Outcome.QUEUED, (A,))
