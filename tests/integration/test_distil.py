import numpy as np
import pytest
import torch

from model.batches import Asked, Item, collate
from model.config import Config
from model.network import seeded_network
from model.training.checkpoint import State
from model.training.config import Distil, Loss, Recipe, Training, TwinData
from model.training.distil import Teachers, divergence
from model.training.loop import optimiser_of, step_of
from model.training.objective import answer_of
from model.values import Query

STUDENT = Config(size=64, widths=(8, 8, 8, 8, 8), pyramid=8, embedding=8, buckets=64)
TEACHER = Config(size=96, widths=(8, 8, 8, 16, 16), pyramid=16, embedding=16, buckets=128)
DISTIL = Distil(teachers=(), temperature=2.0, weight=5.0)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)

    def item(number):
        mask = np.zeros((32, 32), np.float32)
        mask[4 * number : 4 * number + 8, 4:12] = 1
        pixels = rng.random((64, 64), dtype=np.float32)
        return Item(pixels, None, (Asked(Query("left opacity", "opacity", "left"), mask, True),), "set")

    return collate([item(number) for number in range(4)], STUDENT)


def test_divergence_is_the_value_computed_by_hand():
    student, teacher = torch.tensor([0.0]), torch.tensor([2 * np.log(3.0)])  # at temperature 2: 0.5 and 0.75

    apart = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert divergence(student, teacher, temperature=2.0).item() == pytest.approx(4 * apart)
    assert divergence(teacher, teacher, temperature=2.0).item() == pytest.approx(0, abs=1e-6)


def test_several_teachers_answer_with_the_mean_of_their_logits(batch):
    networks = [seeded_network(STUDENT, seed) for seed in (1, 2)]

    logits, presence = Teachers(networks, DISTIL).answer(batch)

    alone = [answer_of(network.eval(), batch) for network in networks]
    assert torch.allclose(logits, (alone[0].logits + alone[1].logits) / 2, atol=1e-6)
    assert torch.allclose(presence, (alone[0].presence + alone[1].presence) / 2, atol=1e-6)


def test_a_student_comes_to_agree_with_a_teacher_of_another_size_and_vocabulary(batch, tmp_path):
    recipe = Recipe(steps=20, learning_rate=1e-2, warm_up=0.0, schedule="constant")
    training = Training(out=tmp_path, recipe=recipe, data=(TwinData("twin", 1.0, tmp_path),), loss=Loss())
    teachers = Teachers([seeded_network(TEACHER, 5)], DISTIL)
    apart = []
    for taught in (None, teachers):
        student = seeded_network(STUDENT, 1)
        state = State(student, optimiser_of(student, recipe))
        for step in range(1, 21):
            figures = step_of(state, student, batch, training=training, step=step, steps=20, teachers=taught)
        assert ("loss/teachers" in figures) == (taught is not None)
        apart.append(teachers.loss(answer_of(student.eval(), batch), batch).item())

    assert apart[1] < apart[0] / 2
