"""Every error as a problem document (RFC 9457): one table from what was raised to what the client reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import structlog
from django.conf import settings
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as drf
from rest_framework.response import Response

from config.request_id import request_id_of
from idempotency import errors as keys
from jobs import errors as jobs
from jobs.api.query_strings import InvalidQuery

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """What stands in a problem document besides the facts of the case."""

    status: int
    title: str
    # Whether the same request can succeed later without a change.
    retryable: bool
    # What to do about it: shown at /problems/<slug>.
    advice: str


PROBLEMS: Mapping[str, Problem] = {
    "idempotency-key-missing": Problem(
        400,
        "The request needs an Idempotency-Key header.",
        False,
        "Send a unique Idempotency-Key (a UUID, say), the same one with every retry of this request.",
    ),
    "idempotency-key-invalid": Problem(
        400,
        "The Idempotency-Key header is malformed.",
        False,
        "Send one header of 1 to 255 printable ASCII characters other than space, comma, quote, semicolon and backslash.",
    ),
    "idempotency-key-reused": Problem(
        409,
        "The Idempotency-Key was used for another request.",
        False,
        "Use a new key for a new request; to retry, repeat the first request without a change.",
    ),
    "idempotency-request-in-progress": Problem(
        409,
        "A request with this Idempotency-Key is being accepted at this moment.",
        True,
        "Repeat the same request with the same key after Retry-After seconds.",
    ),
    "validation-failed": Problem(
        400,
        "The request does not fit its schema.",
        False,
        "Mend the members that `errors` names. Nothing was stored, so the same key can be used.",
    ),
    "malformed-json": Problem(
        400,
        "The body is not JSON that we accept.",
        False,
        "Send UTF-8 JSON without repeated members, NaN or Infinity, U+0000, lone surrogates or very long numbers.",
    ),
    "unsupported-media-type": Problem(
        415, "The body's type or encoding is not supported.", False, "Send application/json, not compressed."
    ),
    "payload-too-large": Problem(
        413, "The body is too large.", False, "Send a description of the work, and a link to large data."
    ),
    "headers-too-large": Problem(431, "The headers are too large.", False, "Send fewer or shorter headers."),
    "not-found": Problem(404, "There is no such thing.", False, "Check the address, the tenant and the mode."),
    "method-not-allowed": Problem(405, "The method is not allowed here.", False, "See the Allow header."),
    "not-acceptable": Problem(406, "No acceptable representation.", False, "Accept application/json."),
    "unauthenticated": Problem(
        401, "A valid API key is needed.", False, "Send Authorization: Bearer <api key>; ask for a new key if yours ended."
    ),
    "forbidden": Problem(403, "This API key may not do that.", False, "Use a key with the scope that is needed."),
    "unknown-operation": Problem(
        400, "There is no such operation.", False, "Use the name of an operation that this service offers."
    ),
    "illegal-state-transition": Problem(
        409, "The job's state does not allow that.", False, "Read the job and act on its present state."
    ),
    "rate-limited": Problem(
        429, "Too many requests.", True, "Repeat the same request with the same key after Retry-After seconds."
    ),
    "service-unavailable": Problem(
        503,
        "The service cannot answer at this moment.",
        True,
        "Repeat the request with the same Idempotency-Key: it may have been accepted, and the key will tell.",
    ),
    "internal-error": Problem(
        500,
        "Something went wrong on our side.",
        True,
        "Repeat the request with the same Idempotency-Key; if it goes on, report the request_id.",
    ),
    "operation-failed": Problem(200, "The operation failed for good.", False, "See `detail` and `cause` in the job's error."),
    "attempts-exhausted": Problem(
        200, "Every attempt failed.", True, "Redrive the job, or submit it again under a new key: nothing was done."
    ),
    "deadline-exceeded": Problem(
        200, "The deadline passed before the work began.", True, "Submit it again under a new key with a later deadline."
    ),
    "partially-done": Problem(
        200,
        "The operation failed after a part of it had taken effect.",
        False,
        "Do not submit it again: redrive the job, which goes on from its finished steps.",
    ),
    "outcome-unknown": Problem(
        200,
        "An effect began, and nobody can tell whether it happened.",
        False,
        "Do not submit it again: look at the downstream by the effect's key; an operator then resolves the job.",
    ),
}

# The first class that fits decides.
_SLUGS: tuple[tuple[type[Exception], str], ...] = (
    (keys.KeyMissing, "idempotency-key-missing"),
    (keys.KeyInvalid, "idempotency-key-invalid"),
    (keys.KeyReused, "idempotency-key-reused"),
    (keys.RequestInProgress, "idempotency-request-in-progress"),
    (keys.TtlInvalid, "validation-failed"),
    (keys.MalformedJson, "malformed-json"),
    (keys.UnsupportedContentEncoding, "unsupported-media-type"),
    (jobs.JobNotFound, "not-found"),
    (jobs.UnknownOperation, "unknown-operation"),
    (jobs.IllegalTransition, "illegal-state-transition"),
    (jobs.InvalidVerdict, "validation-failed"),
    (jobs.KeyMovedOn, "illegal-state-transition"),
    (drf.ValidationError, "validation-failed"),
    (drf.ParseError, "malformed-json"),
    (drf.NotAuthenticated, "unauthenticated"),
    (drf.AuthenticationFailed, "unauthenticated"),
    (drf.PermissionDenied, "forbidden"),
    (drf.NotFound, "not-found"),
    (drf.MethodNotAllowed, "method-not-allowed"),
    (drf.NotAcceptable, "not-acceptable"),
    (drf.UnsupportedMediaType, "unsupported-media-type"),
    (drf.Throttled, "rate-limited"),
    (RequestDataTooBig, "payload-too-large"),
    (Http404, "not-found"),
    (PermissionDenied, "forbidden"),
    (OperationalError, "service-unavailable"),
    (InterfaceError, "service-unavailable"),
)


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


def _case_of(error: Exception) -> _Case:
    slug = next((slug for kind, slug in _SLUGS if isinstance(error, kind)), "internal-error")
    problem = PROBLEMS[slug]
    case = _Case(slug, problem.status, str(error) or problem.title)
    if slug == "internal-error":
        log.error("request.failed", exc_info=error)
        case.detail = problem.title
    elif slug == "service-unavailable":
        # The text of a database error is for the log: it may show what is not the client's.
        log.warning("request.unavailable", exc_info=error)
        case.detail, case.headers["Retry-After"] = problem.advice, "1"
    _add_facts(case, error)
    return case


def _add_facts(case: _Case, error: Exception) -> None:
    """What the exception knows about the case."""
    match error:
        case keys.KeyReused():
            case.status = settings.IDEMPOTENCY_MISMATCH_STATUS
            case.members = {
                "mismatch": list(error.mismatch),
                "first_request_at": _instant(error.first_request_at),
                "resource": error.resource and f"/v1/{error.resource.replace('job/', 'jobs/', 1)}",
            }
            # SDKs repeat other 409s; this one can never succeed.
            case.headers |= {"Stripe-Should-Retry": "false", "X-Should-Retry": "false"}
        case keys.RequestInProgress():
            case.headers["Retry-After"] = str(error.retry_after_seconds)
        case InvalidQuery():
            case.detail = "The query string has errors."
            case.members["errors"] = list(_errors(error.detail, "parameter", ""))
        case drf.ValidationError():
            case.detail = "The body has errors."
            case.members["errors"] = list(_errors(error.detail, "pointer", ""))
        case drf.Throttled():
            case.headers["Retry-After"] = str(max(1, round(error.wait or 1)))
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            case.headers["WWW-Authenticate"] = getattr(error, "auth_header", "Bearer")
        case _:
            pass


def _errors(tree: Any, kind: str, place: str) -> Iterator[dict[str, str]]:  # noqa: ANN401 - DRF's nested errors
    """DRF's tree of errors as a list; places are JSON pointers (RFC 6901), or names of query parameters."""
    if isinstance(tree, dict):
        for name, branch in tree.items():
            part = str(name).replace("~", "~0").replace("/", "~1")
            here = place if name == "non_field_errors" else f"{place}/{part}" if kind == "pointer" else str(name)
            yield from _errors(branch, kind, here)
    elif isinstance(tree, list):
        for number, branch in enumerate(tree):
            nested = isinstance(branch, dict | list)
            yield from _errors(branch, kind, f"{place}/{number}" if nested else place)
    else:
        yield {kind: place, "code": str(getattr(tree, "code", "invalid")), "detail": str(tree)}


def _document(request: HttpRequest, case: _Case) -> dict[str, Any]:
    problem = PROBLEMS[case.slug]
    base = settings.PUBLIC_BASE_URL or f"{request.scheme}://{request.META.get('HTTP_HOST', 'localhost')}"
    return {
        "type": f"{base}/problems/{case.slug}",
        "title": problem.title,
        "status": case.status,
        "detail": case.detail,
        "instance": request.path,
        "code": case.slug,
        "request_id": request_id_of(request),
        "retryable": problem.retryable,
        **case.members,
    }


def _instant(at: Any) -> str | None:  # noqa: ANN401
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z") if at else None


def _respond(request: HttpRequest, case: _Case) -> HttpResponse:
    body = orjson.dumps(_document(request, case))
    return HttpResponse(body, status=case.status, headers=case.headers, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own refusals outside of a view: a bad host, a suspicious header."""
    if isinstance(exception, RequestDataTooBig):
        return _respond(request, _case_of(exception))
    detail = "The request is malformed." if isinstance(exception, SuspiciousOperation) else str(exception)
    return _respond(request, _Case("validation-failed", 400, detail))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's own 403."""
    return _respond(request, _case_of(exception))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:  # noqa: ARG001 - Django's signature
    """An address that does not exist."""
    return _respond(request, _Case("not-found", 404, f"There is nothing at {request.path}."))


def internal_error(request: HttpRequest) -> HttpResponse:
    """An exception outside of a DRF view; Django has logged it."""
    return _respond(request, _Case("internal-error", 500, PROBLEMS["internal-error"].title))


def explain_problem(request: HttpRequest, slug: str) -> HttpResponse:
    """`/problems/<slug>`: what it means and what to do, for whoever follows a problem's `type`."""
    problem = PROBLEMS.get(slug)
    if problem is None:
        raise Http404
    document = {
        "code": slug,
        "title": problem.title,
        "status": problem.status,
        "retryable": problem.retryable,
        "advice": problem.advice,
    }
    return HttpResponse(orjson.dumps(document), content_type="application/json")
