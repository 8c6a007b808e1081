"""Every request that Django answers is counted, by the pattern of its route and never by its path."""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING

import structlog

from observability.metrics.registry import OTHER, REQUEST_SECONDS, REQUESTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse
    from prometheus_client import Counter, Histogram

log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# One for all of its pages: who is slow there is a person, whom no alert concerns.
_ADMIN = "admin/"


class MetricsMiddleware:
    """The outermost: what others refuse counts as well. A request that waits counts when it is let in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, unchanged and counted."""
        began_at = time.perf_counter()
        response = self.get_response(request)
        try:
            _count(request, response.status_code, time.perf_counter() - began_at)
        except Exception:
            log.exception("metrics.request_not_counted")
        return response


def _count(request: HttpRequest, status: int, seconds: float) -> None:
    method = request.method if request.method in _METHODS else OTHER
    route = _route_of(request)
    count, duration = _series(method, route, status)
    count.inc()
    duration.observe(seconds)


@cache
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Looked up once: that costs as much as the counting. As many as there are series."""
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(method, route)


def _route_of(request: HttpRequest) -> str:
    """The pattern in urls.py that the address fits; `other` where there is none."""
    match = request.resolver_match
    if match is None:
        return OTHER
    return f"/{_ADMIN}" if match.route.startswith(_ADMIN) else f"/{match.route}"
