"""The catalogue of problems: what each slug means to a client, and which exception becomes which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from rest_framework import exceptions as drf

from idempotency import errors as keys
from jobs import errors as jobs

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Problem:
    """What stands in a problem document besides the facts of the case."""

    # None: it stands in a job's `error`, never in an answer of its own.
    status: int | None
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
    "not-found": Problem(
        404, "There is no such thing.", False, "Check the address, the tenant and the mode."
    ),
    "method-not-allowed": Problem(405, "The method is not allowed here.", False, "See the Allow header."),
    "not-acceptable": Problem(406, "No acceptable representation.", False, "Accept application/json."),
    "unauthenticated": Problem(
        401,
        "A valid API key is needed.",
        False,
        "Send Authorization: Bearer <api key>; ask for a new key if yours ended.",
    ),
    "forbidden": Problem(
        403, "This API key may not do that.", False, "Use a key with the scope that is needed."
    ),
    "unknown-operation": Problem(
        400, "There is no such operation.", False, "Use the name of an operation that this service offers."
    ),
    "duplicate-operation": Problem(
        409,
        "Another job stands for the same business intent.",
        False,
        "Look at `resource`: it is the job that you want. Nothing was stored; once that one has failed or been canceled, the "
        "same request, under the same key, is accepted.",
    ),
    "illegal-state-transition": Problem(
        409, "The job's state does not allow that.", False, "Read the job and act on its present state."
    ),
    "payload-erased": Problem(
        410,
        "What the request stored has been erased.",
        False,
        "The request took effect; look at `resource`. It will not run again under this key.",
    ),
    "rate-limited": Problem(
        429,
        "Too many requests.",
        True,
        "Repeat the same request with the same key after Retry-After seconds.",
    ),
    "queue-full": Problem(
        429,
        "Too many of your jobs are waiting already.",
        True,
        "Repeat the same request with the same key after Retry-After seconds; nothing was stored.",
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
    "operation-failed": Problem(
        None, "The operation failed for good.", False, "See `detail` and `cause` in the job's error."
    ),
    "attempts-exhausted": Problem(
        None,
        "Every attempt failed.",
        True,
        "Redrive the job, or submit it again under a new key: nothing was done.",
    ),
    "deadline-exceeded": Problem(
        None,
        "The deadline passed before the work began.",
        True,
        "Submit it again under a new key with a later deadline.",
    ),
    "partially-done": Problem(
        None,
        "The operation failed after a part of it had taken effect.",
        False,
        "Do not submit it again: redrive the job, which goes on from its finished steps.",
    ),
    "outcome-unknown": Problem(
        None,
        "An effect began, and nobody can tell whether it happened.",
        False,
        "Do not submit it again: look at the downstream by the effect's key; an operator then resolves the job.",
    ),
}

# The first class that fits decides.
SLUGS: tuple[tuple[type[Exception], str], ...] = (
    (keys.KeyMissing, "idempotency-key-missing"),
    (keys.KeyInvalid, "idempotency-key-invalid"),
    (keys.KeyReused, "idempotency-key-reused"),
    (keys.RequestInProgress, "idempotency-request-in-progress"),
    (keys.PayloadErased, "payload-erased"),
    (keys.FingerprintUnverifiable, "service-unavailable"),
    (keys.TtlInvalid, "validation-failed"),
    (keys.MalformedJson, "malformed-json"),
    (keys.UnsupportedContentEncoding, "unsupported-media-type"),
    (jobs.JobNotFound, "not-found"),
    (jobs.UnknownOperation, "unknown-operation"),
    (jobs.DuplicateOperation, "duplicate-operation"),
    (jobs.JobErased, "payload-erased"),
    (jobs.QueueFull, "queue-full"),
    (jobs.TooManyWaits, "service-unavailable"),
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
    (SuspiciousOperation, "validation-failed"),
    (Http404, "not-found"),
    (PermissionDenied, "forbidden"),
    (OperationalError, "service-unavailable"),
    (InterfaceError, "service-unavailable"),
    (InternalError, "service-unavailable"),  # a standby that has not been promoted yet: read-only
)


def explain_problem(request: HttpRequest, slug: str) -> HttpResponse:  # noqa: ARG001 - Django's signature
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
