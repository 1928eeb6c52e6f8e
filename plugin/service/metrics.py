"""``GET /metrics``: what Prometheus scrapes. Numbers by kind of thing; never an identifier."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from plugin.errors import InputError, TransientError
from plugin.ports import Backlog, JobQueue, JobState

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_WAITS = (0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1, 2.5, 10, 60)
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_MINUTES = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400)


class Metrics:
    """What one process counts, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._steps = Histogram(
            "sightline_step_seconds",
            "How long the steps of jobs took that were finished.",
            ["step"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "sightline_job_attempts", "Attempts at jobs, by what became of them.", ["outcome"], registry=self.registry
        )
        self._errors = Counter(
            "sightline_job_errors",
            "Failed attempts, by step and class of error.",
            ["step", "error"],
            registry=self.registry,
        )
        self._age = Histogram(
            "sightline_job_age_seconds",
            "How long after they were put jobs were done.",
            buckets=_MINUTES,
            registry=self.registry,
        )
        self._wait = Histogram(
            "sightline_model_wait_seconds",
            "How long what was asked of the model waited for its first answer to begin.",
            buckets=_WAITS,
            registry=self.registry,
        )
        self._batch = Histogram(
            "sightline_model_batch_seconds", "How long batches took.", buckets=_SECONDS, registry=self.registry
        )
        self._images = Histogram(
            "sightline_model_batch_images", "Images in a batch.", buckets=_COUNTS, registry=self.registry
        )
        self._phrases = Histogram(
            "sightline_model_batch_phrases", "Phrases in a batch.", buckets=(0, *_COUNTS), registry=self.registry
        )
        for outcome in ("done", "retried", "given-up", "refused", "withdrawn"):
            self._attempts.labels(outcome)

    def observe(self, told: Mapping[str, Any]) -> None:
        """Count what a runner tells of, the end of a step or of an attempt, or the model: a wait, or a batch."""
        match told["event"]:
            case "step":
                self._steps.labels(told["step"]).observe(told["took_s"])
            case "model-wait":
                self._wait.observe(told["waited_s"])
            case "batch":
                self._batch.observe(told["took_s"])
                self._images.observe(told["images"])
                self._phrases.observe(told["phrases"])
            case _:
                self._attempt(told)

    def _attempt(self, told: Mapping[str, Any]) -> None:
        self._attempts.labels(told["outcome"]).inc()
        if "error" in told:
            self._errors.labels(told["step"], told["error"]).inc()
        elif told["outcome"] == "done":
            self._age.observe(told["age_s"])

    def watch(self, queue: JobQueue) -> None:
        """Ask *queue* for its backlog at each scrape."""
        self.registry.register(BacklogCollector(queue.backlog, queue.paused))

    def text(self) -> bytes:
        """In Prometheus's format."""
        return generate_latest(self.registry)


class BacklogCollector(Collector):
    """The queue as it stands; when it is away, ``sightline_queue_up`` says so and the rest is not told."""

    def __init__(self, backlog: Callable[[], Backlog], paused: Callable[[], bool]) -> None:
        self._backlog = backlog
        self._paused = paused

    def describe(self) -> Iterable[Metric]:
        """Nothing is asked at registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """As Prometheus asks."""
        try:
            backlog, paused = self._backlog(), self._paused()
        except TransientError:
            yield GaugeMetricFamily("sightline_queue_up", "Whether the queue can be used.", value=0)
            return
        yield GaugeMetricFamily("sightline_queue_up", "Whether the queue can be used.", value=1)
        yield GaugeMetricFamily("sightline_queue_paused", "Whether jobs are held back.", value=int(paused))
        jobs = GaugeMetricFamily("sightline_jobs", "Jobs, by state; ended ones while remembered.", labels=["state"])
        for state, number in backlog.jobs.items():
            if state is not JobState.WAITING:
                jobs.add_metric([state], number)
        yield jobs
        yield GaugeMetricFamily(
            "sightline_oldest_job_seconds", "How long the oldest queued job has waited.", value=backlog.oldest_s
        )


def serve_metrics(metrics: Metrics, *, host: str, port: int) -> tuple[WSGIServer, Thread]:
    """Answer them on a port of their own, in a thread that ends with the process; both are returned.

    Raises
    ------
    InputError
        If the port is not free.
    """
    try:
        return start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise InputError(f"SIGHTLINE_METRICS_PORT {port} on {host} cannot be used ({error.strerror}).") from error


def metrics_router(metrics: Metrics) -> APIRouter:
    """The route."""
    router = APIRouter(tags=["health"])

    @router.get("/metrics", summary="For Prometheus", response_class=Response)
    def scrape() -> Response:
        """Queue depth, age of the oldest job, step latencies, outcomes, errors; of this process, the queue's of all."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return router
