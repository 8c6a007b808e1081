"""Log each request: caller, route, status, duration, job and key. Never path or query: both can hold a client's secret."""

import time
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts.authentication import Principal
from idempotency.errors import IdempotencyError
from idempotency.request_headers import parse_key
from observability.redaction import key_digest

log = structlog.get_logger(__name__)

# Machines request these every few seconds.
_QUIET_ROUTES = frozenset({"livez", "readyz", "metrics"})
_ERROR = 500


class AccessLogMiddleware:
    """Log each request after its response: as a warning from 500 on; health checks and scrapes at DEBUG."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        began_at = time.perf_counter()
        response = self.get_response(request)
        route = request.resolver_match.route if request.resolver_match else None
        is_error, is_quiet = response.status_code >= _ERROR, route in _QUIET_ROUTES
        write = log.warning if is_error else log.debug if is_quiet else log.info
        write(
            "request",
            method=request.method,
            route=route,
            status=response.status_code,
            seconds=round(time.perf_counter() - began_at, 6),
            **_caller(request),
            **_subject(request, response),
        )
        return response


def _caller(request: HttpRequest) -> dict[str, Any]:
    user: Any = request.__dict__.get("user")
    # Compare the type: isinstance() would make Django's lazy user query the database.
    if type(user) is Principal:
        return {"tenant_id": user.tenant_id, "mode": user.mode, "api_key_id": user.api_key_id}
    cached = request.__dict__.get("_cached_user")
    return {} if cached is None or cached.pk is None else {"user_id": cached.pk}


def _subject(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    """Return the job and the key of the request, and whether the response is a replay."""
    fields: dict[str, Any] = {}
    match = request.resolver_match
    job_id = match.kwargs.get("job_id") if match else None
    if job_id is None and response.headers.get("Location", "").startswith("/v1/jobs/"):
        job_id = response.headers["Location"].removeprefix("/v1/jobs/")
    if job_id is not None:
        fields["job_id"] = str(job_id)
    header = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if header is not None:
        fields["idempotency_key_digest"] = _digest(header)
    if "Idempotency-Replayed" in response.headers:
        fields["replayed"] = response.headers["Idempotency-Replayed"] == "true"
    return fields


def _digest(header: str) -> str | None:
    """Return the digest of the key, the same for both spellings of the header; None if it is malformed."""
    try:
        return key_digest(parse_key(header, strict=settings.IDEMPOTENCY_KEY_SYNTAX == "strict"))
    except IdempotencyError:
        return None
