"""The rows that the sweeper works on: due jobs, expired leases, deadlines that have passed."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from broker.hints import DueJob
from foundation.statements import fetch_all


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


# Where each search starts.
FIRST_LEASE = UUID(int=0)
FIRST_DEADLINE = JobPastDeadline(UUID(int=0), datetime.min.replace(tzinfo=UTC))

# Jumps from the first entry of a queue to that of the next one: one step per queue, however many jobs are waiting.
_QUEUES = """
    WITH RECURSIVE first AS (
        (SELECT queue FROM job WHERE state = 'queued' AND NOT held ORDER BY queue, run_at LIMIT 1)
        UNION ALL
        SELECT following.queue FROM first, LATERAL (
            SELECT job.queue FROM job WHERE job.state = 'queued' AND NOT job.held AND job.queue > first.queue
            ORDER BY job.queue, job.run_at LIMIT 1
        ) AS following
    )
    SELECT queue FROM first"""
_DUE = """
    SELECT due.id, queues.name, EXTRACT(EPOCH FROM due.run_at - clock_timestamp())::float8
    FROM unnest(%(queues)s::text[]) AS queues (name), LATERAL (
        SELECT job.id, job.run_at FROM job
        WHERE job.state = 'queued' AND NOT job.held AND job.queue = queues.name
          AND job.run_at <= (SELECT clock_timestamp()) + %(ahead)s
        ORDER BY job.run_at LIMIT %(limit)s
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


def list_queues() -> list[str]:
    """Return the queues with jobs that are queued and not held. Reads one entry of job_claim per queue."""
    return [queue for (queue,) in fetch_all(_QUEUES)]


def find_due(queues: Sequence[str], *, limit: int, ahead: timedelta) -> list[DueJob]:
    """Return up to `limit` jobs of each queue that are due, or will be within `ahead`, the longest waiting first.

    Locks nothing. Served by job_claim: reads the entries that it returns. Held jobs are left out.
    """
    rows = fetch_all(_DUE, queues=list(queues), limit=limit, ahead=ahead)
    return [DueJob(job_id, queue, max(0.0, in_seconds)) for job_id, queue, in_seconds in rows]


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
