"""Traces of jobs for an OpenTelemetry collector, by option: a span for each attempt, and one in it for each step.

They hold how long things took and what class of error ended them; of identifiers, that of the job alone, which is
derived. No text of a report, no name, no UID, no message of an error leaves the process this way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from plugin import __version__
from plugin.errors import InputError
from plugin.outbound import allowed, guarded_session
from plugin.ports import Job, Step, Work

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

#: A collector that is away costs no more than this at the end of the process; spans that it misses are lost.
TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class TracedWork:
    """:data:`plugin.ports.Work` that is *work*, told to *tracer*."""

    work: Work
    tracer: Tracer

    @contextmanager
    def __call__(self, job: Job) -> Iterator[tuple[Step, ...]]:
        """The steps of *work*, each in its span."""
        about: dict[str, str | int] = {
            "sightline.job": job.job_id,
            "sightline.attempt": job.attempts,
            "sightline.priority": job.priority.name.lower(),
        }
        with (
            self.tracer.start_as_current_span(
                "job", attributes=about, record_exception=False, set_status_on_exception=False
            ) as span,
            self.work(job) as steps,
        ):
            yield tuple(replace(step, run=partial(self._step, step, span)) for step in steps)

    def _step(self, step: Step, above: Span, job: Job) -> object:
        """Steps run in threads of their own, so the span they belong to is named."""
        from opentelemetry.trace import Status, StatusCode, set_span_in_context

        with self.tracer.start_as_current_span(
            step.name,
            context=set_span_in_context(above),
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                return step.run(job)
            except Exception as error:
                for each in (span, above):  # the class alone: messages name what they are about
                    each.set_attribute("error.type", type(error).__name__)
                    each.set_status(Status(StatusCode.ERROR))
                raise


def make_tracer(exporter: SpanExporter) -> tuple[Tracer, Callable[[], None]]:
    """A tracer whose spans go to *exporter* by a thread of its own, and what sends the rest at the end."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create({"service.name": "sightline", "service.version": __version__})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider.get_tracer("sightline", __version__), provider.shutdown


def otlp_exporter(url: str) -> SpanExporter:
    """What sends spans to the collector at *url* by OTLP over HTTP, and to nobody else.

    Raises
    ------
    InputError
        If the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise InputError(
            "SIGHTLINE_OTLP_URL needs the extra: pip install 'sightline-cxr[otel]', or unset it"
        ) from error
    address = f"{url.rstrip('/')}/v1/traces"
    session = guarded_session(allowed((address,), named="collector of traces"))
    return OTLPSpanExporter(address, headers={}, timeout=TIMEOUT_S, session=session)


def traced(work: Work, url: str | None) -> Work:
    """*work* whose jobs are told to the collector at *url*; without one, *work* itself.

    Raises
    ------
    InputError
        If the extra is not installed.
    """
    return work if url is None else TracedWork(work, make_tracer(otlp_exporter(url))[0])
