"""The rows that the sweeper works on: jobs to publish, expired leases, deadlines that have passed."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import transaction

from broker.hints import DueJob
from foundation.statements import fetch_all
from jobs.queries.pauses import PARKED_AT, PAUSED_BY_LOCKED, lock_pauses


@dataclass(frozen=True, slots=True)
class OverdueLease:
    """A running job whose lease has expired. Fields in the order of the query's columns."""

    job_id: UUID
    attempt: int
    attempts_charged: int


@dataclass(frozen=True, slots=True)
class JobPastDeadline:
    """A queued job whose deadline has passed. Fields in the order of the query's columns."""

    job_id: UUID
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class PublishBatch:
    """Due jobs to publish now, and the number of due jobs that a pause has parked."""

    due: list[DueJob] = field(default_factory=list)
    parked: int = 0


# Where each search starts.
FIRST_LEASE = UUID(int=0)
FIRST_DEADLINE = JobPastDeadline(UUID(int=0), datetime.min.replace(tzinfo=UTC))

# Jumps from the first entry of a queue to that of the next one: one step per queue, however many jobs are waiting.
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

# The interval doubles with each publication that leads to no claim, so that a backlog does not flood the broker on every sweep.
# MATERIALIZED: with `id IN (SELECT … LIMIT …)` some plans run the sub-select once per row and mark far more than the limit.
# A paused job is parked instead, and its interval stays as it is.
_MARK_PUBLISHED = f"""
    WITH due AS MATERIALIZED (
        SELECT id, {PAUSED_BY_LOCKED} AS is_paused FROM job
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

_EXPIRED_LEASES = """
    SELECT id, attempt, max_attempts - attempts_left FROM job
    WHERE state = 'running' AND id > %(after)s AND lease_expires_at <= (SELECT clock_timestamp())
    ORDER BY id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""

# The simple comparison finds the place in the index; the pair decides between equal deadlines.
_PAST_DEADLINE = """
    SELECT id, deadline_at FROM job
    WHERE state = 'queued' AND deadline_at <= (SELECT clock_timestamp()) AND open_effects = 0 AND done_effects = 0
      AND deadline_at >= %(after_at)s AND (deadline_at, id) > (%(after_at)s, %(after_id)s)
    ORDER BY deadline_at, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED"""


def due_queues() -> list[str]:
    """Return the queues with jobs that are due for publication. Reads one entry of job_queued_by_queue per queue."""
    return [queue for (queue,) in fetch_all(_DUE_QUEUES)]


def mark_published(*, queue: str, limit: int, grace: timedelta, longest: timedelta) -> PublishBatch:
    """Set the next publication of the queue's due jobs, longest waiting first, or park them; return those to publish.

    Locks the pauses in force against a resume, then up to `limit` job rows; skips rows locked by a claim or another sweeper.
    Only the locked pauses park a job. A pause that starts later could be resumed before this commit, and then the job would
    stay parked.
    Served by job_queued_by_queue, so that the backlog of one queue does not slow another. The caller publishes after the commit:
    dying in between delays the batch by one interval, while publishing first could flood the broker.
    """
    with transaction.atomic():
        rows = fetch_all(_MARK_PUBLISHED, queue=queue, limit=limit, grace=grace, longest=longest, locked=lock_pauses())
    due = [DueJob(job_id, queue) for job_id, queue, is_paused in rows if not is_paused]
    return PublishBatch(due, parked=len(rows) - len(due))


def count_due(*, queue: str, at_most: int) -> int:
    """Count the queue's jobs that are due for publication, up to `at_most`. Served by job_queued_by_queue."""
    ((count,),) = fetch_all(_COUNT_DUE, queue=queue, at_most=at_most)
    return int(count)


def expired_leases(*, limit: int, after: UUID = FIRST_LEASE) -> list[OverdueLease]:
    """Return the next running jobs with an expired lease, by id, after `after`. The expire rule checks each again.

    Skips locked rows, so that one of them cannot delay the sweep; keeps no lock beyond the statement. Fewer than `limit` rows
    mean that there are no more. Served by job_running.
    """
    return [OverdueLease(*row) for row in fetch_all(_EXPIRED_LEASES, limit=limit, after=after)]


def jobs_past_deadline(*, limit: int, after: JobPastDeadline = FIRST_DEADLINE) -> list[JobPastDeadline]:
    """Return the next queued jobs whose deadline has passed and that have done nothing, oldest deadline first, after `after`.

    The transition checks each again. Skips locked rows. Fewer than `limit` rows mean that there are no more. Served by
    job_queued_by_deadline.
    """
    rows = fetch_all(_PAST_DEADLINE, limit=limit, after_at=after.deadline_at, after_id=after.job_id)
    return [JobPastDeadline(*row) for row in rows]
