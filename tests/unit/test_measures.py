import numpy as np
import pytest
from sklearn.metrics import jaccard_score, roc_auc_score
from sklearn.metrics import roc_curve as reference_curve

from model.evaluation import measures

VALUES = np.array([[0.9, 0.6, 0.2], [0.1, 0.0, 0.6]], np.float32)
TRUTH = np.array([[True, True, False], [False, False, False]])
RNG = np.random.default_rng(1)


def at(curve, threshold):
    return curve[round(threshold * measures.LEVELS)]


def test_a_tally_counts_the_pixels_that_reach_each_threshold():
    tallied = measures.tally(VALUES, TRUTH)

    assert at(tallied.T, 0.0).tolist() == [2, 4]
    assert at(tallied.T, 0.5).tolist() == [2, 1]
    assert at(tallied.T, 0.7).tolist() == [1, 0]
    assert at(tallied.T, 0.901).tolist() == [0, 0]


def test_a_value_of_one_reaches_every_threshold():
    assert measures.tally(np.ones((1, 1), np.float32), np.ones((1, 1), bool))[0].tolist() == [1] * 1001


def test_dice_iou_and_recall_follow_from_the_tally():
    tallied = measures.tally(VALUES, TRUTH)

    assert at(measures.dice_curve(tallied), 0.5) == pytest.approx(4 / 5)  # 2 x 2 / (3 lit + 2 there)
    assert at(measures.iou_curve(tallied), 0.5) == pytest.approx(2 / 3)
    assert at(measures.recall_curve(tallied), 0.7) == pytest.approx(1 / 2)


def test_the_curves_agree_with_masks_cut_at_the_threshold():
    values, truth = RNG.random((20, 30)).astype(np.float32), RNG.random((20, 30)) > 0.7
    tallied = measures.tally(values, truth)

    assert at(measures.dice_curve(tallied), 0.4) == pytest.approx(measures.dice(values >= 0.4, truth))
    assert at(measures.iou_curve(tallied), 0.4) == pytest.approx(jaccard_score(truth.ravel(), values.ravel() >= 0.4))


def test_nothing_lit_where_nothing_is_there_is_a_dice_of_one():
    nothing = np.zeros((2, 2), bool)
    tallied = measures.tally(np.zeros((2, 2), np.float32), nothing)

    assert measures.dice(nothing, nothing) == at(measures.dice_curve(tallied), 0.5) == 1.0
    assert at(measures.dice_curve(tallied), 0.0) == at(measures.iou_curve(tallied), 0.0) == 0.0


def test_mean_iou_takes_five_thresholds():
    values = np.array([[0.35, 0.35, 0.15, 0.05]], np.float32)
    truth = np.array([[True, True, False, False]])

    expected = (2 / 3 + 1 + 1 + 0 + 0) / 5  # lit at .1: three pixels; at .2 and .3: two; at .4 and .5: none
    assert measures.mean_iou(measures.tally(values, truth)) == pytest.approx(expected)


def test_contrast_to_noise_is_the_hand_computed_value():
    values, truth = np.array([[0.8, 0.6, 0.3, 0.1]], np.float32), np.array([[True, True, False, False]])

    # means .7 and .2, variances .01 and .01
    assert measures.cnr(values, truth) == pytest.approx(0.5 / np.sqrt(0.02), abs=1e-6)
    assert measures.cnr(values, ~truth) == pytest.approx(0.5 / np.sqrt(0.02), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "truth", "expected"),
    [
        ([[0.4, 0.4]], [[True, False]], 0.0),
        ([[1.0, 0.0]], [[True, False]], measures.MOST_CNR),
        ([[1.0, 0.0]], [[False, False]], 0.0),
    ],
)
def test_contrast_to_noise_stays_finite_at_its_edges(values, truth, expected):
    assert measures.cnr(np.array(values, np.float32), np.array(truth)) == expected


def test_pointing_looks_at_the_peak_alone():
    assert measures.pointing(VALUES, TRUTH)
    assert not measures.pointing(VALUES, ~TRUTH)
    assert not measures.pointing(np.zeros((2, 2), np.float32), np.ones((2, 2), bool))


def test_mass_is_split_at_the_midline_even_within_a_column():
    values = np.array([[1.0, 2.0, 1.0]], np.float32)

    assert measures.mass_on_side(values, 1.0, side="right") == pytest.approx(1 / 4)  # the viewer's left
    assert measures.mass_on_side(values, 1.0, side="left") == pytest.approx(3 / 4)
    assert measures.mass_on_side(values, 1.5, side="right") == pytest.approx(1 / 2)
    assert measures.mass_on_side(np.zeros((1, 3), np.float32), 1.0, side="left") == 0.0


def test_the_area_under_the_curve_agrees_with_scikit_learn_with_ties_and_weights():
    scores, present = RNG.integers(0, 6, 60) / 6, RNG.random(60) > 0.6
    drawn = RNG.integers(0, 3, (4, 60)).astype(float)

    assert measures.auc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])[0] == pytest.approx(3.5 / 4)
    assert measures.auc(scores, present)[0] == pytest.approx(roc_auc_score(present, scores))
    expected = [roc_auc_score(present, scores, sample_weight=row) for row in drawn]
    assert measures.auc(scores, present, drawn) == pytest.approx(np.array(expected))
    assert np.isnan(measures.auc([0.5], [True])[0])


def test_the_roc_curve_agrees_with_scikit_learn():
    scores, present = RNG.integers(0, 9, 60) / 9, RNG.random(60) > 0.6
    wrong, hit, _ = reference_curve(present, scores, drop_intermediate=False)

    assert measures.roc_curve(scores, present) == pytest.approx(np.stack([wrong, hit], axis=1))
    assert measures.roc_curve([0.4], [True]).tolist() == [[0, 0], [1, 1]]


def test_boxes_are_compared_by_their_overlap():
    iou = measures.box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 0, 0]])

    assert iou == pytest.approx(np.array([[2 / 6, 0, 0]]))


def test_each_box_is_matched_once():
    iou = np.array([[0.9, 0.6], [0.8, 0.0]])

    assert measures.matches(iou, 0.5) == 2  # the first region takes the second box, for the sake of both
    assert measures.matches(iou, 0.85) == 1
    assert measures.matches(np.zeros((0, 2)), 0.5) == 0
    assert measures.set_f1(1, 2, 3) == pytest.approx(2 / 5)
    assert np.isnan(measures.set_f1(0, 0, 0))
