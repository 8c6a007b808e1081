"""Count every request by the pattern of its route, never by its path."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import structlog
from django.http import HttpRequest, HttpResponse

from observability.metrics.registry import OTHER, REQUEST_SECONDS, REQUESTS

if TYPE_CHECKING:
    from prometheus_client import Counter, Histogram

log = structlog.get_logger(__name__)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# One label for all pages of the admin: no alert concerns them.
_ADMIN = "admin/"


class MetricsMiddleware:
    """The outermost middleware, so that refused requests count too. A long poll counts when it is admitted."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began_at = time.perf_counter()
        response = self.get_response(request)
        try:
            method = request.method if request.method in _METHODS else OTHER
            count, duration = _series(method, _route_of(request), response.status_code)
            count.inc()
            duration.observe(time.perf_counter() - began_at)
        except Exception:
            log.exception("metrics.request_not_counted")
        return response


@cache
def _series(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """Return the metrics of the series. Cached, because a look-up takes as long as the counting."""
    return REQUESTS.labels(method, route, status), REQUEST_SECONDS.labels(method, route)


def _route_of(request: HttpRequest) -> str:
    match = request.resolver_match
    if match is None:
        return OTHER
    return f"/{_ADMIN}" if match.route.startswith(_ADMIN) else f"/{match.route}"
