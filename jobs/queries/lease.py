"""What a running attempt writes about itself: its lease and its progress. Each is fenced; none raises `event_seq`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID


@dataclass(frozen=True)
class LeaseView:
    """What a renewal learns: seconds that the lease still runs, and whether a cancel was asked for."""

    seconds_left: float
    cancel_requested: bool


# The lease never outlives the attempt's own limit, and a lease that is over is not renewed: it may be another's already.
_RENEW = """
    UPDATE job SET lease_expires_at = GREATEST(lease_expires_at,
        LEAST(clock_timestamp() + %(lease)s, started_at + %(attempt_limit)s))
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'running'
      AND lease_expires_at > (SELECT clock_timestamp())
    RETURNING EXTRACT(EPOCH FROM lease_expires_at - clock_timestamp())::float8, cancel_requested_at IS NOT NULL"""

_PROGRESS = """
    UPDATE job SET progress = %(progress)s
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'running'
    RETURNING EXTRACT(EPOCH FROM lease_expires_at - clock_timestamp())::float8, cancel_requested_at IS NOT NULL"""


def renew_lease(
    *, job_id: UUID, attempt: int, lease: timedelta, attempt_limit: timedelta
) -> LeaseView | None:
    """The lease runs for another `lease`, at most until the attempt's limit; None where the attempt holds it no more.

    Locks one job row (job_pkey). No indexed column changes, so that it stays a HOT update.
    """
    values: dict[str, Any] = {
        "job_id": job_id,
        "attempt": attempt,
        "lease": lease,
        "attempt_limit": attempt_limit,
    }
    return _fetch(_RENEW, values)


def await_writers(job_id: UUID) -> None:
    """Nobody writes the job at this moment: not even a session whose client is gone, and which is still about its commit.

    In a statement of its own, so that the next one sees what they wrote. Locks one job row (job_pkey) for just that long.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM job WHERE id = %s FOR NO KEY UPDATE", [job_id])


def write_progress(*, job_id: UUID, attempt: int, progress: str) -> LeaseView | None:
    """The job shows this progress (a JSON text); None where the attempt holds it no more. Locks one job row (job_pkey)."""
    return _fetch(_PROGRESS, {"job_id": job_id, "attempt": attempt, "progress": progress})


def _fetch(statement: str, values: dict[str, Any]) -> LeaseView | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        row = cursor.fetchone()
    return LeaseView(*row) if row else None
