"""A lock on a file, between threads and between processes of one machine."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from plugin.errors import TransientError, UnavailableError

RETRY_AFTER_S = 2.0


@contextlib.contextmanager
def locked(path: Path, *, patience_s: float = 60.0) -> Iterator[None]:
    """While the block runs, no other one holds the lock *path*; the end of the process gives it back, too.

    Raises
    ------
    UnavailableError
        If another one holds it for longer than *patience_s*.
    TransientError
        If the file cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise TransientError(f"A lock cannot be made ({error.strerror}); is the disk full or read-only?") from error
    with file:
        ends = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > ends:
                    raise UnavailableError(
                        "Another worker is at the same; it is tried again later.", retry_after_s=RETRY_AFTER_S
                    ) from None
                time.sleep(0.02)
        yield
