"""Trace spans, by the OpenTelemetry API. They do nothing unless observability/tracing.py has configured the SDK."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_tracer = trace.get_tracer("semel")
_propagator = TraceContextTextMapPropagator()
# The span of the request that is being answered.
_request: ContextVar[str | None] = ContextVar("request", default=None)
_KINDS = {"request": SpanKind.SERVER, "attempt": SpanKind.CONSUMER, "call": SpanKind.CLIENT}


_is_tracing = False


def enable_spans() -> None:
    """Make `span` open spans from now on. Called when the SDK is configured."""
    global _is_tracing  # noqa: PLW0603 - the one switch of this module
    _is_tracing = True


def span(name: str, *, parent: str | None = None, **attributes: Any) -> AbstractContextManager[trace.Span]:  # noqa: ANN401
    """Open a span in the current trace, or in the one that `parent` (a traceparent) names. Attributes are ids, never payload.

    An exception marks the span as failed with its class; its text may quote a payload and is left out.
    Costs next to nothing where nothing is traced.
    """
    return _open_span(name, parent, attributes) if _is_tracing else nullcontext(trace.INVALID_SPAN)


@contextmanager
def _open_span(name: str, parent: str | None, attributes: Mapping[str, Any]) -> Iterator[trace.Span]:
    context = _propagator.extract({"traceparent": parent}) if parent else None
    kind = _KINDS.get(name, SpanKind.INTERNAL)
    values = {f"semel.{key}": value for key, value in attributes.items() if value is not None}
    with _tracer.start_as_current_span(
        name, context, kind, values, record_exception=False, set_status_on_exception=False
    ) as opened:
        token = _request.set(traceparent()) if kind is SpanKind.SERVER else None
        try:
            yield opened
        except Exception as error:
            opened.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise
        finally:
            if token:
                _request.reset(token)


def traceparent() -> str | None:
    """Return the current span as a header for the next process (W3C Trace Context); None if nothing is traced."""
    headers: dict[str, str] = {}
    _propagator.inject(headers)
    return headers.get("traceparent")


def request_traceparent() -> str | None:
    """Return the `traceparent` of the current request's span; None outside a request.

    A job's attempts become children of that span.
    """
    return _request.get()
