"""Every error as a problem document (RFC 9457): one table from what was raised to what the client reads."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

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

from api.job_documents import instant, path_of
from api.negotiation import NotStreamedHere
from api.problem_catalogue import PROBLEMS, SLUGS
from api.query_strings import InvalidQuery
from api.request_id import request_id_of
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
# SDKs repeat a 409 by themselves; most can never succeed. 422 is what KeyReused may be instead.
_REPEATED_BY_SDKS = (409, 422)
READING = ("GET", "HEAD")
# Reasons for a 503 that say it themselves, and mean no request that may have been accepted.
_OURS = (ArtifactUnreadable, TooManyDownloads, TooManyWaits)


@dataclass
class _Case:
    """The facts of one case: members and headers on top of the problem's own."""

    slug: str
    status: int
    detail: str
    members: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


def handle_exception(error: Exception, context: Mapping[str, Any]) -> Response:
    """The answer to an exception of a DRF view (REST_FRAMEWORK["EXCEPTION_HANDLER"]). Never HTML, never a bare 500."""
    case = _case_of(error)
    request = context["request"]
    document = _document(request, case)
    return Response(document, status=case.status, headers=case.headers, content_type=CONTENT_TYPE)


def _slug_of(error: Exception) -> str:
    return next((slug for kind, slug in SLUGS if isinstance(error, kind)), "internal-error")


def _case_of(error: Exception) -> _Case:
    slug = _slug_of(error)
    problem = PROBLEMS[slug]
    case = _Case(slug, problem.status or 500, str(error) or problem.title)
    if slug == "internal-error":
        log.error("request.failed", exc_info=error)
        case.detail = problem.title
    elif slug == "service-unavailable" and not isinstance(error, _OURS):
        # The text of a database error is for the log: it may show what is not the client's.
        log.warning("request.unavailable", exc_info=error)
        case.detail, case.headers["Retry-After"] = problem.advice, "1"
    _add_facts(case, error)
    if case.status in _REPEATED_BY_SDKS and not problem.retryable:
        case.headers |= {"Stripe-Should-Retry": "false", "X-Should-Retry": "false"}
    return case


def _add_facts(case: _Case, error: Exception) -> None:  # noqa: C901, PLR0912 - one case for each kind, none within another
    """What the exception knows about the case."""
    match error:
        case keys.KeyReused():
            case.status = settings.IDEMPOTENCY_MISMATCH_STATUS
            case.detail = (
                f"{error} It differs from the first request in: {', '.join(error.parts) or 'its content'}."
            )
            case.members = {
                "mismatch": list(error.mismatch),
                "first_request_at": instant(error.first_request_at),
                "resource": path_of(error.resource),
            }
        case SuspiciousOperation():
            case.detail = _refusal_of(error)
        case keys.PayloadErased() | JobErased() | DuplicateOperation():
            case.members["resource"] = path_of(error.resource)
        case keys.RequestInProgress():
            case.headers["Retry-After"] = str(error.retry_after_seconds)
        case keys.TtlInvalid():
            case.members["errors"] = [
                {"parameter": "Idempotency-TTL", "code": "invalid", "detail": str(error)}
            ]
        case InvalidQuery():
            case.detail = "The query string has errors."
            case.members["errors"] = list(_errors(error.detail, "parameter", ""))
        case drf.ValidationError():
            case.detail = "The body has errors."
            case.members["errors"] = list(_errors(error.detail, "pointer", ""))
        case QueueFull():
            # Long enough for a worker to have made room, short enough not to waste it.
            case.headers["Retry-After"] = "5"
        case TooManyWaits() | TooManyDownloads() | ArtifactUnreadable():
            # A wait lasts a minute at most; a download, or a storage that is away, mostly less.
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


def _refusal_of(error: SuspiciousOperation) -> str:
    """What Django refused, in words for the client; its own are for the operator."""
    if isinstance(error, RequestDataTooBig):
        return f"The body is larger than {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes."
    return "The request is malformed."


def _errors(tree: Any, kind: str, place: str) -> Iterator[dict[str, str]]:  # noqa: ANN401 - DRF's nested errors
    """DRF's tree of errors as a list; places are JSON pointers (RFC 6901), or names of query parameters."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            part = str(name).replace("~", "~0").replace("/", "~1")
            here = f"{place}/{part}" if kind == "pointer" else str(name)
            if name == api_settings.NON_FIELD_ERRORS_KEY:
                here = place
            yield from _errors(branch, kind, here)
    elif isinstance(tree, list):
        for number, branch in enumerate(tree):
            nested = isinstance(branch, dict | list)
            yield from _errors(branch, kind, f"{place}/{number}" if nested else place)
    else:
        yield {kind: place, "code": str(getattr(tree, "code", "invalid")), "detail": str(tree)}


def _document(request: HttpRequest, case: _Case) -> dict[str, Any]:
    problem = PROBLEMS[case.slug]
    base = settings.PUBLIC_BASE_URL or _address_of(request)
    return {
        "type": f"{base}/problems/{case.slug}",
        "title": problem.title,
        "status": case.status,
        "detail": case.detail,
        "instance": escape_uri_path(request.path),
        "code": case.slug,
        "request_id": request_id_of(request),
        "retryable": problem.retryable,
        **case.members,
    }


def _address_of(request: HttpRequest) -> str:
    """The address that the client used, if it is one of ours; else none, so that the type is a relative reference."""
    try:
        return f"{request.scheme}://{request.get_host()}"
    except SuspiciousOperation:
        return ""


def _respond(request: HttpRequest, case: _Case) -> HttpResponse:
    body = orjson.dumps(_document(request, case))
    return HttpResponse(body, status=case.status, headers=case.headers, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own refusals outside of a view: a bad host, a suspicious header."""
    if isinstance(exception, RequestDataTooBig):
        return _respond(request, _case_of(exception))
    detail = _refusal_of(exception) if isinstance(exception, SuspiciousOperation) else str(exception)
    return _respond(request, _Case("validation-failed", 400, detail))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own 403."""
    return _respond(request, _case_of(exception))


def csrf_failed(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A form of the admin without its token (settings.CSRF_FAILURE_VIEW)."""
    return _respond(request, _Case("forbidden", 403, reason or PROBLEMS["forbidden"].title))


def unavailable(request: HttpRequest, detail: str) -> HttpResponse:
    """What the service cannot do without is missing."""
    return _respond(request, _Case("service-unavailable", 503, detail, headers={"Retry-After": "1"}))


def not_let_in(request: HttpRequest, detail: str) -> HttpResponse:
    """What is there is for whoever knows its own token, which is no API key."""
    return _respond(
        request, _Case("unauthenticated", 401, detail, headers={"WWW-Authenticate": 'Bearer realm="semel"'})
    )


def headers_too_large(request: HttpRequest) -> HttpResponse:
    """More than anybody should read."""
    detail = f"The headers are larger than {settings.HEADERS_MAX_BYTES} bytes."
    return _respond(request, _Case("headers-too-large", 431, detail))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """An address that does not exist."""
    return _respond(request, _Case("not-found", 404, f"There is nothing at {request.path}."))


def internal_error(request: HttpRequest) -> HttpResponse:
    """An exception outside of a DRF view, in the admin say; Django has logged it. A database that is away is a 503 there too."""
    error = sys.exception()
    if isinstance(error, Exception) and _slug_of(error) == "service-unavailable":
        return _respond(request, _case_of(error))
    return _respond(request, _Case("internal-error", 500, PROBLEMS["internal-error"].title))


def only_readable(request: HttpRequest) -> HttpResponse:
    """What is there can only be read."""
    detail, headers = f'Method "{request.method}" not allowed.', {"Allow": ", ".join(READING)}
    return _respond(request, _Case("method-not-allowed", 405, detail, headers=headers))


def read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The view answers GET and HEAD; anything else is refused, before the CSRF check would refuse it in HTML."""

    @csrf_exempt
    @wraps(view)
    def answer(request: HttpRequest, **captured: object) -> HttpResponse:
        if request.method in READING:
            try:
                return view(request, **captured)
            except InvalidQuery as error:
                return _respond(request, _case_of(error))
        return only_readable(request)

    return answer
