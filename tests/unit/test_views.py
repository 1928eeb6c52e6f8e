"""Which images are grounded: frontal chests, best first; everything else is kept."""

from __future__ import annotations

from typing import Any

import pytest

from model.values import View
from plugin.errors import InputError
from plugin.identity import derived_uid
from plugin.values import ImageDescription, ImageRef, StudyRef
from plugin.views import choose_images

STUDY = StudyRef("1.2.3")
CR, DX, PROCESSING = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1",
    "1.2.840.10008.5.1.4.1.1.1.1.1",
)


def image(name: str, view: View = View.FRONTAL, *, sop_class: str = CR, **settings: Any) -> ImageDescription:
    position = {"view_position": "PA"} if view is View.FRONTAL else {}
    return ImageDescription(
        ImageRef(STUDY, "1.2.4", derived_uid("test", name), sop_class),
        modality="CR",
        view=view,
        why="test",
        **{"rows": 100, "columns": 100, **position, **settings},
    )


def never(asked: ImageRef) -> View:
    raise AssertionError(f"asked for {asked}")


def test_the_frontal_view_is_grounded_and_the_lateral_kept() -> None:
    frontal, lateral = image("pa"), image("ll", View.LATERAL)

    choice = choose_images((lateral, frontal), never)

    assert choice.frontals == (frontal,)
    assert choice.references == (lateral,)
    assert choice.notes == ()


def test_each_projection_is_grounded_and_pa_comes_before_ap() -> None:
    pa, ap = image("pa"), image("ap", view_position="AP", rows=500)

    assert choose_images((ap, pa), never).frontals == (pa, ap)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (image("a"), image("b", sop_class=PROCESSING, rows=500)),
        (image("a", sop_class=DX, rows=200), image("b", instance_number=9)),
        (image("a", instance_number=2), image("b", instance_number=1)),
    ],
)
def test_of_repeats_the_best_is_grounded(better: ImageDescription, worse: ImageDescription) -> None:
    for order in ((better, worse), (worse, better)):
        choice = choose_images(order, never)

        assert choice.frontals == (better,)
        assert choice.references == (worse,)
        assert choice.notes == ("1 repeated frontal image(s) kept as reference",)


def test_equal_images_are_chosen_the_same_in_any_order() -> None:
    one, two = image("one"), image("two")

    assert choose_images((one, two), never).frontals == choose_images((two, one), never).frontals


def test_no_more_than_the_limit_is_grounded() -> None:
    pa, ap, other = image("pa"), image("ap", view_position="AP"), image("other", view_position="")

    choice = choose_images((other, ap, pa), never)

    assert choice.frontals == (pa, ap)
    assert choice.references == (other,)
    assert choice.notes == ("1 further frontal image(s) kept as reference",)
    assert choose_images((other, ap, pa), never, limit=1).frontals == (pa,)
    assert choose_images((other, ap, pa), never, limit=3).frontals == (pa, ap, other)


def test_the_pixels_are_asked_only_when_the_header_is_silent() -> None:
    silent, frontal = image("silent", View.UNKNOWN), image("pa")
    asked = []

    def view_of(ref: ImageRef) -> View:
        asked.append(ref)
        return View.LATERAL

    choice = choose_images((frontal, silent), view_of)

    assert asked == [silent.image]
    assert choice.frontals == (frontal,)
    assert (choice.references[0].view, choice.references[0].why) == (View.LATERAL, "the pixels")


def test_pixels_that_show_a_frontal_view_are_grounded() -> None:
    choice = choose_images((image("silent", View.UNKNOWN),), lambda _: View.FRONTAL)

    assert choice.frontals[0].why == "the pixels"


def test_a_stated_projection_is_believed_when_the_pixels_cannot_tell() -> None:
    silent = image("silent", View.UNKNOWN, view_position="AP")

    assert choose_images((silent,), lambda _: View.UNKNOWN).frontals[0].view is View.FRONTAL


def test_an_unreadable_image_is_set_aside() -> None:
    def view_of(_: ImageRef) -> View:
        raise InputError("it is flat")

    choice = choose_images((image("pa"), image("silent", View.UNKNOWN)), view_of)

    assert len(choice.frontals) == 1
    assert choice.notes == ("an image was set aside: it is flat",)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        ((), r"no radiograph \(CR or DX\) was found"),
        ((image("a", View.LATERAL), image("b", View.LATERAL)), "found 2 lateral views"),
        ((image("hand", View.OTHER),), "found 1 image of another body part or projection"),
        ((image("a", View.UNKNOWN), image("b", View.LATERAL)), "found 1 image of unknown view, 1 lateral view"),
    ],
)
def test_a_study_without_a_frontal_chest_says_what_it_holds(images: tuple[ImageDescription, ...], found: str) -> None:
    with pytest.raises(InputError, match=found):
        choose_images(images, lambda _: View.UNKNOWN)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        choose_images((image("pa"),), never, limit=0)


def test_of_repeats_one_that_can_be_grounded_comes_before_a_better_one_that_cannot() -> None:
    turned, small = image("turned", rows=500), image("small")

    choice = choose_images((turned, small), never, suits=lambda ref: ref == small.image)

    assert choice.frontals == (small,)
    assert choice.references == (turned,)


def test_where_no_repeat_can_be_grounded_the_best_is_taken_to_say_why() -> None:
    large, small = image("large", rows=500), image("small")

    assert choose_images((small, large), never, suits=lambda _: False).frontals == (large,)


def test_an_image_without_repeats_is_not_asked_whether_it_suits() -> None:
    def suits(ref: ImageRef) -> bool:
        raise AssertionError(f"asked for {ref}")

    assert len(choose_images((image("pa"), image("ap", view_position="AP")), never, suits=suits).frontals) == 2
