"""The leases and the progress of attempts. Each write is fenced; none raises `event_seq`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from foundation.statements import execute, fetch_all, fetch_one


class LeaseKey(NamedTuple):
    """The attempt that holds a lease, and how long after its claim the lease may end at the latest."""

    job_id: UUID
    attempt: int
    attempt_limit: timedelta


@dataclass(frozen=True)
class LeaseView:
    """The seconds left on the lease, and whether a cancel was requested. Fields in the order of the query's columns."""

    seconds_left: float
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """The result of a renewal of several leases. A lease that is in neither part is another attempt's, or has expired."""

    renewed: dict[tuple[UUID, int], LeaseView]
    # Leases that are still held, but another transaction has locked their row.
    locked: set[tuple[UUID, int]]


_VIEW = "EXTRACT(EPOCH FROM lease_expires_at - clock_timestamp())::float8, cancel_requested_at IS NOT NULL"

# The lease never outlives the attempt's limit. An expired lease is not renewed: another attempt may hold the job by then.
# SKIP LOCKED: a transaction that holds one row must not delay the renewal of the others.
_RENEW = f"""
    WITH mine AS (
        SELECT * FROM unnest(%(job_ids)s::uuid[], %(attempts)s::int[], %(limits)s::interval[])
            AS mine (job_id, attempt, attempt_limit)
    ), held AS (
        SELECT job.id, job.attempt FROM mine JOIN job ON job.id = mine.job_id AND job.attempt = mine.attempt
        WHERE job.state = 'running' AND job.lease_expires_at > (SELECT clock_timestamp())
    ), free AS MATERIALIZED (
        SELECT job.id, mine.attempt_limit FROM mine JOIN job ON job.id = mine.job_id AND job.attempt = mine.attempt
        WHERE job.state = 'running' AND job.lease_expires_at > (SELECT clock_timestamp())
        FOR NO KEY UPDATE OF job SKIP LOCKED
    ), renewed AS (
        UPDATE job SET lease_expires_at = GREATEST(lease_expires_at,
            LEAST(clock_timestamp() + %(lease)s::interval, started_at + free.attempt_limit))
        FROM free WHERE job.id = free.id
        RETURNING job.id, {_VIEW}
    )
    SELECT id, held.attempt, renewed.* FROM held LEFT JOIN renewed USING (id)"""

_PROGRESS = f"""
    UPDATE job SET progress = %(progress)s
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'running'
    RETURNING {_VIEW}"""


def renew_leases(keys: Sequence[LeaseKey], *, lease: timedelta) -> Renewal:
    """Extend each of these leases by `lease` from now, at most to its attempt's limit, in one statement.

    Locks the jobs' rows that no other transaction has locked (job_pkey). No indexed column changes, so they are HOT updates.
    """
    job_ids, attempts, limits = map(list, zip(*keys, strict=True))
    renewal = Renewal({}, set())
    for job_id, attempt, _, seconds_left, cancel_requested in fetch_all(
        _RENEW, job_ids=job_ids, attempts=attempts, limits=limits, lease=lease
    ):
        if seconds_left is None:
            renewal.locked.add((job_id, attempt))
        else:
            renewal.renewed[job_id, attempt] = LeaseView(seconds_left, cancel_requested)
    return renewal


def await_writers(job_id: UUID) -> None:
    """Wait until no other transaction holds a lock on the job's row, including one whose client has disconnected.

    A statement of its own, so that the next one sees what they wrote. Locks one job row (job_pkey) for that long only.
    """
    execute("SELECT FROM job WHERE id = %(job_id)s FOR NO KEY UPDATE", job_id=job_id)


def write_progress(*, job_id: UUID, attempt: int, progress: str) -> LeaseView | None:
    """Store the progress (a JSON text); None if the attempt is stale. Locks one job row (job_pkey)."""
    row = fetch_one(_PROGRESS, job_id=job_id, attempt=attempt, progress=progress)
    return LeaseView(*row) if row else None
