"""What was made lately, so that it is not made again."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """At most *most* values by key; the one that was asked for longest ago goes first. For one thread at a time."""

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError("at least one value is kept")
        self._most = most
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, keys: Sequence[Key], make: Callable[[list[Key]], Iterable[Value]]) -> list[Value]:
        """The value of each key; *make* is asked once for all that are missing, each named once."""
        missing = list(dict.fromkeys(key for key in keys if key not in self._kept))
        made = dict(zip(missing, make(missing), strict=True)) if missing else {}
        found = [made[key] if key in made else self._kept[key] for key in keys]
        for key, value in zip(keys, found, strict=True):
            self._kept[key] = value
            self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found


class RecentImages(Generic[Key, Value]):
    """At most *most* values by image and key, while the image is there; for one thread at a time.

    An image is the array itself, which is not kept alive for this. Arrays that may be written are not remembered:
    what was made of them need not be true any more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[int, Key], tuple[weakref.ref[npt.NDArray[np.float32]], Value]] = OrderedDict()

    def of(self, image: npt.NDArray[np.float32], key: Key, make: Callable[[], Value]) -> Value:
        """The value of *image* and *key*, from *make* when it is not kept."""
        place = (id(image), key)
        kept = self._kept.get(place)
        if kept is not None and kept[0]() is image:
            self._kept.move_to_end(place)
            return kept[1]
        value = make()
        if not image.flags.writeable:
            self._drop_the_dead()
            self._kept[place] = (weakref.ref(image), value)
            self._kept.move_to_end(place)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return value

    def _drop_the_dead(self) -> None:
        for place in [place for place, (image, _) in self._kept.items() if image() is None]:
            del self._kept[place]
