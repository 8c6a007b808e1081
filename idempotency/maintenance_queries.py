"""The statements that no keyed request runs: purge, self-audit, inbox. Reads never return a body or a digest."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from foundation.statements import execute, fetch_all


@dataclass(frozen=True, slots=True)
class ExpiredRecord:
    """The columns of an expired record that the purge reads, in the order of the query's columns."""

    id: int
    expires_at: datetime
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class RecordSummary:
    """A record without what it stores. Fields in the order of the queries' columns."""

    id: int
    scope: str
    key: str
    resource: str | None
    created_at: datetime
    expires_at: datetime
    is_answered: bool
    can_be_compared: bool  # has a fingerprint, or is a reclaimed key that refuses every request
    response_bytes: int


_READ_CLOCK = "SELECT clock_timestamp()"

_LOCK_EXPIRED_BATCH = """
SELECT id, expires_at, resource FROM idempotency_record
WHERE expires_at <= %s AND (expires_at, id) > (%s, %s)
ORDER BY expires_at, id
LIMIT %s
FOR UPDATE SKIP LOCKED
"""

_DELETE_RECORDS = "DELETE FROM idempotency_record WHERE id = ANY(%s)"

_RESOURCES_BY_KEY = """
SELECT scope, key, resource
FROM idempotency_record JOIN unnest(%s::text[], %s::text[]) AS wanted (scope, key) USING (scope, key)"""

_READ_RESOURCES = "SELECT id, resource FROM idempotency_record WHERE id = ANY(%s)"

_COLUMNS = """id, scope, key, resource, created_at, expires_at, status IS NOT NULL,
    (octet_length(fingerprint) > 0 OR method = '') AND fingerprint_kid <> '', COALESCE(octet_length(response), 0)"""
_NEWEST_RECORDS = f"SELECT {_COLUMNS} FROM idempotency_record WHERE id < %(before)s ORDER BY id DESC LIMIT %(limit)s"
_RECORDS_BY_ID = f"SELECT {_COLUMNS} FROM idempotency_record WHERE id = ANY(%(ids)s)"
_OVERDUE_RECORDS = f"""
SELECT {_COLUMNS} FROM idempotency_record WHERE expires_at <= (SELECT clock_timestamp()) - %(age)s
ORDER BY expires_at, id LIMIT %(limit)s
"""

_INSERT_MESSAGE = """
INSERT INTO inbox_message (consumer, message_id, received_at) VALUES (%s, %s, clock_timestamp())
ON CONFLICT (consumer, message_id) DO NOTHING
"""

# By ctid, because the rows are locked: no second index look-up. The array is built once, before the deletion.
_DELETE_MESSAGES = """
DELETE FROM inbox_message WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM inbox_message WHERE received_at <= %s ORDER BY received_at LIMIT %s FOR UPDATE SKIP LOCKED
))
"""


def read_clock() -> datetime:
    """Return the database's time."""
    [(instant,)] = fetch_all(_READ_CLOCK)
    return instant  # type: ignore[no-any-return]


def lock_expired_batch(*, until: datetime, after: ExpiredRecord, limit: int) -> list[ExpiredRecord]:
    """Lock the next records after `after`, in the order of expiry, that expired by `until`.

    Skips locked records, which are in use; so fewer than `limit` means that there are no more. Served by
    idempotency_record_expiry, starting at `after`.
    """
    rows = fetch_all(_LOCK_EXPIRED_BATCH, until, after.expires_at, after.id, limit)
    return [ExpiredRecord(*row) for row in rows]


def delete_records(record_ids: Collection[int]) -> int:
    """Delete the records, which the caller has locked; return their number. Served by the primary key."""
    return execute(_DELETE_RECORDS, list(record_ids))


def read_resources(record_ids: Collection[int]) -> dict[int, str | None]:
    """Return the resource of each record that exists, as committed. Locks nothing. Served by the primary key."""
    return dict(fetch_all(_READ_RESOURCES, list(record_ids)))


def resources_by_key(keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], str | None]:
    """Return the resource of each scope and key that has a record. Locks nothing. Served by idempotency_record_scope_key."""
    scopes, names = [scope for scope, _ in keys], [key for _, key in keys]
    return {(scope, key): resource for scope, key, resource in fetch_all(_RESOURCES_BY_KEY, scopes, names)}


def newest_records(*, before: int, limit: int) -> list[RecordSummary]:
    """Return the next records with ids below `before`, newest first. Locks nothing. Served by the primary key."""
    return _summaries(_NEWEST_RECORDS, {"before": before, "limit": limit})


def records_by_id(ids: Collection[int]) -> list[RecordSummary]:
    """Return the records that exist among these. Locks nothing. Served by the primary key."""
    return _summaries(_RECORDS_BY_ID, {"ids": list(ids)})


def overdue_records(*, age: timedelta, limit: int) -> list[RecordSummary]:
    """Return the records that expired at least `age` ago, longest first. Locks nothing. Served by idempotency_record_expiry."""
    return _summaries(_OVERDUE_RECORDS, {"age": age, "limit": limit})


def insert_message(*, consumer: str, message_id: str) -> bool:
    """Insert the message for this transaction; False if a committed row of it exists.

    Locks the new row: until this transaction ends, others wait for it on inbox_message_pkey, and insert it if it rolls back.
    """
    return execute(_INSERT_MESSAGE, consumer, message_id) == 1


def delete_messages(*, until: datetime, limit: int) -> int:
    """Delete the oldest messages received by `until`, at most `limit`; return their number.

    Skips locked rows; so fewer than `limit` means that there are no more. Served by inbox_message_received.
    """
    return execute(_DELETE_MESSAGES, until, limit)


def _summaries(sql: str, values: Mapping[str, Any]) -> list[RecordSummary]:
    return [RecordSummary(*row) for row in fetch_all(sql, **values)]
