"""Every statement of a keyed request and of the changes to one record.

Lock order: a record before everything that the request makes. READ COMMITTED is assumed: after a lost race the next
statement sees the winner. Times are the database's. Conditions use `(SELECT clock_timestamp())`, because the bare
function is volatile and uses no index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connection
from psycopg import errors

from foundation.statements import execute, fetch_one
from idempotency.fingerprint import CURRENT_VERSION, current_kid
from idempotency.records import Record, Reservation

if TYPE_CHECKING:
    from idempotency.fingerprint import Fingerprint
    from idempotency.records import KeyedRequest
    from idempotency.stored_response import StoredResponse


class LockWaitTimeout(Exception):  # noqa: N818 # an expected outcome, not a fault
    """Another transaction held the key for longer than the time-out. The caller's transaction is aborted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTimeouts:
    """How long a statement may wait for one lock, and run in all. At least 1, because 0 means no limit."""

    lock_milliseconds: int
    total_milliseconds: int


_COLUMNS = """
    id, scope, key, fingerprint, fingerprint_version, fingerprint_kid, members, method, path, status, headers,
    body, erased_at, resource, subject, owner, created_at, expires_at, expires_at <= clock_timestamp()
"""

# Both are sent in one message with the statement, so that a bounded wait needs no extra round trip. DEFAULT restores the value
# # that the connection or its role has, for the rest of the transaction.
_BOUNDED = "SET LOCAL lock_timeout = %s; SET LOCAL statement_timeout = %s;"
_NORMAL = "; SET LOCAL lock_timeout TO DEFAULT; SET LOCAL statement_timeout TO DEFAULT"
_STATEMENTS_BEFORE = 2

_LOOK_UP = f"SELECT {_COLUMNS} FROM idempotency_record WHERE scope = %s AND key = %s"

_LOCK = f"SELECT {_COLUMNS} FROM idempotency_record WHERE id = %s FOR UPDATE"

_RESERVE = f"""{_BOUNDED}
INSERT INTO idempotency_record (scope, key, fingerprint, fingerprint_version, fingerprint_kid, members,
method, path, subject, created_at, expires_at) SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, clock, clock + make_interval(secs
=> %s) FROM clock_timestamp() AS clock ON CONFLICT (scope, key) DO NOTHING RETURNING id, owner, expires_at
{_NORMAL}"""

_LOCK_EXPIRED = f"""{_BOUNDED}
SELECT {_COLUMNS} FROM idempotency_record
WHERE id = %s AND expires_at <= (SELECT clock_timestamp())
FOR UPDATE
{_NORMAL}"""

_TAKE_OVER = """
UPDATE idempotency_record AS record
SET fingerprint = %s, fingerprint_version = %s, fingerprint_kid = %s, members = %s, method = %s, path = %s, subject = %s,
    status = NULL, headers = NULL, body = NULL, erased_at = NULL, resource = NULL,
    replays = 0, last_replayed_at = NULL,
    owner = record.owner + 1, created_at = clock, expires_at = clock + make_interval(secs => %s)
FROM clock_timestamp() AS clock
WHERE record.id = %s AND record.owner = %s
RETURNING record.id, record.owner, record.expires_at
"""

_STORE_RESPONSE = """
UPDATE idempotency_record SET status = %s, headers = %s, body = %s, resource = %s
WHERE id = %s AND owner = %s AND status IS NULL
"""

_EXTEND_EXPIRY = """
UPDATE idempotency_record
SET expires_at = greatest(expires_at, (SELECT clock_timestamp()) + make_interval(secs => %s))
WHERE id = %s
"""

# The empty fingerprint matches no request. So every request under the key gets 409 with a link to the resource.
_RECLAIM_PURGED_KEY = """
INSERT INTO idempotency_record (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path,
status, headers, resource, created_at, expires_at) SELECT %s, %s, '', %s, %s, '', '', 409, '[]', %s, clock,
clock + make_interval(secs => %s) FROM clock_timestamp() AS clock ON CONFLICT (scope, key) DO NOTHING RETURNING id
"""

# One row per record. No indexed column changes, so each update is HOT. If another transaction has locked a record, its counts are
# # dropped: counts are approximate, and a request must not wait for them.
_ADD_REPLAYS = """
UPDATE idempotency_record AS record
SET replays = LEAST(record.replays::bigint + counted.replays, 2147483647), last_replayed_at = clock_timestamp()
FROM unnest(%s::bigint[], %s::int[]) AS counted (id, replays),
    LATERAL (SELECT FROM idempotency_record WHERE id = counted.id FOR NO KEY UPDATE SKIP LOCKED) AS locked
WHERE record.id = counted.id
"""

_ERASE = "UPDATE idempotency_record SET body = NULL, members = NULL, erased_at = coalesce(erased_at, clock_timestamp())"
_ERASE_PAYLOAD = f"{_ERASE} WHERE id = %s"
_ERASE_BY_SUBJECT = f"{_ERASE} WHERE subject = %s AND status IS NOT NULL"

_LOCK_BY_SUBJECT = "SELECT id FROM idempotency_record WHERE subject = %s ORDER BY id FOR UPDATE"


def look_up(*, scope: str, key: str) -> Record | None:
    """Return the committed record of the key, or None.

    Locks nothing and waits for nothing. Served by idempotency_record_scope_key. A separate statement, because one
    statement that inserts or else reads does not see the winner of a lost race.
    """
    return _read_record(_LOOK_UP, (scope, key))


def lock_record(record_id: int) -> Record | None:
    """Lock the record until the transaction ends, against a purge and a take-over; None if it has been purged.

    Waits for the current holder, at most lock_timeout. Served by the primary key.
    """
    return _read_record(_LOCK, (record_id,))


def reserve(request: KeyedRequest, fingerprint: Fingerprint, timeouts: LockTimeouts) -> Reservation | None:
    """Insert the record, so that this transaction runs the request; return None if a committed record has the key.

    Locks the new row: until this transaction ends, duplicates wait on idempotency_record_scope_key. If an earlier request has
    inserted the key, waits for its transaction, and inserts the row if that transaction rolls back. Raises LockWaitTimeout.
    """
    values = (request.scope, request.key, *_request_values(request, fingerprint))
    row = _read_bounded(_RESERVE, timeouts, values)
    return _reservation(request, row) if row else None


def lock_expired(record_id: int, timeouts: LockTimeouts) -> Record | None:
    """Lock the record if it has expired; None if it has been purged, taken over or extended.

    Locks one row until the transaction ends. Raises LockWaitTimeout. Served by the primary key.
    """
    row = _read_bounded(_LOCK_EXPIRED, timeouts, (record_id,))
    return Record(*row) if row else None


def take_over(record: Record, request: KeyedRequest, fingerprint: Fingerprint) -> Reservation | None:
    """Give the expired record to this request; None if its owner has changed since `record` was read.

    The caller has locked the record and checked, under that lock, that its resource has ended. The first request's
    response is deleted with this transaction's commit. Served by the primary key.
    """
    row = fetch_one(_TAKE_OVER, *_request_values(request, fingerprint), record.id, record.owner)
    return _reservation(request, row) if row else None


def store_response(reservation: Reservation, response: StoredResponse) -> bool:
    """Store the response of the request that owns the record; False if it does not own it, or has answered.

    The row is locked since it was reserved. Served by the primary key. No indexed column changes, so the update is HOT.
    """
    values = (response.status, response.headers, response.body, reservation.resource)
    return execute(_STORE_RESPONSE, *values, reservation.record_id, reservation.owner) == 1


def extend_expiry(record_id: int, *, ttl_seconds: int) -> bool:
    """Keep the key for at least this long from now, never shorter than before; False if the record is gone.

    Locks one row; call it after lock_record(). Served by the primary key.
    """
    return execute(_EXTEND_EXPIRY, ttl_seconds, record_id) == 1


def reclaim_purged_key(*, scope: str, key: str, resource: str, ttl_seconds: int) -> int | None:
    """Reserve a purged key again for the resource that it started; return the new record's id, None if the key is in use.

    The first request is no longer known: until this record expires, every request under the key is refused with a link
    to the resource. Waits for a request that is being accepted under the key, as `reserve` does.
    """
    values = (scope, key, CURRENT_VERSION, current_kid(), resource, ttl_seconds)
    row = fetch_one(_RECLAIM_PURGED_KEY, *values)
    return row[0] if row else None


def add_replays(replays: Mapping[int, int]) -> None:
    """Add these counts of replays, by record, and set the time of the last one to now.

    Locks each row; skips rows that are locked or gone. Served by the primary key.
    """
    execute(_ADD_REPLAYS, list(replays), list(replays.values()))


def erase_payload(record_id: int) -> bool:
    """Erase the stored body and the members' digests; the key stays taken. False if the record is gone.

    A retry then raises PayloadErased. Erasing twice is harmless. Locks one row. Served by the primary key.
    """
    return execute(_ERASE_PAYLOAD, record_id) == 1


def lock_by_subject(subject: str) -> None:
    """Lock, in the order of their ids, all committed records of requests about the subject until the transaction ends.

    Call it before taking any other lock: a request that takes over such a record locks it first, too. Served by
    idempotency_record_subject.
    """
    execute(_LOCK_BY_SUBJECT, subject)


def erase_by_subject(subject: str) -> int:
    """Erase what requests about the subject stored, as `erase_payload` does; return the number of records.

    Uncommitted requests are not visible here. So the caller locks the subject first. Such requests build their responses
    while they
    hold the same lock: an earlier request has committed, and a later one reads an erased subject. Served by
    idempotency_record_subject.
    """
    return execute(_ERASE_BY_SUBJECT, subject)


def _request_values(request: KeyedRequest, fingerprint: Fingerprint) -> tuple[Any, ...]:
    parts = request.parts
    return (
        *(fingerprint.digest, fingerprint.version, fingerprint.kid, fingerprint.members),
        *(parts.method, parts.path, request.subject, request.ttl_seconds),
    )


def _reservation(request: KeyedRequest, row: tuple[Any, ...]) -> Reservation:
    record_id, owner, expires_at = row
    return Reservation(record_id=record_id, scope=request.scope, key=request.key, owner=owner, expires_at=expires_at)


def _read_record(sql: str, values: tuple[Any, ...]) -> Record | None:
    row = fetch_one(sql, *values)
    return Record(*row) if row else None


def _read_bounded(sql: str, timeouts: LockTimeouts, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Run a statement written between _BOUNDED and _NORMAL. Raises LockWaitTimeout."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql, (timeouts.lock_milliseconds, timeouts.total_milliseconds, *values))
        except OperationalError as exc:
            if isinstance(exc.__cause__, (errors.LockNotAvailable, errors.QueryCanceled)):
                raise LockWaitTimeout from exc
            raise
        for _ in range(_STATEMENTS_BEFORE):
            cursor.nextset()
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row
