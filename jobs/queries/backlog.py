"""What waits, runs and is in doubt, for whoever watches: exact up to a bound, so that the question costs little at any size."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import connection, transaction

from jobs.queries.pauses import PARKED_AT
from jobs.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class DueQueue:
    """Of a queue's jobs that may be claimed now. Fields in the order of the query's columns."""

    queue: str
    oldest_seconds: float  # since when the one that waits longest has been due
    count: int


# A job in a line may wait for those before it, and one under a pause for whoever paused it, however well all goes: such jobs are
# left out, of the index as well.
_WAITS = f"job.state = 'queued' AND job.concurrency_key IS NULL AND job.next_publish_at < {PARKED_AT}"

# From each queue's first entry to the next queue's.
_DUE = f"""
    WITH RECURSIVE first AS (
        (SELECT queue, run_at FROM job WHERE {_WAITS} ORDER BY queue, run_at LIMIT 1)
        UNION ALL
        SELECT following.* FROM first, LATERAL (
            SELECT job.queue, job.run_at FROM job WHERE {_WAITS} AND job.queue > first.queue
            ORDER BY job.queue, job.run_at LIMIT 1
        ) AS following
    )
    SELECT queue, EXTRACT(EPOCH FROM clock_timestamp() - run_at)::float8, (
        SELECT count(*) FROM (
            SELECT FROM job WHERE {_WAITS} AND job.queue = first.queue
              AND job.run_at <= (SELECT clock_timestamp())
            ORDER BY job.run_at LIMIT %(at_most)s
        ) AS due)
    FROM first WHERE run_at <= (SELECT clock_timestamp())"""

# The order is for the sake of the index: without it, a table's end may be looked for in the table.
_LIVE: Mapping[State, str] = {
    state: f"""
    SELECT operation, count(*) FROM (
        SELECT operation FROM job WHERE state = '{state}' ORDER BY {order} LIMIT %(at_most)s
    ) AS live GROUP BY operation"""
    for state, order in (
        (State.QUEUED, "queue, next_publish_at"),
        (State.RUNNING, "id"),
        (State.UNKNOWN, "id"),
    )
}
LIVE = tuple(_LIVE)


def due_jobs(*, at_most: int) -> list[DueQueue]:
    """Each queue in which jobs are due, in no line and under no pause; counted up to `at_most`. Served by job_due."""
    return [DueQueue(*row) for row in _fetch(_DUE, {"at_most": at_most})]


def count_live(state: State, *, at_most: int) -> dict[str, int]:
    """Jobs in the state by operation, of `at_most` at most. By job_queued_by_queue, job_running or job_in_trouble."""
    return dict(_fetch(_LIVE[state], {"at_most": at_most}))


@contextmanager
def bounded(*, milliseconds: int) -> Iterator[None]:
    """Each statement in here ends in time, with its answer or with OperationalError. It reads, and locks nothing."""
    with transaction.atomic():
        _run("SET LOCAL statement_timeout = %(limit)s", {"limit": milliseconds})
        yield


def _fetch(statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _run(statement: str, values: dict[str, Any]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
