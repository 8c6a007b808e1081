"""One line for each request: who asked for what, what it was answered, how long that took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings

from accounts.authentication import Principal
from idempotency.errors import IdempotencyError
from idempotency.request_headers import parse_key
from observability.redaction import key_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

log = structlog.get_logger(__name__)

# What machines ask every few seconds: told only where something is amiss.
_QUIET = frozenset({"livez", "readyz", "metrics"})
_ERROR = 500


class AccessLogMiddleware:
    """Tells of each request when it has been answered. Never the path or the query: both can hold what a client calls secret."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The answer, as it is."""
        began_at = time.perf_counter()
        response = self.get_response(request)
        route = request.resolver_match.route if request.resolver_match else None
        say = log.warning if response.status_code >= _ERROR else log.debug if route in _QUIET else log.info
        say(
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
    # By its type, since Django's lazy user would ask the database who it is.
    if type(user) is Principal:
        return {"tenant_id": user.tenant_id, "mode": user.mode, "api_key_id": user.api_key_id}
    known = request.__dict__.get("_cached_user")
    return {} if known is None or known.pk is None else {"user_id": known.pk}


def _subject(request: HttpRequest, response: HttpResponse) -> dict[str, Any]:
    """The job and the key that the request was about, and whether the answer is a replay."""
    told: dict[str, Any] = {}
    match = request.resolver_match
    job_id = match.kwargs.get("job_id") if match else None
    if job_id is None and response.headers.get("Location", "").startswith("/v1/jobs/"):
        job_id = response.headers["Location"].removeprefix("/v1/jobs/")
    if job_id is not None:
        told["job_id"] = str(job_id)
    key = request.headers.get("Idempotency-Key")
    if key is not None:
        told["idempotency_key_digest"] = _digest(key)
    if "Idempotency-Replayed" in response.headers:
        told["replayed"] = response.headers["Idempotency-Replayed"] == "true"
    return told


def _digest(header: str) -> str | None:
    """Of the key itself, so that both spellings of it are one; None where it is malformed."""
    try:
        return key_digest(parse_key(header, strict=settings.IDEMPOTENCY_KEY_SYNTAX == "strict"))
    except IdempotencyError:
        return None
