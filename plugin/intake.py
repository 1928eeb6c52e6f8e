"""From "there is a report" or "there is a study" to a job for each pair, or to the reason why there is none.

Whoever noticed, the poll, a message, the archive or a person: it is decided from the report's side, by the pure
functions of :mod:`plugin.joining`. :class:`Intake` asks report store and archive for them, and keeps what came out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Final

from plugin.errors import InputError, MissingError, SightlineError, TransientError
from plugin.flow import identity_of
from plugin.identity import derived_id
from plugin.joining import (
    Decision,
    Rung,
    Seen,
    decided_by_accession,
    decided_by_itself,
    decided_by_patient,
    decided_by_studies,
    may_be_of,
    rung_of,
)
from plugin.ports import (
    Decided,
    Entry,
    ImageArchive,
    Job,
    JobQueue,
    Outcome,
    Priority,
    ReportBook,
    ReportStore,
    StudyIdentity,
)
from plugin.values import (
    WITHDRAWN_VERSION,
    Accession,
    PatientRef,
    ReportDescription,
    ReportRef,
    StudyDescription,
    StudyRef,
)

#: Studies that a person is given to choose from; images are looked at for no more than these.
MOST_CANDIDATES: Final = 20
_RADIOGRAPHS: Final = frozenset({"CR", "DX", "RG", "OT", "SC"})
_SHORTEST, _LONGEST = timedelta(minutes=5), timedelta(hours=6)
_AWAY: Final = "the archive or the report store did not answer; it is tried again"


_Put = tuple[str, StudyRef, ReportRef]
"""A job to put: its id, the study, the report version."""


class StaleError(InputError):
    """The report changed since the person looked at it: open the list again, and decide about what it says now."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a report.

    Parameters
    ----------
    jobs : one for each study that it is, or is no longer, about.
    reason : of the outcome, in words without patient data.
    report : the version that was taken, when there is one.
    """

    outcome: Outcome
    jobs: tuple[Job, ...] = ()
    reason: str = ""
    report: ReportRef | None = None


@dataclass(frozen=True, slots=True)
class StudyTaken:
    """What became of a study: its jobs, those of older reports first; without any, *says* what it waits for."""

    jobs: tuple[Job, ...]
    says: str = ""


def recheck_delay(tries: int) -> timedelta:
    """How long until a waiting report is looked at again: 5 minutes, doubling, at most 6 hours."""
    return min(_SHORTEST * (1 << min(tries, 10)), _LONGEST)


def accession_key(number: str) -> str:
    """What the book remembers in an accession number's place."""
    return derived_id("accession", number)


def patient_key(patient: PatientRef) -> str:
    """What the book remembers in a patient identifier's place."""
    return derived_id("patient", patient.patient_id.strip())


@dataclass(frozen=True, slots=True)
class Candidate:
    """A study that a person may choose, as far as the archive tells now; identifiers of patients are among it."""

    study: StudyRef
    accession: str = ""
    patients: tuple[str, ...] = ()
    date: str = ""
    description: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    radiographs: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A report beside the studies that it may be about; *report* is None when it is gone."""

    report: ReportDescription | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes what was noticed. Safe to use from several threads and processes.

    Parameters
    ----------
    makers : what makes results from now on, besides study and report; see :func:`plugin.values.makers_of`.
    clock : UTC.
    wait : how long a report waits for its images before it is set aside.
    whole_orders : whether a report that names an order alone is about all of its studies.
    """

    archive: ImageArchive
    reports: ReportStore
    queue: JobQueue
    book: ReportBook
    makers: Callable[[], tuple[str, ...]]
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    wait: timedelta = timedelta(days=30)
    whole_orders: bool = False
    _locks: tuple[Lock, ...] = field(default_factory=lambda: tuple(Lock() for _ in range(64)), init=False)

    def take_report(self, report: ReportRef) -> Taken:
        """Take the report as it stands now: *report* says which, and that it may have changed.

        The same version again is the same jobs, however often and by whom it is noticed.

        Raises
        ------
        TransientError
            If archive, report store, queue or book cannot be used now; the book has it tried again.
        InputError
            If archive or report store refuse us; likewise.
        """
        with self._alone(report.report_id):
            entry = self.book.entry(report.report_id)
            if entry is not None and entry.version == report.version:
                jobs = [self.queue.get(job_id) for job_id in entry.jobs]
                if all(jobs):
                    return Taken(entry.outcome, tuple(job for job in jobs if job), entry.reason, report)
            return self._take(report.report_id, entry)

    def take_again(self, report_id: str) -> Taken:
        """Take the report as if nobody had before: its images, or what a person said of it, may have changed.

        Raises
        ------
        TransientError, InputError
            As :meth:`take_report`.
        """
        with self._alone(report_id):
            return self._take(report_id, self.book.entry(report_id))

    def take_study(self, study: StudyRef) -> tuple[Job, ...]:
        """The jobs of the study, those of older reports first; none while it has no report: images alone cause nothing.

        Raises
        ------
        TransientError
            If archive, report store, queue or book cannot be used now.
        InputError
            If the archive has no such study, if it holds no radiograph, or if a report about it is of another patient.
        """
        return self.study_taken(study).jobs

    def study_taken(self, study: StudyRef) -> StudyTaken:
        """As :meth:`take_study`, and what the study waits for.

        Raises
        ------
        TransientError, InputError
            As :meth:`take_study`.
        """
        descriptions = self.archive.describe(study)
        if not descriptions:
            raise InputError("the study holds no chest radiograph (CR or DX): there is nothing to ground")
        identity = identity_of(study, descriptions)
        found = [report.report_id for report in reversed(self.reports.find(identity))]
        taken = [self.take_again(each) for each in dict.fromkeys((*self.book.about(_keys_of(identity)), *found))]
        jobs = tuple(job for each in taken for job in each.jobs if job.study == study)
        if jobs:
            return StudyTaken(jobs)
        if not taken:
            return StudyTaken((), "No report about this study is known yet; it is grounded when one comes.")
        said = "; ".join(dict.fromkeys(each.reason for each in taken if each.reason))
        return StudyTaken((), f"The study is not grounded: of its {len(taken)} report(s), {said}.")

    def recheck(self, take: Callable[[str], object] | None = None, *, limit: int = 100) -> int:
        """Have *take* (by default :meth:`take_again`) called with each report that is due; how many there were.

        Raises
        ------
        SightlineError
            As *take* does; what is left stays due.
        """
        due = self.book.due(self.clock(), limit=limit)
        for report_id in due:
            (take or self.take_again)(report_id)
        return len(due)

    def keeps(self, report_id: str) -> bool:
        """Whether a report that could not be taken is in the book, to be taken later.

        Raises
        ------
        TransientError
            If the book cannot be used now.
        """
        entry = self.book.entry(report_id)
        return entry is not None and entry.due is not None

    def set_aside(self, report_id: str, version: str, error: Exception) -> None:
        """Keep that taking the report ran into a defect, so that it is not run into again and again.

        Raises
        ------
        TransientError
            If the book cannot be used now.
        """
        now, before = self.clock(), self.book.entry(report_id)
        reason = f"unexpected {type(error).__name__}; please report it"
        told = before or Entry(report_id, version, Outcome.REFUSED, reason, now, now)
        version = version or told.version
        entry = replace(told, version=version, outcome=Outcome.REFUSED, reason=reason, since=now, updated=now, due=None)
        self.book.settle(entry, after=before.revision if before else None)

    def decide(self, report_id: str, studies: tuple[StudyRef, ...], *, who: str, reason: str, revision: int) -> Entry:
        """Keep a person's word about an ambiguous report, and act on it; the same word again changes nothing.

        Another word about what was decided goes before the earlier one, which is kept: what was made of the report in
        studies that it is no longer about is taken back.

        Parameters
        ----------
        studies : of the choices, those that it is about; none: it is about none of them.
        revision : of the entry that the person saw.

        Raises
        ------
        MissingError
            If no such report is known.
        StaleError
            If it changed since, or was decided.
        InputError
            If a study is none of the choices.
        TransientError
            If the book cannot be used now.
        """
        entry = self.book.entry(report_id)
        if entry is None:
            raise MissingError("There is no such report on the list.")
        word = entry.decision
        if word and (word.studies, word.who, word.reason) == (studies, who, reason):
            return entry
        if entry.revision != revision or not entry.choices:
            raise StaleError("The report changed since you looked at it, or was decided: open the list again.")
        if not set(studies) <= set(entry.choices):
            raise InputError("A chosen study is none of the candidates.")
        now = self.clock()
        earlier = (*word.before, replace(word, before=())) if word else ()
        said = Decided(studies, entry.choices, who, reason, now, earlier)
        decided = replace(entry, decision=said, due=now, updated=now)
        if not self.book.settle(decided, after=revision):
            raise StaleError("The report changed since you looked at it, or was decided: open the list again.")
        with contextlib.suppress(SightlineError):  # the word is kept, and acted on when all is there again
            self.take_again(report_id)
        return self.book.entry(report_id) or decided

    def compare(self, entry: Entry) -> Comparison:
        """The report and its candidates as they are now.

        Raises
        ------
        TransientError
            If archive or report store do not answer.
        InputError
            If one of them refuses us.
        """
        return Comparison(self.reports.describe(entry.report_id), tuple(map(self._candidate, entry.choices)))

    def _candidate(self, study: StudyRef) -> Candidate:
        told = next(iter(self.archive.search(study=study)), StudyDescription(study))
        try:
            images = self.archive.describe(study)
        except MissingError:
            images = ()
        accession = told.accession or Accession(next((each.accession_number for each in images), ""))
        patients = dict.fromkeys(each for each in (told.patient, *(image.patient for image in images)) if each)
        return Candidate(
            study,
            accession=f"{accession.number} {accession.issuer}".strip(),
            patients=tuple(f"{each.patient_id} {each.issuer}".strip() for each in patients),
            date=f"{told.date[:4]}-{told.date[4:6]}-{told.date[6:]}" if len(told.date) == 8 else told.date,
            description=told.description,
            modalities=told.modalities,
            body_parts=tuple(dict.fromkeys(image.body_part for image in images)),
            views=tuple(dict.fromkeys(image.view_position or image.view for image in images)),
            radiographs=len(images),
        )

    def is_joined(self, study: StudyRef, report_id: str) -> bool:
        """Whether the report is about the study, as far as is known now: what a job is held against when it runs.

        Raises
        ------
        TransientError
            If the book cannot be used now.
        """
        entry = self.book.entry(report_id)
        return entry is not None and study in entry.joined

    def join(self, study: StudyRef, report_id: str) -> bool:
        """Whether the report is about the study; one that nobody took yet is taken first.

        Raises
        ------
        TransientError, InputError
            As :meth:`take_again`.
        """
        if not self.is_joined(study, report_id):
            self.take_again(report_id)
        return self.is_joined(study, report_id)

    def _alone(self, report_id: str) -> Lock:
        """One report is taken by one thread at a time, so that a later version is never put before an earlier one."""
        return self._locks[hash(report_id) % len(self._locks)]

    def _take(self, report_id: str, entry: Entry | None) -> Taken:
        try:
            for _ in range(5):
                description = self.reports.describe(report_id)
                decision = self._decided(description, entry)
                if (taken := self._settled(report_id, description, decision, entry)) is not None:
                    return taken
                entry = self.book.entry(report_id)  # another process was faster
        except SightlineError:
            self._postpone(report_id, entry)
            raise
        raise TransientError("The report changes faster than it can be taken; try again.")

    def _decided(self, report: ReportDescription | None, entry: Entry | None) -> Decision:
        alone = decided_by_itself(report)
        if alone is not None or report is None:
            return alone or Decision(Outcome.WITHDRAWN)
        word = entry.decision if entry else None
        match rung_of(report):
            case Rung.STUDY:
                refs = (StudyRef(uid) for uid in report.study_instance_uids)
                return decided_by_studies(report, [seen for ref in refs if (seen := self._seen(ref)) is not None])
            case Rung.ACCESSION:
                numbers = report.accession_numbers
                hits = [hit for number in numbers for hit in self.archive.search(accession_number=number)]
                found = self._looked_at(report, hits)
                return decided_by_accession(report, found, word=word, whole_orders=self.whole_orders)
            case _:
                patients = dict.fromkeys(
                    each.patient_id for each in (report.patient, *report.other_patient_ids) if each
                )
                hits = [hit for patient_id in patients for hit in self.archive.search(patient_id=patient_id)]
                return decided_by_patient(report, self._looked_at(report, hits), word=word)

    def _looked_at(self, report: ReportDescription, hits: Sequence[StudyDescription]) -> list[Seen]:
        """The studies of *hits*, the newest as their images describe them; those of other patients as they are told."""
        found: dict[StudyRef, Seen] = {}
        newest = sorted({hit.study: hit for hit in hits}.values(), key=lambda hit: (hit.date, hit.study), reverse=True)
        looked = 0
        for hit in newest:
            told = Seen(_identity_told(hit))
            worth = not hit.modalities or not _RADIOGRAPHS.isdisjoint(hit.modalities)
            if worth and looked < MOST_CANDIDATES and may_be_of(report, told):
                looked += 1
                told = self._seen(hit.study, told) or told
            if looked < MOST_CANDIDATES or told.images:
                found[hit.study] = told
        return list(found.values())

    def _seen(self, study: StudyRef, told: Seen | None = None) -> Seen | None:
        """The study as the archive holds it; None when it does not."""
        try:
            descriptions = self.archive.describe(study)
        except MissingError:
            return None
        if not descriptions:
            return told or Seen(StudyIdentity(study))
        try:
            identity = identity_of(study, descriptions)
        except InputError as error:
            return Seen(told.identity if told else StudyIdentity(study), fault=str(error))
        if told is not None:
            number, issuer = told.identity.accession_number, identity.accession_issuer or told.identity.accession_issuer
            identity = replace(identity, accession_number=number, accession_issuer=issuer)
        return Seen(identity, tuple(description.image.sop_instance_uid for description in descriptions))

    def _settled(
        self, report_id: str, report: ReportDescription | None, decision: Decision, before: Entry | None
    ) -> Taken | None:
        """Act on *decision* and keep it; None when the book was written meanwhile.

        Whoever works on a job asks the book whether it holds. So the book is written before a job that grounds is put,
        with the report due until it is; and after one that takes back, since only the book before knows of what.
        """
        version = report.ref.version if report else WITHDRAWN_VERSION
        was = before.joined if before else ()
        now_joined = tuple(seen.study for seen in decision.studies)
        kept = was if decision.keeps is None else tuple(study for study in was if study in decision.keeps)
        dropped = tuple(study for study in was if study not in now_joined and study not in kept)
        withdrawals = (before.withdrawals if before else 0) + bool(dropped)
        # Somebody may be looking at what is to be taken back: that does not wait behind what is new.
        back = tuple(
            self.queue.put(*self._withdrawal(report_id, study, withdrawals), priority=Priority.PERSON)
            for study in dropped
        )
        parts = [self._job(report_id, version, seen, withdrawals) for seen in decision.studies]
        ids = (*(job.job_id for job in back), *(part[0] for part in parts))
        entry = replace(
            self._entry(report_id, report, decision, before),
            version=version,
            withdrawals=withdrawals,
            joined=tuple(dict.fromkeys((*now_joined, *kept))),
            jobs=ids or (before.jobs if before and before.version == version else ()),
        )
        entry = replace(entry, keys=tuple(dict.fromkeys((*_keys(report), *_uids(entry.joined + entry.candidates)))))
        jobs = self._kept_and_put(entry, before, parts)
        ref = report.ref if report else None
        return None if jobs is None else Taken(entry.outcome, (*back, *jobs), entry.reason, ref)

    def _kept_and_put(self, entry: Entry, before: Entry | None, parts: Sequence[_Put]) -> tuple[Job, ...] | None:
        changed = before is None or not _alike(entry, before)
        now = self.clock()
        if changed:
            unput = replace(entry, due=now + _SHORTEST) if parts else entry
            if not self.book.settle(unput, after=before.revision if before else None):
                return None
        jobs = tuple(self.queue.put(*part) for part in parts)
        if (changed and parts) or (before and (entry.due, entry.tries) != (before.due, before.tries)):
            self.book.postpone(entry.report_id, entry.due, tries=entry.tries)
        return jobs

    def _entry(
        self, report_id: str, report: ReportDescription | None, decision: Decision, before: Entry | None
    ) -> Entry:
        """The outcome with its times: a report that waits too long is set aside."""
        now = self.clock()
        version = report.ref.version if report else WITHDRAWN_VERSION
        waited = (Outcome.WAITING, Outcome.EXPIRED)
        same = before is not None and before.version in (version, "")
        goes_on = (
            same
            and before is not None
            and (before.outcome is decision.outcome or (before.outcome in waited and decision.outcome in waited))
        )
        since = before.since if goes_on and before is not None else now
        tries = before.tries + 1 if goes_on and before is not None else 0
        outcome, due = decision.outcome, now + recheck_delay(tries) if decision.recheck else None
        if due is not None:
            due = min(due, max(since + self.wait, now))
        if decision.recheck and now >= since + self.wait:
            outcome, due = (Outcome.EXPIRED if outcome is Outcome.WAITING else outcome), None
        return Entry(
            report_id,
            version,
            outcome,
            decision.reason,
            since,
            now,
            due,
            tries,
            candidates=decision.candidates,
            decision=before.decision if before else None,
        )

    def _job(self, report_id: str, version: str, seen: Seen, withdrawals: int) -> _Put:
        again = (f"after {withdrawals} withdrawals",) if withdrawals else ()
        parts = (seen.study.study_instance_uid, *self.makers(), *seen.images, report_id, version, *again)
        return derived_id("job", *parts), seen.study, ReportRef(report_id, version)

    def _withdrawal(self, report_id: str, study: StudyRef, number: int) -> _Put:
        job_id = derived_id("withdrawal", study.study_instance_uid, report_id, str(number))
        return job_id, study, ReportRef(report_id, WITHDRAWN_VERSION)

    def _postpone(self, report_id: str, entry: Entry | None) -> None:
        """Have the report tried again, without a word about what it was before."""
        now = self.clock()
        with contextlib.suppress(TransientError):  # whoever noticed it will notice it again
            if entry is None:
                due = now + recheck_delay(0)
                self.book.settle(Entry(report_id, "", Outcome.WAITING, _AWAY, now, now, due), after=None)
            else:
                self.book.postpone(report_id, now + recheck_delay(entry.tries), tries=entry.tries + 1)


def _alike(one: Entry, other: Entry) -> bool:
    """Whether nothing changed that a person or a job would care for."""
    times = replace(one, since=other.since, updated=other.updated, due=other.due, tries=other.tries)
    return replace(times, revision=other.revision) == other


def _keys(report: ReportDescription | None) -> tuple[str, ...]:
    """Whatever brings the report up again when it appears in the archive."""
    if report is None:
        return ()
    match rung_of(report):
        case Rung.STUDY:
            return report.study_instance_uids
        case Rung.ACCESSION:
            return tuple(map(accession_key, report.accession_numbers))
        case Rung.PATIENT:
            return tuple(patient_key(each) for each in (report.patient, *report.other_patient_ids) if each)
    return ()


def _keys_of(identity: StudyIdentity) -> tuple[str, ...]:
    """Likewise of a study that appeared."""
    numbers = (identity.accession_number.strip(),) if identity.accession_number.strip() else ()
    patients = (identity.patient,) if identity.patient else ()
    return (identity.study.study_instance_uid, *map(accession_key, numbers), *map(patient_key, patients))


def _uids(studies: tuple[StudyRef, ...]) -> tuple[str, ...]:
    return tuple(study.study_instance_uid for study in studies)


def _identity_told(hit: StudyDescription) -> StudyIdentity:
    number, issuer = (hit.accession.number, hit.accession.issuer) if hit.accession else ("", "")
    return StudyIdentity(hit.study, number, hit.patient, issuer)
