"""What was made lately, so that it is not made again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Generic, TypeVar

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
