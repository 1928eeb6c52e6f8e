"""``sightline work``: a worker without a service, until it is asked to end."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from evidence import STUDY
from queues import MemoryQueue

from plugin.commands import work
from plugin.ports import JobState, Step, independent


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """What the command sets for its process is put back."""
    before = {sign: signal.getsignal(sign) for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


def test_it_works_until_it_is_asked_to_end_and_finishes_the_job_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = MemoryQueue()
    queue.put("job", STUDY)
    begun = threading.Event()

    def ground(_: object) -> None:
        begun.set()
        time.sleep(0.2)

    monkeypatch.setattr(work, "load_settings", lambda: SimpleNamespace(metrics_port=None))
    monkeypatch.setattr(work, "make_tools", lambda _: None)
    services = SimpleNamespace(queue=queue, work=independent(Step("ground", ground)))
    monkeypatch.setattr(work, "make_services", lambda *_: services)
    threading.Thread(target=lambda: (begun.wait(10), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()

    assert work.run() == 0

    assert queue.entries["job"].job.state is JobState.DONE


def test_a_hangup_puts_the_next_model_in_force_and_work_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    renewed = threading.Event()
    monkeypatch.setattr(work, "load_settings", lambda: SimpleNamespace(metrics_port=None))
    monkeypatch.setattr(work, "make_tools", lambda _: None)
    services = SimpleNamespace(queue=MemoryQueue(), work=independent(), renew=renewed.set)
    monkeypatch.setattr(work, "make_services", lambda *_: services)

    def operate() -> None:
        while not callable(signal.getsignal(signal.SIGHUP)):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGHUP)
        renewed.wait(60)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=operate, daemon=True).start()

    assert work.run() == 0
    assert renewed.is_set()
