"""A year of report life in fast motion: in the end everything holds exactly what the final state asks.

Random arrivals, duplicates, amendments, changes of status, withdrawals, deletions, late images, faults of the FHIR
server and the archive, and workers that die between any two steps; several reports per study and studies per report.
SIGHTLINE_YEARS is the number of histories (8 by default); R5 and the real engine get a quarter of them each.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from stand_ins import SENTENCES
from year import MemoryFhir, RealFhir, Site, Told, check_everything

USUAL = 8
YEARS = int(os.environ.get("SIGHTLINE_YEARS", str(USUAL)))

names = st.sampled_from("abc")
studies = st.integers(0, 1)
sentences = st.sampled_from(SENTENCES)
texts = st.lists(sentences, max_size=4).map(tuple)
standing = st.sampled_from(
    ("final", "preliminary", "amended", "corrected", "appended", "partial", "registered", "unknown")
)
ending = st.sampled_from(("entered-in-error", "cancelled", "deleted"))
abouts = st.sampled_from(((0,), (1,), (0, 1)))
edits = st.sampled_from(("insert", "delete", "edit", "turn"))
numbers = st.integers(0, 9)
works = st.integers(0, 4)  # 0: a change is not even noticed; 1: but nothing done
faults = st.lists(st.sampled_from(("503", "409", "applied-500", "truncated", "")), max_size=8)


class Year(RuleBasedStateMachine):
    """The rules are what happens; what Sightline does about it is among them."""

    site_of: Callable[[Path], Site]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="year"))
        self.site = type(self).site_of(self.folder)

    def teardown(self) -> None:
        try:
            self._checked()
            self._amended_to_the_end()
        finally:
            self.site.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def _amended_to_the_end(self) -> None:
        """Every year ends with a sentence less in each report, so that each has something to take back."""
        for name, told in self.site.reports.items():
            if told.status != "deleted":
                self.site.tell(name, Told(told.studies, told.said[1:], told.status, 0))
        self._checked()

    def _checked(self) -> None:
        self.site.settle()
        self.site.check()
        if isinstance(self.site.server, MemoryFhir):
            said = [each for told in self.site.alive().values() for each in told.said]
            check_everything(self.site.server, standing=sum(not each.startswith("Prior") for each in said))

    @initialize(study=studies, name=names, said=st.lists(sentences, min_size=2, max_size=4).map(tuple))
    def something_to_begin_with(self, study: int, name: str, said: tuple[str, ...]) -> None:
        self.site.add_image(study)
        self.site.tell(name, Told((study,), said, "final", 0))
        self.site.notice(name)

    # At the site

    @rule(study=studies)
    def an_image_comes(self, study: int) -> None:
        if self.site.images[study] < 2:
            self.site.add_image(study)

    @rule(name=names, about=abouts, said=texts, status=standing, jobs=works)
    def a_report_comes_or_is_written_anew(
        self, name: str, about: tuple[int, ...], said: tuple[str, ...], status: str, jobs: int
    ) -> None:
        self._told(name, Told(about, said, status, 0), jobs)

    def _told(self, name: str, told: Told, jobs: int) -> None:
        self.site.tell(name, told)
        if jobs:
            self.site.notice(name)
        for _ in range(jobs - 1):
            self.site.work()

    def _known(self, number: int) -> str:
        return sorted(self.site.reports)[number % len(self.site.reports)]

    @rule(number=numbers, how=edits, at=st.integers(0, 4), sentence=sentences, jobs=works)
    def a_report_is_amended(self, number: int, how: str, at: int, sentence: str, jobs: int) -> None:
        name = self._known(number)
        told = self.site.reports[name]
        said = list(told.said)
        if how == "insert":
            said.insert(at, sentence)
        elif said and how == "delete":
            said.pop(at % len(said))
        elif said and how == "edit":
            said[at % len(said)] = sentence
        else:
            said.reverse()
        self._told(name, Told(told.studies, tuple(said[:5]), "amended", 0), jobs)

    @rule(number=numbers, status=st.one_of(standing, ending), jobs=works)
    def a_report_changes_its_status(self, number: int, status: str, jobs: int) -> None:
        name = self._known(number)
        told = self.site.reports[name]
        if told.status != "deleted":
            self._told(name, Told(told.studies, told.said, status, 0), jobs)

    @rule(number=numbers)
    def a_radiologist_decides(self, number: int) -> None:
        self.site.decide(number)

    # Sightline

    @rule(number=numbers)
    def a_report_is_noticed(self, number: int) -> None:
        self.site.notice(self._known(number))

    @rule(study=studies)
    def a_study_is_noticed(self, study: int) -> None:
        self.site.look_at(study)

    @rule(jobs=st.integers(1, 3), later=st.booleans())
    def work_is_done(self, jobs: int, later: bool) -> None:
        if later:
            self.site.clock.advance(700)
        for _ in range(jobs):
            self.site.work()

    @rule(number=numbers)
    def an_old_job_runs_again(self, number: int) -> None:
        self.site.run_again(number)

    # Trouble

    @rule(fhir=faults, archive=st.lists(st.sampled_from(("none", "half")), max_size=2))
    def servers_fail(self, fhir: list[str], archive: list[str]) -> None:
        self.site.trouble.fhir[:], self.site.trouble.archive[:] = fhir, archive

    @rule(steps=st.integers(0, 60))
    def the_worker_will_die(self, steps: int) -> None:
        self.site.trouble.dies_in = steps
        self.site.work()
        self.site.trouble.dies_in = None

    @precondition(lambda self: len(self.site.reports) > 1)
    @rule()
    def all_is_settled_for_now(self) -> None:
        self._checked()


def lived(site_of: Callable[[Path], Site], years: int) -> None:
    machine = type("Year", (Year,), {"site_of": staticmethod(site_of)})
    limits = settings(
        max_examples=years,
        stateful_step_count=20,
        suppress_health_check=list(HealthCheck),
        derandomize=YEARS <= USUAL,  # more of them are other ones each time
        phases=set(Phase) - ({Phase.shrink} if YEARS <= USUAL else set()),  # which takes minutes
        print_blob=True,
    )
    run_state_machine_as_test(machine, settings=limits)


@pytest.mark.timeout(600 if YEARS <= USUAL else 0)
@pytest.mark.parametrize("version", ["4.0.1", "5.0.0"])
def test_after_any_year_everything_holds_exactly_what_the_final_state_asks(version: str) -> None:
    def site_of(folder: Path) -> Site:
        server = MemoryFhir(version)
        return Site(folder, server, httpx.MockTransport(server.answer), tag="")

    lived(site_of, YEARS if version < "5" else max(1, YEARS // 4))


@pytest.mark.acceptance
@pytest.mark.timeout(600 if YEARS <= USUAL else 0)
def test_after_any_year_the_real_engine_holds_what_the_final_state_asks(fhir_server: str) -> None:
    with httpx.Client() as http, httpx.HTTPTransport() as transport:

        def site_of(folder: Path) -> Site:
            return Site(folder, RealFhir(fhir_server, http), transport, tag=uuid.uuid4().hex[:12])

        lived(site_of, max(1, YEARS // 4))
