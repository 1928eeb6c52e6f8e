"""A small site of real studies in folders, for worker processes: the synthetic twin's radiographs and reports."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

from pydicom import dcmread

from plugin import wiring
from plugin.commands.synth import files_of
from plugin.identity import derived_uid
from plugin.intake import Intake
from plugin.ports import Job, JobQueue, JobState
from plugin.settings import Settings
from plugin.values import StudyRef

SEED, SIZE = 3, 384
ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@cache
def example() -> dict[str, bytes]:
    return files_of(SEED, size=SIZE)


@dataclass
class SmallSite:
    """*count* studies with a report each; equal sites hold equal bytes.

    Parameters
    ----------
    url : of the database; "": a file in the data folder.
    """

    folder: Path
    count: int
    url: str = ""

    def __post_init__(self) -> None:
        for part in ("archive", "reports", "data"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(self.count):
            self._add(number)

    @property
    def studies(self) -> tuple[StudyRef, ...]:
        return tuple(StudyRef(derived_uid("small site", str(number))) for number in range(self.count))

    @property
    def settings(self) -> dict[str, str]:
        """For a process."""
        told = {
            "DATA_DIR": self.folder / "data",
            "ARCHIVE_DIR": self.folder / "archive",
            "REPORTS_DIR": self.folder / "reports",
            "MAX_ATTEMPTS": "100",
            "THREADS": "1",
        }
        return {f"SIGHTLINE_{name}": str(value) for name, value in told.items()} | (
            {"SIGHTLINE_DATABASE_URL": self.url} if self.url else {}
        )

    def _add(self, number: int) -> None:
        """The example under UIDs and ids of its own."""
        study, example_study = self.studies[number].study_instance_uid, ""
        for name, content in example().items():
            if name.endswith(".dcm"):
                dataset = dcmread(BytesIO(content))
                example_study, dataset.StudyInstanceUID = str(dataset.StudyInstanceUID), study
                dataset.SeriesInstanceUID = derived_uid(study, dataset.SeriesInstanceUID)
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = derived_uid(study, name)
                dataset.save_as(self.folder / "archive" / f"{number}-{name}", enforce_file_format=True)
        bundle = json.loads(example()["report.json"].decode().replace(example_study, study))
        for entry in bundle["entry"]:
            if entry["resource"]["resourceType"] == "DiagnosticReport":
                entry["resource"]["id"] = f"report-{number}"
        (self.folder / "reports" / f"{number}.json").write_text(json.dumps(bundle))

    @contextmanager
    def intake(self) -> Iterator[Intake]:
        """What makes jobs of the studies, as a service has it."""
        settings = Settings(**{name.removeprefix("SIGHTLINE_").lower(): each for name, each in self.settings.items()})
        queue = wiring.make_queue(settings)
        try:
            yield wiring.make_intake(settings, wiring.make_edges(settings), queue=queue, makers=lambda: ("tests",))
        finally:
            queue.close()

    def written(self) -> dict[str, bytes]:
        """Every file that is shown to anybody: of the archive, the FHIR results, and the pages."""
        paths = (path for part in ("archive", "data/fhir", "data/results") for path in (self.folder / part).rglob("*"))
        names = {path: path.relative_to(self.folder) for path in paths if path.is_file()}
        return {
            str(name): path.read_bytes()
            for path, name in names.items()
            if not any(part.startswith(".") for part in name.parts)
        }


def wait_for_end(queue: JobQueue, count: int, *, timeout_s: float, meanwhile: Callable[[], object]) -> tuple[Job, ...]:
    """The jobs of *queue* when so many are there and all of them have ended."""
    deadline = time.monotonic() + timeout_s
    while len(jobs := queue.list(10_000)) < count or any(job.state not in ENDED for job in jobs):
        assert time.monotonic() < deadline, jobs
        meanwhile()
        time.sleep(0.1)
    return tuple(jobs)
