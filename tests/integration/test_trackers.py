"""Real trackers take the figures of a training, and nothing connects to anything outside this machine."""

import socket

import pytest

from model.training.config import Tracking
from model.training.tracking import read_log, tracker_of

RECIPE = {"recipe": {"steps": 2}, "data": [{"kind": "twin"}]}


@pytest.fixture
def reached(monkeypatch):
    """Addresses that this process connects to."""
    addresses = []
    connect = socket.socket.connect

    def recording(self, address):
        addresses.append(address)
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", recording)
    return addresses


def follow(tracking, folder):
    tracker = tracker_of(tracking, folder, after=0, name="mine", recipe=RECIPE)
    for step in (1, 2):
        tracker.log(step, {"loss": 3.0 / step, "loss/focal": 1.0})
    tracker.log(2, {"score": 0.5, "a+b/presence AUC": 0.75})
    tracker.finish({"dice": 0.4})
    assert len(read_log(folder)) == 3


def test_weights_and_biases_writes_a_run_to_send_later(tmp_path, reached):
    follow(Tracking(to="wandb"), tmp_path)

    (run,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    content = run.read_bytes()
    assert b"loss/focal" in content
    assert b"a+b/presence AUC" in content
    assert all(isinstance(address, str) or address[0] in ("127.0.0.1", "::1") for address in reached)


def test_mlflow_keeps_every_figure_in_a_folder(tmp_path, reached):
    follow(Tracking(to="mlflow"), tmp_path)

    (metrics,) = (tmp_path / "mlruns").glob("[0-9]*/*/metrics")
    assert [line.split()[1:] for line in (metrics / "loss focal").read_text().splitlines()] == [
        ["1.0", "1"],
        ["1.0", "2"],
    ]
    assert (metrics / "a b presence AUC").exists()
    assert (metrics / "final dice").exists()
    assert (metrics.parent / "params" / "recipe.steps").read_text() == "2"
    assert not reached
