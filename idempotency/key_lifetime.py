"""Decide whether a key is free: find its record, check whether its resource has ended, release the key before it expires.

`idempotency` cannot know whether a resource has ended, so the app that owns the resources registers a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

from idempotency import maintenance_queries, queries
from idempotency.errors import KeyChanged, ResourceNotEnded
from idempotency.models import IdempotencyRecord
from idempotency.request_headers import is_key

if TYPE_CHECKING:
    from idempotency.records import Record

# Return those of the given resources that have ended. A resource that is unknown or deleted counts as ended.
EndedFilter = Callable[[Collection[str]], set[str]]

_ended_filters: list[EndedFilter] = []


def register_ended_filter(ended_filter: EndedFilter) -> None:
    """Register a filter. A key with a resource becomes free only when every filter returns that resource.

    Call in AppConfig.ready().

    The filter runs in the transaction that locks the record. It may read, but must not lock rows that come before
    records in the lock order.
    """
    if ended_filter not in _ended_filters:
        _ended_filters.append(ended_filter)


def find_ended(resources: Collection[str | None]) -> set[str | None]:
    """Return the resources that every filter reports as ended, and None (no resource), which counts as ended."""
    named = {resource for resource in resources if resource is not None}
    for ended_filter in _ended_filters:
        if named:
            named &= ended_filter(named)
    return {None, *named}


def has_ended(resource: str | None) -> bool:
    """Return True if the resource has ended, so that its key may be used for another request."""
    return resource is None or resource in find_ended([resource])


def find_key(*, scope: str, key: str) -> IdempotencyRecord | None:
    """Return the key's record without its stored response; None if the key is free.

    An expired record counts until its resource has ended. Reads one row by idempotency_record_scope_key.
    """
    if not is_key(key):  # a path can hold text that PostgreSQL refuses as a parameter
        return None
    records = IdempotencyRecord.objects.filter(scope=scope, key=key).annotate(
        is_expired=ExpressionWrapper(Q(expires_at__lte=Now()), output_field=BooleanField())
    )
    record = records.defer("response", "members", "fingerprint").first()
    return None if record is None or (record.is_expired and has_ended(record.resource)) else record


def release_key(*, record_id: int, owner: int) -> Record:
    """Delete the record before it expires, so that the key's next request is a new one. Return the record.

    For operators only, never for clients: a client that still repeats the first request is accepted a second time.

    owner: `record.owner` at the time when the operator read the record. It changes if another request takes over the key; then
    KeyChanged is raised. Raises ResourceNotEnded. Call it in the transaction that writes the audit entry.

    Locks the record, then asks whether its resource has ended. A redrive also locks the record first: either it
    commits first, and the resource has not ended, or it finds no record and reclaims the key if that is still unused.
    A replay that has already read the record still returns it. A request that arrives later waits for this commit and is then
    accepted as a new request.
    """
    record = queries.lock_record(record_id)
    if record is None or record.owner != owner:
        raise KeyChanged
    if not has_ended(record.resource):
        raise ResourceNotEnded(resource=record.resource)
    maintenance_queries.delete_records([record.id])
    return record
