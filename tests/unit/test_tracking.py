import sys
from xml.etree import ElementTree

import pytest

from model.training.config import Tracking
from model.training.curves import write_curves
from model.training.tracking import CURVES, LocalLog, TrackingError, read_log, tracker_of


def test_the_log_holds_a_line_for_each_step_and_a_picture_of_the_curves(tmp_path):
    log = LocalLog(tmp_path, after=0)
    log.log(1, {"loss": 3.0})
    log.log(2, {"loss": 2.0})
    log.log(2, {"score": 0.5, "set/average precision": 0.5})
    log.finish({"dice": 0.4})

    assert [row["step"] for row in read_log(tmp_path)] == [1, 2, 2]
    said = "".join(ElementTree.parse(tmp_path / CURVES).getroot().itertext())
    assert "set/average precision" in said


def test_steps_that_are_done_again_are_not_logged_twice(tmp_path):
    log = LocalLog(tmp_path, after=0)
    for step in (1, 2, 3):
        log.log(step, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "lo')  # killed while writing

    again = LocalLog(tmp_path, after=2)
    again.log(3, {"loss": 0.5})

    assert [(row["step"], row["loss"]) for row in read_log(tmp_path)] == [(1, 1.0), (2, 1.0), (3, 0.5)]


def test_curves_without_a_score_yet_are_drawn(tmp_path):
    write_curves([{"step": 1, "loss": 2.0}], tmp_path / "curves.svg")

    assert ElementTree.parse(tmp_path / "curves.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(("to", "package"), [("wandb", "wandb"), ("mlflow", "mlflow")])
def test_a_tracker_that_is_not_installed_says_what_to_install(tmp_path, monkeypatch, to, package):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(TrackingError, match=rf"pip install 'sightline-cxr\[{to}\]'"):
        tracker_of(Tracking(to=to), tmp_path, after=0, name="mine", recipe={})
