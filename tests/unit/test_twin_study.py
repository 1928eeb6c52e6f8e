import re

import numpy as np
import pytest

from model.twin.study import study

SEEDS = range(40)


@pytest.fixture(scope="module")
def studies():
    return [study(seed, size=128) for seed in SEEDS]


def test_the_same_seed_gives_the_same_study(studies):
    again = study(3, size=128)

    assert again.report == studies[3].report
    assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(again.images, studies[3].images, strict=True))


def test_every_phrase_stands_where_the_truth_says(studies):
    for each in studies:
        for phrase in each.report.phrases:
            assert each.report.text[phrase.start : phrase.end] == phrase.text


def test_every_finding_is_stated_and_none_of_them_denied(studies):
    for each in studies:
        said = {phrase.finding for phrase in each.report.phrases if phrase.assertion != "negated"}
        assert set(range(len(each.findings))) <= said
        assert all(phrase.finding is None for phrase in each.report.phrases if phrase.assertion == "negated")


def test_a_phrase_names_no_other_side_than_its_finding_has(studies):
    for each in studies:
        for phrase in each.report.phrases:
            if phrase.finding is not None and phrase.side is not None:
                assert phrase.side == (each.findings[phrase.finding].side or phrase.side)


def test_reports_deny_doubt_and_ask(studies):
    assertions = {phrase.assertion for each in studies for phrase in each.report.phrases}

    assert assertions == {"affirmed", "probable", "possible", "negated", "not-reported"}


def test_reports_come_with_and_without_headings_and_numbers(studies):
    texts = [each.report.text for each in studies]

    assert {"FINDINGS:" in text for text in texts} == {True, False}
    assert {bool(re.search(r"^1\. ", text, re.MULTILINE)) for text in texts} == {True, False}


def test_frontals_carry_a_mask_per_finding_and_laterals_none(studies):
    views = set()
    for each in studies:
        for image in each.images:
            views.add(image.view)
            assert len(image.masks) == (0 if image.view in ("LL", "RL") else len(each.findings))
            assert all(mask.shape == image.pixels.shape and mask.any() for mask in image.masks)
    assert views == {"PA", "AP", "LL", "RL"}


def test_images_are_portrait_and_landscape_and_cut_no_finding(studies):
    shapes = [each.images[0].pixels.shape for each in studies]

    assert {rows > columns for rows, columns in shapes} == {True, False}
    for each in studies:
        for mask, finding in zip(each.images[0].masks, each.findings, strict=True):
            assert mask.sum() == finding.mask.sum()


@pytest.mark.parametrize("seed", [-1, 10_000])
def test_a_seed_that_could_meet_a_training_sample_is_refused(seed):
    with pytest.raises(ValueError, match="0 to 9999"):
        study(seed, size=128)
