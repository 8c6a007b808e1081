"""The catalogue of problems: what each slug means to a client, and which exception becomes which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, InternalError, OperationalError
from django.http import Http404
from rest_framework import exceptions as drf

from idempotency import errors as keys
from jobs import errors as jobs

if TYPE_CHECKING:
    from collections.abc import Mapping


class Key(StrEnum):
    """Which Idempotency-Key goes with what the client sends next."""

    FREE = "same or new"
    SAME = "same"
    NEW = "new"
    NONE = "none"

    @property
    def reason(self) -> str:
        """Why, in one sentence."""
        return _REASONS[self]


_REASONS = {
    Key.FREE: "Nothing was stored under the key: the mended request may carry it, or a new one.",
    Key.SAME: "The same key, always: the request may have been accepted, and only the key can tell.",
    Key.NEW: "A new key: the one that was sent stands for something else by now.",
    Key.NONE: "None: submitting it again, under whatever key, might do it twice.",
}


@dataclass(frozen=True)
class Problem:
    """What stands in a problem document besides the facts of the case."""

    # None: it stands in a job's `error`, never in an answer of its own.
    status: int | None
    title: str
    # Whether the same request can succeed later without a change.
    retryable: bool
    # What to do about it, what it means and which key goes with the next request: shown at /problems/<slug>.
    advice: str
    meaning: str = ""
    key: Key = Key.FREE


PROBLEMS: Mapping[str, Problem] = {
    "idempotency-key-missing": Problem(
        400,
        "The request needs an Idempotency-Key header.",
        False,
        "Send a unique Idempotency-Key (a UUID, say), the same one with every retry of this request.",
        meaning="This request starts work, so a repeat of it must be recognisable; without a key it would not be.",
    ),
    "idempotency-key-invalid": Problem(
        400,
        "The Idempotency-Key header is malformed.",
        False,
        "Send one header of 1 to 255 printable ASCII characters other than space, comma, quote, semicolon and backslash.",
        meaning="The header is empty, too long, sent twice, or has characters that proxies and clients do not treat alike.",
    ),
    "idempotency-key-reused": Problem(
        409,
        "The Idempotency-Key was used for another request.",
        False,
        "Use a new key for a new request; to retry, repeat the first request without a change.",
        meaning="Another request was accepted under this key: `mismatch` says where its body differs, `resource` what it made.",
        key=Key.NEW,
    ),
    "idempotency-request-in-progress": Problem(
        409,
        "A request with this Idempotency-Key is being accepted at this moment.",
        True,
        "Repeat the same request with the same key after Retry-After seconds.",
        meaning="The first request with this key has not been committed yet; a moment later its answer can be replayed.",
        key=Key.SAME,
    ),
    "validation-failed": Problem(
        400,
        "The request does not fit its schema.",
        False,
        "Mend the members that `errors` names. Nothing was stored, so the same key can be used.",
        meaning="The body, the query string or a header does not fit; `errors` says where and why. Nothing was done.",
    ),
    "malformed-json": Problem(
        400,
        "The body is not JSON that we accept.",
        False,
        "Send UTF-8 JSON without repeated members, NaN or Infinity, U+0000, lone surrogates or very long numbers.",
        meaning="The body has no single meaning as JSON: another reader might understand something else, so nothing was done.",
    ),
    "unsupported-media-type": Problem(
        415,
        "The body's type or encoding is not supported.",
        False,
        "Send application/json, not compressed.",
        meaning="Semel reads uncompressed application/json only. Nothing was done.",
    ),
    "payload-too-large": Problem(
        413,
        "The body is too large.",
        False,
        "Send a description of the work, and a link to large data.",
        meaning="The body is over the limit (256 KiB unless the deployment says otherwise) and was not read. Nothing was done.",
    ),
    "headers-too-large": Problem(
        431,
        "The headers are too large.",
        False,
        "Send fewer or shorter headers.",
        meaning="The request's headers are larger than any honest request's. Nothing was done.",
    ),
    "range-not-satisfiable": Problem(
        416,
        "The range lies beyond the end of the file.",
        False,
        "Ask for a range within the size that Content-Range names, or for the whole, without a Range header.",
        meaning="The file has fewer bytes than the range begins at. A download that was complete already ends so.",
    ),
    "not-found": Problem(
        404,
        "There is no such thing.",
        False,
        "Check the address, the tenant and the mode.",
        meaning="Nothing is there, or it is not yours: what belongs to another tenant, or to the other mode, looks the same.",
    ),
    "method-not-allowed": Problem(
        405,
        "The method is not allowed here.",
        False,
        "See the Allow header.",
        meaning="The address exists and does not take this method. Nothing was done.",
    ),
    "not-acceptable": Problem(
        406,
        "No acceptable representation.",
        False,
        "Accept application/json.",
        meaning="The Accept header rules out everything that could be answered. Nothing was done.",
    ),
    "unauthenticated": Problem(
        401,
        "A valid API key is needed.",
        False,
        "Send Authorization: Bearer <api key>; ask for a new key if yours ended.",
        meaning="The API key is missing, malformed, unknown, expired or revoked. Nothing was done.",
    ),
    "forbidden": Problem(
        403,
        "This API key may not do that.",
        False,
        "Use a key with the scope that is needed.",
        meaning="The API key is good, but does not reach that far: some requests need the scope admin. Nothing was done.",
    ),
    "unknown-operation": Problem(
        400,
        "There is no such operation.",
        False,
        "Use the name of an operation that this service offers.",
        meaning="This deployment does not offer an operation of this name. Nothing was done.",
    ),
    "duplicate-operation": Problem(
        409,
        "Another job stands for the same business intent.",
        False,
        "Look at `resource`: it is the job that you want. Nothing was stored; once that one has failed or been canceled, the "
        "same request, under the same key, is accepted.",
        meaning="The operation names a business intent, an invoice say, and this one has a job already under another key.",
    ),
    "illegal-state-transition": Problem(
        409,
        "The job's state does not allow that.",
        False,
        "Read the job and act on its present state.",
        meaning="The job has moved on, or its key has started another job. A key that was sent keeps this answer.",
        key=Key.NEW,
    ),
    "payload-erased": Problem(
        410,
        "What the request stored has been erased.",
        False,
        "The request took effect; look at `resource`. It will not run again under this key.",
        meaning="The request was answered long ago; then the job's payload was erased, and with it each answer that quoted it.",
        key=Key.NONE,
    ),
    "rate-limited": Problem(
        429,
        "Too many requests.",
        True,
        "Repeat the same request with the same key after Retry-After seconds.",
        meaning="The tenant sends more requests a second than it may. Nothing was done.",
        key=Key.SAME,
    ),
    "queue-full": Problem(
        429,
        "Too many of your jobs are waiting already.",
        True,
        "Repeat the same request with the same key after Retry-After seconds; nothing was stored.",
        meaning="As many of the tenant's jobs wait as may. Nothing was stored.",
        key=Key.SAME,
    ),
    "service-unavailable": Problem(
        503,
        "The service cannot answer at this moment.",
        True,
        "Repeat the request with the same Idempotency-Key: it may have been accepted, and the key will tell.",
        meaning="The database, or the storage of files, does not answer, or not in time. "
        "The request may have been committed before its answer was lost.",
        key=Key.SAME,
    ),
    "internal-error": Problem(
        500,
        "Something went wrong on our side.",
        True,
        "Repeat the request with the same Idempotency-Key; if it goes on, report the request_id.",
        meaning="A defect of the service; it has been logged under the request_id.",
        key=Key.SAME,
    ),
    "operation-failed": Problem(
        None,
        "The operation failed for good.",
        False,
        "See `detail` and `cause` in the job's error.",
        meaning="The work cannot succeed: the downstream refused it, or the input cannot be worked on. Nothing was done.",
        key=Key.NEW,
    ),
    "attempts-exhausted": Problem(
        None,
        "Every attempt failed.",
        True,
        "Redrive the job, or submit it again under a new key: nothing was done.",
        meaning="Each attempt ran into something that might have passed, and none is left. Nothing was done.",
        key=Key.NEW,
    ),
    "deadline-exceeded": Problem(
        None,
        "The deadline passed before anything was done.",
        True,
        "Submit it again under a new key with a later deadline.",
        meaning="The job waited longer than its `deadline` allowed, and nothing was done: no attempt began, or none got so far.",
        key=Key.NEW,
    ),
    "partially-done": Problem(
        None,
        "The operation failed after a part of it had taken effect.",
        False,
        "Do not submit it again: redrive the job, which goes on from its finished steps.",
        meaning="Some of the job's effects were done and could not be undone: `effects` lists them.",
        key=Key.NONE,
    ),
    "outcome-unknown": Problem(
        None,
        "An effect began, and nobody can tell whether it happened.",
        False,
        "Do not submit it again: look at the downstream by the effect's key; an operator then resolves the job.",
        meaning="A call to the world was sent, its answer never came, and the downstream cannot be asked. Semel does not guess.",
        key=Key.NONE,
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
    (jobs.ArtifactNotFound, "not-found"),
    (jobs.ArtifactUnreadable, "service-unavailable"),
    (jobs.TooManyDownloads, "service-unavailable"),
    (jobs.RangeNotSatisfiable, "range-not-satisfiable"),
    (jobs.TooManyWaits, "service-unavailable"),
    (jobs.IllegalTransition, "illegal-state-transition"),
    (jobs.InvalidVerdict, "validation-failed"),
    (jobs.CompensatedJobCannotSucceed, "validation-failed"),
    (jobs.KeyReassigned, "illegal-state-transition"),
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
