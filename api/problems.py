"""Every error as a problem document (RFC 9457)."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import escape_uri_path
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions as drf
from rest_framework.response import Response
from rest_framework.settings import api_settings

from api.content_negotiation import NotStreamedHere
from api.forms import InvalidQuery
from api.job_documents import format_time, resource_path
from api.problem_catalogue import PROBLEMS, slug_of
from idempotency import errors as keys
from jobs.errors import (
    ArtifactUnreadable,
    DuplicateOperation,
    JobErased,
    QueueFull,
    RangeNotSatisfiable,
    TooManyDownloads,
    TooManyWaits,
)

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
READ_METHODS = ("GET", "HEAD")
# SDKs retry a 409, although most can never succeed. KeyReused may be a 422 instead.
_RETRIED_BY_SDKS = (409, 422)
# These 503 responses show the text of their exception. For them it is certain that the request was not accepted.
_OVERLOADED = (ArtifactUnreadable, TooManyDownloads, TooManyWaits)


@dataclass
class _Case:
    """One problem document: members and headers besides those of its catalogue entry."""

    slug: str
    status: int
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def current_request_id() -> str:
    """Return the id that RequestIdMiddleware gave this request; empty outside of a request."""
    return str(structlog.contextvars.get_contextvars().get("request_id", ""))


def handle_exception(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return the response for an exception of a DRF view (REST_FRAMEWORK["EXCEPTION_HANDLER"])."""
    case = _case_of(error)
    document = _document(context["request"], case)
    return Response(document, status=case.status, headers=case.headers, content_type=CONTENT_TYPE)


def _case_of(error: Exception) -> _Case:
    slug = slug_of(error)
    problem = PROBLEMS[slug]
    case = _Case(slug, problem.status or 500, str(error) or problem.title)
    if slug == "internal-error":
        log.error("request.failed", exc_info=error)
        case.detail = problem.title
    elif slug == "service-unavailable" and not isinstance(error, _OVERLOADED):
        # The text of a database error may show data of others: it goes to the log only.
        log.warning("request.unavailable", exc_info=error)
        case.detail, case.headers["Retry-After"] = problem.advice, "1"
    _add_facts(case, error)
    if case.status in _RETRIED_BY_SDKS and not problem.retryable:
        case.headers |= {"Stripe-Should-Retry": "false", "X-Should-Retry": "false"}
    return case


def _add_facts(case: _Case, error: Exception) -> None:  # noqa: C901, PLR0912 - one flat branch for each exception
    """Add the members and headers that depend on the exception's attributes."""
    match error:
        case keys.KeyReused():
            case.status = settings.IDEMPOTENCY_MISMATCH_STATUS
            differences = ", ".join(error.parts) or "its content"
            case.detail = f"{error} It differs from the first request in: {differences}."
            case.members = {
                "mismatch": list(error.mismatch),
                "first_request_at": format_time(error.first_request_at),
                "resource": resource_path(error.resource),
            }
        case SuspiciousOperation():
            case.detail = _refusal(error)
        case keys.PayloadErased() | JobErased() | DuplicateOperation():
            case.members["resource"] = resource_path(error.resource)
        case keys.RequestInProgress():
            case.headers["Retry-After"] = str(error.retry_after_seconds)
        case keys.TtlInvalid():
            one = {"parameter": "Idempotency-TTL", "code": "invalid", "detail": str(error)}
            case.members["errors"] = [one]
        case InvalidQuery():
            case.detail = "The query string has errors."
            case.members["errors"] = list(_flatten_errors(error.detail, "parameter", ""))
        case drf.ValidationError():
            case.detail = "The body has errors."
            case.members["errors"] = list(_flatten_errors(error.detail, "pointer", ""))
        case QueueFull():
            # Long enough for a worker to finish some jobs, short enough to use the free room.
            case.headers["Retry-After"] = "5"
        case TooManyWaits() | TooManyDownloads() | ArtifactUnreadable():
            # A wait lasts a minute at most; a download or an outage of the storage is usually shorter.
            case.headers["Retry-After"] = "10"
        case RangeNotSatisfiable():
            case.headers |= {"Content-Range": f"bytes */{error.size}", "Accept-Ranges": "bytes"}
        case NotStreamedHere():
            case.members["streams_url"] = error.streams_url or None
        case drf.Throttled():
            case.headers["Retry-After"] = str(max(1, round(getattr(error, "wait", None) or 1)))
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            case.headers["WWW-Authenticate"] = getattr(error, "auth_header", "Bearer")
        case _:
            pass


def _refusal(error: SuspiciousOperation) -> str:
    """Return a text for the client; Django's own text is for the operator."""
    if isinstance(error, RequestDataTooBig):
        return f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."
    return "The request is malformed."


def _flatten_errors(tree: Any, kind: str, place: str) -> Iterator[dict[str, str]]:  # noqa: ANN401 - DRF's nested errors
    """Yield DRF's tree of errors as a list. Places are JSON pointers (RFC 6901) or names of query parameters."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            part = str(name).replace("~", "~0").replace("/", "~1")
            here = f"{place}/{part}" if kind == "pointer" else str(name)
            if name == api_settings.NON_FIELD_ERRORS_KEY:
                here = place
            yield from _flatten_errors(branch, kind, here)
    elif isinstance(tree, list):
        for number, branch in enumerate(tree):
            nested = isinstance(branch, dict | list)
            yield from _flatten_errors(branch, kind, f"{place}/{number}" if nested else place)
    else:
        yield {kind: place, "code": str(getattr(tree, "code", "invalid")), "detail": str(tree)}


def _document(request: HttpRequest, case: _Case) -> dict[str, Any]:
    problem = PROBLEMS[case.slug]
    base = settings.PUBLIC_BASE_URL or _client_address(request)
    return {
        "type": f"{base}/problems/{case.slug}",
        "title": problem.title,
        "status": case.status,
        "detail": case.detail,
        "instance": escape_uri_path(request.path),
        "code": case.slug,
        "request_id": current_request_id(),
        "retryable": problem.retryable,
        **case.members,
    }


def _client_address(request: HttpRequest) -> str:
    """Return the address that the client used; empty if it is not one of ours, so that the type is relative."""
    try:
        return f"{request.scheme}://{request.get_host()}"
    except SuspiciousOperation:
        return ""


def _respond(request: HttpRequest, case: _Case) -> HttpResponse:
    body = orjson.dumps(_document(request, case))
    return HttpResponse(body, status=case.status, headers=case.headers, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return 400 for what Django refuses outside of a view: an unknown host, a suspicious header."""
    if isinstance(exception, RequestDataTooBig):
        return _respond(request, _case_of(exception))
    detail = _refusal(exception) if isinstance(exception, SuspiciousOperation) else str(exception)
    return _respond(request, _Case("validation-failed", 400, detail))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return Django's own 403."""
    return _respond(request, _case_of(exception))


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return 403 for a form of the admin without its token (settings.CSRF_FAILURE_VIEW)."""
    return _respond(request, _Case("forbidden", 403, reason or PROBLEMS["forbidden"].title))


def unavailable(request: HttpRequest, detail: str) -> HttpResponse:
    """Return 503."""
    return _respond(request, _Case("service-unavailable", 503, detail, headers={"Retry-After": "1"}))


def unauthenticated(request: HttpRequest, detail: str) -> HttpResponse:
    """Return 401 where a token other than an API key is required."""
    headers = {"WWW-Authenticate": 'Bearer realm="semel"'}
    return _respond(request, _Case("unauthenticated", 401, detail, headers=headers))


def headers_too_large(request: HttpRequest) -> HttpResponse:
    """Return 431."""
    detail = f"The headers are larger than {settings.HEADERS_MAX_BYTES} bytes."
    return _respond(request, _Case("headers-too-large", 431, detail))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """Return 404 for an unknown address."""
    return _respond(request, _Case("not-found", 404, f"There is nothing at {request.path}."))


def internal_error(request: HttpRequest) -> HttpResponse:
    """Return 500 for an exception outside of a DRF view, for example in the admin; 503 if the database is down.

    Django has logged it.
    """
    error = sys.exception()
    if isinstance(error, Exception) and slug_of(error) == "service-unavailable":
        return _respond(request, _case_of(error))
    return _respond(request, _Case("internal-error", 500, PROBLEMS["internal-error"].title))


def method_not_allowed(request: HttpRequest) -> HttpResponse:
    """Return 405 where only reading is allowed."""
    detail, headers = f'Method "{request.method}" not allowed.', {"Allow": ", ".join(READ_METHODS)}
    return _respond(request, _Case("method-not-allowed", 405, detail, headers=headers))


def read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Restrict a view to GET and HEAD; refuse other methods before the CSRF check, which would answer in HTML."""

    @csrf_exempt
    @wraps(view)
    def answer(request: HttpRequest, **captured: object) -> HttpResponse:
        if request.method not in READ_METHODS:
            return method_not_allowed(request)
        try:
            return view(request, **captured)
        except InvalidQuery as error:
            return _respond(request, _case_of(error))

    return answer
