"""The sweep: end what has expired, resolve jobs from provider events, hold and release jobs that wait, publish hints."""

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

from broker.publisher import publisher
from foundation.fault_points import reach
from jobs import transitions
from jobs.provider_events import resolve_from_events
from jobs.queries.held import FIRST_HELD, hold_front, release_held, release_resumed_jobs
from jobs.queries.sweep import FIRST_DEADLINE, FIRST_LEASE, expired_leases, find_due, jobs_past_deadline, list_queues
from jobs.registry import known_operations
from workers import signals
from workers.backoff import retry_delay
from workers.batches import BatchCounts, interleave_batches

if TYPE_CHECKING:
    from jobs.models import Job
    from jobs.queries.sweep import OverdueLease

log = structlog.get_logger(__name__)

# Batches of held jobs that a sweep looks at: 100,000 of them are seen in two minutes, for a part of a second each time.
_RELEASE_BATCHES = 10
# The last of them that this process looked at.
_released_to = FIRST_HELD


@dataclass(frozen=True)
class Counts(BatchCounts):
    """What one sweep did."""

    expired: int = 0
    lapsed: int = 0
    hinted: int = 0  # due jobs of which a hint was published; a queue with enough hints takes no more
    held: int = 0  # due, but paused, blocked or of an unknown operation: left out of the claim index
    released: int = 0  # held jobs that nothing keeps any longer
    resolved: int = 0  # unknown jobs that were resolved by a provider event in their history


def run_once() -> Counts:
    """Sweep everything that is due, batch by batch, for at most SWEEP_SECONDS: then the next tick does the rest.

    Each row is changed by a guarded UPDATE, so two sweeps may run at once. If a sweep dies, the next one finds the rows that are
    left.
    """
    began_at = time.monotonic()
    kinds = (
        *(_expire_leases(), _lapse_jobs(), _resolve_jobs()),
        *(_release_resumed_jobs(), _release_free_jobs(), _hold_waiting_jobs()),
    )
    counts = sum(interleave_batches(*kinds, seconds=settings.SWEEP_SECONDS), start=Counts())
    # Last, so that the hints are about jobs that can be claimed now.
    counts += Counts(hinted=_publish_due_jobs())
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


def _release_resumed_jobs() -> Iterator[Counts]:
    while (
        progress := release_resumed_jobs(limit=settings.BATCH_ROWS, known_operations=known_operations())
    ) is not None:
        yield Counts(released=progress.released)


def _hold_waiting_jobs() -> Iterator[Counts]:
    """Hold what stands in front of each queue and cannot be claimed, until a batch finds nothing more."""
    for queue in list_queues():
        while held := hold_front(queue=queue, limit=settings.BATCH_ROWS, known_operations=known_operations()):
            yield Counts(held=held)


def _release_free_jobs() -> Iterator[Counts]:
    """Look at a part of the held jobs and release those that nothing keeps; the next sweep continues from there."""
    global _released_to  # noqa: PLW0603 - one position per process: a lost one costs a round
    for _ in range(_RELEASE_BATCHES):
        progress = release_held(after=_released_to, limit=settings.BATCH_ROWS, known_operations=known_operations())
        _released_to = progress.last or FIRST_HELD
        yield Counts(released=progress.released)
        if progress.last is None:
            return


def _publish_due_jobs() -> int:
    """Fill each queue that has due jobs with hints up to HINTS_MAX, and publish those due before the next sweep in time.

    Changes no row. While the broker is down nothing is sent; the next sweep tries again.
    """
    due = find_due(list_queues(), limit=settings.HINTS_MAX, ahead=timedelta(seconds=settings.SWEEP_SECONDS))
    if due:
        reach("mid_sweep")
    for job in due:
        publisher.publish_hint(job)
    return len(due)
