import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from model.batches import Asked, Item, collate
from model.config import Config
from model.network import seeded_network
from model.training import checkpoint
from model.training.checkpoint import CheckpointError, State
from model.training.config import Loss, Recipe, Training, TwinData
from model.training.loop import TrainingError, look, optimiser_of, rate_of, step_of, steps_of
from model.training.objective import answer_of, parts_of
from model.training.scores import Checks, Score, auc, average_precisions, total
from model.values import Query

TINY = Config(size=64, widths=(8, 8, 8, 8, 8), pyramid=8, embedding=8, buckets=64)


def item(*, present=True, drawn=True, asked=True, name="set[3]"):
    pixels = np.random.default_rng(0).random((64, 64), dtype=np.float32)
    mask = np.zeros((32, 32), np.float32)
    mask[4:12, 4:12] = present and drawn
    truth = (Asked(Query("left opacity", "opacity", "left"), mask, present, drawn),) if asked else ()
    return Item(pixels, None, truth, name)


@pytest.fixture
def training(tmp_path):
    data = (TwinData("twin", 1.0, tmp_path),)
    network = {"size": 64, "widths": [8] * 5, "pyramid": 8, "embedding": 8, "buckets": 64}
    return Training(out=tmp_path, recipe=Recipe(steps=10), data=data, network=network)


@pytest.fixture
def state(training):
    network = seeded_network(TINY, 1)
    return State(network, optimiser_of(network, training.recipe))


def test_the_rate_warms_up_and_falls_to_nearly_nothing():
    recipe = Recipe(steps=100, learning_rate=1.0, warm_up=0.1)
    rates = [rate_of(recipe, step, 100) for step in range(1, 101)]

    assert rates[9] == pytest.approx(1.0)
    assert rates == [*sorted(rates[:10]), *sorted(rates[10:], reverse=True)]
    assert 0 < rates[-1] < 0.01
    assert {rate_of(replace(recipe, schedule="constant"), step, 100) for step in (11, 50, 100)} == {1.0}


def test_epochs_count_every_training_image():
    assert steps_of(Recipe(epochs=2.5, batch=8), 100) == 32
    assert steps_of(Recipe(steps=7), 100) == 7


def test_a_loss_that_is_not_finite_stops_training_and_names_the_batch(state, training):
    batch = collate([item(name="mine[17]")], TINY)
    batch.images[0, 0, 0, 0] = math.nan

    with pytest.raises(TrainingError, match=r"step 4: loss.* not finite, in the batch of mine\[17\]"):
        step_of(state, state.network, batch, training=training, step=4, steps=10)


def test_a_gradient_that_is_not_finite_stops_training(state, training):
    state.network.decoder.out[2].weight.register_hook(lambda gradient: gradient * math.inf)

    with pytest.raises(TrainingError, match="gradient norm not finite"):
        step_of(state, state.network, collate([item()], TINY), training=training, step=1, steps=10)


def test_frozen_parameters_are_neither_trained_nor_kept(training):
    network = seeded_network(TINY, 1)
    network.image.requires_grad_(False)
    state = State(network, optimiser_of(network, training.recipe))
    before = {name: value.clone() for name, value in network.image.named_parameters()}

    step_of(state, network, collate([item(), item()], TINY), training=training, step=1, steps=10)

    assert all(torch.equal(before[name], value) for name, value in network.image.named_parameters())
    assert not any(name == "image.stem.0.0.weight" for name in checkpoint.learnt(network))


def test_a_label_without_a_place_trains_presence_alone():
    network = seeded_network(TINY, 1).train()
    batch = collate([item(drawn=False), item(drawn=False, present=False)], TINY)

    parts = parts_of(answer_of(network, batch), batch, Loss())

    assert parts["focal"] == 0
    assert parts["dice"] == 0
    assert parts["presence"] > 0


def test_a_batch_without_phrases_still_trains_the_rest(state, training):
    figures = step_of(state, state.network, collate([item(asked=False)], TINY), training=training, step=1, steps=10)

    assert figures["loss/presence"] == 0


def test_mixed_precision_trains_in_single_precision_weights(state, training):
    bf16 = replace(training, machine=replace(training.machine, precision="bf16"))

    figures = step_of(state, state.network, collate([item(), item()], TINY), training=bf16, step=1, steps=10)

    assert math.isfinite(figures["loss"])
    assert {parameter.dtype for parameter in state.network.parameters()} == {torch.float32}


def test_training_stops_when_the_score_has_long_not_risen(state, training):
    patient = replace(training, recipe=replace(training.recipe, check_every=2, patience=2))
    checks = [Checks("set", 1.0, (collate([item(), item(present=False)], TINY),))]
    state.step = 2
    look(state, patient, checks)
    state.best, state.step = 2.0, 4

    look(state, patient, checks)
    assert not state.stopped
    state.step = 6
    look(state, patient, checks)

    assert state.stopped
    assert state.best_step == 2


def test_a_checkpoint_of_another_training_is_refused(state, tmp_path):
    checkpoint.save(state, tmp_path, identity={"recipe": {"batch": 4, "steps": 3}, "data": {}})

    with pytest.raises(CheckpointError, match=r"differs in recipe\.batch, recipe\.patience: delete it"):
        checkpoint.resume(state, tmp_path, identity={"recipe": {"batch": 5, "steps": 3, "patience": 1}, "data": {}})


def test_a_damaged_checkpoint_is_refused(state, tmp_path):
    (tmp_path / checkpoint.FILE_NAME).write_bytes(b"half a file")

    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.resume(state, tmp_path, identity={})


def test_weights_are_mixed_by_their_shares_and_counts_are_not():
    one = {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    other = {"weight": torch.tensor([3.0, 6.0]), "count": torch.tensor(7)}

    mixed = checkpoint.mixed(one, other, share=0.25)

    assert mixed["weight"].tolist() == [2.5, 5.0]
    assert mixed["count"] == 7
    assert torch.equal(checkpoint.mixed(one, other, share=0.0)["weight"], other["weight"])


def test_average_precision_is_the_value_computed_by_hand():
    probability, mask = torch.zeros(1, 4, 4), torch.zeros(1, 4, 4)
    mask[0, :2] = 1  # two of four cells of the half-sized grid: the upper ones
    probability[0, :2, :2], probability[0, 2:, :2], probability[0, :2, 2:] = 0.9, 0.5, 0.3

    # found first and third: precision 1 and 2/3
    assert average_precisions(probability, mask, torch.ones(1)) == pytest.approx([(1 + 2 / 3) / 2])
    assert average_precisions(probability, mask, torch.zeros(1)) == []


def test_the_area_under_the_curve_counts_ordered_pairs_and_ties_half():
    said, truth = np.array([0.9, 0.5, 0.5, 0.1], np.float32), np.array([True, True, False, False])

    assert auc(said, truth) == pytest.approx(3.5 / 4)
    assert math.isnan(auc(said, np.ones(4, bool)))


def test_the_score_weighs_sources_and_leaves_out_what_they_lack():
    scores = [Score(0.5, 0.9), Score(float("nan"), 0.7)]

    assert total(scores, [3, 1], presence=0.0) == pytest.approx(0.5)
    assert total(scores, [3, 1], presence=0.5) == pytest.approx((1.5 * 0.5 + 1.5 * 0.9 + 0.5 * 0.7) / 3.5)
    assert total([], [], presence=0.0) == 0
