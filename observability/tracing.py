"""Tracing with the OpenTelemetry SDK. Imported only if the environment names a receiver; needs requirements-otel.txt."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.redis import RedisInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, SamplingResult, TraceIdRatioBased
from opentelemetry.trace import SpanKind, Status, StatusCode

from api.problems import current_request_id
from foundation.spans import enable_spans, span

if TYPE_CHECKING:
    from opentelemetry.context import Context

_ERROR = 500


class _RequestsAndAttempts(TraceIdRatioBased):
    """Starts a trace only for a request or an attempt, not for statements of polls and sweeps."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        *args: Any,  # noqa: ANN401 - passed on
        **options: Any,  # noqa: ANN401
    ) -> SamplingResult:
        if kind not in (SpanKind.SERVER, SpanKind.CONSUMER):
            return SamplingResult(Decision.DROP)
        return super().should_sample(parent_context, trace_id, name, kind, *args, **options)


def start_tracing() -> None:
    """Send this process's spans to the receiver that the environment names, from a thread that is restarted after a fork."""
    name = f"semel-{settings.PROCESS_KIND}"
    resource = Resource.create({"service.name": name} if not settings.OTEL_SERVICE_NAME else {})
    provider = TracerProvider(resource=resource, sampler=ParentBased(_RequestsAndAttempts(settings.OTEL_SAMPLE_RATIO)))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    enable_spans()
    # Spans contain statements with placeholders, never their values.
    PsycopgInstrumentor().instrument(tracer_provider=provider)
    RedisInstrumentor().instrument(tracer_provider=provider)


def flush(**_signal: Any) -> None:  # noqa: ANN401 - Celery's signature
    """Send the remaining spans before a worker process ends. A receiver that is down costs a second."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.force_flush(1_000)


class TracingMiddleware:
    """Opens a span for each request, in the client's trace if it sends a traceparent.

    The jobs that it starts continue the trace.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Name the span by the route, because a path may contain an idempotency key."""
        parent = request.headers.get("traceparent")
        with span("request", parent=parent, request_id=current_request_id() or None) as opened:
            response = self.get_response(request)
            route = request.resolver_match.route if request.resolver_match else "unknown"
            opened.update_name(f"{request.method} {route}")
            opened.set_attributes(
                {
                    "http.request.method": str(request.method),
                    "http.route": route,
                    "http.response.status_code": response.status_code,
                }
            )
            if response.status_code >= _ERROR:
                opened.set_status(Status(StatusCode.ERROR))
            return response
