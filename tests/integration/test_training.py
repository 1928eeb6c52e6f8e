"""``sightline train``, whole: on a tiny set of images it runs, learns, repeats itself, and survives being killed."""

import hashlib
import io
import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest
from miniature import TINY, write_miniature
from mscxr import write_miniature as write_mscxr
from rich.console import Console

from model.grounder import load_grounder
from model.training.run import train
from model.weights import FILE_NAME
from plugin.cli import main


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_miniature(tmp_path_factory.mktemp("miniature"), count=24)


def digest(folder):
    return hashlib.sha256((folder / FILE_NAME).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(config):
    """The weights of a training that nothing interrupted."""
    train(config, overrides=("out=whole",), console=Console(quiet=True))
    return config.parent / "whole"


def test_the_command_writes_weights_that_answer(config, whole, capsys):
    assert main(["train", str(config), "--set", "recipe.steps=2"]) == 0

    assert "weights and manifest" in capsys.readouterr().out
    manifest = json.loads((whole / "manifest.json").read_text())
    assert load_grounder(whole).card.threshold == manifest["threshold"]
    assert manifest["data"]["phrases"]["images"] + manifest["data"]["phrases"]["validation images"] == 24


def test_training_killed_again_and_again_ends_with_the_same_weights(config, whole):
    command = [sys.executable, "-m", "plugin.cli", "train", str(config), "--set", "out=killed"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    out, chance, kills = config.parent / "killed", random.Random(7), 0
    log = out / "training" / "log.jsonl"
    for step in (chance.randint(1, 4), chance.randint(5, 8), chance.randint(9, 11)):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            deadline = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < deadline:
                if log.exists() and f'{{"step": {step},' in log.read_text():
                    process.send_signal(signal.SIGKILL)
                    kills += 1
                    break
                time.sleep(0.002)
        assert process.returncode == -signal.SIGKILL

    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)

    assert kills == 3
    assert digest(out) == digest(whole)
    steps = [row["step"] for row in map(json.loads, log.read_text().splitlines()) if "loss" in row]
    assert steps == list(range(1, 13))


def test_folds_are_fitted_on_the_answers_of_strangers_and_go_on_after_a_kill(config):
    folds = ["recipe.keep=last", "recipe.steps=6", "split.folds=2"]
    told = Console(record=True, file=io.StringIO(), width=400)
    train(config, overrides=("out=folds", *folds), console=told)
    again = ["out=again", *folds]
    command = [sys.executable, "-m", "plugin.cli", "train", str(config), *(f"--set={each}" for each in again)]
    second = config.parent / "again" / "training" / "fold-1" / "log.jsonl"
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if second.exists() and '{"step": 3,' in second.read_text():
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL

    train(config, overrides=again, console=Console(quiet=True))

    one, other = (json.loads((config.parent / name / "manifest.json").read_text()) for name in ("folds", "again"))
    assert one == other
    assert one["data"]["phrases"]["images"] == 24
    assert one["recipe"]["split"]["folds"] == 2
    assert set(one["figures"]) >= {"phrases/average precision", "phrases/presence AUC", "dice"}
    said = re.findall(r"'images': (\d+), 'validation images': (\d+)", told.export_text())
    assert [int(trained) + int(apart) for trained, apart in said] == [24, 24, 24]
    assert [int(apart) > 0 for _, apart in said] == [True, True, False]
    assert sum(int(apart) for _, apart in said) == 24


def test_training_on_the_form_of_ms_cxr_improves_the_score(tmp_path):
    write_mscxr(tmp_path / "mscxr", 40, 3, size=96)
    config = tmp_path / "train.toml"
    config.write_text(TINY.replace("phrases.jsonl", "mscxr"))
    recipe = ("steps=80", "batch=6", "learning_rate=0.01", "check_every=40", "checkpoint_every=80")

    train(config, overrides=tuple(f"recipe.{each}" for each in recipe), console=Console(quiet=True))

    log = [json.loads(line) for line in (tmp_path / "weights" / "training" / "log.jsonl").read_text().splitlines()]
    scores = {row["step"]: row["score"] for row in log if "score" in row}
    assert min(scores) == 0
    assert max(scores.values()) > 1.5 * scores[0]
    assert json.loads((tmp_path / "weights" / "manifest.json").read_text())["data"]["patients"]


def test_a_student_is_distilled_from_weights_that_the_configuration_names(config, whole):
    distil = ("out=student", "recipe.steps=2", 'distil.teachers=["whole"]', "network.embedding=8")
    train(config, overrides=distil, console=Console(quiet=True))

    log = (config.parent / "student" / "training" / "log.jsonl").read_text().splitlines()
    assert any("loss/teachers" in line for line in log)
    manifest = json.loads((config.parent / "student" / "manifest.json").read_text())
    assert manifest["recipe"]["distil"] == {"temperature": 2.0, "weight": 1.0}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("recipe.batch=0", "recipe.batch"),
        ("data.0.open=absent.jsonl", "data.0"),
        ('distil.teachers=["absent"]', "weights or manifest cannot be read"),
        ("recipe.batch=5", "differs in recipe.recipe.batch: delete it"),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_reason(config, whole, capsys, override, said):
    out = "absent" if "distil" in override else "whole"

    assert main(["train", str(config), "--set", f"out={out}", "--set", override]) == 65

    assert said in capsys.readouterr().err
