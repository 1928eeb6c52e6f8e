import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from model.calibration import (
    OPERATING_POINTS,
    Scaling,
    ece,
    ece_by_chance,
    fit_scaling,
    logit,
    mean_by,
    operating_points,
    recall_threshold,
    reliability,
)

RNG = np.random.default_rng(3)


def overconfident(rows):
    """Scores whose log odds are twice as large as the truth's."""
    odds = RNG.normal(0, 2, rows)
    return 1 / (1 + np.exp(-2 * odds)), RNG.random(rows) < 1 / (1 + np.exp(-odds))


def test_scaling_is_the_sigmoid_of_a_line_in_log_odds():
    assert Scaling(0.5, 1.0).apply([0.8])[0] == pytest.approx(2 * np.e / (1 + 2 * np.e))  # odds 4 -> sqrt(4) e
    assert Scaling().apply([0.0, 0.3, 1.0]) == pytest.approx(np.array([0, 0.3, 1]), abs=2e-6)
    with pytest.raises(ValueError, match="order"):
        Scaling(-1.0, 0.0)


def test_scaling_finds_the_temperature_and_lowers_the_error():
    scores, present = overconfident(4000)
    fitted = fit_scaling(scores, present)

    assert fitted.slope == pytest.approx(0.5, abs=0.05)
    assert ece(fitted.apply(scores), present) < ece(scores, present) / 3


def test_scaling_agrees_with_logistic_regression():
    scores, present = overconfident(3000)
    reference = LogisticRegression(C=1e6).fit(logit(scores)[:, None], present)
    fitted = fit_scaling(scores, present)

    assert fitted.slope == pytest.approx(reference.coef_[0, 0], abs=2e-3)  # Platt's smoothing moves it a little
    assert fitted.offset == pytest.approx(reference.intercept_[0], abs=2e-3)


def test_scaling_never_turns_the_order_round_and_stays_finite_where_scores_are_separable():
    assert fit_scaling([0.9, 0.1], [False, True]).slope == 0.0
    assert np.isfinite(fit_scaling([0.9, 0.1], [True, False]).slope)
    with pytest.raises(ValueError, match="rows that are not"):
        fit_scaling([0.5], [True])


def test_the_calibration_error_is_the_hand_computed_value():
    scores, present = [0.05, 0.15, 0.12, 0.95, 1.0], [0, 1, 0, 1, 1]

    # bins: |.05 - 0| x 1, |.135 - .5| x 2, |.975 - 1| x 2
    assert ece(scores, present) == pytest.approx((0.05 + 2 * 0.365 + 2 * 0.025) / 5)
    assert [(each.low, each.rows) for each in reliability(scores, present)] == [(0.0, 1), (0.1, 2), (0.9, 2)]
    assert np.isnan(ece([], []))


def test_perfect_probabilities_of_few_rows_have_an_error_too():
    few, many = (ece_by_chance(np.linspace(0.05, 0.95, rows), draws=300) for rows in (50, 5000))

    assert few.shape == (300,)
    assert few.mean() > 0.1
    assert many.mean() < 0.02
    assert ece_by_chance(np.full(50, 1.0)).max() == 0
    assert (ece_by_chance(np.linspace(0.05, 0.95, 50), draws=300) == few).all()


def test_the_conformal_threshold_is_the_hand_computed_value():
    thresholds = [0.0, 0.2, 0.4, 0.6]
    recalls = [[1, 1, 0.9, 0.5]] * 9  # 9 / 10 x loss + 1 / 10: .1, .1, .19, .55

    assert recall_threshold(recalls, thresholds, promised=0.9) == 0.2
    assert recall_threshold(recalls, thresholds, promised=0.8) == 0.4
    assert recall_threshold(recalls, thresholds, promised=0.95) == 0.0  # nine rows cannot promise that


@pytest.mark.parametrize(("recalls", "promised"), [([[1.0]], 1.0), (np.zeros((0, 1)), 0.9)])
def test_a_promise_needs_rows_and_a_level_below_one(recalls, promised):
    with pytest.raises(ValueError, match="recall"):
        recall_threshold(recalls, [0.0], promised=promised)


def test_the_promise_holds_on_average_for_new_rows():
    thresholds = np.linspace(0, 1, 101)
    measured = []
    for _ in range(200):
        peaks = RNG.random(101)[:, None]
        recalls = np.clip(1 - thresholds[None, :] / (peaks + 0.5), 0, 1)
        cut = recall_threshold(recalls[:-1], thresholds, promised=0.9)
        measured.append(recalls[-1, round(cut * 100)])

    assert np.mean(measured) == pytest.approx(0.91, abs=0.015)


def test_the_named_points_promise_less_recall_the_more_specific_they_are():
    thresholds = np.linspace(0, 1, 101)
    found = operating_points(np.clip(1.2 - thresholds, 0, 1)[None].repeat(200, axis=0), thresholds)

    assert list(found) == list(OPERATING_POINTS) == ["sensitive", "balanced", "specific"]
    assert found["sensitive"] < found["balanced"] < found["specific"]


def test_rows_of_one_patient_are_averaged():
    assert mean_by([[1.0], [3.0], [5.0]], ["b", "b", "a"]).tolist() == [[5.0], [2.0]]
