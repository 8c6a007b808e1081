"""What the sweeper looks for: jobs to publish, leases that are over, deadlines that have passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import connection

from jobs.signals import DueJob

if TYPE_CHECKING:
    from datetime import timedelta
    from uuid import UUID

# The pause doubles with each publication that nobody claims, so that a backlog does not flood the broker at every tick.
# MATERIALIZED: as `id IN (SELECT … LIMIT …)` some plans run the sub-select once a row, and mark far more than the limit.
_MARK_PUBLISHED = """
    WITH due AS MATERIALIZED (
        SELECT id FROM job WHERE state = 'queued' AND next_publish_at <= (SELECT clock_timestamp())
        ORDER BY next_publish_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    UPDATE job SET publications = LEAST(publications + 1, 1000),
        next_publish_at = clock_timestamp() + LEAST(%(grace)s * (2 ^ LEAST(publications, 10)), %(longest)s)
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.queue"""

_EXPIRED = """
    SELECT id, attempt, max_attempts - attempts_left FROM job
    WHERE state = 'running' AND lease_expires_at <= (SELECT clock_timestamp())
    ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""

_LAPSED = """
    SELECT id FROM job WHERE state = 'queued' AND deadline_at <= (SELECT clock_timestamp()) AND open_effects = 0
    ORDER BY deadline_at LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""


def mark_published(*, limit: int, grace: timedelta, longest: timedelta) -> list[DueJob]:
    """Queued jobs that are due for publication, each marked for its next one.

    Locks up to `limit` job rows and skips those that a claim or another sweeper holds; job_queued_by_publish serves it.
    The caller publishes after the commit: dying in between costs one pause, publishing before it could flood the broker.
    """
    with connection.cursor() as cursor:
        values: dict[str, Any] = {"limit": limit, "grace": grace, "longest": longest}
        cursor.execute(_MARK_PUBLISHED, values)
        return [DueJob(*row) for row in cursor.fetchall()]


def expired_leases(*, limit: int) -> list[tuple[UUID, int, int]]:
    """Running jobs whose lease is over: id, attempt, attempts charged. The expire rule checks again.

    Skips rows that somebody holds, so that one of them cannot keep the whole sweep waiting; locks none beyond the statement.
    """
    with connection.cursor() as cursor:
        cursor.execute(_EXPIRED, {"limit": limit})
        rows: list[tuple[UUID, int, int]] = cursor.fetchall()
    return rows


def lapsed_jobs(*, limit: int) -> list[UUID]:
    """Queued jobs whose deadline has passed, nothing begun. The lapse rule checks again; skips rows that somebody holds."""
    with connection.cursor() as cursor:
        cursor.execute(_LAPSED, {"limit": limit})
        return [row[0] for row in cursor.fetchall()]
