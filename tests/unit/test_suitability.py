import itertools
import json
import shutil

import numpy as np
import pytest

from model.geometry import UPRIGHT, Orientation
from model.suitability.judge import (
    FILE_NAME,
    REASONS,
    SHIPPED,
    Known,
    Limits,
    Scores,
    SuitabilityError,
    is_blank,
    load_judge,
    verdict,
)
from model.suitability.network import POSES, SuitabilityNetwork
from model.suitability.pictures import strays
from model.twin.sample import sample
from model.twin.view import view_sample
from model.values import Fault, Suitability, View

LIMITS = Limits(turned=1, mirrored=1, inverted=1, other=1, lateral=1, distance=100)
FINE = {"turned": 0.0, "mirrored": -3.0, "inverted": -3.0, "other": -3.0, "lateral": -3.0, "distance": 10.0, "pose": 0}
ORIENTATIONS = [Orientation(*each) for each in itertools.product((False, True), repeat=3)]


@pytest.fixture(scope="module")
def judge():
    return load_judge()


@pytest.fixture(scope="module")
def chests():
    return [sample(seed, size=256).pixels for seed in range(700_000, 700_004)]


@pytest.mark.parametrize(
    ("scores", "fault", "view"),
    [
        ({}, None, View.FRONTAL),
        ({"turned": 0.9}, None, View.FRONTAL),
        ({"turned": 2.0, "pose": POSES.index((False, True, True))}, Fault.TURNED, View.FRONTAL),
        ({"mirrored": 2.0}, Fault.MIRRORED, View.FRONTAL),
        ({"inverted": 2.0}, Fault.INVERTED, View.FRONTAL),
        ({"lateral": 2.0}, Fault.LATERAL, View.LATERAL),
        ({"other": 2.0}, Fault.NOT_A_CHEST, View.OTHER),
        ({"distance": 101.0}, Fault.UNLIKE, View.UNKNOWN),
        ({"other": 2.0, "inverted": 2.0, "mirrored": 2.0}, Fault.NOT_A_CHEST, View.OTHER),
        ({"inverted": 2.0, "mirrored": 2.0}, Fault.INVERTED, View.FRONTAL),
    ],
)
def test_the_gravest_thing_that_stands_against_grounding_is_told(scores, fault, view):
    seen = verdict(Scores(**(FINE | scores)), LIMITS, UPRIGHT)

    assert (seen.fault, seen.view) == (fault, view)
    assert (seen.reason is None) == (fault is None)
    assert seen.orientation == (Orientation(False, True, True) if fault is Fault.TURNED else UPRIGHT)


def test_every_fault_has_its_words():
    assert set(REASONS) | {Fault.TURNED} == set(Fault)


def test_a_fault_without_a_reason_is_refused():
    with pytest.raises(ValueError, match="a fault has a reason"):
        Suitability(View.FRONTAL, UPRIGHT, Fault.BLANK)


@pytest.mark.parametrize("first", ORIENTATIONS)
@pytest.mark.parametrize("second", ORIENTATIONS)
def test_two_turns_are_one(first, second):
    pixels = np.arange(6, dtype=np.float32).reshape(2, 3)

    assert np.array_equal(first.then(second).apply(pixels), second.apply(first.apply(pixels)))


def test_upright_chests_are_suitable(judge, chests):
    assert [judge.look(each, UPRIGHT).fault for each in chests] == [None] * len(chests)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_turned_chest_is_refused_and_the_way_back_is_known(judge, chests, quarters):
    for upright in chests:
        pixels = np.rot90(upright, quarters)

        seen = judge.look(pixels, UPRIGHT)

        assert seen.fault is Fault.TURNED
        assert ("180" if quarters == 2 else "90") in seen.reason
        assert np.array_equal(seen.orientation.apply(pixels), upright)


def test_a_header_that_tells_the_turn_is_enough(judge, chests):
    told = Orientation(transpose=True, reverse_rows=True)
    stored = np.ascontiguousarray(np.rot90(chests[0], -1))
    assert np.array_equal(told.apply(stored), chests[0])

    assert judge.look(stored, told).fault is None


def test_mirrored_and_inverted_chests_are_refused(judge, chests):
    assert [judge.look(each[:, ::-1], UPRIGHT).fault for each in chests] == [Fault.MIRRORED] * len(chests)
    assert [judge.look(1 - each, UPRIGHT).fault for each in chests] == [Fault.INVERTED] * len(chests)


def test_a_lateral_chest_and_a_hand_are_refused(judge):
    seen = {}
    for seed in range(700_000, 700_012):
        pixels, view = view_sample(seed, size=256)
        seen.setdefault(view, set()).add(judge.look(pixels, UPRIGHT).view)

    assert seen["lateral"] == {View.LATERAL}
    assert View.FRONTAL not in seen["other"]


def test_hardly_anything_that_no_x_ray_tube_made_is_let_through(judge):
    pictures = [each.pixels.astype(np.float32) / 255 for each in strays(range(520_000, 520_030))]

    assert sum(judge.look(each, UPRIGHT).fault is None for each in pictures) <= 2


@pytest.mark.parametrize(
    ("pixels", "blank"),
    [
        (np.full((64, 64), 0.5, np.float32), True),
        (np.pad(np.full((48, 48), 0.5, np.float32), 8), True),
        (np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1)), False),
    ],
)
def test_a_picture_in_which_nothing_differs_is_blank(judge, pixels, blank):
    assert is_blank(pixels) is blank
    assert (judge.look(pixels, UPRIGHT).fault is Fault.BLANK) is blank


def test_the_distance_is_to_the_nearest_group():
    known = Known(np.array([[0.0, 0.0], [10.0, 0.0]]), np.diag([1.0, 4.0]))

    assert known.distance(np.array([9.0, 1.0])) == pytest.approx(1 + 4)


def test_the_network_is_as_small_as_it_claims():
    assert sum(each.numel() for each in SuitabilityNetwork().parameters()) <= 150_000
    assert (SHIPPED / FILE_NAME).stat().st_size <= 400_000


@pytest.mark.parametrize("how", ["gone", "changed", "no manifest", "other limits"])
def test_damaged_weights_are_refused(tmp_path, how):
    shutil.copytree(SHIPPED, tmp_path, dirs_exist_ok=True)
    weights, manifest = tmp_path / FILE_NAME, tmp_path / "manifest.json"
    if how == "gone":
        weights.unlink()
    elif how == "changed":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif how == "no manifest":
        manifest.write_text("{")
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"limits": {"turned": 1}}))

    with pytest.raises(SuitabilityError):
        load_judge(tmp_path)
