import cv2
import numpy as np
import pytest

from model.twin.sample import CONCEPTS, sample

SEEDS = range(60)


@pytest.fixture(scope="module")
def samples():
    return [sample(seed, size=96) for seed in SEEDS]


def test_the_same_seed_gives_the_same_bits():
    first, second = sample(5, size=128), sample(5, size=128)

    assert np.array_equal(first.pixels, second.pixels)
    assert [finding.concept for finding in first.findings] == [finding.concept for finding in second.findings]


def test_pixels_lie_between_black_and_white(samples):
    assert all(each.pixels.dtype == np.float32 and 0 <= each.pixels.min() < each.pixels.max() <= 1 for each in samples)


def test_every_finding_occurs(samples):
    assert {finding.concept for each in samples for finding in each.findings} == set(CONCEPTS)


def test_the_right_lung_is_on_the_viewers_left(samples):
    for each in samples:
        right, left = (np.argwhere(lung)[:, 1].mean() for lung in each.lungs)
        assert right < left


def test_lungs_are_darker_than_the_mediastinum_between_them(samples):
    darker = [each.pixels[each.lungs[0] | each.lungs[1]].mean() < each.pixels[each.heart].mean() for each in samples]

    assert all(darker)


def test_a_finding_lies_on_the_side_it_names(samples):
    inside = ("pleural effusion", "consolidation", "opacity", "pulmonary nodule", "mass", "atelectasis", "pneumothorax")
    for each in samples:
        for finding in each.findings:
            if finding.concept in inside and finding.side in ("left", "right"):
                other = each.lungs[0 if finding.side == "left" else 1]
                assert finding.mask.any()
                assert not (finding.mask & other).any()


@pytest.mark.parametrize(("concept", "sign"), [("pleural effusion", 1), ("consolidation", 1), ("pneumothorax", -1)])
def test_fluid_brightens_its_place_and_free_air_darkens_it(samples, concept, sign):
    contrasts = [
        each.pixels[finding.mask].mean() - np.median(each.pixels[each.lungs[0] | each.lungs[1]])
        for each in samples
        for finding in each.findings
        if finding.concept == concept and finding.severity != "small"
    ]

    assert sign * np.median(contrasts) > 0.02


def test_what_a_line_or_tube_is_named_for_stands_out_as_on_films():
    """At nine of ten places on four films they were .03 to .12 of the grey scale brighter than what lay beside."""
    contrasts = [
        brightest_over_surroundings(made.pixels, finding.mask)
        for made in (sample(seed, size=512) for seed in range(400, 500))
        for finding in made.findings
        if finding.concept in ("central venous line", "endotracheal tube")
    ]

    assert len(contrasts) >= 5
    assert 0.02 < np.median(contrasts) < 0.12


def brightest_over_surroundings(pixels, mask):
    """Each row's brightest pixel of a mask over the median of the mask's ends in that row."""
    rows = [pixels[row, np.flatnonzero(mask[row])] for row in np.flatnonzero(mask.sum(axis=1) > 6)]
    return np.median([row.max() - np.median(np.r_[row[:2], row[-2:]]) for row in rows])


def test_noise_is_as_fine_as_on_films():
    """In the mediastinum of 150 films, what is finer than 2 mm deviates by .003 to .008; nothing is white."""
    made = [sample(seed, size=512) for seed in range(400, 420)]

    grain = [(each.pixels - cv2.GaussianBlur(each.pixels, (0, 0), 1.5))[each.heart].std() for each in made]
    assert 0.003 < np.median(grain) < 0.008
    assert np.median([(each.pixels > 0.98).mean() for each in made]) < 0.005


def test_an_image_too_small_to_show_anything_is_refused():
    with pytest.raises(ValueError, match="64"):
        sample(0, size=32)
