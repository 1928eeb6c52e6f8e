import numpy as np
import pytest

from model.anatomy import Lungs
from model.prior import Drawn, Fusion, Joint, Prior, fit_fusion, learn_prior, shifted
from model.values import Query

SIZE = 96


def lungs(left_edge=16, top=20, width=26, height=50, gap=12):
    right, left = np.zeros((2, SIZE, SIZE), bool)
    right[top : top + height, left_edge : left_edge + width] = True
    left[top : top + height, left_edge + width + gap : left_edge + 2 * width + gap] = True
    return Lungs(right, left)


def box(top, left, height=12, width=10):
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def query(side=None, sites=()):
    return Query("opacity", "opacity", side, sites)


def drawn(count=8, side="right", top=50):
    return [Drawn(query(side), box(top, 22), lungs()) for _ in range(count)]


def test_the_prior_peaks_where_readers_drew():
    expected = learn_prior(drawn()).of(query("right"), lungs())

    assert expected.shape == (SIZE, SIZE)
    assert box(50, 22).flat[expected.argmax()]
    assert 0 < expected.min() < expected.max() < 1


def test_the_prior_moves_with_the_lungs():
    smaller = lungs(left_edge=40, top=30, width=13, height=25, gap=6)

    row, column = np.unravel_index(learn_prior(drawn()).of(query("right"), smaller).argmax(), (SIZE, SIZE))

    assert smaller.right[row, column]
    assert row > 30 + 25 / 2


def test_a_side_without_examples_falls_back_to_the_finding_alone():
    examples = drawn(4) + [Drawn(query(), box(50, 22), lungs()) for _ in range(8)]
    prior = learn_prior(examples)

    assert np.array_equal(prior.of(query("left"), lungs()), prior.of(query(), lungs()))


def test_a_named_third_chooses_its_own_table():
    examples = drawn(8, top=58) + drawn(8, top=22)
    prior = learn_prior(examples)

    upper = prior.of(query("right", ("upper lobe",)), lungs())
    lower = prior.of(query("right", ("lower lobe",)), lungs())

    assert np.unravel_index(upper.argmax(), upper.shape)[0] < np.unravel_index(lower.argmax(), lower.shape)[0]


def test_of_other_findings_and_without_lungs_nothing_is_expected():
    prior = learn_prior(drawn())
    nothing = np.zeros((SIZE, SIZE), bool)

    assert prior.of(Query("mass", "mass", "right"), lungs()) is None
    assert prior.of(query("right"), Lungs(nothing, nothing)) is None


def test_evidence_and_prior_are_pooled_as_log_odds():
    seen, expected = np.full((2, 2), 0.8, np.float32), np.full((2, 2), 0.4, np.float32)
    logit = 0.7 * np.log(4) + 0.3 * np.log(2 / 3)

    assert Fusion(0.7)(seen, expected) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    assert Fusion(0.7)(seen, None) is seen


def test_a_shift_is_added_to_the_log_odds():
    maps = np.array([[0.0, 0.2], [0.5, 1.0]], np.float32)
    odds = 0.25 * np.e

    assert shifted(maps, 1.0)[0, 1] == pytest.approx(odds / (1 + odds), abs=1e-6)
    assert (shifted(maps, 1.0)[0, 0], shifted(maps, 1.0)[1, 1]) == (0, 1)
    assert shifted(maps, 0.0) is maps


def test_the_maps_of_one_finding_are_moved_and_no_others():
    joint, seen = Joint(Prior({}), Fusion(), {"mass": 2.0}), np.full((SIZE, SIZE), 0.3, np.float32)
    inside = lungs().right

    assert joint(seen, Query("mass", "mass"), lungs())[inside].min() > 0.7
    assert joint(seen, query(), lungs())[inside] == pytest.approx(0.3)


def test_a_weight_outside_the_pool_is_refused():
    with pytest.raises(ValueError, match="lies in"):
        Fusion(1.2)


def test_fitting_trusts_what_tells_the_truth():
    rng = np.random.default_rng(0)
    truth = [rng.random((16, 16)) < 0.3 for _ in range(6)]
    telling = [
        np.clip(np.where(each, 0.7, 0.3) + rng.normal(0, 0.15, each.shape), 0, 1).astype(np.float32) for each in truth
    ]
    noise = [rng.random(each.shape).astype(np.float32) for each in truth]

    fusion = fit_fusion(telling, noise, truth)

    assert fusion.weight > 0.85
