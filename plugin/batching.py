"""One model for all jobs of a process: what they ask at about the same moment is answered together.

A thread of its own asks the model, since it may be asked by one at a time. A request that finds it idle waits a few
milliseconds for company; while it is at work, others gather by themselves. A batch is of one urgency, and takes from
each request in turn, an image or some of its phrases at a time: a person goes first, and no big job keeps a small one
waiting for longer than a batch. Which requests are answered together changes no answer (:mod:`model.grounder`).
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from model.geometry import Orientation
from model.values import PHRASES_AT_ONCE, Grounding, ModelCard, Query, Question, Suitability
from plugin.errors import TransientError, UnavailableError
from plugin.ports import Grounder, Priority

#: A thread without work ends, so that a model that was replaced is let go of.
IDLE_S = 10.0
#: Models that may hang or end before a process says that it is to be started again; a hung one keeps its memory.
MOST_LOST = 3
#: Whoever waited so long goes before the more urgent.
PATIENCE_S = 30.0
_log = logging.getLogger(__name__)
_HANGS = "The model has not answered for {:.0f} s and was given up; it is loaded again for the next request."
_GONE = "The model hung or ended again and again: start this process again, and look which study it cannot do."


@dataclass(frozen=True, slots=True)
class Batching:
    """How much is answered together.

    Parameters
    ----------
    wait_s : how long a request that finds the model idle waits for others.
    images, phrases : most in one batch; of an image beyond it, and of phrases beyond, the next batch has some.
    timeout_s : a batch that takes longer is given up.
    """

    wait_s: float = 0.005
    images: int = 1
    phrases: int = PHRASES_AT_ONCE
    timeout_s: float = 300.0

    def __post_init__(self) -> None:
        if self.wait_s < 0 or self.images < 1 or self.phrases < PHRASES_AT_ONCE or self.timeout_s <= 0:
            raise ValueError(f"a batch holds an image and {PHRASES_AT_ONCE} phrases at least, and takes time")


@dataclass(slots=True, eq=False)
class _Unit:
    """What is never divided: an image with at most PHRASES_AT_ONCE phrases, or without any, to be judged."""

    question: Question
    answer: tuple[Grounding, ...] = ()
    suits: Suitability | None = None

    @property
    def image(self) -> tuple[int, Orientation]:
        return id(self.question.pixels), self.question.orientation


@dataclass(slots=True, eq=False)
class _Request:
    """What one caller asks; *left* of its units wait, and *since* is when it was last served, or came."""

    units: tuple[_Unit, ...]
    priority: Priority
    since: float
    began: float | None = None
    left: deque[_Unit] = field(init=False)
    open: int = field(init=False)
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.left, self.open = deque(self.units), len(self.units)

    def urgency(self, now: float) -> int:
        return 0 if now - self.since > PATIENCE_S else int(self.priority)

    def fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.left.clear()
        self.done.set()

    def served(self) -> None:
        self.open -= 1
        if not self.open:
            self.done.set()


_Batch = list[tuple[_Request, _Unit]]


def batch_of(waiting: Sequence[_Request], now: float, *, batching: Batching) -> _Batch:
    """The next batch: of the most urgent requests one unit each in turn, as many as fit, one at least."""
    urgent = min(request.urgency(now) for request in waiting)
    ring = deque((request, iter(request.left)) for request in waiting if request.urgency(now) == urgent)
    batch: _Batch = []
    images: set[tuple[int, Orientation]] = set()
    phrases = 0
    while ring:
        request, units = ring.popleft()
        unit = next(units, None)
        if unit is None:
            continue
        phrases += len(unit.question.queries)
        images.add(unit.image)
        if batch and (phrases > batching.phrases or len(images) > batching.images):
            break
        batch.append((request, unit))
        ring.append((request, units))
    return batch


class _Worker:
    """One loaded model and the thread that asks it."""

    def __init__(self, grounder: Grounder, batching: Batching, observe: Callable[[Mapping[str, Any]], object]) -> None:
        self.grounder = grounder
        self._batching, self._observe = batching, observe
        self._changed = threading.Condition()
        self._waiting: list[_Request] = []
        self._at_work: _Batch = []
        self._since: float | None = None
        self._thread: threading.Thread | None = None
        self.given_up = False

    def put(self, request: _Request) -> bool:
        """Have *request* answered; False when this model was given up."""
        with self._changed:
            if self.given_up:
                return False
            self._waiting.append(request)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sightline-model", daemon=True)
                self._thread.start()
            self._changed.notify()
        return True

    def give_up_if_it_hangs(self) -> None:
        """Fail all that waits when the batch at hand takes too long; a thread cannot be ended, so it is left alone."""
        with self._changed:
            if self._since is None or time.monotonic() - self._since <= self._batching.timeout_s:
                return
            self._give_up(_HANGS.format(self._batching.timeout_s))

    def _give_up(self, reason: str) -> None:
        self.given_up = True
        for request in (*self._waiting, *(request for request, _ in self._at_work)):
            request.fail(TransientError(reason))
        self._waiting.clear()

    def _run(self) -> None:
        try:
            while (batch := self._next()) is not None:
                self._serve(batch)
        except BaseException as error:  # noqa: BLE001 - nobody waits for a thread that ended
            _log.error("the model's thread ended (%s)", type(error).__name__)
            with self._changed:
                self._give_up(f"The model ended unexpectedly ({type(error).__name__}); it is loaded again.")

    def _next(self) -> _Batch | None:
        """The next batch, which is then at work; None when there was nothing to do for long."""
        with self._changed:
            if not self._changed.wait_for(lambda: bool(self._waiting), IDLE_S):
                self._thread = None
                return None
            until = min(request.since for request in self._waiting) + self._batching.wait_s
            while (left_s := until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            now = time.monotonic()
            batch = batch_of(self._waiting, now, batching=self._batching)
            served = {id(request): request for request, _ in batch}
            for request, unit in batch:
                request.left.remove(unit)
            for request in served.values():
                self._waiting.remove(request)
                if request.began is None:
                    request.began = now
                    self._observe({"event": "model-wait", "waited_s": now - request.since})
                request.since = now
            self._waiting.extend(request for request in served.values() if request.left)
            self._at_work, self._since = batch, now
            return batch

    def _serve(self, batch: _Batch) -> None:
        try:
            self._answer([unit for _, unit in batch])
        except Exception:  # noqa: BLE001 - whose fault it is shows when each is asked alone
            for request, unit in batch:
                try:
                    self._answer([unit])
                except Exception as error:  # noqa: BLE001 - raised where it was asked
                    request.fail(error)
        with self._changed:
            took_s = time.monotonic() - (self._since or 0.0)
            self._at_work, self._since = [], None
            for request, _ in batch:
                request.served()
            self._waiting = [request for request in self._waiting if request.error is None]
        images = len({unit.image for _, unit in batch})
        phrases = sum(len(unit.question.queries) for _, unit in batch)
        self._observe({"event": "batch", "images": images, "phrases": phrases, "took_s": took_s})

    def _answer(self, units: Sequence[_Unit]) -> None:
        for unit in units:
            if not unit.question.queries:
                unit.suits = self.grounder.suitability(unit.question.pixels, unit.question.orientation)
        asked = [unit for unit in units if unit.question.queries]
        if asked:
            answers = self.grounder.ground_all([unit.question for unit in asked])
            for unit, answer in zip(asked, answers, strict=True):
                unit.answer = answer


class SharedModel:
    """A model that many jobs ask at once; :meth:`at` is how one of them sees it.

    Parameters
    ----------
    load : makes the model anew, after one that hung was given up.
    grounder : the model, loaded.
    observe : told of each batch and of each wait, with numbers alone.
    """

    def __init__(
        self,
        grounder: Grounder,
        load: Callable[[], Grounder],
        *,
        batching: Batching | None = None,
        observe: Callable[[Mapping[str, Any]], object] = lambda _: None,
    ) -> None:
        self._load, self._batching, self._observe = load, batching or Batching(), observe
        self._worker = _Worker(grounder, self._batching, observe)
        self._lock = threading.Lock()
        self._lost = 0
        self.card: ModelCard = grounder.card

    def at(self, priority: Priority) -> Grounder:
        """The model as somebody of that urgency asks it."""
        return _Turn(self, priority)

    def probe(self) -> None:
        """Whether it can be asked.

        Raises
        ------
        UnavailableError
            If it hung or ended too often.
        """
        if self._lost > MOST_LOST:
            raise UnavailableError(_GONE)

    def ask(self, questions: Sequence[Question], priority: Priority) -> tuple[_Unit, ...]:
        """What the model says of each question, piece by piece, in order.

        Raises
        ------
        TransientError
            If it hangs, or ended.
        Exception
            Whatever the model raises about one of *questions* when it is asked alone.
        """
        units = tuple(piece for question in questions for piece in _pieces(question))
        request = _Request(units, priority, time.monotonic())
        worker = self._put(request)
        while not request.done.wait(min(1.0, self._batching.timeout_s / 4)):
            worker.give_up_if_it_hangs()
        if request.error is not None:
            raise request.error
        return units

    def _put(self, request: _Request) -> _Worker:
        with self._lock:
            self.probe()
            if self._worker.put(request):
                return self._worker
            self._lost += 1
            self.probe()
            self._worker = _Worker(self._load(), self._batching, self._observe)
            self._worker.put(request)
            return self._worker


@dataclass(frozen=True, slots=True)
class _Turn:
    """:class:`plugin.ports.Grounder` of one job."""

    model: SharedModel
    priority: Priority

    @property
    def card(self) -> ModelCard:
        return self.model.card

    def ground(
        self, pixels: npt.NDArray[np.float32], orientation: Orientation, queries: tuple[Query, ...]
    ) -> tuple[Grounding, ...]:
        return self.ground_all((Question(pixels, orientation, queries),))[0]

    def ground_all(self, questions: Sequence[Question]) -> tuple[tuple[Grounding, ...], ...]:
        asked = [each for each in questions if each.queries]
        units = iter(self.model.ask(asked, self.priority) if asked else ())
        return tuple(
            tuple(answer for _ in range(-(-len(each.queries) // PHRASES_AT_ONCE)) for answer in next(units).answer)
            for each in questions
        )

    def suitability(self, pixels: npt.NDArray[np.float32], orientation: Orientation) -> Suitability:
        (unit,) = self.model.ask((Question(pixels, orientation, ()),), self.priority)
        if unit.suits is None:
            raise TransientError("The model was not asked.")
        return unit.suits


def _pieces(question: Question) -> list[_Unit]:
    queries, size = question.queries, PHRASES_AT_ONCE
    return [
        _Unit(Question(question.pixels, question.orientation, queries[start : start + size]))
        for start in range(0, max(1, len(queries)), size)
    ]
