"""The catalogue of problems: one entry per slug, used by error responses, job errors, OpenAPI and /problems/{slug}."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404
from rest_framework import exceptions as drf

from idempotency import errors as keys
from jobs import errors as jobs


class Key(StrEnum):
    """Which Idempotency-Key the client's next request needs."""

    FREE = "same or new"
    SAME = "same"
    NEW = "new"
    NONE = "none"

    @property
    def reason(self) -> str:
        """Return the reason in one sentence."""
        return _REASONS[self]


_REASONS = {
    Key.FREE: "Nothing was stored under the key. Send the corrected request with the same key or a new one.",
    Key.SAME: "Always the same key: the request may have been accepted, and only the same key prevents a second job.",
    Key.NEW: "A new key: the one that you sent already belongs to something else.",
    Key.NONE: "No key: submitting the request again, under any key, could do the work twice.",
}


@dataclass(frozen=True)
class Problem:
    """The documentation and HTTP status of one kind of problem."""

    # None: the problem appears in a job's `error` only, never as a response.
    status: int | None
    title: str
    # True if the same request can succeed later without a change.
    retryable: bool
    # What to do next; shown at /problems/{slug}.
    advice: str
    meaning: str
    key: Key = Key.FREE
    # The exceptions that become this problem, their subclasses included.
    exceptions: tuple[type[Exception], ...] = ()


PROBLEMS: Mapping[str, Problem] = {
    "idempotency-key-missing": Problem(
        400,
        "The request needs an Idempotency-Key header.",
        False,
        "Send a unique Idempotency-Key, for example a UUID, and the same one with every retry of this request.",
        "This request starts work. Without a key, a retry could not be recognised.",
        exceptions=(keys.KeyMissing,),
    ),
    "idempotency-key-invalid": Problem(
        400,
        "The Idempotency-Key header is malformed.",
        False,
        "Send one header of 1 to 255 printable ASCII characters other than space, comma, quote, semicolon and backslash.",
        "The header is empty, too long, sent twice, or has characters that proxies and clients treat differently.",
        exceptions=(keys.KeyInvalid,),
    ),
    "idempotency-key-reused": Problem(
        409,
        "The Idempotency-Key was used for another request.",
        False,
        "Use a new key for a new request. To retry, repeat the first request without a change.",
        "Another request was accepted under this key: `mismatch` lists where its body differs, `resource` what it created.",
        Key.NEW,
        (keys.KeyReused,),
    ),
    "idempotency-request-in-progress": Problem(
        409,
        "A request with this Idempotency-Key is being accepted at this moment.",
        True,
        "Repeat the same request with the same key after Retry-After seconds.",
        "The first request with this key is not committed yet. Once it is, its response can be replayed.",
        Key.SAME,
        (keys.RequestInProgress,),
    ),
    "validation-failed": Problem(
        400,
        "The request is not valid.",
        False,
        "Fix the fields listed in `errors`. Nothing was stored, so the same key can be used.",
        "The body, the query string or a header is not valid; `errors` lists where and why. Nothing was done.",
        exceptions=(
            keys.TtlInvalid,
            jobs.InvalidVerdict,
            jobs.CompensatedJobCannotSucceed,
            drf.ValidationError,
            SuspiciousOperation,
        ),
    ),
    "malformed-json": Problem(
        400,
        "The body is not valid JSON.",
        False,
        "Send UTF-8 JSON without repeated members, NaN or Infinity, U+0000, lone surrogates or very long numbers.",
        "The body is not JSON, or two JSON readers could understand it differently. Nothing was done.",
        exceptions=(keys.MalformedJson, drf.ParseError),
    ),
    "unsupported-media-type": Problem(
        415,
        "The body's type or encoding is not supported.",
        False,
        "Send application/json, not compressed.",
        "Semel accepts uncompressed application/json only. Nothing was done.",
        exceptions=(keys.UnsupportedContentEncoding, drf.UnsupportedMediaType),
    ),
    "payload-too-large": Problem(
        413,
        "The body is too large.",
        False,
        "Send a description of the work, with a link to large data.",
        "The body is larger than the limit (256 KiB unless the deployment sets another) and was not read. Nothing was done.",
        exceptions=(RequestDataTooBig,),
    ),
    "headers-too-large": Problem(
        431,
        "The headers are too large.",
        False,
        "Send fewer or shorter headers.",
        "The request's headers are larger than the limit. Nothing was done.",
    ),
    "range-not-satisfiable": Problem(
        416,
        "The range starts beyond the end of the file.",
        False,
        "Request a range within the size in Content-Range, or the whole file without a Range header.",
        "The file is shorter than the start of the range. A download that was already complete ends like this.",
        exceptions=(jobs.RangeNotSatisfiable,),
    ),
    "not-found": Problem(
        404,
        "Not found.",
        False,
        "Check the address, the tenant and the mode.",
        "Nothing exists at this address, or it belongs to another tenant or mode; the response is the same.",
        exceptions=(jobs.JobNotFound, jobs.ArtifactNotFound, drf.NotFound, Http404),
    ),
    "method-not-allowed": Problem(
        405,
        "The method is not allowed here.",
        False,
        "Use a method that the Allow header lists.",
        "The address exists but does not support this method. Nothing was done.",
        exceptions=(drf.MethodNotAllowed,),
    ),
    "not-acceptable": Problem(
        406,
        "No acceptable representation.",
        False,
        "Send Accept: application/json.",
        "The Accept header excludes every available format. Nothing was done.",
        exceptions=(drf.NotAcceptable,),
    ),
    "unauthenticated": Problem(
        401,
        "A valid API key is required.",
        False,
        "Send Authorization: Bearer <api key>. Request a new key if yours has expired or was revoked.",
        "The API key is missing, malformed, unknown, expired or revoked. Nothing was done.",
        exceptions=(drf.NotAuthenticated, drf.AuthenticationFailed),
    ),
    "forbidden": Problem(
        403,
        "This API key may not do that.",
        False,
        "Use an API key with the required scope.",
        "The API key is valid but lacks a scope: some requests require the scope admin. Nothing was done.",
        exceptions=(drf.PermissionDenied, PermissionDenied),
    ),
    "unknown-operation": Problem(
        400,
        "Unknown operation.",
        False,
        "Use the name of an operation that `GET /v1/operations` lists.",
        "This deployment has no operation of this name. Nothing was done.",
        exceptions=(jobs.UnknownOperation,),
    ),
    "duplicate-operation": Problem(
        409,
        "Another job exists for the same business intent.",
        False,
        "Use the job that `resource` names. Nothing was stored. Once that job has failed or been canceled, the same request "
        "is accepted under the same key.",
        "The operation names a business intent, for example an invoice, and a job under another key has the same one.",
        exceptions=(jobs.DuplicateOperation,),
    ),
    "illegal-state-transition": Problem(
        409,
        "The job's state does not allow that.",
        False,
        "Read the job and act on its current state.",
        "The job has changed its state, or its key now belongs to another job. A key sent with this request keeps this response.",
        Key.NEW,
        (jobs.IllegalTransition, jobs.KeyReassigned),
    ),
    "payload-erased": Problem(
        410,
        "The stored response of this request was erased.",
        False,
        "The request took effect: see `resource`. It will not run again under this key.",
        "The request was answered earlier. Then the job's payload was erased, and with it each stored response that quoted it.",
        Key.NONE,
        (keys.PayloadErased, jobs.JobErased),
    ),
    "rate-limited": Problem(
        429,
        "Too many requests.",
        True,
        "Repeat the same request with the same key after Retry-After seconds.",
        "The tenant sends more requests per second than its limit. Nothing was done.",
        Key.SAME,
        (drf.Throttled,),
    ),
    "queue-full": Problem(
        429,
        "Your queue is full.",
        True,
        "Repeat the same request with the same key after Retry-After seconds, when some jobs have finished.",
        "The tenant has as many waiting jobs as its limit allows. Nothing was stored.",
        Key.SAME,
        (jobs.QueueFull,),
    ),
    "service-unavailable": Problem(
        503,
        "The service is temporarily unavailable.",
        True,
        "Repeat the request with the same Idempotency-Key: it may have been accepted, and the same key prevents a second job.",
        "The database or the file storage does not answer in time. "
        "The request may have been committed before its response was lost.",
        Key.SAME,
        (
            keys.FingerprintUnverifiable,
            jobs.ArtifactUnreadable,
            jobs.TooManyDownloads,
            jobs.TooManyWaits,
            OperationalError,
            InterfaceError,
            InternalError,  # a standby that is not promoted yet is read-only
        ),
    ),
    "internal-error": Problem(
        500,
        "An error occurred on our side.",
        True,
        "Repeat the request with the same Idempotency-Key. If it fails again, report the request_id.",
        "A defect of the service. It was logged with the request_id.",
        Key.SAME,
    ),
    "operation-failed": Problem(
        None,
        "The operation failed permanently.",
        False,
        "See `detail` and `cause` in the job's error.",
        "The work cannot succeed: the downstream refused it, or the input cannot be processed. Nothing was done.",
        Key.NEW,
    ),
    "attempts-exhausted": Problem(
        None,
        "All attempts failed.",
        True,
        "Redrive the job, or submit it again under a new key: nothing was done.",
        "Each attempt met an error that might have been temporary, and none is left. Nothing was done.",
        Key.NEW,
    ),
    "deadline-exceeded": Problem(
        None,
        "The deadline passed before anything was done.",
        True,
        "Submit the work again under a new key with a later deadline.",
        "The job waited longer than its `deadline` allows. No attempt started, or none had an effect.",
        Key.NEW,
    ),
    "partially-done": Problem(
        None,
        "The operation failed after a part of it had taken effect.",
        False,
        "Do not submit it again. Redrive the job: it continues after its finished steps.",
        "Some of the job's effects were done and could not be undone: `effects` lists them.",
        Key.NONE,
    ),
    "outcome-unknown": Problem(
        None,
        "An effect started, and its outcome cannot be determined.",
        False,
        "Do not submit it again. Look up the effect's key at the downstream; an operator then resolves the job.",
        "A call to an external system was sent, its response was lost, and the system cannot be asked. Semel does not guess.",
        Key.NONE,
    ),
}

_SLUGS = {exception: slug for slug, problem in PROBLEMS.items() for exception in problem.exceptions}


def slug_of(error: Exception) -> str:
    """Return the slug of an exception: that of its most specific class in the catalogue."""
    return next((_SLUGS[kind] for kind in type(error).__mro__ if kind in _SLUGS), "internal-error")
