"""What can be asked about keys."""

from __future__ import annotations

from idempotency.models import IdempotencyRecord


def find_key(*, scope: str, key: str) -> IdempotencyRecord | None:
    """Return what is remembered of the key, without its stored answer; None where nothing is.

    An expired record is found until it is purged or taken over. One row by idempotency_record_scope_key.
    """
    known = IdempotencyRecord.objects.filter(scope=scope, key=key)
    return known.defer("headers", "body", "members", "fingerprint").first()
