"""`sightline work` for the tests that kill it in its real steps: nothing is changed but that it dies as it is told.

Run as a program: folder of marks, and the deaths (JSON: "step moment" by Study Instance UID), each of which comes once.
Everything else is told by the environment, as to ``sightline`` itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from servers import OUTPUT, ROOT

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


@dataclass
class Worker:
    """That program as a process; *up* starts it again when it died."""

    settings: Mapping[str, str]
    marks: Path
    deaths: Mapping[str, str] = field(default_factory=dict)
    log: Path = OUTPUT / "step-worker.log"
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0

    def up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        OUTPUT.mkdir(exist_ok=True)
        self.marks.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
        path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__)), str(self.marks), json.dumps(self.deaths)],
                env=inherited | dict(self.settings) | {"PYTHONPATH": path},
                stdout=log,
                stderr=log,
            )
        self.starts += 1

    def __enter__(self) -> Worker:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    sys.exit(main())
