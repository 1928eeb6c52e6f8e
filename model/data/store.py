"""The files of a data set under one root, each known by its SHA-256."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path


class DataError(ValueError):
    """A data set cannot be used: says what is wrong with which file, what was expected, and what to do.

    Names files and lines, never a patient.
    """


class FolderStore:
    """Files of a folder on this machine.

    Parameters
    ----------
    root : the folder; names are relative to it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._digests: dict[str, str] = {}

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return (self.root / name).read_bytes()

    def sha256(self, name: str) -> str:
        """Digest of a file's bytes, in hexadecimal; read once."""
        if name not in self._digests:
            self._digests[name] = hashlib.sha256(self.read(name)).hexdigest()
        return self._digests[name]


def version_of(digests: Iterable[tuple[str, str]]) -> str:
    """SHA-256 over the sorted lines ``digest  name``, as ``sha256sum`` writes them.

    Parameters
    ----------
    digests : (name, digest) of every file.
    """
    lines = sorted(f"{digest}  {name}\n" for name, digest in digests)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
