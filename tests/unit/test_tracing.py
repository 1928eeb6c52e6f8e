"""What a collector of traces is told: spans of jobs and steps, and nothing of a patient."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from plugin import tracing
from plugin.errors import InputError, TransientError
from plugin.ports import Job, JobState, Priority, Step, independent
from plugin.tracing import TracedWork, make_tracer, otlp_exporter, traced
from plugin.values import ReportRef, StudyRef

STUDY = "1.2.840.99.1"
JOB = Job(
    "b1946ac9", StudyRef(STUDY), JobState.RUNNING, 2, datetime(2026, 3, 1, tzinfo=UTC),
    report=ReportRef("report-of-somebody", "3"), priority=Priority.PERSON,
)  # fmt: skip


def refuse(_: Job) -> None:
    raise TransientError(f"the archive does not answer about {STUDY}")


def attempt(exporter: SpanExporter, *steps: Step) -> None:
    """One attempt at the job, each step in a thread of its own as the runner has it; the spans are sent then."""
    tracer, finish = make_tracer(exporter)
    with TracedWork(independent(*steps), tracer)(JOB) as wrapped:
        for step in wrapped:
            thread = threading.Thread(target=lambda step=step: swallowed(step))  # type: ignore[misc]
            thread.start()
            thread.join()
    finish()


def swallowed(step: Step) -> None:
    """The runner makes a verdict of an error."""
    try:
        step.run(JOB)
    except TransientError:
        return


def test_each_attempt_is_a_span_with_a_span_for_each_step() -> None:
    spans = InMemorySpanExporter()
    done: list[str] = []

    attempt(spans, *(Step(name, lambda _, name=name: done.append(name)) for name in ("read", "ground")))  # type: ignore[misc]

    read, ground, job = spans.get_finished_spans()
    assert done == ["read", "ground"]
    assert [each.name for each in (read, ground, job)] == ["read", "ground", "job"]
    assert {each.parent.span_id for each in (read, ground) if each.parent} == {job.context.span_id}
    assert dict(job.attributes or {}) == {
        "sightline.job": "b1946ac9",
        "sightline.attempt": 2,
        "sightline.priority": "person",
    }
    assert job.resource.attributes["service.name"] == "sightline"
    assert all(each.status.status_code is not StatusCode.ERROR for each in (read, ground, job))


def test_a_failed_step_tells_the_class_of_its_error_and_no_identifier() -> None:
    spans = InMemorySpanExporter()

    attempt(spans, Step("write", refuse))

    write, job = spans.get_finished_spans()
    for span in (write, job):
        assert span.status.status_code is StatusCode.ERROR
        assert (span.attributes or {})["error.type"] == "TransientError"
        told = span.to_json()
        assert STUDY not in told
        assert "report-of-somebody" not in told
        assert not span.events


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A receiver of OTLP over HTTP on this machine; its address, and what it got."""
    got: list[tuple[str, bytes]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_collector_gets_them_by_otlp() -> None:
    with collector() as (url, got):
        attempt(otlp_exporter(f"{url}/"), Step("ground", lambda _: None))

    ((path, body),) = got
    sent = ExportTraceServiceRequest.FromString(body)
    assert path == "/v1/traces"
    assert [span.name for each in sent.resource_spans[0].scope_spans for span in each.spans] == ["ground", "job"]
    assert STUDY.encode() not in body


def test_without_the_setting_nothing_is_traced() -> None:
    work = independent(Step("ground", lambda _: None))

    assert traced(work, None) is work


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(InputError, match=re.escape("sightline-cxr[otel]")):
        tracing.traced(independent(), "http://127.0.0.1:4318")
