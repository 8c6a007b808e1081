"""What a self-audit reads of records: never a body, never a digest. Nothing is locked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

_COLUMNS = """id, scope, key, resource, created_at, expires_at, status IS NOT NULL,
    (octet_length(fingerprint) > 0 OR method = '') AND fingerprint_kid <> '', COALESCE(octet_length(body), 0)"""
_NEWEST = f"SELECT {_COLUMNS} FROM idempotency_record WHERE id < %(before)s ORDER BY id DESC LIMIT %(limit)s"
_BY_ID = f"SELECT {_COLUMNS} FROM idempotency_record WHERE id = ANY(%(ids)s)"
_OVERDUE = f"""
    SELECT {_COLUMNS} FROM idempotency_record WHERE expires_at <= (SELECT clock_timestamp()) - %(age)s
    ORDER BY expires_at, id LIMIT %(limit)s"""


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """A record without what it stores. Fields in the order of the queries' columns."""

    id: int
    scope: str
    key: str
    resource: str | None
    created_at: datetime
    expires_at: datetime
    is_answered: bool
    can_be_compared: bool  # with a request: it has a fingerprint, or was taken back and refuses every one
    body_bytes: int


def newest(*, before: int, limit: int) -> list[RecordFacts]:
    """The next records by number, the newest first, beginning behind `before`. Served by the primary key."""
    return _fetch(_NEWEST, {"before": before, "limit": limit})


def by_id(ids: Collection[int]) -> list[RecordFacts]:
    """Those of the records that there are. Served by the primary key."""
    return _fetch(_BY_ID, {"ids": list(ids)})


def overdue(*, age: timedelta, limit: int) -> list[RecordFacts]:
    """The records that expired longest ago, at least so long. Served by idempotency_record_expiry."""
    return _fetch(_OVERDUE, {"age": age, "limit": limit})


def _fetch(statement: str, values: dict[str, Any]) -> list[RecordFacts]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return [RecordFacts(*row) for row in cursor.fetchall()]
