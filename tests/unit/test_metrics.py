"""What Prometheus is told."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from queues import MemoryQueue
from servers import ROOT

from plugin.errors import InputError, TransientError
from plugin.ports import Backlog, JobState
from plugin.service.metrics import Metrics, serve_metrics
from plugin.values import StudyRef


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Value by name and labels, as Prometheus's own parser reads them."""
    families = text_string_to_metric_families(metrics.text().decode())
    return {(each.name, tuple(each.labels.values())): each.value for family in families for each in family.samples}


def told_of_attempt(outcome: str, **further: Any) -> dict[str, Any]:
    return {"event": "job", "job": "a", "outcome": outcome, "attempt": 1, "took_s": 0.2, "age_s": 2.0, **further}


def test_steps_attempts_and_errors_are_counted() -> None:
    metrics = Metrics()

    metrics.observe({"event": "step", "step": "ground", "took_s": 0.2})
    metrics.observe(told_of_attempt("retried", step="ground", error="TransientError"))
    metrics.observe(told_of_attempt("done"))
    metrics.observe(told_of_attempt("withdrawn"))

    seen = samples(metrics)
    assert seen["sightline_step_seconds_count", ("ground",)] == 1
    assert seen["sightline_step_seconds_sum", ("ground",)] == 0.2
    assert seen["sightline_job_attempts_total", ("retried",)] == 1
    assert seen["sightline_job_attempts_total", ("done",)] == 1
    assert seen["sightline_job_attempts_total", ("withdrawn",)] == 1
    assert seen["sightline_job_attempts_total", ("given-up",)] == 0
    assert seen["sightline_job_errors_total", ("TransientError", "ground")] == 1
    assert [labels for name, labels in seen if name == "sightline_job_errors_total"] == [("TransientError", "ground")]
    assert seen["sightline_job_age_seconds_sum", ()] == 2.0


def test_batches_and_waits_of_the_model_are_counted() -> None:
    metrics = Metrics()

    metrics.observe({"event": "model-wait", "waited_s": 0.004})
    metrics.observe({"event": "batch", "images": 3, "phrases": 20, "took_s": 0.5})

    seen = samples(metrics)
    assert seen["sightline_model_wait_seconds_bucket", ("0.005",)] == 1
    assert seen["sightline_model_batch_images_sum", ()] == 3
    assert seen["sightline_model_batch_phrases_sum", ()] == 20
    assert seen["sightline_model_batch_seconds_sum", ()] == 0.5


def test_the_backlog_is_asked_for_at_each_scrape() -> None:
    metrics, queue = Metrics(), MemoryQueue()
    metrics.watch(queue)
    queue.put("a", StudyRef("1.2.3"))
    queue.clock.advance(7)  # type: ignore[attr-defined]
    queue.pause()

    seen = samples(metrics)

    assert seen["sightline_queue_up", ()] == 1
    assert seen["sightline_queue_paused", ()] == 1
    assert seen["sightline_jobs", ("queued",)] == 1
    assert {labels[0] for name, labels in seen if name == "sightline_jobs"} == set(JobState) - {JobState.WAITING}
    assert seen["sightline_oldest_job_seconds", ()] == 7


def test_the_dashboard_and_the_alarms_ask_for_what_there_is() -> None:
    metrics = Metrics()
    metrics.watch(MemoryQueue())
    metrics.observe({"event": "step", "step": "ground", "took_s": 0.2})
    metrics.observe(told_of_attempt("retried", step="ground", error="TransientError"))
    there = {name for name, _ in samples(metrics)}
    docs = ROOT / "docs"
    panels = json.loads((docs / "grafana" / "sightline.json").read_text(encoding="utf-8"))["panels"]
    expressions = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    alarms = (docs / "operations.md").read_text(encoding="utf-8").split("## Alarms")[1].split("\n## ")[0]

    asked = set(re.findall(r"sightline_\w+", expressions))
    alarmed = set(re.findall(r"`(sightline_\w+)", alarms))

    assert len(asked) >= 7
    assert asked <= there
    assert {name if name in there else f"{name}_bucket" for name in alarmed} <= there


def test_a_queue_that_is_away_is_told_as_down() -> None:
    class Away(MemoryQueue):
        def backlog(self) -> Backlog:
            raise TransientError("away")

    metrics = Metrics()
    metrics.watch(Away())

    seen = samples(metrics)

    assert seen["sightline_queue_up", ()] == 0
    assert not [name for name, _ in seen if name == "sightline_jobs"]


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(InputError, match="SIGHTLINE_METRICS_PORT"):
            serve_metrics(Metrics(), host="127.0.0.1", port=port)


def test_a_worker_answers_on_a_port_of_its_own() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server, thread = serve_metrics(Metrics(), host="127.0.0.1", port=port)

    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

    assert "sightline_job_attempts_total" in answer.text
