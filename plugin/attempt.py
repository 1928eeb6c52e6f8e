"""One attempt at a job: its steps, what they hand on to each other, and the lock that they share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

from plugin.errors import TransientError, WithdrawnError
from plugin.flow import STEPS, Edges, PageUrl, Passage, Tools, withdraw
from plugin.intake import Intake
from plugin.ports import Job, Priority, Step


@dataclass(frozen=True, slots=True)
class GroundingWork:
    """:data:`plugin.ports.Work` of Sightline: the steps of :data:`plugin.flow.STEPS` for each job.

    Parameters
    ----------
    tools : those in force for a job of that urgency; an attempt keeps to its end what it began with.
    """

    intake: Intake
    edges: Edges
    tools: Callable[[Priority], Tools]
    page_url: PageUrl | None = None

    @contextmanager
    def __call__(self, job: Job) -> Iterator[tuple[Step, ...]]:
        """The steps of one attempt, whose memory ends with the block."""
        tools = self.tools(job.priority)
        attempt = _Attempt(
            lambda: self._passage(job, tools), partial(self.edges.results.alone, job.study, patience_s=0)
        )
        try:
            yield tuple(Step(name, partial(self._run, attempt, name)) for name in STEPS)
        finally:
            attempt.close()

    def _run(self, attempt: _Attempt, step: str, job: Job) -> None:
        """Do *step*; that a report was withdrawn is noticed for everybody, so that it is taken when it comes back."""
        try:
            attempt.run(step)
        except WithdrawnError:
            if job.report is not None:
                self.intake.take_again(job.report.report_id)
                if self.intake.is_joined(job.study, job.report.report_id):
                    raise TransientError("The report was gone for a moment.") from None
            raise

    def _passage(self, job: Job, tools: Tools) -> Passage | None:
        """What is known now counts, and not what was known when the job was put; None when there is nothing to do."""
        joined = job.report is not None and self.intake.is_joined(job.study, job.report.report_id)
        if job.report is not None and not joined:
            withdraw(job.study, job.report.report_id, edges=self.edges, tools=tools)
            return None
        if job.report is not None and job.report.withdrawn:
            raise TransientError(
                "The report is, or is again, about the study; if that stays so, nothing is taken back."
            )
        return Passage(job.study, job.report, edges=self.edges, tools=tools, page_url=self.page_url, joined=joined)


class _Attempt:
    """Alone with the study from its first step on, until it is closed, or a step ends that nobody waits for any more.

    Parameters
    ----------
    begin : what is to be done, known once the study is ours.
    alone : keeps others from the study.
    """

    def __init__(self, begin: Callable[[], Passage | None], alone: Callable[[], AbstractContextManager[None]]) -> None:
        self._begin = begin
        self._alone = alone
        self._held = ExitStack()
        self._at_work = self._over = False
        self._lock = threading.Lock()

    @cached_property
    def _passage(self) -> Passage | None:
        self._held.enter_context(self._alone())
        return self._begin()

    def run(self, step: str) -> None:
        """Do *step*."""
        self._at_work = True
        try:
            if self._passage is not None:
                self._passage.run(step)
        finally:
            with self._lock:
                self._at_work = False
                over = self._over
            if over:
                self._held.close()

    def close(self) -> None:
        """Leave the study to others."""
        with self._lock:
            self._over = True
            at_work = self._at_work
        if not at_work:
            self._held.close()
