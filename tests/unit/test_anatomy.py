import numpy as np
import pytest

from model.anatomy import Lungs, field_of, lungs_of, named_area
from model.values import Query


def lungs(size=64):
    right, left = np.zeros((size, size), bool), np.zeros((size, size), bool)
    right[12:48, 10:26] = True
    left[12:48, 38:54] = True
    return Lungs(right, left)


def ask(finding="opacity", side=None, *sites):
    return Query("words", finding, side, sites)


def test_two_lungs_side_by_side_are_a_frontal_chest():
    assert lungs().plausible


@pytest.mark.parametrize("missing", ["right", "left"])
def test_one_lung_alone_is_none(missing):
    none = np.zeros((64, 64), bool)
    here = lungs()

    assert not Lungs(none if missing == "right" else here.right, none if missing == "left" else here.left).plausible


def test_lungs_one_above_the_other_are_a_turned_image():
    here = lungs()

    assert not Lungs(here.right.T, here.left.T).plausible


def test_lungs_on_each_others_side_are_a_mirrored_image():
    here = lungs()

    assert not Lungs(here.left, here.right).plausible


def test_only_the_largest_piece_of_a_lung_counts_and_its_holes_are_filled():
    probability = np.zeros((2, 64, 64), np.float32)
    probability[0, 12:48, 10:26] = 0.9
    probability[0, 20:24, 14:18] = 0.1
    probability[0, 60:62, 60:62] = 0.9

    found = lungs_of(probability)

    assert found.right[22, 16]
    assert not found.right[61, 61]
    assert not found.left.any()


@pytest.mark.parametrize(("side", "column", "other"), [("right", 18, 46), ("left", 46, 18)])
def test_a_named_side_keeps_the_light_off_the_other(side, column, other):
    allowed = field_of(lungs(), ask("pleural effusion", side))

    assert allowed[30, column]
    assert not allowed[:, other].any()


def test_a_finding_of_the_lungs_stays_near_them_and_a_device_may_be_anywhere():
    assert not field_of(lungs(), ask("opacity"))[60, 32]
    assert field_of(lungs(), ask("pacemaker", "left")).all()


@pytest.mark.parametrize(
    ("query", "inside", "outside"),
    [
        (ask("opacity", "right", "upper lobe"), (14, 18), (45, 18)),
        (ask("opacity", "left", "lower lobe"), (45, 46), (14, 46)),
        (ask("opacity", None, "mid lung"), (30, 18), (14, 18)),
        (ask("pleural effusion", "left", "pleura"), (46, 46), (14, 46)),
        (ask("fibrosis", "right", "lung"), (14, 18), (14, 46)),
    ],
)
def test_the_named_area_is_the_part_of_the_lung_that_the_words_name(query, inside, outside):
    area = named_area(lungs(), query)

    assert area[inside]
    assert not area[outside]


@pytest.mark.parametrize(
    "query",
    [
        ask("opacity", None, "lung"),
        ask("cardiomegaly", None, "heart"),
        ask("pacemaker", "left"),
        ask("fracture", "right", "rib"),
        ask("dislocation", "left", "shoulder"),
        ask("calcification", "left", "lung", "breast"),
    ],
)
def test_words_that_name_no_part_of_the_lung_have_no_area(query):
    assert named_area(lungs(), query) is None
