"""What the sweeper looks for: jobs to publish, leases that are over, deadlines that have passed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db import connection, transaction

from broker.hints import DueJob
from jobs.queries.pauses import PARKED_AT, PAUSED_BY_HELD, hold_pauses

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class OverdueLease:
    """A running job whose lease is over. Fields in the order of the query's columns."""

    job_id: UUID
    attempt: int
    attempts_charged: int


@dataclass(frozen=True, slots=True)
class LapsedJob:
    """A queued job whose deadline has passed. Fields in the order of the query's columns."""

    job_id: UUID
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class Marked:
    """Jobs that were due: to be published now, and how many a pause keeps."""

    due: list[DueJob] = field(default_factory=list)
    parked: int = 0


# Before all others.
FIRST_LEASE = UUID(int=0)
FIRST_LAPSED = LapsedJob(UUID(int=0), datetime.min.replace(tzinfo=UTC))

# From each queue's first entry to the next queue's: as many steps as there are queues, however many jobs wait in them.
_DUE_QUEUES = """
    WITH RECURSIVE first AS (
        (SELECT queue, next_publish_at FROM job WHERE state = 'queued' ORDER BY queue, next_publish_at LIMIT 1)
        UNION ALL
        SELECT following.* FROM first, LATERAL (
            SELECT job.queue, job.next_publish_at FROM job WHERE job.state = 'queued' AND job.queue > first.queue
            ORDER BY job.queue, job.next_publish_at LIMIT 1
        ) AS following
    )
    SELECT queue FROM first WHERE next_publish_at <= (SELECT clock_timestamp())"""

# The pause doubles with each publication that nobody claims, so that a backlog does not flood the broker at every tick.
# MATERIALIZED: as `id IN (SELECT … LIMIT …)` some plans run the sub-select once a row, and mark far more than the limit.
# What is paused is parked instead, its pause as long as it was.
_MARK_PUBLISHED = f"""
    WITH due AS MATERIALIZED (
        SELECT id, {PAUSED_BY_HELD} AS is_paused FROM job
        WHERE state = 'queued' AND queue = %(queue)s AND next_publish_at <= (SELECT clock_timestamp())
        ORDER BY next_publish_at LIMIT %(limit)s FOR UPDATE OF job SKIP LOCKED
    )
    UPDATE job SET publications = CASE WHEN due.is_paused THEN publications ELSE LEAST(publications + 1, 1000) END,
        next_publish_at = CASE WHEN due.is_paused THEN {PARKED_AT}
            ELSE clock_timestamp() + LEAST(%(grace)s * (2 ^ LEAST(publications, 10)), %(longest)s) END
    FROM due WHERE job.id = due.id
    RETURNING job.id, job.queue, due.is_paused"""

_COUNT_DUE = """
    SELECT count(*) FROM (
        SELECT FROM job WHERE state = 'queued' AND queue = %(queue)s AND next_publish_at <= (SELECT clock_timestamp())
        LIMIT %(at_most)s
    ) AS due"""

_EXPIRED = """
    SELECT id, attempt, max_attempts - attempts_left FROM job
    WHERE state = 'running' AND id > %(after)s AND lease_expires_at <= (SELECT clock_timestamp())
    ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""

# The first condition is where the index is entered; the second decides among deadlines of one instant.
_LAPSED = """
    SELECT id, deadline_at FROM job
    WHERE state = 'queued' AND deadline_at <= (SELECT clock_timestamp()) AND open_effects = 0 AND done_effects = 0
      AND deadline_at >= %(after_at)s AND (deadline_at, id) > (%(after_at)s, %(after_id)s)
    ORDER BY deadline_at, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""


def due_queues() -> list[str]:
    """The queues in which jobs are due for publication. One entry of job_queued_by_queue is read for each queue in use."""
    return [queue for (queue,) in _fetch(_DUE_QUEUES, {})]


def mark_published(*, queue: str, limit: int, grace: timedelta, longest: timedelta) -> Marked:
    """The queue's jobs that are due for publication, longest waiting first, each marked for its next one, or parked.

    Locks the pauses in force against a resume, then up to `limit` job rows, and skips those that a claim or another sweeper
    holds. Parks by no pause but those: one that was made in between could be resumed before this commit, and its walk would
    pass by what it keeps. Served by job_queued_by_queue, so that the backlog of one queue costs another nothing. The caller
    publishes after the commit: dying in between costs one pause, publishing before it could flood the broker.
    """
    values = {"queue": queue, "limit": limit, "grace": grace, "longest": longest}
    with transaction.atomic():
        held = hold_pauses()
        rows = _fetch(_MARK_PUBLISHED, {**values, "held": held})
    due = [DueJob(job_id, queue) for job_id, queue, is_paused in rows if not is_paused]
    return Marked(due, parked=len(rows) - len(due))


def count_due(*, queue: str, at_most: int) -> int:
    """How many of the queue's jobs are due for publication, counted up to `at_most`. Served by job_queued_by_queue."""
    ((count,),) = _fetch(_COUNT_DUE, {"queue": queue, "at_most": at_most})
    return int(count)


def expired_leases(*, limit: int, after: UUID = FIRST_LEASE) -> list[OverdueLease]:
    """The next running jobs whose lease is over, by id, behind `after`. The expire rule checks again.

    Skips rows that somebody holds, so that one of them cannot keep the whole sweep waiting; locks none beyond the statement.
    Fewer than `limit`: there are no more. Served by job_running.
    """
    return [OverdueLease(*row) for row in _fetch(_EXPIRED, {"limit": limit, "after": after})]


def lapsed_jobs(*, limit: int, after: LapsedJob = FIRST_LAPSED) -> list[LapsedJob]:
    """The next queued jobs whose deadline has passed, nothing begun, the oldest deadline first, behind `after`.

    The lapse rule checks again. Skips rows that somebody holds. Fewer than `limit`: there are no more. Served by
    job_queued_by_deadline.
    """
    values = {"limit": limit, "after_at": after.deadline_at, "after_id": after.job_id}
    return [LapsedJob(*row) for row in _fetch(_LAPSED, values)]


def _fetch(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
