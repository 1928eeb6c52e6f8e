"""Which images of a study are grounded.

Frontal views of the chest are grounded; everything else is kept as a reference. Of repeats, that is images of the same
projection (PA, AP, or not stated), one is grounded: for presentation before for processing, then the one with more
pixels, then the later InstanceNumber; one that cannot be grounded (turned, mirrored) only when no other can. PA comes
before AP, AP before a projection that is not stated; at most *limit* images are grounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from model.values import View
from plugin.errors import InputError
from plugin.values import ImageDescription, ImageRef

_FOR_PROCESSING: Final = "1.2.840.10008.5.1.4.1.1.1.1.1"
_PROJECTIONS: Final = ("PA", "AP")


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do with the images of a study.

    Parameters
    ----------
    frontals : to be grounded, at least one, best first.
    references : every other radiograph of the study, in the archive's order.
    notes : for the reader of the result.
    """

    frontals: tuple[ImageDescription, ...]
    references: tuple[ImageDescription, ...]
    notes: tuple[str, ...] = ()


def choose_images(
    descriptions: tuple[ImageDescription, ...],
    view_of: Callable[[ImageRef], View],
    *,
    suits: Callable[[ImageRef], bool] = lambda _: True,
    limit: int = 2,
) -> Choice:
    """The frontal chest images of a study, best first.

    Parameters
    ----------
    view_of : looks at the pixels; asked only for images whose header does not tell the view. When it cannot tell
        either, a header that states PA or AP is believed. An InputError that it raises sets that image aside.
    suits : whether an image can be grounded; asked only where there are repeats to choose from.
    limit : how many images are grounded at most.

    Raises
    ------
    InputError
        If no image is a frontal view of the chest; the message says what was found.
    """
    if limit < 1:
        raise ValueError("limit is at least 1")
    notes: list[str] = []
    seen = tuple(_seen(description, view_of, notes) for description in descriptions)
    frontals = sorted((image for image in seen if image.view is View.FRONTAL), key=_rank)
    if not frontals:
        raise InputError(f"The study holds no frontal chest radiograph (PA or AP): {_found(seen)}.")
    best = {
        projection: _best([image for image in frontals if _projection(image) == projection], suits)
        for projection in {_projection(image) for image in frontals}
    }
    chosen = tuple(image for image in frontals if best[_projection(image)] is image)
    if len(frontals) > len(chosen):
        notes.append(f"{len(frontals) - len(chosen)} repeated frontal image(s) kept as reference")
    if len(chosen) > limit:
        notes.append(f"{len(chosen) - limit} further frontal image(s) kept as reference")
        chosen = chosen[:limit]
    grounded = {image.image for image in chosen}
    return Choice(chosen, tuple(image for image in seen if image.image not in grounded), tuple(notes))


def _seen(description: ImageDescription, view_of: Callable[[ImageRef], View], notes: list[str]) -> ImageDescription:
    """*description* with its view told by the pixels where the header is silent."""
    if description.view is not View.UNKNOWN:
        return description
    try:
        view = view_of(description.image)
    except InputError as error:
        notes.append(f"an image was set aside: {error}")
        return replace(description, view=View.OTHER, why="not readable")
    if view is not View.UNKNOWN:
        return replace(description, view=view, why="the pixels")
    if description.view_position in _PROJECTIONS:
        return replace(description, view=View.FRONTAL)
    return description


def _best(repeats: list[ImageDescription], suits: Callable[[ImageRef], bool]) -> ImageDescription:
    """The first of *repeats*, best first, that suits; the first where none does or there is but one."""
    if len(repeats) == 1:
        return repeats[0]
    return next((image for image in repeats if suits(image.image)), repeats[0])


def _projection(description: ImageDescription) -> str:
    return description.view_position if description.view_position in _PROJECTIONS else ""


def _rank(description: ImageDescription) -> tuple[object, ...]:
    """Smaller is better; the UID makes the order total."""
    projection = (*_PROJECTIONS, "").index(_projection(description))
    return (
        projection,
        description.image.sop_class_uid == _FOR_PROCESSING,
        -description.rows * description.columns,
        -description.instance_number,
        description.image.sop_instance_uid,
    )


def _found(seen: tuple[ImageDescription, ...]) -> str:
    if not seen:
        return "no radiograph (CR or DX) was found"
    names = {
        View.LATERAL: "lateral view",
        View.OTHER: "image of another body part or projection",
        View.UNKNOWN: "image of unknown view",
    }
    counts = Counter(names[image.view] for image in seen)
    return "found " + ", ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items())
