"""Which report is about which study. Pure, and never a guess: not by name, not by date."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from plugin.errors import InputError
from plugin.ports import StudyIdentity
from plugin.values import PatientRef, Report


class Identified(Protocol):
    """What matching looks at: a :class:`plugin.values.Report`, or what a server tells before its text is read."""

    @property
    def patient(self) -> PatientRef | None: ...
    @property
    def other_patient_ids(self) -> tuple[PatientRef, ...]: ...
    @property
    def study_instance_uids(self) -> tuple[str, ...]: ...
    @property
    def accession_numbers(self) -> tuple[str, ...]: ...


class MatchedBy(StrEnum):
    """The rung of the ladder that joined report and study."""

    STUDY_UID = "study UID"
    ACCESSION = "accession number and patient"
    CALLER = "caller"  # nothing contradicts it, nothing proves it: only good when a person put the two together
    NOTHING = "nothing"  # the report is about another study


@dataclass(frozen=True, slots=True)
class Match:
    """*notes*: what the reader of the result should know, without patient data."""

    by: MatchedBy
    notes: tuple[str, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether the data alone join report and study, so that a service may act on it unasked."""
        return self.by in (MatchedBy.STUDY_UID, MatchedBy.ACCESSION)


def match(report: Identified, study: StudyIdentity) -> Match:
    """How *report* and *study* belong together; the first rung that holds.

    1. The report names the Study Instance UID.
    2. It names no study, and accession number and patient are equal.
    3. It names nothing that contradicts: the caller's word.

    Raises
    ------
    InputError
        If the report is of another patient than the images.
    """
    same_patient = check_same_patient(report, study.patient)
    if report.study_instance_uids:
        hit = study.study.study_instance_uid in report.study_instance_uids
        return Match(MatchedBy.STUDY_UID, _unchecked(same_patient)) if hit else Match(MatchedBy.NOTHING)
    accession = study.accession_number.strip()
    if accession and report.accession_numbers:
        if accession not in report.accession_numbers:
            return Match(MatchedBy.NOTHING)
        if same_patient:
            return Match(MatchedBy.ACCESSION)
    return Match(MatchedBy.CALLER, _unproven(report, same_patient=same_patient))


def check_same_patient(report: Identified, patient: PatientRef | None) -> bool:
    """Whether report and images name the same patient; False when one of them names none.

    Identifiers are compared, with their issuers where both are of one kind (two URIs or two plain names).

    Raises
    ------
    InputError
        If both name a patient and no identifier is equal.
    """
    if report.patient is None or patient is None or not patient.patient_id.strip():
        return False
    if any(_same(known, patient) for known in (report.patient, *report.other_patient_ids)):
        return True
    raise InputError(
        "the report is of another patient than the images (no patient identifier of the one is one of the other): "
        "check that the right report and study were given"
    )


def report_about(reports: tuple[Report, ...], study: StudyIdentity) -> tuple[Report, Match]:
    """The one of *reports*, which a person gave, that is about *study*.

    Raises
    ------
    InputError
        If none is, if several are, or if the only one is of another patient.
    """
    if len(reports) == 1:
        found = match(reports[0], study)
        if found.by is MatchedBy.NOTHING:
            raise InputError("the report is about another study than the images (study UID or accession number differ)")
        return reports[0], found
    about = [(report, found) for report in reports if (found := _match_or_none(report, study)).proven]
    if len(about) != 1:
        how_many = "none of them is" if not about else f"{len(about)} of them are"
        raise InputError(f"{len(reports)} reports were given and {how_many} about this study: give one report")
    return about[0]


def _match_or_none(report: Report, study: StudyIdentity) -> Match:
    try:
        return match(report, study)
    except InputError:  # of another patient: in a collection that is no error, only not the one looked for
        return Match(MatchedBy.NOTHING)


def _same(known: PatientRef, patient: PatientRef) -> bool:
    if known.patient_id.strip() != patient.patient_id.strip():
        return False
    return same_issuer(known.issuer, patient.issuer) is not False


def same_issuer(issuer: str, another: str) -> bool | None:
    """Whether two issuers of identifiers are one; None when that cannot be told.

    FHIR names the issuer by a URI, DICOM often by a local name (PS3.3 10.14): such a pair tells nothing.
    """
    one, other = issuer.strip(), another.strip()
    if not one or not other or _is_uri(one) != _is_uri(other):
        return None
    return one.removeprefix("urn:oid:") == other.removeprefix("urn:oid:")


def _is_uri(issuer: str) -> bool:
    return ":" in issuer or issuer.replace(".", "").isdigit()


def _unchecked(same_patient: bool) -> tuple[str, ...]:
    return () if same_patient else ("report and images could not be compared by patient",)


def _unproven(report: Identified, *, same_patient: bool) -> tuple[str, ...]:
    if report.patient is None and not report.accession_numbers:
        return ("the report names neither patient nor study: it was taken as the report of these images",)
    return ("the report names no study: it was taken as the report of these images", *_unchecked(same_patient))
