"""Traces by OpenTelemetry, where its packages are installed and the environment names a receiver. Not imported otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.conf import settings
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from foundation.spans import trace_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from django.http import HttpRequest, HttpResponse
    from opentelemetry.context import Context

_PROPAGATOR = TraceContextTextMapPropagator()
_KINDS = {
    "request": SpanKind.SERVER,
    "attempt": SpanKind.CONSUMER,
    "publish": SpanKind.PRODUCER,
    "call": SpanKind.CLIENT,
}
_ERROR = 500


class _OwnRoots(Sampler):
    """A trace begins with a request or an attempt: a statement of the sweep's, or a poll, is no trace of its own."""

    def __init__(self, ratio: float) -> None:
        self._ratio = TraceIdRatioBased(ratio)

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        *args: Any,  # noqa: ANN401 - passed on as they come
        **options: Any,  # noqa: ANN401
    ) -> SamplingResult:
        """By the ratio, if it is one of ours."""
        if kind not in (SpanKind.SERVER, SpanKind.CONSUMER):
            return SamplingResult(Decision.DROP)
        return self._ratio.should_sample(parent_context, trace_id, name, kind, *args, **options)

    def get_description(self) -> str:
        """For people."""
        return "requests and attempts"


class OpenTelemetry:
    """What `foundation.spans` asks for."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("semel")

    @contextmanager
    def span(self, name: str, parent: str | None, attributes: Mapping[str, Any]) -> Iterator[trace.Span]:
        """An exception ends the span as an error of its class; its text, which may quote a payload, is not told."""
        context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
        kind = _KINDS.get(name.partition(" ")[0], SpanKind.INTERNAL)
        told = {f"semel.{key}": value for key, value in attributes.items() if value is not None}
        with self._tracer.start_as_current_span(
            name, context, kind, told, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except Exception as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    def traceparent(self) -> str | None:
        """Of the span that is open; None where there is none."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent")


def start_tracing() -> None:
    """Spans of this process go to the receiver that the environment names, by a thread of their own, which a fork begins anew."""
    name = f"semel-{settings.PROCESS_KIND}"
    resource = Resource.create({"service.name": name} if not settings.OTEL_SERVICE_NAME else {})
    provider = TracerProvider(resource=resource, sampler=ParentBased(_OwnRoots(settings.OTEL_SAMPLE_RATIO)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    # Texts of statements, with placeholders: never what is put in their places.
    PsycopgInstrumentor().instrument(tracer_provider=provider)
    RedisInstrumentor().instrument(tracer_provider=provider)
    trace_with(OpenTelemetry())


def flush(**_signal: Any) -> None:  # noqa: ANN401 - Celery's signature
    """What was traced is sent before a worker's process ends; a receiver that is away costs a second."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush(1_000)


class TracingMiddleware:
    """A span for each request, in the client's trace if it named one; jobs that it starts go on in it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._tracer = OpenTelemetry()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, as it is. The span is named by the route: a path may hold a key."""
        request_id = request.META.get("semel.request_id")
        parent = request.headers.get("traceparent")
        with self._tracer.span("request", parent, {"request_id": request_id}) as span:
            request.META["semel.traceparent"] = self._tracer.traceparent()
            response = self.get_response(request)
            route = request.resolver_match.route if request.resolver_match else "unknown"
            span.update_name(f"{request.method} {route}")
            span.set_attributes(
                {
                    "http.request.method": str(request.method),
                    "http.route": route,
                    "http.response.status_code": response.status_code,
                }
            )
            if response.status_code >= _ERROR:
                span.set_status(Status(StatusCode.ERROR))
            return response
