"""`/v1/idempotency-keys/{key}`: what a key stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework.exceptions import NotFound
from rest_framework.views import APIView

from accounts.authentication import principal_of
from api.conditional_requests import conditional
from api.job_documents import instant, path_of
from api.query_strings import check_no_query
from idempotency.key_lifetime import find_key
from jobs.selectors import state_of

if TYPE_CHECKING:
    from django.http import HttpResponse
    from rest_framework.request import Request

    from idempotency.models import IdempotencyRecord
    from jobs.states import State


class IdempotencyKeyView(APIView):
    """One key of the tenant's, in the credential's mode."""

    def get(self, request: Request, key: str) -> HttpResponse:
        """What the key stands for; 404 where it is free, or another's."""
        principal = principal_of(request)
        check_no_query(request.query_params)
        record = find_key(scope=principal.scope, key=key)
        if record is None:
            raise NotFound("No request is remembered under this key: it is free.")
        resource = record.resource or record.subject
        state = state_of(tenant_id=principal.tenant_id, mode=principal.mode, resource=resource)
        return conditional(request, _document(record, resource, state))


def _document(record: IdempotencyRecord, resource: str | None, state: State | None) -> dict[str, Any]:
    return {
        "object": "idempotency_key",
        "key": record.key,
        # Empty where the key was taken back by a redrive after its purge: what the first request was is forgotten.
        "method": record.method or None,
        "path": record.path or None,
        "status": record.status,
        "first_seen_at": instant(record.created_at),
        "last_seen_at": instant(record.last_replayed_at or record.created_at),
        "replays": record.replays,
        "expires_at": instant(record.expires_at),
        "fingerprint_version": record.fingerprint_version,
        "payload_erased_at": instant(record.erased_at),
        "resource": path_of(resource),
        "resource_state": state,
    }
