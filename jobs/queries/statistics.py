"""Counts and run times for metrics and `Retry-After`: exact up to a bound, so that they cost little at any table size."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from django.db import transaction

from foundation.statements import execute, fetch_all
from jobs.states import State


@dataclass(frozen=True, slots=True)
class DueQueue:
    """The jobs of a queue that may be claimed now. Fields in the order of the query's columns."""

    queue: str
    oldest_seconds: float  # how long the oldest has been due
    count: int


class JobKind(NamedTuple):
    """One tenant's jobs of one operation in one mode: a tenant must not learn the run times of another."""

    tenant_id: int
    mode: str
    operation: str


# Held jobs may wait without a fault.
_WAITING = "job.state = 'queued' AND NOT job.held"

# Jumps from the first entry of a queue to that of the next one.
_DUE = f"""
    WITH RECURSIVE first AS (
        (SELECT queue, run_at FROM job WHERE {_WAITING} ORDER BY queue, run_at LIMIT 1)
        UNION ALL
        SELECT following.* FROM first, LATERAL (
            SELECT job.queue, job.run_at FROM job WHERE {_WAITING} AND job.queue > first.queue
            ORDER BY job.queue, job.run_at LIMIT 1
        ) AS following
    )
    SELECT queue, EXTRACT(EPOCH FROM clock_timestamp() - run_at)::float8, (
        SELECT count(*) FROM (
            SELECT FROM job WHERE {_WAITING} AND job.queue = first.queue
              AND job.run_at <= (SELECT clock_timestamp())
            ORDER BY job.run_at LIMIT %(at_most)s
        ) AS due)
    FROM first WHERE run_at <= (SELECT clock_timestamp())"""

# ORDER BY makes the planner use the index; without it a LIMIT may be served by a scan of the table.
_COUNT_BY_STATE: Mapping[State, str] = {
    state: f"""
    SELECT operation, count(*) FROM (
        SELECT operation FROM job WHERE state = '{state}' ORDER BY {order} LIMIT %(at_most)s
    ) AS live GROUP BY operation"""
    for state, order in ((State.RUNNING, "id"), (State.UNKNOWN, "id"))
} | {
    State.QUEUED: """
    SELECT operation, count(*) FROM (
        (SELECT operation FROM job WHERE state = 'queued' AND NOT held ORDER BY queue, run_at LIMIT %(at_most)s)
        UNION ALL
        (SELECT operation FROM job WHERE held ORDER BY id LIMIT %(at_most)s)
        LIMIT %(at_most)s
    ) AS live GROUP BY operation"""
}
COUNTED_STATES = tuple(_COUNT_BY_STATE)

# An odd number, so that the median is the time of one job. A small number, so that the median changes soon after the run
# times do.
_LATEST_JOBS = 21
_MEDIANS = """
    SELECT kind.tenant_id, kind.mode, kind.operation,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM job.finished_at - job.started_at))
    FROM unnest(%(tenants)s::bigint[], %(modes)s::text[], %(operations)s::text[]) AS kind (tenant_id, mode, operation)
    CROSS JOIN LATERAL (
        SELECT started_at, finished_at FROM job
        WHERE job.tenant_id = kind.tenant_id AND job.mode = kind.mode AND job.operation = kind.operation
            AND job.state = 'succeeded'
        ORDER BY job.id DESC LIMIT %(jobs)s
    ) AS job
    GROUP BY kind.tenant_id, kind.mode, kind.operation"""


def due_jobs(*, at_most: int) -> list[DueQueue]:
    """Return each queue with due jobs that nothing blocks or pauses, counted up to `at_most`. Served by job_claim."""
    return [DueQueue(*row) for row in fetch_all(_DUE, at_most=at_most)]


def count_by_operation(state: State, *, at_most: int) -> dict[str, int]:
    """Count the jobs in the state, up to `at_most`. Served by job_claim and job_held, job_running or job_in_trouble."""
    return dict(fetch_all(_COUNT_BY_STATE[state], at_most=at_most))


def median_seconds(kinds: Collection[JobKind]) -> dict[JobKind, float]:
    """Return the median run time of each kind's latest succeeded jobs, if it has any.

    One statement; reads the first entries of job_list_by_operation_state for each kind. Locks nothing.
    """
    rows = fetch_all(
        _MEDIANS,
        tenants=[kind.tenant_id for kind in kinds],
        modes=[kind.mode for kind in kinds],
        operations=[kind.operation for kind in kinds],
        jobs=_LATEST_JOBS,
    )
    return {JobKind(*kind): float(seconds) for *kind, seconds in rows if seconds is not None}


@contextmanager
def statement_timeout(*, milliseconds: int) -> Iterator[None]:
    """Limit each statement of the block; one that takes longer raises OperationalError."""
    with transaction.atomic():
        execute("SELECT set_config('statement_timeout', %(limit)s::text, true)", limit=milliseconds)
        yield
