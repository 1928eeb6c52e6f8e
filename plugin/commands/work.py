"""``sightline work``: the worker alone, for a service that runs with ``serve --no-work`` on the same data folder."""

from __future__ import annotations

import signal
import threading

from rich.console import Console

from plugin.service.worker import Worker
from plugin.settings import load_settings
from plugin.wiring import make_services, make_tools


def run() -> int:
    """Work on jobs until SIGTERM or Ctrl-C; the job at hand is finished first."""
    settings = load_settings()
    with Console().status("Loading the model"):
        services = make_services(settings, make_tools(settings))
    ending = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: ending.set())
    worker = Worker(services.queue, services.ground)
    worker.start()
    Console().print("Working (Ctrl-C ends it)")
    ending.wait()
    worker.stop()
    return 0
