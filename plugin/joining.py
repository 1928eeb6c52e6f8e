"""Which studies a report is about, from the report's side: what report and archive say, and never a guess. Pure.

The ladder: the studies that it names; else the archive's studies under its accession numbers that are of its patient.
What is ambiguous is for a person. Names, dates and body parts decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from plugin.errors import InputError
from plugin.matching import check_same_patient, match, same_issuer
from plugin.ports import Decided, Outcome, StudyIdentity
from plugin.values import ReportDescription, ReportStatus, StudyRef

_WITHDRAWN: Final = (ReportStatus.CANCELLED, ReportStatus.ENTERED_IN_ERROR)
_OTHER_PATIENT: Final = "it is of another patient than the images: check report and study"


class Rung(StrEnum):
    """What the report gives to find its studies by: the first of these that it has. Names and dates are none."""

    STUDY = "study"
    ACCESSION = "accession number"
    PATIENT = "patient"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Seen:
    """A study as the archive holds it.

    Parameters
    ----------
    images : SOP instance UIDs of its radiographs; empty when it holds none.
    fault : why its images cannot be matched at all, in words without patient data.
    """

    identity: StudyIdentity
    images: tuple[str, ...] = ()
    fault: str = ""

    @property
    def study(self) -> StudyRef:
        """Which study it is."""
        return self.identity.study


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done about a report.

    Parameters
    ----------
    studies : to be grounded with it.
    keeps : of the studies that it was joined with before, those that stay so besides; None: all. The others are
        taken back.
    recheck : whether it is looked at again unasked.
    """

    outcome: Outcome
    reason: str = ""
    studies: tuple[Seen, ...] = ()
    keeps: tuple[StudyRef, ...] | None = ()
    candidates: tuple[StudyRef, ...] = ()
    recheck: bool = False


def rung_of(report: ReportDescription) -> Rung:
    """Where on the ladder the report stands."""
    if report.study_instance_uids:
        return Rung.STUDY
    if report.accessions:
        return Rung.ACCESSION
    return Rung.PATIENT if report.patient else Rung.NOTHING


def decided_by_itself(report: ReportDescription | None) -> Decision | None:
    """What the report alone decides; None when its studies have a say.

    *report* is None when it is there no more: taken back at once, and looked for again, since a server that answers
    "not found" for a moment is no deletion.
    """
    if report is None:
        return Decision(Outcome.WITHDRAWN, "the report was deleted", recheck=True)
    refused = Outcome.REFUSED
    rules = (
        (report.ours, Outcome.IGNORED, "Sightline wrote it itself"),
        (report.status in _WITHDRAWN, Outcome.WITHDRAWN, f"the report was withdrawn (its status is {report.status})"),
        (not report.radiograph, Outcome.IGNORED, "its category is of another service than radiography"),
        (_has_no_text_yet(report), Outcome.IGNORED, f"it has no text yet (its status is {report.status})"),
        (bool(report.unusable), refused, report.unusable),
        (rung_of(report) is Rung.NOTHING, refused, "it names neither study nor order nor patient: it cannot be joined"),
    )
    return next((Decision(outcome, why) for holds, outcome, why in rules if holds), None)


def _has_no_text_yet(report: ReportDescription) -> bool:
    return bool(report.unusable) and report.status in (ReportStatus.REGISTERED, ReportStatus.PARTIAL)


def decided_by_studies(report: ReportDescription, found: Sequence[Seen]) -> Decision:
    """What becomes of a report that names its studies; *found* are those that the archive has.

    All the studies that it names are its own. Studies that it only compares with are named elsewhere, and never read.
    """
    named = tuple(StudyRef(uid) for uid in report.study_instance_uids)
    if refused := _refusal(report, found):
        return refused
    joined = tuple(seen for seen in found if seen.images)
    if joined:
        missing = len(found) < len(named)
        note = "not all of the studies that it names are in the archive yet" if missing else ""
        return Decision(Outcome.QUEUED, note, joined, keeps=named, recheck=missing)
    if len(found) == len(named):
        return Decision(Outcome.IGNORED, "the study that it names holds no radiograph", keeps=named)
    return Decision(Outcome.WAITING, "the study that it names is not in the archive yet", keeps=named, recheck=True)


def decided_by_accession(
    report: ReportDescription, found: Sequence[Seen], *, word: Decided | None = None, whole_orders: bool = False
) -> Decision:
    """What becomes of a report that names an order; *found* are the studies under its accession numbers.

    One study of the same patient is the report's. Several may be one reading or two, which no identifier tells: a
    person says, or the site says by *whole_orders* that a report is always about all of its order.

    Parameters
    ----------
    word : what a person said before.
    """
    ours, strangers = _by_patient(report, found)
    if any(_same_order(report, seen) for seen in strangers):
        return Decision(Outcome.REFUSED, _OTHER_PATIENT, recheck=True)
    if not ours:
        return _none_yet(strangers)
    return _by_word(ours, word) or _by_proof(report, ours, whole_orders=whole_orders)


def _by_proof(report: ReportDescription, ours: Sequence[Seen], *, whole_orders: bool) -> Decision:
    """What the identifiers prove about the studies of the order, none of which is known to be of another patient."""
    proven = tuple(seen for seen in ours if check_same_patient(report, seen.identity.patient))
    if len(ours) == 1 and proven:
        return _one(proven[0])
    if whole_orders and (joined := tuple(seen for seen in proven if seen.images)):
        return Decision(Outcome.QUEUED, "", joined)
    several = f"{len(ours)} studies have its accession number"
    why = several if len(ours) > 1 else "the accession number agrees, but the patient cannot be compared"
    return Decision(Outcome.REVIEW, why, keeps=None, candidates=tuple(seen.study for seen in ours))


def decided_by_patient(report: ReportDescription, found: Sequence[Seen], *, word: Decided | None = None) -> Decision:
    """What becomes of a report that names no study and no order; *found* are the patient's studies."""
    ours = tuple(seen for seen in _by_patient(report, found)[0] if seen.images)
    if not ours:
        why = "it names neither study nor order, and no radiographs of the patient are in the archive"
        return Decision(Outcome.WAITING, why, keeps=None, recheck=True)
    if said := _by_word(ours, word):
        return said
    candidates = tuple(seen.study for seen in ours)
    return Decision(Outcome.REVIEW, "it names neither study nor order", keeps=None, candidates=candidates)


def _refusal(report: ReportDescription, found: Sequence[Seen]) -> Decision | None:
    """A study that cannot be matched, or is of another patient, refuses the report as a whole."""
    for seen in found:
        if seen.fault:
            return Decision(Outcome.REFUSED, seen.fault, keeps=None, recheck=True)
        if seen.images:
            try:
                match(report, seen.identity)
            except InputError:
                return Decision(Outcome.REFUSED, _OTHER_PATIENT, recheck=True)
    return None


def _by_patient(report: ReportDescription, found: Sequence[Seen]) -> tuple[tuple[Seen, ...], tuple[Seen, ...]]:
    """The studies of the report's orders: those that may be of its patient, and those that are not."""
    ours: list[Seen] = []
    strangers: list[Seen] = []
    for seen in found:
        if report.accessions and not _may_be_same_order(report, seen):
            continue
        (ours if may_be_of(report, seen) else strangers).append(seen)
    return tuple(ours), tuple(strangers)


def may_be_of(report: ReportDescription, seen: Seen) -> bool:
    """Whether the patient of the study is the report's, or cannot be compared."""
    try:
        check_same_patient(report, seen.identity.patient)
    except InputError:
        return False
    return True


def _may_be_same_order(report: ReportDescription, seen: Seen) -> bool:
    mine = (each for each in report.accessions if each.number == seen.identity.accession_number)
    return any(same_issuer(each.issuer, seen.identity.accession_issuer) is not False for each in mine)


def _same_order(report: ReportDescription, seen: Seen) -> bool:
    mine = (each for each in report.accessions if each.number == seen.identity.accession_number)
    return any(same_issuer(each.issuer, seen.identity.accession_issuer) is True for each in mine)


def _none_yet(strangers: Sequence[Seen]) -> Decision:
    why = "no images of its order are in the archive yet"
    if strangers:
        why += "; those under its accession number are of another patient"
    return Decision(Outcome.WAITING, why, keeps=None, recheck=True)


def _one(seen: Seen) -> Decision:
    if seen.fault:
        return Decision(Outcome.REFUSED, seen.fault, keeps=None, recheck=True)
    if not seen.images:
        return Decision(Outcome.IGNORED, "the study of its order holds no radiograph", keeps=None)
    return Decision(Outcome.QUEUED, "", (seen,))


def _by_word(ours: Sequence[Seen], word: Decided | None) -> Decision | None:
    """What a person said, as far as it still answers the question: "none of them" is said of the studies there were."""
    if word is None:
        return None
    chosen = tuple(seen for seen in ours if seen.study in word.studies)
    if any(seen.fault for seen in chosen):
        return None
    joined = tuple(seen for seen in chosen if seen.images)
    if joined:
        return Decision(Outcome.QUEUED, "a person joined it with its study", joined)
    if not word.studies and all(seen.study in word.among for seen in ours):
        return Decision(Outcome.IGNORED, "a person said that it is about none of the studies")
    return None
