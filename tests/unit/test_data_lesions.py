"""Lesions put into normal chests: within the named lung, visible, repeatable, with the patient kept."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.lesions import LesionSet, synthesise
from model.data.pins import DataError
from model.data.sample import Pixels, Sample
from model.twin.sample import sample

SIZE = 128
SEEDS = range(12)


def _normal() -> tuple[Pixels, tuple[np.ndarray, np.ndarray]]:
    """A chest of the twin with nothing in it."""
    made = next(made for made in (sample(seed, size=SIZE) for seed in range(500, 600)) if not made.findings)
    return made.pixels, made.lungs


@pytest.fixture(scope="module")
def normal() -> tuple[Pixels, tuple[np.ndarray, np.ndarray]]:
    return _normal()


def test_a_lesion_lies_in_the_lung_that_its_side_names(normal) -> None:
    pixels, (right, left) = normal

    for seed in SEEDS:
        made = synthesise(pixels, (right, left), seed)
        named = {"right": right, "left": left, "bilateral": right | left}[made.side]
        assert made.mask.any()
        assert not (made.mask & ~named).any()
        if made.side == "bilateral":
            assert (made.mask & right).any()
            assert (made.mask & left).any()
        assert made.side not in ("right", "left") or not ({"right", "left"} - {made.side}) & set(made.phrase.split())


def test_a_lesion_brightens_its_mask_and_leaves_the_rest_as_it_was(normal) -> None:
    pixels, lungs = normal

    for seed in SEEDS:
        made = synthesise(pixels, lungs, seed)
        change = made.pixels - pixels
        assert change[made.mask].mean() > 0.02
        assert change[made.mask].mean() > 4 * np.abs(change[~made.mask]).mean()
        np.testing.assert_array_equal(change[~(lungs[0] | lungs[1])], 0)
        assert 0 <= made.pixels.min() <= made.pixels.max() <= 1


def test_a_lesion_has_a_size_that_a_reader_would_mark(normal) -> None:
    pixels, lungs = normal
    lung = (lungs[0] | lungs[1]).sum()

    shares = [synthesise(pixels, lungs, seed).mask.sum() / lung for seed in SEEDS]

    assert min(shares) > 0.005
    assert max(shares) < 0.6
    assert max(shares) > 2 * min(shares)


def test_equal_seeds_give_equal_bits_and_others_another_lesion(normal) -> None:
    pixels, lungs = normal

    first, again, other = (synthesise(pixels, lungs, seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.phrase == again.phrase
    assert not np.array_equal(first.pixels, other.pixels)


def test_masks_that_are_no_lungs_of_this_image_are_refused(normal) -> None:
    pixels, lungs = normal

    with pytest.raises(DataError, match="not as large as the image"):
        synthesise(pixels[:-1], lungs, 0)
    with pytest.raises(DataError, match="less than a hundredth"):
        synthesise(pixels, (lungs[0], np.zeros_like(lungs[1])), 0)


class _Normals:
    """One normal image, and one with a finding."""

    name, version = "few", "1" * 64

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("n.png", "p1", "lung opacity", view="PA"),
            Sample("n.png", "p1", "effusion", view="PA"),
            Sample("s.png", "p2", "mass", mask="m.png"),
            Sample("s.png", "p2", "effusion"),
        )

    def pixels(self, image: str) -> Pixels:
        return _normal()[0]

    def mask(self, sample: Sample) -> np.ndarray:
        raise NotImplementedError


def test_lesions_are_put_into_normal_images_alone_and_keep_their_patient() -> None:
    pixels, lungs = _normal()
    data = LesionSet(_Normals(), lambda _: lungs, lungs_version="drawn", rounds=2)

    first, second = data.samples()

    assert {first.patient, second.patient} == {"p1"}
    assert (first.view, first.present) == ("PA", True)
    assert first.image != second.image
    made = synthesise(pixels, lungs, 0)
    assert first.phrase == made.phrase
    np.testing.assert_array_equal(data.pixels(first.image), made.pixels)
    np.testing.assert_array_equal(data.mask(first), made.mask)
    assert data.name == "lesions-on-few"


def test_the_version_of_lesions_changes_with_all_that_makes_them() -> None:
    def version(**given) -> str:
        return LesionSet(_Normals(), lambda _: _normal()[1], **({"lungs_version": "a"} | given)).version

    versions = {version(), version(seed=1), version(rounds=2), version(lungs_version="b")}

    assert len(versions) == 4
    assert version() in versions
