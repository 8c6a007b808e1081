"""Jobs that need an operator, and failures grouped by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.conf import settings

from jobs.models import Job, Priority, Violation
from jobs.queries import attention as queries
from jobs.queries.purge import time_ago

if TYPE_CHECKING:
    from jobs.queries.attention import ErrorGroup

# Jobs of one kind that are listed. One more is read, to find out whether there are more.
MAX_LISTED = 50
# Index entries that one statement reads at most: tens of milliseconds.
_MAX_JOBS_READ, _MAX_FAILURES_READ = 10_000, 50_000
_MAX_GROUPS = 200
# The next sweep ends an expired lease. After this time a dozen sweeps have not done so.
_OVERDUE_LEASE_AGE = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Jobs that need an operator, newest first; overdue jobs and leases oldest first."""

    unknown: list[Job]
    partially_done: list[Job]
    failed: list[Job]  # recently
    overdue_leases: list[Job]  # running, with an expired lease that no sweep has ended
    overdue_jobs: list[Job]  # due and not paused, but not claimed


@dataclass(frozen=True, kw_only=True)
class ErrorGroups:
    """Kinds of failure, the most frequent first."""

    groups: list[ErrorGroup]
    is_complete: bool  # False: only the newest failures were counted


def count_text(rows: Sequence[Any]) -> str:
    """Return the number of rows, or "50+" if there are more than are listed."""
    return f"{MAX_LISTED}+" if len(rows) > MAX_LISTED else str(len(rows))


def open_violations() -> list[int]:
    """Return the ids of open findings of the self-audit, one more than are listed at most. Served by violation_open."""
    found = Violation.objects.filter(resolved_at=None).values_list("pk", flat=True)
    return list(found[: MAX_LISTED + 1])


def needs_attention(*, limit: int = MAX_LISTED + 1, since: datetime | None = None) -> Attention:
    """Return at most `limit` jobs of each kind; `failed` are those since then, or of the last day.

    Each list takes two statements: its index gives the ids, job_pkey the rows without their payloads.
    """
    overdue = queries.overdue_jobs(
        age=timedelta(seconds=settings.OVERDUE_JOB_SECONDS),
        queues=[priority.name.lower() for priority in Priority],
        examined=_MAX_JOBS_READ,
        limit=limit,
    )
    failed = queries.failed_jobs(since=since or time_ago(timedelta(days=1)), limit=limit)
    return Attention(
        unknown=_load(queries.unknown_jobs(limit=limit)),
        partially_done=_load(queries.partially_done_jobs(limit=limit)),
        failed=_load(failed),
        overdue_leases=_load(queries.overdue_leases(age=_OVERDUE_LEASE_AGE, limit=limit)),
        overdue_jobs=_load(overdue),
    )


def group_errors(*, since: datetime, operation: str | None = None) -> ErrorGroups:
    """Group jobs that failed since then, or are `unknown`, by operation, code and cause. Counts the 50,000 newest at most."""
    groups = queries.group_errors(since=since, operation=operation, examined=_MAX_FAILURES_READ, limit=_MAX_GROUPS)
    failed = queries.count_failed(since=since, at_most=_MAX_FAILURES_READ + 1)
    is_complete = failed <= _MAX_FAILURES_READ and len(groups) < _MAX_GROUPS
    return ErrorGroups(groups=groups, is_complete=is_complete)


def _load(job_ids: Sequence[UUID]) -> list[Job]:
    """Return the jobs in this order."""
    jobs = Job.objects.defer("params", "result", "error", "metadata").prefetch_related("tenant")
    by_id = jobs.in_bulk(list(job_ids)) if job_ids else {}
    return [by_id[job_id] for job_id in job_ids if job_id in by_id]
