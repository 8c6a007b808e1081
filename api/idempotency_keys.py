"""`/v1/idempotency-keys/{key}`: what a key refers to; `/.well-known/idempotency`: the policy of this deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from accounts.authentication import principal_of
from api.base_view import ApiView
from api.conditional_requests import conditional
from api.forms import require_no_query
from api.job_documents import format_time, resource_path
from idempotency.fingerprint import CURRENT_VERSION
from idempotency.http import DEFINITE_ERRORS
from idempotency.key_lifetime import find_key
from idempotency.request_headers import MAX_KEY_LENGTH, MAX_TTL_SECONDS, MIN_TTL_SECONDS
from idempotency.stored_response import BODY_OMITTED, EXPIRES, REPLAYED, STORED_HEADERS
from jobs.selectors import state_of

if TYPE_CHECKING:
    from idempotency.models import IdempotencyRecord
    from jobs.states import State

# The policy changes with a deployment at most.
_CACHED = {"Cache-Control": "public, max-age=300"}


class IdempotencyKeyView(ApiView):
    """One key of the tenant, in the mode of the credential."""

    def get(self, request: Request, key: str) -> HttpResponse:
        """Return the key's record; 404 if the key is free or belongs to another scope."""
        principal = principal_of(request)
        require_no_query(request)
        record = find_key(scope=principal.scope, key=key)
        if record is None:
            raise NotFound("The key is free: no request with it is stored.")
        resource = record.resource or record.subject
        state = state_of(tenant_id=principal.tenant_id, mode=principal.mode, resource=resource)
        return conditional(request, _key_document(record, resource, state))


def _key_document(record: IdempotencyRecord, resource: str | None, state: State | None) -> dict[str, Any]:
    return {
        "object": "idempotency_key",
        "key": record.key,
        # Empty if a redrive reclaimed the key after its purge: the first request is no longer known.
        "method": record.method or None,
        "path": record.path or None,
        "status": record.status,
        "first_seen_at": format_time(record.created_at),
        "last_seen_at": format_time(record.last_replayed_at or record.created_at),
        "replays": record.replays,
        "expires_at": format_time(record.expires_at),
        "fingerprint_version": record.fingerprint_version,
        "payload_erased_at": format_time(record.erased_at),
        "resource": resource_path(resource),
        "resource_state": state,
    }


def show_policy(request: HttpRequest) -> HttpResponse:
    """Return what a client may rely on, for machines; each value is the one in force."""
    is_strict = settings.IDEMPOTENCY_KEY_SYNTAX == "strict"
    policy = {
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
    return conditional(request, policy, _CACHED)
