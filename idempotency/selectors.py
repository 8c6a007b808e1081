"""What can be asked about keys."""

from __future__ import annotations

from django.db.models import BooleanField, ExpressionWrapper, Q
from django.db.models.functions import Now

from idempotency.keys import is_key
from idempotency.models import IdempotencyRecord
from idempotency.registry import has_ended


def find_key(*, scope: str, key: str) -> IdempotencyRecord | None:
    """Return what is remembered of the key, without its stored answer; None where the key is free.

    An expired record counts for as long as what it started has not ended. One row by idempotency_record_scope_key.
    """
    if not is_key(key):  # PostgreSQL could not even be asked for some of what a path can hold
        return None
    known = IdempotencyRecord.objects.filter(scope=scope, key=key).annotate(
        is_expired=ExpressionWrapper(Q(expires_at__lte=Now()), output_field=BooleanField())
    )
    record = known.defer("headers", "body", "members", "fingerprint").first()
    return None if record is None or (record.is_expired and has_ended(record.resource)) else record
