"""``sightline work``: the worker alone, for a service that runs with ``serve --no-work`` on the same data folder."""

from __future__ import annotations

import signal
import threading

from rich.console import Console

from plugin.service.logs import show_jobs
from plugin.service.metrics import serve_metrics
from plugin.settings import load_settings
from plugin.wiring import make_services, make_tools


def run() -> int:
    """Work on jobs until SIGTERM or Ctrl-C; the step at hand is finished first, and the rest goes back to the queue.

    SIGHUP puts the model in force that the settings name by then.
    """
    settings = load_settings()
    with Console().status("Loading the model"):
        services = make_services(settings, make_tools(settings))
    ending = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: ending.set())
    signal.signal(signal.SIGHUP, lambda *_: services.renew())
    show_jobs()
    if settings.metrics_port is not None and services.metrics is not None:
        serve_metrics(services.metrics, host=settings.host, port=settings.metrics_port)
    runner = services.queue.runner(services.work)
    runner.start()
    Console().print("Working (Ctrl-C ends it)")
    ending.wait()
    runner.stop()
    return 0
