"""``sightline work``: the worker alone, for a service that runs with ``serve --no-work`` on the same data folder."""

from __future__ import annotations

import contextlib
import signal
from queue import Empty, SimpleQueue

from rich.console import Console

from plugin.service.logs import show_jobs
from plugin.service.metrics import serve_metrics
from plugin.settings import load_settings
from plugin.wiring import make_services, make_tools

LOOK_S = 0.5


def run() -> int:
    """Work on jobs until SIGTERM or Ctrl-C; the step at hand is finished first, and the rest goes back to the queue.

    SIGHUP puts the model in force that the settings name by then.
    """
    settings = load_settings()
    with Console().status("Loading the model"):
        services = make_services(settings, make_tools(settings))
    told: SimpleQueue[int] = SimpleQueue()
    for sign in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(sign, lambda number, _: told.put(number))
    show_jobs()
    if settings.metrics_port is not None and services.metrics is not None:
        serve_metrics(services.metrics, host=settings.host, port=settings.metrics_port)
    runner = services.queue.runner(services.work)
    runner.start()
    Console().print("Working (Ctrl-C ends it)")
    while _next(told) == signal.SIGHUP:
        services.renew()
    runner.stop()
    return 0


def _next(told: SimpleQueue[int]) -> int:
    """The next signal. Waiting without a limit may miss one that comes just before the wait begins."""
    while True:
        with contextlib.suppress(Empty):
            return told.get(timeout=LOOK_S)
