"""What is fitted once the weights stand."""

import numpy as np
import pytest

from model.anatomy import Lungs
from model.calibration import logit
from model.prior import EVIDENCE_ALONE
from model.training.tuning import FEWEST, Answered, levels_of, scalings_of
from model.values import Query

SIZE = 32
NOTHING = np.zeros((SIZE, SIZE), bool)


def answered(finding, *, within, around, image=0):
    """A map that is *within* in its truth, *around* in a ring about it, and almost 0 elsewhere."""
    truth, ring = NOTHING.copy(), NOTHING.copy()
    truth[10:18, 10:18] = True
    ring[6:22, 6:22] = True
    values = np.where(truth, within, np.where(ring, around, 0.01)).astype(np.float32)
    return Answered(image, Query(finding, finding), values, 0.9, Lungs(NOTHING, NOTHING), truth, True, True)


def test_a_finding_whose_maps_are_faint_is_raised_to_the_common_threshold():
    rows = tuple(answered("mass", within=0.3, around=0.05) for _ in range(FEWEST))

    shifts = levels_of({"drawn": (1.0, rows)}, {}, EVIDENCE_ALONE, threshold=0.5, real=set())

    assert logit(0.05) + shifts["mass"] < logit(0.5) < logit(0.3) + shifts["mass"]


def test_a_finding_with_few_rows_stays_as_it_is():
    rows = tuple(answered("mass", within=0.3, around=0.05) for _ in range(FEWEST - 1))

    assert levels_of({"drawn": (1.0, rows)}, {}, EVIDENCE_ALONE, threshold=0.5, real=set()) == {}


def test_where_real_images_tell_of_a_finding_drawn_ones_do_not_count():
    faint = tuple(answered("opacity", within=0.3, around=0.05) for _ in range(50))
    bright = tuple(answered("opacity", within=0.9, around=0.7) for _ in range(FEWEST))

    shifts = levels_of(
        {"drawn": (1.0, faint), "films": (1.0, bright)}, {}, EVIDENCE_ALONE, threshold=0.5, real={"films"}
    )

    assert logit(0.7) + shifts["opacity"] < logit(0.5) < logit(0.9) + shifts["opacity"]
    assert shifts["opacity"] == pytest.approx(float(logit(0.5) - logit(0.8)), abs=0.4)


def told(finding, presence, *, present, image, side=None):
    maps = np.full((SIZE, SIZE), 0.1, np.float32)
    return Answered(
        image, Query(finding, finding, side), maps, presence, Lungs(NOTHING, NOTHING), NOTHING, present, True
    )


def test_presence_on_films_is_scaled_by_films_alone():
    drawn = tuple(told("mass", 0.99 if n % 2 else 0.01, present=bool(n % 2), image=n) for n in range(200))
    films = tuple(told("opacity", 0.8, present=n % 4 == 0, image=n) for n in range(200))
    films += tuple(told("opacity", 0.1, present=False, image=200 + n) for n in range(200))

    scalings = scalings_of({"drawn": (1.0, drawn), "films": (1.0, films)}, {"films"})

    assert set(scalings) == {"", "opacity"}
    assert scalings["opacity"].apply(0.8) == pytest.approx(0.25, abs=0.05)
    assert scalings[""].apply(0.99) > 0.98


def test_each_film_counts_once_for_its_presence():
    films = tuple(told("opacity", 0.6, present=n % 2 == 0, image=n) for n in range(100))
    sided = tuple(told("opacity", 0.6, present=True, image=n, side="left") for n in range(100))

    alone, both = (scalings_of({"films": (1.0, rows)}, {"films"}) for rows in (films, films + sided))

    assert alone == both
