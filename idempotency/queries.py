"""Every statement on `idempotency_record`. SQL and locks are here and in inbox_queries.py alone.

Lock order: a record before whatever the request makes. READ COMMITTED is assumed: after a lost race the next
statement sees the winner. Times are the database's; conditions say `(SELECT clock_timestamp())`, since the
bare function is volatile and never uses an index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import OperationalError, connection
from psycopg import errors

from idempotency.fingerprint import CURRENT_VERSION
from idempotency.keyring import current_kid
from idempotency.records import Expired, Record, Reservation

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from idempotency.records import Fingerprint, KeyedRequest, Patience
    from idempotency.stored import StoredResponse


class LockWaitOver(Exception):  # noqa: N818 # an answer to whoever set a bound, not a fault
    """Another transaction held the key for as long as was allowed. This transaction is spent."""


_COLUMNS = """
    id, scope, key, fingerprint, fingerprint_version, fingerprint_kid, members, method, path, status, headers,
    body, erased_at, resource, subject, owner, created_at, expires_at, expires_at <= clock_timestamp()
"""

# Sent in one message with the statement between them: bounding a wait must not cost round trips. DEFAULT is
# what the connection or its role was given; the rest of the transaction runs under that again.
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

_LOCK_ABOUT = "SELECT id FROM idempotency_record WHERE subject = %s ORDER BY id FOR UPDATE"

_ERASE = "UPDATE idempotency_record SET body = NULL, members = NULL, erased_at = coalesce(erased_at, clock_timestamp())"
_ERASE_PAYLOAD = f"{_ERASE} WHERE id = %s"
_ERASE_ABOUT = f"{_ERASE} WHERE subject = %s AND status IS NOT NULL"

# No request has this fingerprint: whoever comes with the key is told whose it is.
_RESERVE_AGAIN = """
INSERT INTO idempotency_record (scope, key, fingerprint, fingerprint_version, fingerprint_kid, method, path,
status, headers, resource, created_at, expires_at) SELECT %s, %s, '', %s, %s, '', '', 409, '[]', %s, clock,
clock + make_interval(secs => %s) FROM clock_timestamp() AS clock ON CONFLICT (scope, key) DO NOTHING RETURNING id
"""

# One row a record, however often it was replayed. No indexed column changes, so each update is HOT; a record that is
# locked is being changed by whoever needs it more, and its replays are lost to the count.
_ADD_REPLAYS = """
UPDATE idempotency_record AS record
SET replays = LEAST(record.replays::bigint + told.replays, 2147483647), last_replayed_at = clock_timestamp()
FROM unnest(%s::bigint[], %s::int[]) AS told (id, replays),
    LATERAL (SELECT FROM idempotency_record WHERE id = told.id FOR NO KEY UPDATE SKIP LOCKED) AS held
WHERE record.id = told.id
"""

_READ_CLOCK = "SELECT clock_timestamp()"

_LOCK_EXPIRED_BATCH = """
SELECT id, expires_at, resource FROM idempotency_record
WHERE expires_at <= %s AND (expires_at, id) > (%s, %s)
ORDER BY expires_at, id
LIMIT %s
FOR UPDATE SKIP LOCKED
"""

_OVERDUE = """
SELECT EXTRACT(EPOCH FROM clock_timestamp() - expires_at)::float8, resource FROM idempotency_record
WHERE expires_at <= (SELECT clock_timestamp())
ORDER BY expires_at, id
LIMIT %s
"""

_DELETE = "DELETE FROM idempotency_record WHERE id = ANY(%s)"

_READ_RESOURCES = "SELECT id, resource FROM idempotency_record WHERE id = ANY(%s)"


def look_up(*, scope: str, key: str) -> Record | None:
    """Return the committed record of the key, None while there is none.

    Locks nothing and waits for nobody. Served by idempotency_record_scope_key. After a lost race it reads the
    winner, which one statement that inserts or else reads does not see.
    """
    return _read_record(_LOOK_UP, (scope, key))


def lock_record(record_id: int) -> Record | None:
    """Lock the record until the transaction ends: no purge and no take-over can come in between.

    None when it was purged. Waits for whoever holds it, under the connection's lock_timeout. Served by the
    primary key.
    """
    return _read_record(_LOCK, (record_id,))


def reserve(request: KeyedRequest, fingerprint: Fingerprint, patience: Patience) -> Reservation | None:
    """Make this transaction the one that runs the request; None when a committed record holds the key.

    Locks the new row; until this transaction ends duplicates wait on idempotency_record_scope_key. Waits
    there itself for an earlier one: a row if that rolls back, None if it commits, LockWaitOver if it does
    neither in time.
    """
    parts = request.parts
    row = _read_bounded(
        _RESERVE,
        patience,
        (
            *(request.scope, request.key),
            *(fingerprint.digest, fingerprint.version, fingerprint.kid, fingerprint.members),
            *(parts.method, parts.path, request.subject, request.ttl_seconds),
        ),
    )
    return _reservation(request, row) if row else None


def lock_expired(record_id: int, patience: Patience) -> Record | None:
    """Lock the record if it has expired; None if it was purged, taken over or extended meanwhile.

    Locks one row until the transaction ends; LockWaitOver if another holds it for too long. Served by the
    primary key.
    """
    row = _read_bounded(_LOCK_EXPIRED, patience, (record_id,))
    return Record(*row) if row else None


def take_over(record: Record, request: KeyedRequest, fingerprint: Fingerprint) -> Reservation | None:
    """Make the expired record this request's own; None when its owner changed since `record` was read.

    The caller has locked it and checked, under that lock, that its resource has ended. What the first request
    stored is gone once this transaction commits, and back if it does not. Served by the primary key.
    """
    parts = request.parts
    row = _read_row(
        _TAKE_OVER,
        (
            *(fingerprint.digest, fingerprint.version, fingerprint.kid, fingerprint.members),
            *(parts.method, parts.path, request.subject, request.ttl_seconds),
            *(record.id, record.owner),
        ),
    )
    return _reservation(request, row) if row else None


def store_response(reservation: Reservation, response: StoredResponse) -> bool:
    """Keep the answer of the request that holds the record; False if it is not its own, or answered.

    The row is locked since it was reserved. Served by the primary key; no indexed column changes, so the
    update is HOT.
    """
    values = (response.status, response.headers, response.body, reservation.resource)
    return _execute(_STORE_RESPONSE, (*values, reservation.record_id, reservation.owner)) == 1


def extend_expiry(record_id: int, *, ttl_seconds: int) -> bool:
    """Keep the key for at least this long from now on, never shorter than before; False if it is gone.

    Locks one row; call it after lock_record(). Served by the primary key.
    """
    return _execute(_EXTEND_EXPIRY, (ttl_seconds, record_id)) == 1


def reserve_again(*, scope: str, key: str, resource: str, ttl_seconds: int) -> int | None:
    """Take a purged key back for what it once started; the new record's id, or None where the key is in use again.

    What the first request was is forgotten: until this record expires, every request under the key is refused with a
    link to the resource. Waits for a request that is being accepted under the key, as `reserve` does.
    """
    values = (scope, key, CURRENT_VERSION, current_kid(), resource, ttl_seconds)
    row = _read_row(_RESERVE_AGAIN, values)
    return row[0] if row else None


def add_replays(replays: Mapping[int, int]) -> None:
    """Count these replays, by record; the last one counts as seen now.

    Locks each row, waits for none, and passes by those that are gone. Served by the primary key.
    """
    _execute(_ADD_REPLAYS, (list(replays), list(replays.values())))


def erase_payload(record_id: int) -> bool:
    """Forget the stored body and the members' digests; the key stays taken. False if it is gone.

    A retry then raises PayloadErased. Twice is harmless. Locks one row. Served by the primary key.
    """
    return _execute(_ERASE_PAYLOAD, (record_id,)) == 1


def lock_about(subject: str) -> None:
    """Lock every committed record of a request about the subject, in the order of their ids, until the transaction ends.

    Call it before any other lock is taken: a request that takes over one of them holds it before all else. Served by
    idempotency_record_subject.
    """
    _execute(_LOCK_ABOUT, (subject,))


def erase_about(subject: str) -> int:
    """Forget what requests about the subject stored, as `erase_payload` does; return how many of them there were.

    A request under way is not seen. So the caller first takes the lock on the subject itself under which such requests
    make their answers: whatever they answered before is committed by then, and afterwards they find an erased subject.
    Served by idempotency_record_subject.
    """
    return _execute(_ERASE_ABOUT, (subject,))


def read_clock() -> datetime:
    """Return the database's time."""
    row = _read_row(_READ_CLOCK, ())
    assert row is not None  # noqa: S101 # a SELECT without FROM
    instant: datetime = row[0]
    return instant


def lock_expired_batch(*, until: datetime, after: Expired, limit: int) -> list[Expired]:
    """Lock the next records that expired until then, in the order of expiry, beginning behind `after`.

    Those locked elsewhere are in use and left out; fewer than `limit` therefore means that there are no more.
    Served by idempotency_record_expiry, from which it starts at `after`.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_EXPIRED_BATCH, (until, after.expires_at, after.id, limit))
        return [Expired(*row) for row in cursor.fetchall()]


def read_overdue(*, limit: int) -> list[tuple[float, str | None]]:
    """Return for how many seconds the records that expired first have been so, and what they started.

    Locks nothing. Served by idempotency_record_expiry.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OVERDUE, (limit,))
        rows: list[tuple[float, str | None]] = cursor.fetchall()
    return rows


def delete_records(record_ids: Collection[int]) -> int:
    """Delete the records, and return how many; the caller has locked them. Served by the primary key."""
    return _execute(_DELETE, (list(record_ids),))


def read_resources(record_ids: Collection[int]) -> dict[int, str | None]:
    """Return what each of the records that exist stands for, as committed; locks nothing. Served by the primary key."""
    with connection.cursor() as cursor:
        cursor.execute(_READ_RESOURCES, (list(record_ids),))
        return dict(cursor.fetchall())


def _reservation(request: KeyedRequest, row: tuple[Any, ...]) -> Reservation:
    record_id, owner, expires_at = row
    return Reservation(
        record_id=record_id, scope=request.scope, key=request.key, owner=owner, expires_at=expires_at
    )


def _read_row(sql: str, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def _read_record(sql: str, values: tuple[Any, ...]) -> Record | None:
    row = _read_row(sql, values)
    return Record(*row) if row else None


def _read_bounded(sql: str, patience: Patience, values: tuple[Any, ...]) -> tuple[Any, ...] | None:
    """Run a statement written between _BOUNDED and _NORMAL; LockWaitOver when its time was over."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(sql, (patience.lock_milliseconds, patience.total_milliseconds, *values))
        except OperationalError as exc:
            if isinstance(exc.__cause__, (errors.LockNotAvailable, errors.QueryCanceled)):
                raise LockWaitOver from exc
            raise
        for _ in range(_STATEMENTS_BEFORE):
            cursor.nextset()
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def _execute(sql: str, values: tuple[Any, ...]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        count: int = cursor.rowcount
        return count
