"""An attempt's lease and progress. Each write is fenced; none raises `event_seq`."""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from foundation.statements import execute, fetch_one


@dataclass(frozen=True)
class LeaseView:
    """The seconds left on the lease, and whether a cancel was requested. Fields in the order of the query's columns."""

    seconds_left: float
    cancel_requested: bool


_VIEW = "EXTRACT(EPOCH FROM lease_expires_at - clock_timestamp())::float8, cancel_requested_at IS NOT NULL"

# The lease never outlives the attempt's limit. An expired lease is not renewed: another attempt may hold the job by then.
_RENEW = f"""
    UPDATE job SET lease_expires_at = GREATEST(lease_expires_at,
        LEAST(clock_timestamp() + %(lease)s, started_at + %(attempt_limit)s))
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'running'
      AND lease_expires_at > (SELECT clock_timestamp())
    RETURNING {_VIEW}"""

_PROGRESS = f"""
    UPDATE job SET progress = %(progress)s
    WHERE id = %(job_id)s AND attempt = %(attempt)s AND state = 'running'
    RETURNING {_VIEW}"""


def renew_lease(*, job_id: UUID, attempt: int, lease: timedelta, attempt_limit: timedelta) -> LeaseView | None:
    """Extend the lease by `lease` from now, at most to the attempt's limit; None if the attempt is stale or its lease expired.

    Locks one job row (job_pkey). No indexed column changes, so it is a HOT update.
    """
    row = fetch_one(_RENEW, job_id=job_id, attempt=attempt, lease=lease, attempt_limit=attempt_limit)
    return LeaseView(*row) if row else None


def await_writers(job_id: UUID) -> None:
    """Wait until no other transaction holds a lock on the job's row, including one whose client has disconnected.

    A statement of its own, so that the next one sees what they wrote. Locks one job row (job_pkey) for that long only.
    """
    execute("SELECT FROM job WHERE id = %(job_id)s FOR NO KEY UPDATE", job_id=job_id)


def write_progress(*, job_id: UUID, attempt: int, progress: str) -> LeaseView | None:
    """Store the progress (a JSON text); None if the attempt is stale. Locks one job row (job_pkey)."""
    row = fetch_one(_PROGRESS, job_id=job_id, attempt=attempt, progress=progress)
    return LeaseView(*row) if row else None
