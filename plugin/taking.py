"""Taking radiologists' decisions about regions: each is kept, then a job writes it back as the next version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from plugin.decisions import Word, decision_of, is_heard, is_marked, tag_of
from plugin.errors import InputError, MissingError, TransientError
from plugin.identity import derived_id
from plugin.page.document import EvidenceDocument, ImagePart, ModelPart, PhrasePart, PlacementPart
from plugin.ports import DecisionBook, Job, JobQueue, JobState, KeptDecision, Priority
from plugin.values import RegionDecision, ReportRef, Ruling, StudyRef


class ChangedError(InputError):
    """What the person saw is not what stands there now: look again, and decide about that."""


@dataclass(frozen=True, slots=True)
class Place:
    """A phrase on an image, and what was decided about it.

    Parameters
    ----------
    tag : of what a person is shown; a decision carries it.
    history : every decision, the first one first.
    marked : whether a region is marked, the last decision taken into account.
    written : whether the evidence says already what the last decision does.
    job : that writes the last decision back; None when there is none, or it is forgotten.
    """

    phrase: PhrasePart
    placement: PlacementPart
    tag: str
    marked: bool
    history: tuple[RegionDecision, ...] = ()
    written: bool = True
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class Decisions:
    """Takes decisions. Safe to use from several threads and processes.

    Parameters
    ----------
    joined : sees to it that the report is known to be about the study, since a job takes back results of one that is
        not; whether it is. Raises SightlineError.
    clock : UTC.
    """

    book: DecisionBook
    queue: JobQueue
    joined: Callable[[StudyRef, str], bool] = lambda _, __: True
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    def places(self, document: EvidenceDocument) -> tuple[Place, ...]:
        """Every place of *document* that a person may decide about, in its order.

        Raises
        ------
        TransientError
            If the book or the queue cannot be used now.
        """
        kept = self.book.about(*_about(document))
        return tuple(
            self._place(phrase, placement, kept) for phrase in document.phrases for placement in phrase.placements
        )

    def decide(self, document: EvidenceDocument, place: tuple[str, str], word: Word) -> Place:
        """Keep a person's word about *place*, and have it written back; the same word again changes nothing.

        Parameters
        ----------
        document : the evidence that stands now.
        place : tracking UID of the phrase, SOP Instance UID of the image.

        Raises
        ------
        MissingError
            If the evidence has no such phrase on such an image.
        ChangedError
            If something else stands there now than the person saw.
        InputError
            If that cannot be decided; the message says why.
        TransientError
            If the book or the queue cannot be used now; send it again.
        """
        phrase, placement, image = _found(document, place)
        study, report_id = _about(document)
        last = self._last(study, report_id, place)
        if last is None or not is_heard(word, last.decision):
            last = self._kept(study, report_id, word, (phrase, placement, image), last, document.provenance.model)
        if not last.job:
            self._put(last, document.report.version)
        return self._place(phrase, placement, self.book.about(study, report_id))

    def put_left(self, version_of: Callable[[KeptDecision], str | None]) -> int:
        """Put the jobs of decisions that were kept, but whose process ended before it put one; how many.

        Parameters
        ----------
        version_of : the version of the decision's report; None when there are no results of it any more.

        Raises
        ------
        TransientError
            If one could not be put; the others were.
        """
        left, failed = self.book.without_job(), None
        for kept in left:
            try:
                self._put(kept, version_of(kept) or "unknown")
            except TransientError as error:
                failed = error
        if failed is not None:
            raise failed
        return len(left)

    def _last(self, study: StudyRef, report_id: str, place: tuple[str, str]) -> KeptDecision | None:
        mine = [each for each in self.book.about(study, report_id) if each.decision.place == place]
        return max(mine, key=lambda each: each.decision.number, default=None)

    def _kept(  # noqa: PLR0917 - one call
        self,
        study: StudyRef,
        report_id: str,
        word: Word,
        shown: tuple[PhrasePart, PlacementPart, ImagePart],
        last: KeptDecision | None,
        model: ModelPart,
    ) -> KeptDecision:
        before = last.decision if last else None
        if word.seen != tag_of(shown[0], shown[1], before):
            raise ChangedError("This phrase changed since you looked at it: open the page again.")
        made_by = (f"{model.name} {model.version}", model.weights_sha256)
        decision = decision_of(word, *shown, last=before, made=self.clock(), model=made_by)
        said = KeptDecision(study, report_id, decision)
        if self.book.keep(said):
            return said
        heard = self._last(study, report_id, decision.place)  # somebody was faster, or the same request twice
        if heard is None or not is_heard(word, heard.decision):
            raise ChangedError("Somebody decided about this phrase since you looked at it: open the page again.")
        return heard

    def _put(self, kept: KeptDecision, version: str) -> None:
        """One job writes back all that was decided before it begins."""
        if not self._is_joined(kept):
            raise TransientError(
                "The decision is kept, and written back when the report is joined to its study again: see /review."
            )
        waiting = {each.job for each in self.book.about(kept.study, kept.report_id) if each.job}
        jobs = [job for job in map(self.queue.get, sorted(waiting)) if job]
        job = next((each for each in jobs if each.state is JobState.QUEUED and not each.attempts), None)
        if job is None:
            job_id = derived_id("job of a decision", kept.decision.key)
            job = self.queue.put(job_id, kept.study, ReportRef(kept.report_id, version), priority=Priority.PERSON)
        self.book.note_job(kept, job.job_id)

    def _is_joined(self, kept: KeptDecision) -> bool:
        try:
            return self.joined(kept.study, kept.report_id)
        except InputError as error:
            raise TransientError(f"The decision is kept, and written back later: {error}") from error

    def _place(self, phrase: PhrasePart, placement: PlacementPart, kept: Sequence[KeptDecision]) -> Place:
        here = (phrase.tracking_uid, placement.sop_instance_uid)
        # By number: the clocks of several machines differ.
        mine = sorted((each for each in kept if each.decision.place == here), key=lambda each: each.decision.number)
        last = mine[-1].decision if mine else None
        job = self.queue.get(mine[-1].job) if mine and mine[-1].job else None
        history = tuple(each.decision for each in mine)
        tag, marked = tag_of(phrase, placement, last), is_marked(placement, last)
        return Place(phrase, placement, tag, marked, history, _is_written(placement, last), job)


def _is_written(placement: PlacementPart, last: RegionDecision | None) -> bool:
    stands = last is not None and last.ruling is not Ruling.TAKEN_BACK
    number = placement.decision.number if placement.decision else None
    return number == (last.number if stands and last else None)


def _about(document: EvidenceDocument) -> tuple[StudyRef, str]:
    return StudyRef(document.study_instance_uid), document.report.report_id


def _found(document: EvidenceDocument, place: tuple[str, str]) -> tuple[PhrasePart, PlacementPart, ImagePart]:
    images = {image.sop_instance_uid: image for image in document.images}
    for phrase in document.phrases:
        for placement in phrase.placements:
            if (phrase.tracking_uid, placement.sop_instance_uid) == place:
                return phrase, placement, images[placement.sop_instance_uid]
    raise MissingError("The report has no such phrase on such an image.")
