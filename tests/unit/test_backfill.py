"""Taking what an archive already holds: each study once a run, again after a stop, and no faster than agreed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from archives import Archive, run_archive
from builders import chest, part10
from queues import MemoryQueue

from plugin.backfill import Ledger, Pace, Plan, Tally, backfill
from plugin.cli import main
from plugin.commands import backfill as command
from plugin.endpoint import Endpoint
from plugin.errors import InputError, TransientError
from plugin.feeds import studies_of
from plugin.intake import StudyTaken
from plugin.ports import Job, JobState
from plugin.settings import Settings
from plugin.values import StudyRef

PLAN = Plan(date(2026, 1, 30), date(2026, 2, 1), "DX")
HELD = {date(2026, 1, 30): ("1.1", "1.2"), date(2026, 2, 1): ("1.3", "1.4")}


@dataclass
class Site:
    """An archive, and an intake that fails as it is told."""

    errors: dict[str, Exception] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)

    def find(self, day: date) -> tuple[StudyRef, ...]:
        return tuple(map(StudyRef, HELD.get(day, ())))

    def take(self, study: StudyRef) -> StudyTaken:
        uid = study.study_instance_uid
        if uid in self.errors:
            raise self.errors.pop(uid)
        self.taken.append(uid)
        if uid == "1.2":
            return StudyTaken((), "No report about this study is known yet.")
        return StudyTaken((Job(uid, study, JobState.QUEUED, 0, datetime(2026, 3, 1, tzinfo=UTC)),))

    def run(self, folder: Path) -> Tally:
        ledger = Ledger(folder / "ledger.json")
        return backfill(PLAN, ledger, find=self.find, take=self.take, pace=lambda: None, tell=lambda: None)


def test_every_study_of_the_days_is_taken_and_counted(tmp_path: Path) -> None:
    site = Site({"1.3": InputError("the study holds no chest radiograph")})

    tally = site.run(tmp_path)

    assert site.taken == ["1.1", "1.2", "1.4"]
    assert tally == Tally(4, jobs=2, waiting=1, refused={"the study holds no chest radiograph": 1})


def test_a_run_that_was_stopped_goes_on_with_the_day_it_was_in(tmp_path: Path) -> None:
    site = Site({"1.4": TransientError("The archive does not answer.")})
    with pytest.raises(TransientError):
        site.run(tmp_path)

    tally = site.run(tmp_path)

    assert site.taken == ["1.1", "1.2", "1.3", "1.3", "1.4"]
    assert (tally.studies, tally.jobs, tally.waiting) == (4, 3, 1)


def test_a_run_that_is_finished_does_nothing_more(tmp_path: Path) -> None:
    site = Site()
    first = site.run(tmp_path)

    assert site.run(tmp_path) == first
    assert len(site.taken) == 4


def test_days_that_run_backwards_are_refused() -> None:
    with pytest.raises(InputError, match="--from is later"):
        Plan(date(2026, 2, 1), date(2026, 1, 1), "DX")


def test_the_rate_is_kept_and_few_jobs_wait() -> None:
    now, queued, slept = [0.0], [3], list[float]()

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds
        queued[0] = 1

    pace = Pace(30, lambda: queued[0], 3, lambda: now[0], sleep)

    for _ in range(4):
        pace()

    assert slept == [2.0, 2.0, 2.0, 2.0]
    assert now == [8.0]


@pytest.mark.parametrize("wrong", [(0, 1), (1, 0)])
def test_a_pace_that_cannot_be_is_refused(wrong: tuple[float, int]) -> None:
    with pytest.raises(InputError, match="--rate"):
        Pace(wrong[0], lambda: 0, wrong[1], lambda: 0.0, lambda _: None)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    """Two studies with DX on one day, one with CR, and one of another day."""
    with run_archive(tmp_path / "archive") as archive:
        for uid, modality, day in (("1.1", "DX", "30"), ("1.2", "DX", "30"), ("1.3", "CR", "30"), ("1.4", "DX", "31")):
            archive.add(part10(chest(name=uid, StudyInstanceUID=uid, Modality=modality, StudyDate=f"202601{day}")))
        yield archive


@pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")  # by dicomweb-client's file client
def test_the_archive_tells_the_studies_of_a_day(archive: Archive) -> None:
    find = studies_of(Endpoint(archive.url), modality="DX")

    assert find(date(2026, 1, 30)) == (StudyRef("1.1"), StudyRef("1.2"))
    assert find(date(2026, 1, 31)) == (StudyRef("1.4"),)
    assert find(date(2026, 1, 29)) == ()


@pytest.fixture
def settings(archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = Settings(data_dir=tmp_path / "data", archive_url=archive.url)
    monkeypatch.setattr(command, "load_settings", lambda: settings)
    monkeypatch.setenv("COLUMNS", "200")
    return settings


DAYS = ["backfill", "--from", "2026-01-30", "--to", "2026-01-31"]


@pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")
def test_a_dry_run_counts_and_does_nothing(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*DAYS, "--dry-run"]) == 0

    assert "3 studies with DX on 2 days, 2026-01-30 to 2026-01-31" in capsys.readouterr().out
    assert not settings.data_dir.exists()


@pytest.mark.filterwarnings("ignore:'write_like_original':DeprecationWarning")
def test_the_command_takes_them_reports_and_knows_where_it_ended(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    queue, site, made = MemoryQueue(), Site(), dict[str, Any]()
    monkeypatch.setattr(command, "make_tools", lambda _: None)
    monkeypatch.setattr(command, "make_queue", lambda _, usual: made.update(usual=usual) or queue)
    monkeypatch.setattr(command, "make_intake", lambda *_, **__: SimpleNamespace(study_taken=site.take))

    assert main([*DAYS, "--rate", "60000"]) == 0
    first = capsys.readouterr().out
    assert main([*DAYS, "--rate", "60000"]) == 0

    assert site.taken == ["1.1", "1.2", "1.4"]
    assert "3 studies: 2 jobs, 1 wait for a report" in first
    assert "An earlier run finished 2026-01-31" in capsys.readouterr().out
    assert made["usual"].name == "BACKFILL"


def test_a_backfill_needs_a_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "load_settings", lambda: Settings(data_dir=tmp_path))

    assert main([*DAYS, "--dry-run"]) == 65
