"""A new model takes over while work goes on: running jobs keep theirs, new ones have the new one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from evidence import CARD
from memory import Site, image, report

from model.values import ModelCard
from plugin import wiring
from plugin.batching import SharedModel
from plugin.errors import InputError
from plugin.flow import Tools
from plugin.ports import Job, JobState, Priority, Step, independent
from plugin.renewal import Fitted, ModelInForce
from plugin.service.metrics import Metrics
from plugin.settings import Settings
from plugin.values import StudyRef

OLD, NEW = CARD, replace(CARD, version="2", weights_sha256="cd" * 32)


@dataclass
class Named:
    """Names a model, and is not asked for more."""

    card: ModelCard


def fitted(card: ModelCard) -> Fitted:
    tools = Tools(
        read_report=None,  # type: ignore[arg-type] - not asked
        reader_version="1",
        grounder=Named(card),  # type: ignore[arg-type]
        max_frontals=1,
        settings_sha256="",
        clock=lambda: datetime.now(UTC),
    )
    return Fitted(tools, SharedModel(tools.grounder, lambda: tools.grounder))


def test_a_job_keeps_the_model_it_began_with_and_the_next_one_has_the_new() -> None:
    model = ModelInForce(fitted(OLD), lambda: fitted(NEW))
    running = model.tools(Priority.NEW)

    assert model.renew()

    assert running.grounder.card == OLD
    assert model.tools(Priority.NEW).grounder.card == NEW
    assert model.grounder().card == NEW


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_in_force() -> None:
    def broken() -> Fitted:
        raise InputError("the weights are damaged")

    model = ModelInForce(fitted(OLD), broken)
    before = model.makers()

    assert not model.renew()
    assert model.makers() == before
    assert model.grounder().card == OLD


def test_jobs_of_before_are_done_by_the_new_model_and_what_is_asked_again_is_a_job_of_the_new(tmp_path: Path) -> None:
    """None is lost, none is orphaned: a queued job needs no model of its own version."""
    model = ModelInForce(fitted(OLD), lambda: fitted(NEW))
    site = Site(tmp_path)
    study = StudyRef("1.2.3")
    site.archive.add(image(study))
    site.reports.put(report(study_instance_uids=("1.2.3",)))
    intake = replace(site.intake, makers=model.makers)
    (before,) = intake.take_study(study)
    done: list[tuple[str, str]] = []

    def ground(job: Job) -> None:
        done.append((job.job_id, model.tools(job.priority).grounder.card.version))

    model.renew()
    (after,) = intake.take_study(study)
    runner = site.queue.runner(independent(Step("ground", ground)))
    while runner.once() is not None:
        pass

    assert after.job_id != before.job_id
    assert sorted(done) == sorted([(before.job_id, "2"), (after.job_id, "2")])
    assert {site.queue.entries[each.job_id].job.state for each in (before, after)} == {JobState.DONE}


def test_the_next_model_is_the_one_that_the_settings_name_by_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def load(settings: Settings) -> Named:
        asked.append((settings.model_dir, settings.operating_point, settings.port))
        return Named(NEW)

    monkeypatch.setattr(wiring, "make_grounder", load)
    monkeypatch.chdir(tmp_path)
    model = wiring.make_model(Settings(port=1), fitted(OLD).tools, metrics=Metrics())
    before = model.makers()
    (tmp_path / "sightline.env").write_text(
        "SIGHTLINE_MODEL_DIR=next\nSIGHTLINE_OPERATING_POINT=sensitive\nSIGHTLINE_PORT=2\n"
    )

    assert model.renew()

    assert asked == [("next", "sensitive", 1)]  # the port of a running service stays
    assert model.makers() != before
    assert model.makers()[-1] == Settings(model_dir="next", operating_point="sensitive").results_sha256
