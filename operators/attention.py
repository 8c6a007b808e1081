"""What somebody should look at, and which failures are of one kind."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from django.conf import settings

from jobs.models import Job, Priority, Violation
from jobs.queries import attention as queries
from jobs.queries.purge import time_ago

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from jobs.queries.attention import ErrorGroup

# Entries that one question reads at most: tens of milliseconds.
_JOBS_EXAMINED, _FAILURES_EXAMINED = 10_000, 50_000
_GROUPS_SHOWN = 200
# A lease that is over is ended by the next sweep: a dozen of them have not done it.
_LEASE_OVER_FOR = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Jobs that wait for a person, the newest first; overdue ones the longest waiting first."""

    unknown: list[Job]
    partially_done: list[Job]
    failed: list[Job]  # for good, lately
    overdue_leases: list[Job]  # running, and no sweep has ended what is over
    overdue_jobs: list[Job]  # due, not paused, and nobody takes them


@dataclass(frozen=True, kw_only=True)
class ErrorGroups:
    """Kinds of failure, the most frequent first."""

    groups: list[ErrorGroup]
    complete: bool  # False: more have failed since then than were counted


def open_violations(*, limit: int) -> int:
    """How many promises the self-audit finds broken now, counted up to `limit`. Served by violation_open."""
    return len(Violation.objects.filter(resolved_at=None).values_list("pk")[:limit])


def needs_attention(*, limit: int = 50, since: datetime | None = None) -> Attention:
    """What waits for a person, at most `limit` of each kind; `failed` since then, or within a day.

    Each list is two statements: its index gives the ids, job_pkey the rows, without their payloads.
    """
    since = since or time_ago(timedelta(days=1))
    overdue = queries.overdue_jobs(
        age=timedelta(seconds=settings.OVERDUE_JOB_SECONDS),
        longest=timedelta(seconds=settings.PUBLISH_BACKOFF_MAX_SECONDS),
        queues=[priority.name.lower() for priority in Priority],
        examined=_JOBS_EXAMINED,
        limit=limit,
    )
    return Attention(
        unknown=_rows(queries.unknown_jobs(limit=limit)),
        partially_done=_rows(queries.partially_done_jobs(limit=limit)),
        failed=_rows(queries.failed_jobs(since=since, limit=limit)),
        overdue_leases=_rows(queries.overdue_leases(age=_LEASE_OVER_FOR, limit=limit)),
        overdue_jobs=_rows(overdue),
    )


def errors_grouped(*, since: datetime, operation: str | None = None) -> ErrorGroups:
    """Jobs that failed since then, or stand in `unknown`, by operation, code and cause. At most the 50,000 newest are counted."""
    groups = queries.group_errors(
        since=since, operation=operation, examined=_FAILURES_EXAMINED, limit=_GROUPS_SHOWN
    )
    failed = queries.count_failed(since=since, at_most=_FAILURES_EXAMINED + 1)
    return ErrorGroups(groups=groups, complete=failed <= _FAILURES_EXAMINED and len(groups) < _GROUPS_SHOWN)


def _rows(job_ids: Sequence[UUID]) -> list[Job]:
    """The jobs in that order."""
    found = Job.objects.defer("params", "result", "error", "metadata").prefetch_related("tenant")
    by_id = found.in_bulk(list(job_ids)) if job_ids else {}
    return [by_id[job_id] for job_id in job_ids if job_id in by_id]
