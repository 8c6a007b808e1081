"""The purge of jobs that ended long ago, with their attempts, steps and events."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from foundation.statements import execute, fetch_all


@dataclass(frozen=True, slots=True)
class EndedJob:
    """An ended job. Fields in the order of the query's columns."""

    id: UUID
    finished_at: datetime
    idempotency_record_id: int | None = None


# Where the search starts.
FIRST_ENDED = EndedJob(UUID(int=0), datetime.min.replace(tzinfo=UTC))

_TIME_AGO = "SELECT clock_timestamp() - %(age)s"

# Only ended jobs have a finished_at (job_ended_has_no_open_effect). A redrive in the same instant clears it, and the condition is
# checked again once the row is locked.
_LOCK_ENDED_BATCH = """
    SELECT id, finished_at, idempotency_record_id FROM job
    WHERE finished_at <= %(until)s AND (finished_at, id) > (%(after_at)s, %(after_id)s)
    ORDER BY finished_at, id LIMIT %(limit)s FOR UPDATE SKIP LOCKED"""

_DELETE = """
    WITH attempts AS (
        DELETE FROM job_attempt WHERE job_id = ANY(%(ids)s)
    ), steps AS (
        DELETE FROM job_step WHERE job_id = ANY(%(ids)s)
    ), events AS (
        DELETE FROM job_event WHERE job_id = ANY(%(ids)s)
    )
    DELETE FROM job WHERE id = ANY(%(ids)s)"""


def time_ago(age: timedelta) -> datetime:
    """Return the instant `age` before now, by the database's clock."""
    ((instant,),) = fetch_all(_TIME_AGO, age=age)
    return instant  # type: ignore[no-any-return]


def lock_ended_batch(*, until: datetime, after: EndedJob, limit: int) -> list[EndedJob]:
    """Lock and return the next jobs that ended by `until`, in the order of their ends, after `after`.

    Skips rows that are locked elsewhere; fewer than `limit` rows mean that there are no more. Served by job_ended.
    """
    rows = fetch_all(_LOCK_ENDED_BATCH, until=until, after_at=after.finished_at, after_id=after.id, limit=limit)
    return [EndedJob(*row) for row in rows]


def delete_jobs(job_ids: Collection[UUID]) -> int:
    """Delete the jobs with their attempts, steps and events; return the number of jobs. The caller has locked their rows.

    Every writer of a child row locks the job's row first, so none can be added that stays behind. Served by the primary keys.
    """
    return execute(_DELETE, ids=list(job_ids))
