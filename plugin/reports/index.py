"""Which files of a folder speak of a report, a study or an order, so that a question need not read all of them.

Kept in memory (about a kilobyte for each file) and brought up to date by looking at the files' times: a file is read
again only when it changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Final

FRESH_NS: Final = 1_000_000_000
"""How long a look at all files is good for, as far as nothing is seen to have changed since."""
_RACY_NS: Final = 50_000_000
"""A file that changed so shortly before it was looked at may change again and keep its time (a tick of the kernel)."""

_Stamp = tuple[int, int, int]


@dataclass(slots=True)
class FolderIndex:
    """The ``*.json`` files below *folder*, at any depth, but not those below *without*; safe to use from threads.

    Parameters
    ----------
    keys_of : what a file is found by; nothing for one that cannot be read. Called again when the file changed.
    clock_ns : the time of files.
    """

    folder: Path
    without: Path
    keys_of: Callable[[Path], Iterable[str]]
    clock_ns: Callable[[], int] = time.time_ns
    _stamps: dict[Path, _Stamp] = field(default_factory=dict)
    _keys: dict[Path, tuple[str, ...]] = field(default_factory=dict)
    _files: dict[str, set[Path]] = field(default_factory=dict)
    _folders: tuple[Path, ...] = ()
    _looked_ns: int = 0
    _lock: Lock = field(default_factory=Lock)

    def found(self, *keys: str, thoroughly: bool = False) -> tuple[Path, ...]:
        """The files that one of *keys* stands for, in their order.

        Within a second of the last look only folders, and the files that were found, are looked at, since somebody who
        asks for one report after the other asks for thousands; *thoroughly* looks at all files again.
        """
        with self._lock:
            paths = self._held(keys)
            if thoroughly or not paths or self._may_have_changed(paths):
                self._look()
                paths = self._held(keys)
            return tuple(sorted(paths))

    def _held(self, keys: tuple[str, ...]) -> set[Path]:
        return {path for key in keys for path in self._files.get(key, ())}

    def _may_have_changed(self, paths: set[Path]) -> bool:
        if self.clock_ns() - self._looked_ns > FRESH_NS:
            return True
        settled = self._looked_ns - _RACY_NS
        if any(_stamp(path) != self._stamps[path] or max(self._stamps[path][:2]) > settled for path in paths):
            return True
        return any((stamp := _stamp(folder)) is None or stamp[0] > settled for folder in self._folders)

    def _look(self) -> None:
        """Look at every file, and read those that changed."""
        began, settled = self.clock_ns(), self._looked_ns - _RACY_NS
        there = dict(self._walked())
        for path in self._stamps.keys() - there.keys():
            self._forget(path)
        for path, stamp in there.items():
            if self._stamps.get(path) != stamp or max(stamp[:2]) > settled:
                self._forget(path)
                self._remember(path, stamp)
        self._looked_ns = began

    def _walked(self) -> Iterator[tuple[Path, _Stamp]]:
        folders = []
        for place, below, names in os.walk(self.folder):
            at = Path(place)
            folders.append(at)
            below[:] = [name for name in below if at / name != self.without]
            for name in names:
                if name.endswith(".json") and (stamp := _stamp(at / name)):
                    yield at / name, stamp
        self._folders = tuple(folders)

    def _remember(self, path: Path, stamp: _Stamp) -> None:
        keys = tuple(dict.fromkeys(self.keys_of(path)))
        self._stamps[path], self._keys[path] = stamp, keys
        for key in keys:
            self._files.setdefault(key, set()).add(path)

    def _forget(self, path: Path) -> None:
        self._stamps.pop(path, None)
        for key in self._keys.pop(path, ()):
            files = self._files[key]
            files.discard(path)
            if not files:
                del self._files[key]


def _stamp(path: Path) -> _Stamp | None:
    """Times of content and of the entry, and size; None when it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size
