"""What a caller sees by roles, scopes and the route's FHIR type."""

from __future__ import annotations

import pytest

from plugin.access.caller import EVERYTHING, Caller, Proof, Role, Sees
from plugin.access.deciding import Refused, decide
from plugin.access.rules import RULES, Rule
from plugin.values import ReportStatus

P, R, OP, S = Role
OWN, RECORD = Sees("Patient/a", drafts=False, workings=False), Sees("Patient/a", drafts=True)
RULE = {rule.name: rule for rule in RULES}
NO = None


def caller(*roles: Role, patient: str = "Patient/a", scopes: str = "") -> Caller:
    return Caller("who", frozenset(roles), Proof.TOKEN, patient=patient, scopes=tuple(scopes.split()))


@pytest.mark.parametrize(
    ("who", "rule", "sees"),
    [
        # By roles alone.
        (caller(R), "page", EVERYTHING),
        (caller(P), "page", OWN),
        (caller(P, patient=""), "page", NO),
        (caller(OP), "page", NO),
        (caller(OP), "jobs", EVERYTHING),
        (caller(S), "page", EVERYTHING),
        (caller(P, R), "page", EVERYTHING),
        (caller(P, OP), "page", OWN),
        (caller(), "page", NO),
        (caller(), "icon", NO),
        # What stands behind a page is no patient's.
        (caller(R), "evidence", EVERYTHING),
        (caller(P), "evidence", NO),
        (caller(P, OP), "evidence", NO),
        (caller(P, R), "evidence", EVERYTHING),
        (caller(P, scopes="user/DiagnosticReport.rs"), "evidence", NO),
        (caller(R, scopes="patient/DiagnosticReport.rs"), "evidence", RECORD),
        # Words of OpenID are no scopes of FHIR.
        (caller(R, scopes="openid profile"), "page", EVERYTHING),
        # SMART scopes narrow.
        (caller(R, scopes="user/DiagnosticReport.rs"), "page", EVERYTHING),
        (caller(R, scopes="user/DiagnosticReport.read"), "page", EVERYTHING),
        (caller(R, scopes="user/*.rs"), "page", EVERYTHING),
        (caller(R, scopes="user/DiagnosticReport.r"), "page", NO),
        (caller(R, scopes="user/DiagnosticReport.cud"), "page", NO),
        (caller(R, scopes="user/ImagingStudy.rs"), "page", NO),
        (caller(R, scopes="user/ImagingStudy.rs"), "dicomweb", EVERYTHING),
        (caller(R, scopes="patient/DiagnosticReport.rs"), "page", RECORD),
        (caller(R, patient="", scopes="patient/DiagnosticReport.rs"), "page", NO),
        (caller(R, scopes="patient/DiagnosticReport.rs user/DiagnosticReport.rs"), "page", EVERYTHING),
        (caller(R, scopes="patient/DiagnosticReport.rs user/Observation.rs"), "page", RECORD),
        (caller(P, scopes="patient/DiagnosticReport.rs"), "page", OWN),
        (caller(P, scopes="user/DiagnosticReport.rs"), "page", OWN),
        (caller(P, patient="", scopes="user/DiagnosticReport.rs"), "page", NO),
        (caller(P, scopes="patient/ImagingStudy.rs"), "page", NO),
        (caller(P, scopes="patient/Patient.rs"), "viewer-files", OWN),
        (caller(S, scopes="system/DiagnosticReport.rs"), "fhir-report", EVERYTHING),
        (caller(S, scopes="system/Observation.rs"), "fhir-report", NO),
        # Whoever is bound to a patient sees no list of all.
        (caller(R, scopes="user/DiagnosticReport.rs"), "review", EVERYTHING),
        (caller(R, scopes="patient/DiagnosticReport.rs"), "review", NO),
        (caller(R, scopes="patient/DiagnosticReport.rs"), "jobs", NO),
        (caller(R, scopes="patient/DiagnosticReport.rs"), "home", NO),
        (caller(R, scopes="patient/DiagnosticReport.rs"), "submit", NO),
        # Writing.
        (caller(R, scopes="user/Observation.rus"), "decision", EVERYTHING),
        (caller(R, scopes="user/Observation.rs"), "decision", NO),
        (caller(P, scopes="patient/Observation.cruds"), "decision", NO),
        # No scope gives what the role does not.
        (caller(P, scopes="user/*.cruds"), "jobs", NO),
        (caller(OP, scopes="user/*.cruds"), "page", NO),
    ],
)
def test_a_caller_sees(who: Caller, rule: str, sees: Sees | None) -> None:
    found = decide(RULE[rule], who)

    assert isinstance(found, Refused) if sees is NO else found == sees


def test_a_refusal_says_nothing_of_the_data() -> None:
    refused = decide(RULE["evidence"], caller(R, scopes="user/ImagingStudy.rs"))

    assert refused == Refused("Your scopes do not allow this.")


@pytest.mark.parametrize(
    ("sees", "subject", "status", "seen"),
    [
        (EVERYTHING, None, ReportStatus.PRELIMINARY, True),
        (OWN, "Patient/a", ReportStatus.FINAL, True),
        (OWN, "Patient/a", ReportStatus.AMENDED, True),
        (OWN, "Patient/a", ReportStatus.ENTERED_IN_ERROR, True),
        (OWN, "Patient/a", ReportStatus.PRELIMINARY, False),
        (OWN, "Patient/a", ReportStatus.UNKNOWN, False),
        (OWN, "Patient/b", ReportStatus.FINAL, False),
        (OWN, "Patient/ab", ReportStatus.FINAL, False),
        (OWN, None, ReportStatus.FINAL, False),
        (RECORD, "Patient/a", ReportStatus.PRELIMINARY, True),
        (RECORD, "Patient/b", ReportStatus.PRELIMINARY, False),
    ],
)
def test_a_report_is_seen(sees: Sees, subject: str | None, status: ReportStatus, seen: bool) -> None:
    assert sees.report(subject, status) is seen


def test_images_are_seen_when_every_report_of_the_study_is() -> None:
    final, draft, withdrawn = ReportStatus.FINAL, ReportStatus.PRELIMINARY, ReportStatus.CANCELLED

    assert OWN.study([("Patient/a", final), ("Patient/a", withdrawn)])
    assert not OWN.study([])
    assert not OWN.study([("Patient/a", withdrawn)])
    assert not OWN.study([("Patient/a", final), ("Patient/a", draft)])
    assert not OWN.study([("Patient/a", final), ("Patient/b", final)])
    assert RECORD.study([("Patient/a", draft)])
    assert EVERYTHING.study([])


def test_a_rule_is_about_one_address_and_its_methods() -> None:
    rule = Rule("x", ("GET",), "/studies/{uid}/page")

    assert rule.matches("GET", "/studies/1.2/page")
    assert rule.values("/studies/1.2/page") == {"uid": "1.2"}
    for method, path in (("POST", "/studies/1.2/page"), ("GET", "/studies/1.2/3/page"), ("GET", "/studies/1.2/page/")):
        assert not rule.matches(method, path)


@pytest.mark.parametrize("patient", ["a", "Patient/", "Patient/a b", "Group/a", "Patient/a/b", f"Patient/{'a' * 65}"])
def test_a_compartment_is_a_patients(patient: str) -> None:
    with pytest.raises(ValueError, match="compartment"):
        caller(P, patient=patient)


def test_a_route_without_a_type_is_about_everybody_or_about_nobody() -> None:
    """Or it looks after itself: the hub lets nobody in who sees one patient alone."""
    rest = {rule.name for rule in RULES if rule.roles and not (rule.reads or rule.writes or rule.whole)}
    nobody = {"logout", "metrics", "description", "icon", "page-parts", "worklist-parts", "predict"}
    nobody |= {"fhir-metadata", "fhir-base", "fhir-others"}
    nobody |= {name for name in RULE if name.startswith("viewer") and name != "viewer-link"}

    assert rest == nobody | {"hub", "hub-topic", "hub-current"}
