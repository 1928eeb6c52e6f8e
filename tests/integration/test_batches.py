"""What goes into a batch: cached samples of the twin, real lungs, views, and how they are turned, lit and worded."""

import cv2
import numpy as np
import pytest

import model.cache
from model.batches import absent, item_of, mirrored, query_of, relit, view_item
from model.config import Config
from model.lungs import is_measured, read_lungs
from model.twin.sample import CONCEPTS, sample
from model.twin.view import view_sample

SEEDS = range(1, 13)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("twin")


@pytest.fixture(scope="module")
def examples(cache):
    return model.cache.examples(cache, SEEDS, size=64, cells=32, workers=1)


@pytest.fixture(scope="module")
def lungs(tmp_path_factory):
    """Films with outlined lungs in the form of the Hannover collection, made up."""
    folder = tmp_path_factory.mktemp("lungs")
    lines = ["file,patient"]
    for name in ("images", "v7_lung_masks"):
        (folder / name).mkdir()
    for number in range(8):
        made = sample(number, size=96)
        cv2.imwrite(str(folder / "images" / f"{number}.png.jpg"), np.round(made.pixels * 255).astype(np.uint8))
        mask = (made.lungs[0] | made.lungs[1]).astype(np.uint8) * 255
        cv2.imwrite(str(folder / "v7_lung_masks" / f"{number}.png"), mask)
        lines.append(f"images/{number}.png,patient-{number}")
    (folder / "manifest.csv").write_text("\n".join([*lines, "images/unmasked.png,patient-9"]))
    return folder


def test_a_cached_sample_is_the_sample(examples):
    made = sample(1, size=64)

    assert np.array_equal(examples[0].pixels, np.round(made.pixels * 255).astype(np.uint8))
    assert [f.concept for f in examples[0].findings] == [f.concept for f in made.findings]


def test_what_was_rendered_is_not_rendered_again(examples, cache, monkeypatch):
    monkeypatch.setattr(model.cache, "ProcessPoolExecutor", None)

    again = model.cache.examples(cache, SEEDS, size=64, cells=32, workers=1)

    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(again, examples, strict=True))


@pytest.mark.parametrize("change", [{"size": 128}, {"cells": 16}, {"version": 1_000}])
def test_what_an_older_twin_or_another_network_rendered_is_not_taken_for_it(change, examples, cache, monkeypatch):
    asked = {"size": 64, "cells": 32, **change}
    monkeypatch.setattr(model.cache, "VERSION", asked.pop("version", model.cache.VERSION))
    monkeypatch.setattr(model.cache, "ProcessPoolExecutor", None)

    with pytest.raises(TypeError):  # it would render
        model.cache.examples(cache, SEEDS, workers=1, **asked)


def test_real_lungs_are_told_apart_by_side_and_split_by_patient(lungs):
    pairs, patients = read_lungs(lungs, size=64, cells=32, wanted=lambda patient: not is_measured(patient))
    _, others = read_lungs(lungs, size=64, cells=32, wanted=is_measured)

    assert len(patients) + len(others) == 8
    assert not {*patients} & {*others}
    for _, (right, left) in pairs:
        assert np.argwhere(right)[:, 1].mean() < np.argwhere(left)[:, 1].mean()


def test_the_mirror_image_swaps_sides_in_picture_and_words(examples):
    example = next(each for each in examples if any(f.side in ("left", "right") for f in each.findings))
    pixels, anatomy, findings = mirrored(example.pixels.astype(np.float32), example.anatomy, example.findings)

    swap = {"left": "right", "right": "left"}
    assert [f.side for f in findings] == [swap.get(f.side, f.side) for f in example.findings]
    assert np.array_equal(pixels[:, ::-1], example.pixels)
    assert np.array_equal(anatomy[0], example.anatomy[1][:, ::-1])


def test_what_is_asked_as_absent_is_not_there(examples):
    rng = np.random.default_rng(0)
    for example in examples:
        there = {(finding.concept, finding.side) for finding in example.findings}
        for finding in absent(example.findings, rng):
            assert (finding.concept, finding.side) not in there


def test_a_query_says_no_more_than_its_words(examples):
    rng = np.random.default_rng(0)
    for example in examples:
        for finding in example.findings:
            query = query_of(finding, rng)
            assert query.finding in CONCEPTS
            assert query.side is None or query.side == finding.side


def test_augmented_pixels_stay_between_black_and_white(examples):
    rng = np.random.default_rng(0)
    for example in examples:
        item = item_of(example, rng, augment=True)
        assert 0 <= item.pixels.min() <= item.pixels.max() <= 1
    assert relit(np.full((32, 32), 0.5, np.float32), rng).dtype == np.float32


def test_every_view_can_be_made():
    views = {view_sample(seed, size=64)[1] for seed in range(24)}

    assert views == {"frontal", "lateral", "other"}


def test_what_is_no_frontal_chest_has_no_lungs():
    config = Config(size=128, stride=4)
    item = view_item(5, np.random.default_rng(0), config)

    assert item.pixels.shape == (128, 128)
    assert item.anatomy.shape == (3, 32, 32)
    assert not item.anatomy.any()
