"""Reading ahead: in order, bounded, and honest about what failed."""

from __future__ import annotations

import itertools
import threading
import time

import pytest

from model.data.prefetch import prefetched


def test_what_was_wanted_comes_in_order_however_long_each_takes() -> None:
    def read(number: int) -> int:
        time.sleep(0.002 * (7 - number % 7))
        return number * 2

    assert list(prefetched(read, range(20), threads=4, ahead=6)) == [(number, number * 2) for number in range(20)]


def test_no_more_is_read_ahead_than_was_allowed() -> None:
    begun: list[int] = []

    def read(number: int) -> int:
        begun.append(number)
        return number

    stream = prefetched(read, itertools.count(), threads=2, ahead=5)
    for _ in range(3):
        next(stream)

    time.sleep(0.05)
    assert len(begun) <= 3 + 5
    stream.close()


def test_reading_is_done_by_several_threads_at_once() -> None:
    together = threading.Barrier(3, timeout=5)

    def read(_: int) -> int:
        return together.wait()

    assert sorted(got for _, got in prefetched(read, range(3), threads=3)) == [0, 1, 2]


def test_what_failed_is_raised_when_its_turn_comes() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise OSError("gone")
        return number

    stream = prefetched(read, range(5), threads=2)

    assert [next(stream), next(stream)] == [(0, 0), (1, 1)]
    with pytest.raises(OSError, match="gone"):
        next(stream)


def test_nothing_goes_on_after_the_iteration_was_left() -> None:
    before = threading.active_count()

    for number, _ in prefetched(lambda number: number, itertools.count()):
        if number == 3:
            break

    assert threading.active_count() == before


@pytest.mark.parametrize("given", [{"threads": 0}, {"ahead": 0}])
def test_no_thread_or_no_place_is_refused(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one thread and one place"):
        next(prefetched(str, [1], **given))
