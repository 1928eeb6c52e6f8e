"""DBOS looks for work when there is some, and not before."""

from __future__ import annotations

import threading
import time

from plugin.durable.pulse import Pulse

SOON_S = 0.01
LONG_S = 600.0


def test_the_wait_is_over_when_there_is_work_and_not_before() -> None:
    answers = [False, False, True]
    pulse = Pulse(lambda: answers.pop(0))

    assert not pulse.wait(SOON_S)
    assert answers == []


def test_a_nudge_asks_at_once_and_only_that_once() -> None:
    asked: list[float] = []

    def due() -> bool:
        asked.append(time.monotonic())
        return len(asked) == 2

    pulse = Pulse(due)
    waiting = threading.Thread(target=pulse.wait, args=(LONG_S,), daemon=True)
    waiting.start()

    pulse.nudge(after_s=SOON_S)
    while len(asked) < 1:
        time.sleep(SOON_S)
    time.sleep(10 * SOON_S)
    after_one = len(asked)
    pulse.nudge()
    waiting.join(60)

    assert after_one == 1
    assert not waiting.is_alive()


def test_the_end_is_not_waited_for() -> None:
    pulse = Pulse(lambda: False)
    ends: list[bool] = []
    waiting = threading.Thread(target=lambda: ends.append(pulse.wait(LONG_S)), daemon=True)
    waiting.start()

    pulse.set()
    waiting.join(60)

    assert ends == [True]
    assert pulse.is_set()
