"""Disks that are full until a block ends: a small file system of its own, where one may be mounted, or a limit.

Both refuse every byte: the file system with ENOSPC, the limit on the size of files (RLIMIT_FSIZE), which needs no
privilege, with EFBIG.
"""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE_MB = 64


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A small file system at *folder*, until the block ends.

    Raises
    ------
    OSError
        If that is not permitted here.
    """
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "sightline-tests", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise PermissionError("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """No room on the file system of *folder*, which is :func:`mounted`."""
    assert folder.is_mount()
    filler = folder / ".filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(bytes(4096))
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def limited(pid: int) -> Iterator[None]:
    """Process *pid*, of ours, cannot write a byte to any file."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError), mounted(Path(folder)):
        return True
    return False


#: How a disk can be made full here; the limit everywhere.
WAYS = ("limit", "file system") if os.getuid() == 0 and _can_mount() else ("limit",)
