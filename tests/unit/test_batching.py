"""One model, asked by many jobs at once: together, in turn, and each as if it were alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from evidence import CARD

from model.geometry import UPRIGHT, Orientation
from model.values import PHRASES_AT_ONCE, Grounding, ModelCard, Query, Question, State, Suitability, View
from plugin.batching import PATIENCE_S, Batching, SharedModel, _pieces, _Request, batch_of
from plugin.errors import InputError, TransientError, UnavailableError
from plugin.ports import Priority

Pixels = npt.NDArray[np.float32]


def film(value: float) -> Pixels:
    return np.full((4, 4), value, np.float32)


def question(value: float, *, phrases: int = 1, about: str = "nodule") -> Question:
    return Question(film(value), UPRIGHT, tuple(Query(f"{about} {number}", about) for number in range(phrases)))


@dataclass
class SlowModel:
    """Says of each phrase how bright its film is. Refuses to be asked twice at once; *held*, it waits to be let go."""

    batches: list[list[str]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    alone: threading.Lock = field(default_factory=threading.Lock)
    card: ModelCard = CARD

    def __post_init__(self) -> None:
        self.open.set()

    def hold(self) -> None:
        self.open.clear()
        self.begun.clear()

    def ground(self, pixels: Pixels, orientation: Orientation, queries: tuple[Query, ...]) -> tuple[Grounding, ...]:
        return self.ground_all([Question(pixels, orientation, queries)])[0]

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        assert self.alone.acquire(blocking=False)
        try:
            self.begun.set()
            assert self.open.wait(60)
            self.batches.append([each.queries[0].finding for each in questions])
            for each in questions:
                if each.queries[0].finding == "broken":
                    raise InputError("this image cannot be used")
                if each.queries[0].finding == "deadly":
                    raise SystemExit
            return tuple(self._answers(each) for each in questions)
        finally:
            self.alone.release()

    def _answers(self, asked: Question) -> tuple[Grounding, ...]:
        return tuple(Grounding(query, State.NOT_FOUND, float(asked.pixels[0, 0])) for query in asked.queries)

    def suitability(self, pixels: Pixels, orientation: Orientation) -> Suitability:
        return Suitability(View.FRONTAL, orientation)


@pytest.fixture
def model() -> SlowModel:
    return SlowModel()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def shared(model: SlowModel, *, load: Callable[[], SlowModel] = SlowModel, **settings: Any) -> SharedModel:
    told = settings.pop("told", [])
    return SharedModel(
        model, load, batching=Batching(**{"wait_s": 0.0, "images": 4, "phrases": 64} | settings), observe=told.append
    )


@dataclass
class Busy:
    """A model that is held at somebody's question, so that what is asked meanwhile gathers in a known order."""

    shared: SharedModel
    model: SlowModel
    pool: ThreadPoolExecutor
    first: Future[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.model.hold()
        self.first = self.ask([question(0.5, about="first")], Priority.NEW)
        assert self.model.begun.wait(60)

    def ask(self, questions: Sequence[Question], priority: Priority) -> Future[Any]:
        return self.pool.submit(self.shared.at(priority).ground_all, questions)

    def add(self, questions: Sequence[Question], priority: Priority = Priority.NEW) -> Future[Any]:
        """Ask, and return when it waits."""
        waiting = self.shared._worker._waiting
        before = len(waiting)
        asked = self.ask(questions, priority)
        deadline = time.monotonic() + 60
        while len(waiting) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        return asked


def probabilities(answered: Any) -> list[list[float]]:
    return [[each.probability for each in answers] for answers in answered]


def test_what_gathers_while_the_model_is_at_work_is_one_batch(model: SlowModel, pool: ThreadPoolExecutor) -> None:
    told: list[dict[str, Any]] = []
    busy = Busy(shared(model, told=told), model, pool)
    asked = [busy.add([question(number / 10, about="nodule")]) for number in range(3)]
    model.open.set()

    assert [probabilities(each.result(60)) for each in asked] == [[[pytest.approx(number / 10)]] for number in range(3)]
    assert model.batches == [["first"], ["nodule"] * 3]
    assert [(each["images"], each["phrases"]) for each in told if each["event"] == "batch"] == [(1, 1), (3, 3)]
    assert len([each for each in told if each["event"] == "model-wait"]) == 4


def test_an_idle_model_waits_for_company_but_not_for_long(model: SlowModel, pool: ThreadPoolExecutor) -> None:
    told: list[dict[str, Any]] = []
    turn = shared(model, wait_s=0.5, told=told).at(Priority.NEW)
    gate = threading.Barrier(3)

    def ask(number: int) -> Any:
        gate.wait()
        return turn.ground_all([question(number / 10)])

    for each in [pool.submit(ask, number) for number in range(3)]:
        each.result(60)
    together = len(model.batches)
    turn.ground_all([question(0.1)])

    assert together == 1
    waits = [each["waited_s"] for each in told if each["event"] == "model-wait"]
    assert len(waits) == 4
    assert waits[-1] >= 0.45  # the whole window, since nobody came, and no more than that but for a busy machine
    assert waits[-1] < 10


def test_a_person_goes_before_what_waited_longer(model: SlowModel, pool: ThreadPoolExecutor) -> None:
    busy = Busy(shared(model), model, pool)
    others = [busy.add([question(0.1, about="backfill")], Priority.BACKFILL), busy.add([question(0.2, about="new")])]
    person = busy.add([question(0.3, about="person")], Priority.PERSON)
    model.open.set()
    for each in (*others, person):
        each.result(60)

    assert model.batches == [["first"], ["person"], ["new"], ["backfill"]]


def test_a_small_job_is_not_kept_waiting_by_a_big_one(model: SlowModel, pool: ThreadPoolExecutor) -> None:
    busy = Busy(shared(model, images=2), model, pool)
    big = busy.add([question(number / 100, about="big") for number in range(20)])
    small = busy.add([question(0.9, about="small")])
    model.open.set()

    assert probabilities(small.result(60)) == [[pytest.approx(0.9)]]
    assert probabilities(big.result(60)) == [[pytest.approx(number / 100)] for number in range(20)]
    assert model.batches[1] == ["big", "small"]


def test_many_phrases_of_one_image_are_answered_piece_by_piece_and_in_order(model: SlowModel) -> None:
    asked = [question(0.1, phrases=2 * PHRASES_AT_ONCE + 3), question(0.2, phrases=0), question(0.3, phrases=1)]

    answered = shared(model, phrases=PHRASES_AT_ONCE).at(Priority.NEW).ground_all(asked)

    assert [[each.query for each in answers] for answers in answered] == [list(each.queries) for each in asked]
    assert len(model.batches) == 3  # 16, 16, 3 and the 1 of the other image


def test_a_batch_is_bounded_in_images_and_phrases_and_holds_one_piece_at_least() -> None:
    def request(*questions: Question, priority: Priority = Priority.NEW, since: float = 0.0) -> _Request:
        return _Request(tuple(piece for each in questions for piece in _pieces(each)), priority, since)

    def sizes(waiting: list[_Request], now: float = 1.0, **bounds: int) -> list[int]:
        batch = batch_of(waiting, now, batching=Batching(**{"images": 4, "phrases": 64} | bounds))  # type: ignore[arg-type]
        return [len(unit.question.queries) for _, unit in batch]

    many = request(question(0.1, phrases=40))
    assert sizes([many], phrases=64) == [16, 16, 8]
    assert sizes([many], phrases=16) == [16]
    assert sizes([many, request(question(0.2, phrases=3))], images=1) == [16]
    assert sizes([many, request(question(0.2, phrases=3))], images=2) == [16, 3, 16, 8]
    old = request(question(0.3, phrases=5), priority=Priority.BACKFILL, since=0.0)
    young = request(question(0.4, phrases=6), priority=Priority.PERSON, since=PATIENCE_S)
    assert sizes([young, old], now=PATIENCE_S - 1) == [6]
    assert sizes([young, old], now=PATIENCE_S + 1) == [5]


def test_an_error_about_one_image_fails_the_job_that_asked_and_no_other(
    model: SlowModel, pool: ThreadPoolExecutor
) -> None:
    busy = Busy(shared(model), model, pool)
    good = [busy.add([question(0.1)]), busy.add([question(0.2)])]
    bad = busy.add([question(0.3), question(0.4, about="broken"), question(0.5)])
    model.open.set()

    with pytest.raises(InputError, match="cannot be used"):
        bad.result(60)
    assert [probabilities(each.result(60)) for each in good] == [[[pytest.approx(0.1)]], [[pytest.approx(0.2)]]]
    assert probabilities(busy.shared.at(Priority.NEW).ground_all([question(0.6)])) == [[pytest.approx(0.6)]]


def test_a_model_that_hangs_is_given_up_and_loaded_again(model: SlowModel, pool: ThreadPoolExecutor) -> None:
    following = SlowModel()
    busy = Busy(shared(model, load=lambda: following, timeout_s=3.0), model, pool)
    waiting = busy.add([question(0.1)])

    for each in (busy.first, waiting):
        with pytest.raises(TransientError, match="has not answered"):
            each.result(60)
    assert probabilities(busy.shared.at(Priority.NEW).ground_all([question(0.7)])) == [[pytest.approx(0.7)]]
    assert following.batches == [["nodule"]]
    model.open.set()  # it comes back, and nobody hears it


def test_a_model_that_ends_again_and_again_is_said_to_be_gone(model: SlowModel) -> None:
    loaded: list[SlowModel] = []
    lost = shared(model, load=lambda: loaded.append(SlowModel()) or loaded[-1])  # type: ignore[func-returns-value]
    turn = lost.at(Priority.NEW)

    for _ in range(4):
        lost.probe()
        with pytest.raises(TransientError, match=r"ended unexpectedly \(SystemExit\)"):
            turn.ground_all([question(0.1, about="deadly")])
    with pytest.raises(UnavailableError, match="start this process again"):
        turn.ground_all([question(0.1)])
    with pytest.raises(UnavailableError):
        lost.probe()
    assert len(loaded) == 3


def test_suitability_is_asked_in_the_same_turn(model: SlowModel) -> None:
    turn = shared(model).at(Priority.NEW)

    assert turn.suitability(film(0.1), UPRIGHT) == Suitability(View.FRONTAL, UPRIGHT)
    assert turn.card == CARD
    assert turn.ground(film(0.2), UPRIGHT, ()) == ()


@pytest.mark.parametrize("wrong", [{"images": 0}, {"phrases": 15}, {"wait_s": -1.0}, {"timeout_s": 0.0}])
def test_a_batch_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least"):
        Batching(**wrong)
