"""Every statement of a keyed request and of the changes to one record.

Lock order: a record before everything that the request makes. READ COMMITTED is assumed: after a lost race the next
statement sees the winner. Times are the database's. Conditions use `(SELECT clock_timestamp())`, because the bare
function is volatile and uses no index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from django.db import OperationalError
from psycopg import errors

from foundation.statements import Statement, execute, fetch_one, read_one, run_together
from idempotency.fingerprint import CURRENT_VERSION, current_kid
from idempotency.records import Found, Record, Reservation

if TYPE_CHECKING:
    from idempotency.fingerprint import Fingerprint
    from idempotency.records import KeyedRequest, Work
    from idempotency.stored_response import StoredResponse


class LockWaitTimeout(Exception):  # noqa: N818 # an expected outcome, not a fault
    """Another transaction held the key for longer than the time-out. The caller's transaction is aborted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockTimeouts:
    """How long a statement may wait for one lock, and run in all (None: the connection's own limit). 0 would mean no limit."""

    lock_milliseconds: int
    total_milliseconds: int | None = None


_COLUMNS = """
    id, scope, key, fingerprint, fingerprint_version, fingerprint_kid, members, method, path, status, response,
    erased_at, resource, subject, owner, created_at, expires_at, expires_at <= clock.at"""
_CLOCK = "(SELECT clock_timestamp() AS at) AS clock"

# They apply to the rest of the transaction, and DEFAULT restores what the connection or its role has. They are sent together with
# the statement that may wait, so that a bounded wait needs no extra round trip.
_BOUND_WAIT = """
SELECT set_config('lock_timeout', %s::text, true),
    set_config('statement_timeout', COALESCE(%s::text, current_setting('statement_timeout')), true)"""
_UNBOUND_WAIT = ("SET LOCAL lock_timeout TO DEFAULT", "SET LOCAL statement_timeout TO DEFAULT")

_FIND = f"""
SELECT clock.at, {_COLUMNS}
FROM {_CLOCK} LEFT JOIN idempotency_record ON scope = %s AND key = %s"""

_LOCK = f"SELECT {_COLUMNS} FROM {_CLOCK}, idempotency_record WHERE id = %s FOR UPDATE OF idempotency_record"

_RESERVE = """
INSERT INTO idempotency_record (scope, key, fingerprint, fingerprint_version, fingerprint_kid, members,
    method, path, subject, created_at, expires_at)
SELECT %s, %s, %s, %s, %s, %s, %s, %s, %s, clock, clock + make_interval(secs => %s) FROM clock_timestamp() AS clock
ON CONFLICT (scope, key) DO NOTHING RETURNING id, owner, expires_at"""

# `bounded` is read before the row is inserted, so that its time-out bounds the wait for another request with the key. It ends
# with the statement: that is a transaction of its own. `record_at` is the time of the rows. A process that was stopped since it
# read the clock must not write rows with a time long past: other processes assume that such rows are visible by now.
_ACCEPT = """
WITH bounded AS MATERIALIZED (SELECT set_config('lock_timeout', %(record_wait)s::text, true)), accepted AS (
    INSERT INTO idempotency_record (scope, key, fingerprint, fingerprint_version, fingerprint_kid, members, method, path,
        status, response, resource, created_at, expires_at)
    SELECT %(record_scope)s, %(record_key)s, %(record_fingerprint)s, %(record_version)s, %(record_kid)s, %(record_members)s,
        %(record_method)s, %(record_path)s, %(record_status)s, %(record_response)s, %(record_resource)s,
        %(record_at)s, %(record_expires_at)s
    FROM bounded WHERE clock_timestamp() < %(record_at)s::timestamptz + interval '10 seconds'
    ON CONFLICT (scope, key) DO NOTHING RETURNING id
), {ctes}
SELECT id FROM accepted"""

_LOCK_EXPIRED = f"""
SELECT {_COLUMNS} FROM {_CLOCK}, idempotency_record
WHERE id = %s AND expires_at <= (SELECT clock_timestamp())
FOR UPDATE OF idempotency_record"""

_TAKE_OVER = """
UPDATE idempotency_record AS record
SET fingerprint = %s, fingerprint_version = %s, fingerprint_kid = %s, members = %s, method = %s, path = %s, subject = %s,
    status = NULL, response = NULL, erased_at = NULL, resource = NULL,
    replays = 0, last_replayed_at = NULL,
    owner = record.owner + 1, created_at = clock, expires_at = clock + make_interval(secs => %s)
FROM clock_timestamp() AS clock
WHERE record.id = %s AND record.owner = %s
RETURNING record.id, record.owner, record.expires_at
"""

_STORE_RESPONSE = """
UPDATE idempotency_record SET status = %s, response = %s, resource = %s
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
status, response, resource, created_at, expires_at) SELECT %s, %s, '', %s, %s, '', '', 409, '', %s, clock,
clock + make_interval(secs => %s) FROM clock_timestamp() AS clock ON CONFLICT (scope, key) DO NOTHING RETURNING id
"""

# One row per record. No indexed column changes, so each update is HOT. If another transaction has locked a record, its counts are
# dropped: counts are approximate, and a request must not wait for them.
_ADD_REPLAYS = """
UPDATE idempotency_record AS record
SET replays = LEAST(record.replays::bigint + counted.replays, 2147483647), last_replayed_at = clock_timestamp()
FROM unnest(%s::bigint[], %s::int[]) AS counted (id, replays),
    LATERAL (SELECT FROM idempotency_record WHERE id = counted.id FOR NO KEY UPDATE SKIP LOCKED) AS locked
WHERE record.id = counted.id
"""

_ERASE = (
    "UPDATE idempotency_record SET response = NULL, members = NULL, erased_at = coalesce(erased_at, clock_timestamp())"
)
_ERASE_PAYLOAD = f"{_ERASE} WHERE id = %s"
_ERASE_BY_SUBJECT = f"{_ERASE} WHERE subject = %s AND status IS NOT NULL"

_LOCK_BY_SUBJECT = "SELECT id FROM idempotency_record WHERE subject = %s ORDER BY id FOR UPDATE"


def find(*, scope: str, key: str) -> Found:
    """Return the committed record of the key, or none, and the database's clock.

    Locks nothing and waits for nothing. Served by idempotency_record_scope_key. A separate statement, because one
    statement that inserts or else reads does not see the winner of a lost race. If the connection was lost, try once on
    a new one: the statement only reads.
    """
    row = read_one(_FIND, scope, key)
    if row is None:
        raise RuntimeError("A statement that reads the clock returned no row.")
    read_at, *columns = row
    return Found(record=None if columns[0] is None else Record(*columns), read_at=read_at)


def lock_record(record_id: int) -> Record | None:
    """Lock the record until the transaction ends, against a purge and a take-over; None if it has been purged.

    Waits for the current holder, at most lock_timeout. Served by the primary key.
    """
    row = fetch_one(_LOCK, record_id)
    return Record(*row) if row else None


def reserve(request: KeyedRequest, fingerprint: Fingerprint, timeouts: LockTimeouts) -> Reservation | None:
    """Insert the record, so that this transaction runs the request; return None if a committed record has the key.

    Locks the new row: until this transaction ends, duplicates wait on idempotency_record_scope_key. If an earlier request has
    inserted the key, waits for its transaction, and inserts the row if that transaction rolls back. Raises LockWaitTimeout.
    """
    values = (request.scope, request.key, *_request_values(request, fingerprint))
    row = _read_bounded(_RESERVE, timeouts, values)
    return _reservation(request, row) if row else None


def accept_at_once(
    request: KeyedRequest, fingerprint: Fingerprint, work: Work, stored: StoredResponse, *, at: datetime, wait_ms: int
) -> int | None:
    """Insert the record with its response, and the rows of the work; return the record's id.

    Return None, and write nothing, if another request has the key, or if `at` is ten seconds old. One statement, which is a
    transaction of its own: if this process dies, either all rows are committed or none. If another request that is not
    committed yet has inserted the key, waits for it; after `wait_ms` raises LockWaitTimeout. Lock order: the record, then the
    rows of the work.
    """
    values = {
        "record_wait": wait_ms,
        "record_scope": request.scope,
        "record_key": request.key,
        "record_fingerprint": fingerprint.digest,
        "record_version": fingerprint.version,
        "record_kid": fingerprint.kid,
        "record_members": fingerprint.members,
        "record_method": request.parts.method,
        "record_path": request.parts.path,
        "record_status": stored.status,
        "record_response": stored.encoded,
        "record_resource": work.resource,
        "record_at": at,
        "record_expires_at": at + timedelta(seconds=request.ttl_seconds),
        **work.values,
    }
    with _lock_wait_timeouts(errors.LockNotAvailable):
        row = fetch_one(_statement_with(work.ctes), **values)
    return None if row is None else int(row[0])


@cache
def _statement_with(ctes: str) -> str:
    return _ACCEPT.replace("{ctes}", ctes)


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


def store_response(reservation: Reservation, stored: StoredResponse, *, resource: str | None) -> bool:
    """Store the response of the request that owns the record; False if it does not own it, or has answered.

    The row is locked since it was reserved. Served by the primary key. No indexed column changes, so the update is HOT.
    """
    values = (stored.status, stored.encoded, resource)
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
    """Erase the stored response and the members' digests; the key stays taken. False if the record is gone.

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


def _read_bounded(sql: str, timeouts: LockTimeouts, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Run the statement with these time-outs, in one round trip. Raises LockWaitTimeout."""
    # Only a total limit of ours shows that the time was spent waiting: any other statement may just have been slow.
    kinds = (errors.LockNotAvailable, *((errors.QueryCanceled,) if timeouts.total_milliseconds else ()))
    with _lock_wait_timeouts(*kinds):
        _, rows, *_ = run_together(
            Statement(_BOUND_WAIT, (timeouts.lock_milliseconds, timeouts.total_milliseconds)),
            Statement(sql, values),
            *(Statement(unbound, ()) for unbound in _UNBOUND_WAIT),
        )
    return rows[0] if rows else None


@contextmanager
def _lock_wait_timeouts(*kinds: type[Exception]) -> Iterator[None]:
    try:
        yield
    except OperationalError as exc:
        if isinstance(exc.__cause__, kinds):
            raise LockWaitTimeout from exc
        raise
