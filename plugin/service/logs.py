"""One JSON line per attempt at a job, on standard error, whatever else is logged."""

from __future__ import annotations

import logging

JOBS = "sightline.jobs"


def show_jobs() -> None:
    """Let the lines of jobs out; called by the commands that run jobs."""
    log = logging.getLogger(JOBS)
    if not log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False
