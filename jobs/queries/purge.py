"""What the purge looks for and deletes: jobs that ended long ago, with all that the database holds of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class EndedJob:
    """An ended job as the purge sees it. Fields in the order of the query's columns."""

    id: UUID
    finished_at: datetime
    idempotency_record_id: int | None = None


# Before all others.
FIRST_ENDED = EndedJob(UUID(int=0), datetime.min.replace(tzinfo=UTC))

_TIME_AGO = "SELECT clock_timestamp() - %(age)s"

# Only ended jobs have a finished_at (job_ended_has_no_open_effect); one that is redriven in this instant has none any more,
# and the condition is evaluated again once its row is locked.
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
    """The instant that was so long ago, by the database's clock."""
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"age": age}
        cursor.execute(_TIME_AGO, values)
        instant: datetime = cursor.fetchone()[0]
    return instant


def lock_ended_batch(*, until: datetime, after: EndedJob, limit: int) -> list[EndedJob]:
    """The next jobs that had ended by then, in the order of their ends, beginning behind `after`; their rows are locked.

    Those locked elsewhere are in use and left out; fewer than `limit` therefore means that there are no more. Served by
    job_ended, from which it starts at `after`.
    """
    values: dict[str, Any] = {
        "until": until,
        "after_at": after.finished_at,
        "after_id": after.id,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_ENDED_BATCH, values)
        return [EndedJob(*row) for row in cursor.fetchall()]


def delete_jobs(job_ids: Collection[UUID]) -> int:
    """The jobs are gone with their attempts, steps and events; returns how many jobs. The caller has locked their rows.

    Whoever writes a row of a job's past holds the job's row first: nobody can add one that stays behind. Served by the
    primary keys, each of which begins with the job's id.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DELETE, {"ids": list(job_ids)})
        count: int = cursor.rowcount
    return count
