"""What time brings about: jobs to publish (again), leases that are over, deadlines that have passed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import DatabaseError, connection

from jobs import transitions
from jobs.queries.due import expired_leases, lapsed_jobs, mark_published
from workers.backoff import retry_delay
from workers.publisher import publish_jobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from jobs.models import Job

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Counts:
    """What one sweep did."""

    expired: int
    lapsed: int
    published: int


def run_once() -> Counts:
    """Up to BATCH_ROWS of each kind are dealt with, each row by a guarded UPDATE of its own: two sweepers are harmless.

    Marked and committed first, then published: dying in between costs the jobs one publication pause.
    """
    limit = settings.BATCH_ROWS
    expired = sum(_expire(*lease) for lease in expired_leases(limit=limit))
    lapsed = sum(
        _changes(partial(transitions.lapse_job, job_id=job_id)) for job_id in lapsed_jobs(limit=limit)
    )
    due = mark_published(
        limit=limit,
        grace=timedelta(seconds=settings.PUBLISH_GRACE_SECONDS),
        longest=timedelta(seconds=settings.PUBLISH_BACKOFF_MAX_SECONDS),
    )
    counts = Counts(expired=expired, lapsed=lapsed, published=publish_jobs(due))
    if any(asdict(counts).values()):
        log.info("sweep", **asdict(counts))
    return counts


def _expire(job_id: UUID, attempt: int, charged: int) -> bool:
    delay = retry_delay(attempts_charged=charged)
    return _changes(partial(transitions.expire_job, job_id=job_id, attempt=attempt, delay=delay))


def _changes(transition: Callable[[], Job | None]) -> bool:
    """Whether the transition was taken. One row that the database refuses is told, and does not stop the others."""
    try:
        return transition() is not None
    except DatabaseError:
        if not connection.is_usable():
            raise
        log.exception("sweep.row_failed")
        return False
