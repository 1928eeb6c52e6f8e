"""`sightline work` for the tests that kill it in its real steps: nothing is changed but that it dies as it is told.

Run as a program: folder of marks, and the deaths (JSON: "step moment" by Study Instance UID), each of which comes once.
Everything else is told by the environment, as to ``sightline`` itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from servers import OUTPUT, Part

from plugin.flow import STEPS
from plugin.ports import Job, Step, Work

#: Steps that write, and so can be half done: several files, each of which appears by a rename.
WRITING = ("write-dicom", "write-fhir", "finish")
BOUNDARIES = tuple(
    f"{step} {moment}"
    for step in STEPS
    for moment in ("before", "within", "after")
    if moment != "within" or step in WRITING
)


@dataclass
class Fate:
    """Kills this process where *deaths* say so: before or after a step, or within, after its first file."""

    marks: Path
    deaths: Mapping[str, str]
    within: str = ""
    renamed: int = 0

    def meets(self, job: Job, moment: str) -> None:
        study = job.study.study_instance_uid
        if self.deaths.get(study) == moment:
            self.dies(f"{study} {moment}")

    def dies(self, mark: str) -> None:
        try:
            (self.marks / mark).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def hears(self, event: str, _: object) -> None:
        """An audit hook (PEP 578): a file is about to appear."""
        if event == "os.rename" and self.within:
            self.renamed += 1
            if self.renamed == 2:
                self.dies(self.within)

    def run(self, step: Step, job: Job) -> None:
        self.meets(job, f"{step.name} before")
        study, moment = job.study.study_instance_uid, f"{step.name} within"
        self.within, self.renamed = f"{study} {moment}" if self.deaths.get(study) == moment else "", 0
        try:
            step.run(job)
        finally:
            self.within = ""
        self.meets(job, f"{step.name} after")


@dataclass(frozen=True)
class MortalWork:
    """*work* whose steps meet their *fate*."""

    work: Work
    fate: Fate

    @contextmanager
    def __call__(self, job: Job) -> Iterator[tuple[Step, ...]]:
        with self.work(job) as steps:
            yield tuple(replace(step, run=partial(self.fate.run, step)) for step in steps)


def main() -> int:
    from plugin import wiring
    from plugin.commands import work
    from plugin.policy import Policy

    fate = Fate(Path(sys.argv[1]), json.loads(sys.argv[2]))
    sys.addaudithook(fate.hears)
    changed: Any = wiring
    make = wiring.GroundingWork
    changed.GroundingWork = lambda *parts: MortalWork(make(*parts), fate)
    changed.Policy = partial(Policy, first_s=0.2, most_s=1.0)
    return work.run()


def worker_on(
    settings: Mapping[str, str], marks: Path, deaths: Mapping[str, str] | None = None, *, log: Path | None = None
) -> Part:
    """That program as a process."""
    marks.mkdir(exist_ok=True)
    command = [sys.executable, str(Path(__file__)), str(marks), json.dumps(deaths or {})]
    return Part(command, log or OUTPUT / "step-worker.log", settings)


if __name__ == "__main__":
    sys.exit(main())
