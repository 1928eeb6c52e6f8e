"""A server that is away is left alone, and asked again in time; one that is there is not asked too much at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event, Lock

import pytest

from plugin.breaker import Bound, Breaker, guarded
from plugin.errors import InputError, TransientError, UnavailableError
from plugin.policy import Fault, failure_of


class Server:
    """Fails as it is told, and counts how often it is asked."""

    name = "a server"

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.asked = 0

    def read(self, what: str, *, twice: bool = False) -> str:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return what * (2 if twice else 1)

    def look(self) -> str:
        return "there"


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def behind(server: Server, now: list[float]) -> Server:
    return guarded(server, Breaker("the archive", clock=lambda: now[0], most=3, rest_s=60))


def fail(server: Server, times: int) -> None:
    for _ in range(times):
        with pytest.raises(TransientError):
            server.read("a")


def test_what_works_is_passed_on(behind: Server) -> None:
    assert behind.read("a", twice=True) == "aa"
    assert behind.name == "a server"


def test_after_some_failures_in_a_row_it_is_left_alone(behind: Server, server: Server, now: list[float]) -> None:
    server.error = TransientError("The archive does not answer.")
    fail(behind, 3)
    now[0] += 20

    with pytest.raises(UnavailableError, match="the archive failed 3 times") as caught:
        behind.read("a")

    assert server.asked == 3
    assert failure_of(caught.value).fault is Fault.NOT_ASKED
    assert caught.value.retry_after_s == 40


def test_an_answer_in_between_begins_the_count_anew(behind: Server, server: Server) -> None:
    away = TransientError("away")
    for _ in range(3):
        server.error = away
        fail(behind, 2)
        server.error = None
        assert behind.read("a") == "a"

    assert server.asked == 9


def test_when_the_rest_is_over_one_call_goes_through_and_decides(
    behind: Server, server: Server, now: list[float]
) -> None:
    server.error = TransientError("away")
    fail(behind, 3)
    now[0] += 61
    fail(behind, 1)
    with pytest.raises(UnavailableError):
        behind.read("a")
    now[0] += 61
    server.error = None

    assert [behind.read("a"), behind.read("b")] == ["a", "b"]
    assert server.asked == 6


def test_only_one_call_goes_through_while_nobody_knows(server: Server, now: list[float]) -> None:
    breaker = Breaker("the archive", clock=lambda: now[0], most=1, rest_s=60)

    def away() -> None:
        raise TransientError("away")

    with pytest.raises(TransientError):
        breaker.call(away)
    now[0] += 61

    def ask_meanwhile() -> str:
        with pytest.raises(UnavailableError):
            breaker.call(lambda: "asked too")
        return "asked"

    assert breaker.call(ask_meanwhile) == "asked"


def test_a_server_that_answers_other_calls_is_left_alone_all_the_same(
    behind: Server, server: Server, now: list[float]
) -> None:
    server.error = TransientError("read-only")
    for _ in range(3):
        assert behind.look() == "there"
        fail(behind, 1)

    with pytest.raises(UnavailableError):
        behind.look()
    now[0] += 61
    assert behind.look() == "there"
    with pytest.raises(UnavailableError):
        fail(behind, 1), behind.look()
    now[0] += 61
    server.error = None

    assert [behind.look(), behind.read("a"), behind.look(), behind.read("b")] == ["there", "a", "there", "b"]
    assert server.asked == 6


def test_a_server_that_refuses_is_there(behind: Server, server: Server) -> None:
    server.error = InputError("no such study")
    for _ in range(5):
        with pytest.raises(InputError):
            behind.read("a")

    assert server.asked == 5


class Busy:
    """A server that notes how many calls of each kind are in it; reads leave in pairs."""

    def __init__(self) -> None:
        self.inside, self.most = 0, 0
        self.pairs, self.lock, self.written = Barrier(2), Lock(), Event()

    def read(self, number: int) -> int:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.pairs.wait(60)
        with self.lock:
            self.inside -= 1
        return number

    def read_after_a_write(self, number: int) -> int:
        assert self.written.wait(60)
        return number

    def write(self) -> None:
        self.written.set()


def test_no_more_calls_are_in_a_server_than_there_is_room_for() -> None:
    server = Busy()
    behind = guarded(server, Bound(2), only=("read",))

    with ThreadPoolExecutor(8) as jobs:
        numbers = list(jobs.map(behind.read, range(8)))

    assert numbers == list(range(8))
    assert server.most == 2


def test_writes_do_not_wait_for_reads_nor_reads_for_writes() -> None:
    server = Busy()
    behind = guarded(guarded(server, Bound(1), only=("read_after_a_write",)), Bound(1), only=("write",))

    with ThreadPoolExecutor(4) as jobs:
        reading = jobs.map(behind.read_after_a_write, range(3))
        behind.write()
        assert list(reading) == [0, 1, 2]


def test_a_call_that_fails_makes_room_for_the_next() -> None:
    server = Server()
    server.error = TransientError("no answer")
    behind = guarded(server, Bound(1))
    for _ in range(2):
        with pytest.raises(TransientError):
            behind.read("a")

    server.error = None
    assert behind.read("a") == "a"
