"""The files of a data set under one root, a folder or a bucket, each known by its SHA-256.

A root is pinned by a file ``VERSION.json`` beside the data (:mod:`model.data.pins` writes it) or by ``SHA256SUMS.txt``,
as PhysioNet publishes it. Then a file with another byte is refused. A folder may go without; a bucket may not, since
its files are streamed and nothing else says that they are still the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Protocol

import fsspec

from model.data.pins import PIN_FILES, DataError, digest_of, parse_pins, version_of
from model.sources import SourceError, fetch

_ATTEMPTS = 4
_PAUSE_S = 0.25  # doubled after each attempt


class Store(Protocol):
    """Files by their names relative to one root; safe to use from several threads."""

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises
        ------
        OSError
            If it cannot be read.
        DataError
            If it is not the pinned one.
        """
        ...

    def sha256(self, name: str) -> str:
        """Digest of a file's bytes, in hexadecimal: as pinned, or else read once."""
        ...

    def has(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def names(self) -> tuple[str, ...]:
        """Names of files and folders directly under the root, sorted."""
        ...


class FolderStore:
    """Files of a folder on this machine.

    Raises
    ------
    DataError
        If there is a pin file that is not one.
    OSError
        If there is one that cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        found = next((root / name for name in PIN_FILES if (root / name).is_file()), None)
        self._pins = parse_pins(found.read_bytes(), found.name) if found else {}
        self._digests = dict(self._pins)

    def read(self, name: str) -> bytes:
        """As :class:`Store`; a file that is not listed is not pinned."""
        content = (self.root / name).read_bytes()
        if name in self._pins and digest_of(content) != self._pins[name]:
            raise DataError(f"{name} is not the file of the pinned version: restore it, or pin the data anew")
        return content

    def sha256(self, name: str) -> str:
        """As :class:`Store`."""
        if name not in self._digests:
            self._digests[name] = digest_of(self.read(name))
        return self._digests[name]

    def has(self, name: str) -> bool:
        """As :class:`Store`."""
        return (self.root / name).is_file()

    def names(self) -> tuple[str, ...]:
        """As :class:`Store`."""
        return tuple(sorted(each.name for each in self.root.iterdir())) if self.root.is_dir() else ()


class BucketStore:
    """Pinned files at a URI of fsspec, streamed: each is fetched when it is read, and kept in a cache of limited size.

    Parameters
    ----------
    root : for instance ``s3://bucket/folder`` or ``gs://bucket/folder``.
    cache : folder on this machine; files in it are named by their digest, and appear whole or not at all.
    limit_bytes : of the cache; what was not used for longest goes first.
    offline : use no network, only the cache.
    pause : waits between attempts; given seconds.

    Raises
    ------
    DataError
        If there is no pin file at *root* (offline: none in the cache), or it is not one.
    """

    def __init__(
        self,
        root: str,
        *,
        cache: Path,
        limit_bytes: int = 20 * 10**9,
        offline: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.root, self.cache, self.offline = root.rstrip("/"), cache, offline
        self._limit_bytes, self._pause, self._lock = limit_bytes, pause, Lock()
        self._pins = self._read_pins()
        self._held: int | None = None

    def read(self, name: str) -> bytes:
        """As :class:`Store`; tried again when the network fails or a body arrives cut off."""
        expected = self.sha256(name)
        for attempt in range(_ATTEMPTS):
            try:
                kept = fetch(f"{self.root}/{name}", sha256=expected, cache=self.cache, offline=self.offline)
                content = kept.read_bytes()
            except FileNotFoundError:  # another thread made room between fetching and reading
                continue
            except SourceError as error:
                if self.offline or isinstance(error.__cause__, FileNotFoundError | ImportError):
                    raise DataError(str(error)) from error
                if attempt + 1 == _ATTEMPTS:
                    raise DataError(f"{error}; tried {_ATTEMPTS} times") from error
                self._pause(_PAUSE_S * 2**attempt)
                continue
            self._note(kept, len(content))
            return content
        raise DataError(f"{name} does not stay in the cache: allow it more than {self._limit_bytes} bytes")

    def sha256(self, name: str) -> str:
        """As :class:`Store`.

        Raises
        ------
        DataError
            If the file is not pinned.
        """
        if name not in self._pins:
            raise DataError(f"{name} is not in the pinned version of {self.root}: add it there and pin the data anew")
        return self._pins[name]

    def has(self, name: str) -> bool:
        """As :class:`Store`."""
        return name in self._pins

    def names(self) -> tuple[str, ...]:
        """As :class:`Store`."""
        return tuple(sorted({name.partition("/")[0] for name in self._pins}))

    def _read_pins(self) -> Mapping[str, str]:
        """The pins at the root; kept beside the cached files for work without a network."""
        kept = self.cache / "pins" / digest_of(self.root.encode())
        if self.offline:
            if not kept.is_file():
                raise DataError(f"{self.root} was never opened with this cache: open it once with the network")
            return parse_pins(kept.read_bytes(), f"the pinned version of {self.root}")
        for name in PIN_FILES:
            content = self._fetched(f"{self.root}/{name}")
            if content is not None:
                pins = parse_pins(content, f"{self.root}/{name}")
                write_whole(kept, content)
                return pins
        raise DataError(
            f"{self.root} has no {' and no '.join(PIN_FILES)}: data are streamed only when pinned; "
            "run `python -m model.data.pins FOLDER` on them before they go to the bucket"
        )

    def _fetched(self, uri: str) -> bytes | None:
        """The file at *uri*, or None where there is none."""
        for attempt in range(_ATTEMPTS):
            try:
                files, path = fsspec.core.url_to_fs(uri, use_listings_cache=False)
                return bytes(files.cat_file(path))
            except FileNotFoundError:
                return None
            except ImportError as error:
                raise DataError(f"{uri} needs a package that is not installed: {error}") from error
            except Exception as error:  # each file system has errors of its own
                if attempt + 1 == _ATTEMPTS:
                    kind = type(error).__name__
                    raise DataError(
                        f"{uri} cannot be read ({kind}): check its name, network and credentials"
                    ) from error
                self._pause(_PAUSE_S * 2**attempt)
        return None

    def _note(self, kept: Path, size: int) -> None:
        """Mark *kept* as used now, and make room when the cache has grown over its limit."""
        with self._lock:
            try:
                os.utime(kept)
            except FileNotFoundError:
                return
            known = self._held
            # Files read again are counted again, so that the true sum is never above this one.
            self._held = _total(self.cache) if known is None else known + size
            if self._held > self._limit_bytes:
                self._held = make_room(self.cache, self._limit_bytes)


def make_room(cache: Path, limit_bytes: int) -> int:
    """Remove the files of *cache* that were not used for longest until the rest is at most nine tenths of the limit.

    Returns
    -------
    Bytes that are left; nothing is removed while all of them are within the limit.
    """
    found = sorted((status.st_mtime, status.st_size, path) for path, status in _files(cache))
    left = sum(size for _, size, _ in found)
    if left <= limit_bytes:
        return left
    for _, size, path in found[:-1]:  # the newest stays, whatever its size
        if left <= limit_bytes * 9 // 10:
            break
        path.unlink(missing_ok=True)
        left -= size
    return left


def write_whole(path: Path, content: bytes) -> None:
    """Write *path* so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}.{os.getpid()}.part")
    staging.write_bytes(content)
    staging.replace(path)


def _files(cache: Path) -> list[tuple[Path, os.stat_result]]:
    """Fetched files; not the pins, nor what is being fetched now."""
    found = []
    for path in cache.glob("[0-9a-f][0-9a-f]/[0-9a-f]*"):
        try:
            found.append((path, path.stat()))
        except FileNotFoundError:  # another process made room
            continue
    return found


def _total(cache: Path) -> int:
    return sum(status.st_size for _, status in _files(cache))


__all__ = ["BucketStore", "DataError", "FolderStore", "Store", "make_room", "version_of", "write_whole"]
