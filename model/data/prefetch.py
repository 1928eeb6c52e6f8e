"""Images read ahead by threads, so that decoding and the network do not keep the training waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Asked = TypeVar("Asked")
Got = TypeVar("Got")


def prefetched(
    read: Callable[[Asked], Got], wanted: Iterable[Asked], *, threads: int = 8, ahead: int = 32
) -> Iterator[tuple[Asked, Got]]:
    """Each of *wanted* with what *read* gives for it, in order, while at most *ahead* more are being read.

    *wanted* may be endless; what was begun when the iteration stops is finished, and no more is begun. For instance
    ``prefetched(data.pixels, (row.image for row in rows))``.

    Raises
    ------
    ValueError
        If *threads* or *ahead* is below 1.
    Exception
        What *read* raises, when its item's turn comes.
    """
    if threads < 1 or ahead < 1:
        raise ValueError("reading ahead needs at least one thread and one place")
    waiting: deque[tuple[Asked, Future[Got]]] = deque()
    rest = iter(wanted)
    with ThreadPoolExecutor(threads, thread_name_prefix="prefetch") as pool:
        try:
            waiting.extend((each, pool.submit(read, each)) for each in islice(rest, ahead))
            while waiting:
                asked, coming = waiting.popleft()
                got = coming.result()
                waiting.extend((each, pool.submit(read, each)) for each in islice(rest, 1))
                yield asked, got
        finally:
            for _, coming in waiting:
                coming.cancel()
