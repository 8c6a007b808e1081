"""`/.well-known/idempotency`: what a client may rely on, for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from api.conditional_requests import conditional
from idempotency.fingerprint import CURRENT_VERSION
from idempotency.http import DEFINITE_ERRORS
from idempotency.request_headers import MAX_KEY_LENGTH, MAX_TTL_SECONDS, MIN_TTL_SECONDS
from idempotency.stored_response import BODY_OMITTED, EXPIRES, REPLAYED, STORED_HEADERS

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

# It changes with a deployment, if at all.
_CACHED = {"Cache-Control": "public, max-age=300"}


def show_policy(request: HttpRequest) -> HttpResponse:
    """The policy of this deployment."""
    return conditional(request, policy(), _CACHED)


def policy() -> dict[str, Any]:
    """The policy as a document; each value is the one in force."""
    is_strict = settings.IDEMPOTENCY_KEY_SYNTAX == "strict"
    return {
        "key": {
            "header": "Idempotency-Key",
            "syntax": settings.IDEMPOTENCY_KEY_SYNTAX,
            "forms": ["quoted"] if is_strict else ["quoted", "bare"],
            "min_length": 1,
            "max_length": MAX_KEY_LENGTH,
            "scope": ["tenant", "mode"],
            "required_on": ["POST /v1/jobs"],
            "optional_on": "every other changing request that an API key makes",
            "ignored_on": ["GET", "HEAD", "OPTIONS"],
        },
        "ttl": {
            "header": "Idempotency-TTL",
            "default_seconds": settings.IDEMPOTENCY_TTL_SECONDS,
            "min_seconds": MIN_TTL_SECONDS,
            "max_seconds": MAX_TTL_SECONDS,
            "ends": "not before what the key started has ended",
        },
        "fingerprint": {
            "version": CURRENT_VERSION,
            "covers": ["method", "path", "query", "body"],
            "json_bodies": "by exact value: white space, member order, escapes and number spelling do not count",
            "other_bodies": "by their bytes and content type",
        },
        "stored": {
            "statuses": ["2xx", "3xx", *map(str, DEFINITE_ERRORS)],
            "headers": sorted(STORED_HEADERS),
            "max_body_bytes": settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES,
        },
        "answers": {
            "replayed_header": REPLAYED,
            "expires_header": EXPIRES,
            "body_omitted_header": BODY_OMITTED,
            "mismatch_status": settings.IDEMPOTENCY_MISMATCH_STATUS,
            "in_progress_status": 409,
            "in_progress_wait_seconds": settings.IDEMPOTENCY_WAIT_SECONDS,
            "erased_status": 410,
        },
    }
