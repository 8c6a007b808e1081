"""Jobs that need an operator, across tenants. Each statement reads a bounded number of entries of one index."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from foundation.statements import fetch_all
from jobs.queries.pauses import PAUSED

_UNKNOWN = "SELECT id FROM job WHERE state = 'unknown' ORDER BY id DESC LIMIT %(limit)s"

_PARTIALLY_DONE = "SELECT id FROM job WHERE error_code = 'partially-done' ORDER BY id DESC LIMIT %(limit)s"

_FAILED = """
    SELECT id FROM job WHERE state = 'failed' AND finished_at >= %(since)s ORDER BY finished_at DESC LIMIT %(limit)s"""

_OVERDUE_LEASES = """
    SELECT id FROM job WHERE state = 'running' AND lease_expires_at <= (SELECT clock_timestamp()) - %(age)s
    ORDER BY id LIMIT %(limit)s"""

# Of the held jobs, those that neither a pause nor a concurrency queue explains: their operation is not known.
_OVERDUE_JOBS = f"""
    SELECT job.id FROM (
        SELECT due.* FROM unnest(%(queues)s::text[]) AS queues (name), LATERAL (
            SELECT id, run_at, operation, tenant_id FROM job
            WHERE state = 'queued' AND NOT held AND queue = queues.name
              AND run_at <= (SELECT clock_timestamp()) - %(age)s
            ORDER BY run_at LIMIT %(examined)s
        ) AS due
        UNION ALL
        SELECT held.id, held.run_at, held.operation, held.tenant_id FROM (
            SELECT * FROM job WHERE held ORDER BY id LIMIT %(examined)s
        ) AS held
        WHERE held.run_at <= (SELECT clock_timestamp()) - %(age)s AND held.concurrency_key IS NULL
    ) AS job
    WHERE NOT {PAUSED}
    ORDER BY job.run_at LIMIT %(limit)s"""

_ERRORS = """
    SELECT operation, error_code, error_cause, count(*), max(at), (array_agg(id ORDER BY at DESC))[1]
    FROM (
        (SELECT operation, error_code, error_cause, finished_at AS at, id FROM job
         WHERE state = 'failed' AND finished_at >= %(since)s ORDER BY finished_at DESC LIMIT %(examined)s)
        UNION ALL
        (SELECT operation, error_code, error_cause, started_at, id FROM job
         WHERE state = 'unknown' ORDER BY id DESC LIMIT %(examined)s)
    ) AS troubled
    WHERE at >= %(since)s AND (%(operation)s::text IS NULL OR operation = %(operation)s)
    GROUP BY operation, error_code, error_cause ORDER BY count(*) DESC, max(at) DESC LIMIT %(limit)s"""

_COUNT_FAILED = """
    SELECT count(*) FROM (
        SELECT FROM job WHERE state = 'failed' AND finished_at >= %(since)s LIMIT %(at_most)s
    ) AS failed"""


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """Jobs of one operation that failed or are unknown for the same reason. Fields in the order of the query's columns."""

    operation: str
    code: str | None
    cause: str | None
    count: int
    latest_at: datetime
    sample_id: UUID  # the latest of them


def unknown_jobs(*, limit: int) -> list[UUID]:
    """Return the newest unknown jobs. Served by job_in_trouble."""
    return _ids(_UNKNOWN, limit=limit)


def partially_done_jobs(*, limit: int) -> list[UUID]:
    """Return the newest jobs that failed with a done effect and were not redriven. Served by job_partially_done."""
    return _ids(_PARTIALLY_DONE, limit=limit)


def failed_jobs(*, since: datetime, limit: int) -> list[UUID]:
    """Return the latest failed jobs. Served by job_failed."""
    return _ids(_FAILED, since=since, limit=limit)


def overdue_leases(*, age: timedelta, limit: int) -> list[UUID]:
    """Return running jobs whose lease expired so long ago that a sweep should have ended it. Reads job_running."""
    return _ids(_OVERDUE_LEASES, age=age, limit=limit)


def overdue_jobs(*, age: timedelta, queues: Sequence[str], examined: int, limit: int) -> list[UUID]:
    """Return unpaused jobs that have been due for `age`, oldest first, among the first `examined` jobs of each queue.

    Served by job_claim and job_held. For a larger backlog look at the age of its oldest job instead.
    """
    return _ids(_OVERDUE_JOBS, age=age, queues=list(queues), examined=examined, limit=limit)


def group_errors(*, since: datetime, operation: str | None, examined: int, limit: int) -> list[ErrorGroup]:
    """Group the `examined` newest failures, most frequent first. Served by job_failed and job_in_trouble."""
    rows = fetch_all(_ERRORS, since=since, operation=operation, examined=examined, limit=limit)
    return [ErrorGroup(*row) for row in rows]


def count_failed(*, since: datetime, at_most: int) -> int:
    """Count the jobs that have failed since then, up to `at_most`. Served by job_failed."""
    ((count,),) = fetch_all(_COUNT_FAILED, since=since, at_most=at_most)
    return int(count)


def _ids(statement: str, **values: Any) -> list[UUID]:  # noqa: ANN401 - statement parameters
    return [job_id for (job_id,) in fetch_all(statement, **values)]
