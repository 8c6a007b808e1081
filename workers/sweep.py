"""The sweep: end expired leases, fail jobs past their deadline, publish hints of due jobs, resolve jobs from provider events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from django.conf import settings
from django.db import DatabaseError, connection

from broker.hints import publish_hints
from broker.queue_lengths import queue_lengths
from foundation.fault_points import reach
from jobs import transitions
from jobs.provider_events import resolve_from_events
from jobs.queries.pauses import unpark_resumed_jobs
from jobs.queries.sweep import (
    FIRST_DEADLINE,
    FIRST_LEASE,
    PublishBatch,
    count_due,
    due_queues,
    expired_leases,
    jobs_past_deadline,
    mark_published,
)
from workers import signals
from workers.backoff import retry_delay
from workers.batches import BatchCounts, interleave_batches

if TYPE_CHECKING:
    from jobs.models import Job
    from jobs.queries.sweep import OverdueLease

log = structlog.get_logger(__name__)

# Jobs that wait for a full queue are counted up to this number. It shows a backlog and needs only a short index scan.
_HELD_BACK_COUNTED = 10_000


@dataclass(frozen=True)
class Counts(BatchCounts):
    """What one sweep did."""

    expired: int = 0
    lapsed: int = 0
    published: int = 0
    parked: int = 0  # due, but paused: made due again when the pause is resumed
    resumed: int = 0  # parked jobs that are due again because their pause was resumed
    resolved: int = 0  # unknown jobs that were resolved by a provider event in their history
    held_back: int = 0  # due, but left out because their queue is full; counted up to 10,000 a queue


def run_once() -> Counts:
    """Sweep everything that is due, batch by batch, for at most SWEEP_SECONDS: then the next tick does the rest.

    Each row is changed by a guarded UPDATE with its own commit, or marked in a batch that is committed before its hints are
    published. So two sweeps may run at once. If a sweep dies, the next one finds the rows that are left. A batch that was
    marked but
    not published is published again after its next_publish_at.
    """
    began_at = time.monotonic()
    # Resumed jobs before hints, so that they can be published in the same sweep.
    kinds = (_expire_leases(), _lapse_jobs(), _resolve_jobs(), _unpark_resumed_jobs(), _publish_due_jobs())
    counts = sum(interleave_batches(*kinds, seconds=settings.SWEEP_SECONDS), start=Counts())
    signals.swept.send_robust(sender=None, counts=counts, seconds=time.monotonic() - began_at)
    if not counts.is_empty:
        log.info("sweep", **asdict(counts))
    return counts


def _expire_leases() -> Iterator[Counts]:
    # Go through the ids in ascending order, so that a row whose update fails is tried only once in each sweep.
    limit, after = settings.BATCH_ROWS, FIRST_LEASE
    while True:
        leases = expired_leases(limit=limit, after=after)
        yield Counts(expired=sum(map(_expire, leases)))
        if len(leases) < limit:
            return
        after = leases[-1].job_id


def _expire(lease: OverdueLease) -> bool:
    delay = retry_delay(attempts_charged=lease.attempts_charged)
    return _changes_job(partial(transitions.expire_job, job_id=lease.job_id, attempt=lease.attempt, delay=delay))


def _lapse_jobs() -> Iterator[Counts]:
    limit, after = settings.BATCH_ROWS, FIRST_DEADLINE
    while True:
        jobs = jobs_past_deadline(limit=limit, after=after)
        yield Counts(
            lapsed=sum(_changes_job(partial(transitions.fail_past_deadline, job_id=job.job_id)) for job in jobs)
        )
        if len(jobs) < limit:
            return
        after = jobs[-1]


def _changes_job(transition: Callable[[], Job | None]) -> bool:
    """Apply the transition and return whether it changed the job. A row that the database refuses does not stop the others."""
    reach("mid_sweep")
    try:
        job = transition()
    except DatabaseError:
        if not connection.is_usable():
            raise
        log.exception("sweep.row_failed")
        return False
    if job is None:
        return False
    # Logged here because the job's worker is gone.
    log.info(
        "sweep.job_moved",
        request_id=job.request_id,
        job_id=str(job.id),
        attempt=job.attempt,
        operation=job.operation,
        state=job.state,
    )
    return True


def _resolve_jobs() -> Iterator[Counts]:
    # One batch: a resolved job is no longer unknown, and unknown jobs are few.
    yield Counts(resolved=resolve_from_events(limit=settings.BATCH_ROWS))


def _unpark_resumed_jobs() -> Iterator[Counts]:
    while (progress := unpark_resumed_jobs(settings.BATCH_ROWS)) is not None:
        yield Counts(resumed=progress.unparked)


def _publish_due_jobs() -> Iterator[Counts]:
    """Publish a batch for each queue, at most as many as the queue has room for; a full queue is skipped until the next sweep.

    Nothing is marked while the broker is down, hung or full, so the jobs stay due. If the broker fails in the middle of a batch,
    the unpublished jobs are published again after their next_publish_at.
    """
    queues = due_queues()
    while queues and (lengths := queue_lengths(queues)) is not None:
        counts, unfinished = Counts(), []
        for queue in queues:
            room = settings.PUBLISH_QUEUE_CAP - lengths[queue]
            limit = min(settings.BATCH_ROWS, room)
            marked = _mark(queue, limit=limit) if room > 0 else PublishBatch()
            if marked.due:
                reach("mid_sweep")
            published = publish_hints(marked.due)
            counts += Counts(published=published, parked=marked.parked)
            if published < len(marked.due):
                yield counts
                return
            if len(marked.due) >= room:
                counts += Counts(held_back=count_due(queue=queue, at_most=_HELD_BACK_COUNTED))
            elif len(marked.due) + marked.parked == limit:
                unfinished.append(queue)
        yield counts
        queues = unfinished


def _mark(queue: str, *, limit: int) -> PublishBatch:
    return mark_published(
        queue=queue,
        limit=limit,
        grace=timedelta(seconds=settings.PUBLISH_GRACE_SECONDS),
        longest=timedelta(seconds=settings.PUBLISH_BACKOFF_MAX_SECONDS),
    )
