"""What is fitted once the weights stand."""

from dataclasses import replace

import numpy as np
import pytest

from model.anatomy import Lungs
from model.calibration import logit
from model.prior import EVIDENCE_ALONE
from model.training.answers import Answered
from model.training.strangers import scores_of
from model.training.tuning import FEWEST, Made, levels_of, made_of, scalings_of
from model.values import Query

SIZE = 32
NOTHING = np.zeros((SIZE, SIZE), bool)
ALONE = Made(EVIDENCE_ALONE, {})


def answered(finding, *, within, around, image="0"):
    """A map that is *within* in its truth, *around* in a ring about it, and almost 0 elsewhere."""
    truth, ring = NOTHING.copy(), NOTHING.copy()
    truth[10:18, 10:18] = True
    ring[6:22, 6:22] = True
    values = np.where(truth, within, np.where(ring, around, 0.01)).astype(np.float32)
    return Answered(image, Query(finding, finding), values, 0.9, Lungs(NOTHING, NOTHING), truth, True, True)


def test_a_finding_whose_maps_are_faint_is_raised_to_the_common_threshold():
    rows = tuple(answered("mass", within=0.3, around=0.05) for _ in range(FEWEST))

    shifts = levels_of({"drawn": (1.0, rows)}, {}, ALONE, threshold=0.5, real=set())

    assert logit(0.05) + shifts["mass"] < logit(0.5) < logit(0.3) + shifts["mass"]


def test_a_finding_with_few_rows_stays_as_it_is():
    rows = tuple(answered("mass", within=0.3, around=0.05) for _ in range(FEWEST - 1))

    assert levels_of({"drawn": (1.0, rows)}, {}, ALONE, threshold=0.5, real=set()) == {}


def test_where_real_images_tell_of_a_finding_drawn_ones_do_not_count():
    faint = tuple(answered("opacity", within=0.3, around=0.05) for _ in range(50))
    bright = tuple(answered("opacity", within=0.9, around=0.7) for _ in range(FEWEST))

    checks = {"drawn": (1.0, faint), "films": (1.0, bright)}
    shifts = levels_of(checks, {}, ALONE, threshold=0.5, real={"films"})

    assert logit(0.7) + shifts["opacity"] < logit(0.5) < logit(0.9) + shifts["opacity"]
    assert shifts["opacity"] == pytest.approx(float(logit(0.5) - logit(0.8)), abs=0.4)


def told(finding, presence, *, present, image, side=None):
    maps = np.full((SIZE, SIZE), 0.1, np.float32)
    return Answered(
        str(image), Query(finding, finding, side), maps, presence, Lungs(NOTHING, NOTHING), NOTHING, present, True
    )


def test_presence_on_films_is_scaled_by_films_alone():
    drawn = tuple(told("mass", 0.99 if n % 2 else 0.01, present=bool(n % 2), image=n) for n in range(200))
    films = tuple(told("opacity", 0.8, present=n % 4 == 0, image=n) for n in range(200))
    films += tuple(told("opacity", 0.1, present=False, image=200 + n) for n in range(200))

    scalings = scalings_of({"drawn": (1.0, drawn), "films": (1.0, films)}, {"films"})

    assert set(scalings) == {"", "opacity"}
    assert scalings["opacity"].apply(0.8) == pytest.approx(0.25, abs=0.05)
    assert scalings[""].apply(0.99) > 0.98


def test_a_finding_that_nobody_was_asked_for_in_vain_does_not_tell_how_often_it_is_there():
    films = tuple(told("opacity", 0.6, present=n % 2 == 0, image=n) for n in range(100))
    always = tuple(told("consolidation", 0.6, present=True, image=100 + n) for n in range(100))

    scalings = scalings_of({"films": (1.0, films + always)}, {"films"})

    assert scalings["opacity"].apply(0.6) == pytest.approx(0.5, abs=0.05)
    assert scalings["consolidation"] == scalings["opacity"]


def test_each_film_counts_once_for_its_presence():
    films = tuple(told("opacity", 0.6, present=n % 2 == 0, image=n) for n in range(100))
    sided = tuple(told("opacity", 0.6, present=True, image=n, side="left") for n in range(100))

    alone, both = (scalings_of({"films": (1.0, rows)}, {"films"}) for rows in (films, films + sided))

    assert alone == both


def test_a_row_is_joined_to_the_prior_of_other_folds_alone():
    lungs = Lungs(NOTHING.copy(), NOTHING.copy())
    lungs.right[4:28, 3:14] = lungs.left[4:28, 18:29] = True

    def row(fold, side):
        truth = NOTHING.copy()
        truth[12:20, slice(*side)] = True
        unsure = np.full((SIZE, SIZE), 0.5, np.float32)
        return Answered(f"{fold}", Query("opacity", "opacity"), unsure, 0.9, lungs, truth, True, True, fold=fold)

    right, left = [row(0, (4, 12)) for _ in range(10)], [row(1, (20, 28)) for _ in range(10)]
    made = made_of({"films": (1.0, (*right, *left))}, {}, {"films"})

    assert made(right[0])[15, 24] > 2 * made(right[0])[15, 8]
    assert made(left[0])[15, 8] > 2 * made(left[0])[15, 24]
    both = made.joint(right[0].values, right[0].query, lungs)
    assert both[15, 8] == pytest.approx(both[15, 24], rel=0.2)


def test_presence_and_promised_recall_are_measured_on_folds_they_were_not_fitted_on():
    def film(number, fold):
        row = answered("opacity", within=0.3 + 0.4 * (number % 2), around=0.1, image=f"{number:03}")
        return replace(row, presence=0.8 if number % 4 else 0.2, present=bool(number % 4), fold=fold)

    alike = tuple(film(number, number % 3) for number in range(120))
    scores = scores_of({"films": (1.0, alike)}, ALONE)

    assert scores["films/presence AUC"] == 1
    assert scores["films/ECE"] == pytest.approx(0.1, abs=0.09)
    assert scores["films/recall promised at 0.8"] == 1

    # Where each fold answers the other way round, what the others promise is not kept.
    turned = tuple(replace(row, presence=1 - row.presence if row.fold == 0 else row.presence) for row in alike)
    assert scores_of({"films": (1.0, turned)}, ALONE)["films/ECE"] > scores["films/ECE"] + 0.2
    faint = tuple(replace(row, values=row.values / 8) if row.fold == 0 else row for row in alike)
    assert scores_of({"films": (1.0, faint)}, ALONE)["films/recall promised at 0.8"] == pytest.approx(2 / 3, abs=0.05)
