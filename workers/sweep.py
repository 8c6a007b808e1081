"""What time brings about: jobs to publish (again), leases that are over, deadlines that have passed."""

from __future__ import annotations

import time
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
from jobs.queries.due import (
    FIRST_LAPSED,
    FIRST_LEASE,
    Marked,
    count_due,
    due_queues,
    expired_leases,
    lapsed_jobs,
    mark_published,
)
from jobs.queries.pauses import walk_on
from workers import signals
from workers.backoff import retry_delay
from workers.batches import take_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from jobs.models import Job
    from jobs.queries.due import OverdueLease

log = structlog.get_logger(__name__)

# How far the jobs that wait for room in a full queue are counted: a sign of a backlog for the price of a short index scan.
_HELD_BACK_COUNTED = 10_000


@dataclass(frozen=True)
class Counts:
    """What one sweep did."""

    expired: int = 0
    lapsed: int = 0
    published: int = 0
    parked: int = 0  # due, but paused: looked at again when that is resumed
    resumed: int = 0  # parked until then, and due now
    resolved: int = 0  # unknown, until a provider's word was found in their history
    held_back: int = 0  # due, but left for a queue that is full; counted up to 10,000 a queue

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.expired + other.expired,
            self.lapsed + other.lapsed,
            self.published + other.published,
            self.parked + other.parked,
            self.resumed + other.resumed,
            self.resolved + other.resolved,
            self.held_back + other.held_back,
        )


def run_once() -> Counts:
    """All that is due is dealt with, batch by batch, or SWEEP_SECONDS are over: then the next tick goes on.

    Each row is changed by a guarded UPDATE of its own commit, or marked in a batch that is committed before it is published.
    So two sweepers are harmless, and one that dies leaves each row either done or to be found again; the batch that it had
    marked and not published waits one publication pause.
    """
    began_at = time.monotonic()
    kinds = (_expire_leases(), _lapse_jobs(), _resolve_told(), _make_resumed_due(), _publish_due())
    counts = sum(take_turns(*kinds, seconds=settings.SWEEP_SECONDS), start=Counts())
    signals.swept.send_robust(sender=None, counts=counts, seconds=time.monotonic() - began_at)
    if any(asdict(counts).values()):
        log.info("sweep", **asdict(counts))
    return counts


def _expire_leases() -> Iterator[Counts]:
    """From the beginning to the end, so that a row that the database refuses is met once a sweep."""
    limit, after = settings.BATCH_ROWS, FIRST_LEASE
    while True:
        leases = expired_leases(limit=limit, after=after)
        yield Counts(expired=sum(map(_expire, leases)))
        if len(leases) < limit:
            return
        after = leases[-1].job_id


def _lapse_jobs() -> Iterator[Counts]:
    """As with leases."""
    limit, after = settings.BATCH_ROWS, FIRST_LAPSED
    while True:
        jobs = lapsed_jobs(limit=limit, after=after)
        yield Counts(lapsed=sum(_changes(partial(transitions.lapse_job, job_id=job.job_id)) for job in jobs))
        if len(jobs) < limit:
            return
        after = jobs[-1]


def _make_resumed_due() -> Iterator[Counts]:
    """What a pause had parked, once that was resumed; before publications, so that it can be among them."""
    while (walked := walk_on(settings.BATCH_ROWS)) is not None:
        yield Counts(resumed=walked.freed)


def _resolve_told() -> Iterator[Counts]:
    """One batch: whoever is resolved is unknown no more, and jobs in doubt are few."""
    yield Counts(resolved=resolve_from_events(limit=settings.BATCH_ROWS))


def _publish_due() -> Iterator[Counts]:
    """A batch of each queue at a time, never more than its queue has room for; one that is full waits for the next tick.

    Nothing is marked for a broker that is down, hung or full: once it is back, the jobs are as due as before. One that
    fails in the middle of a batch costs that batch one publication pause.
    """
    queues = due_queues()
    while queues and (lengths := queue_lengths(queues)) is not None:
        counts, unfinished = Counts(), []
        for queue in queues:
            room = settings.PUBLISH_QUEUE_CAP - lengths[queue]
            limit = min(settings.BATCH_ROWS, room)
            marked = _mark(queue, limit=limit) if room > 0 else Marked()
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


def _mark(queue: str, *, limit: int) -> Marked:
    return mark_published(
        queue=queue,
        limit=limit,
        grace=timedelta(seconds=settings.PUBLISH_GRACE_SECONDS),
        longest=timedelta(seconds=settings.PUBLISH_BACKOFF_MAX_SECONDS),
    )


def _expire(lease: OverdueLease) -> bool:
    delay = retry_delay(attempts_charged=lease.attempts_charged)
    return _changes(partial(transitions.expire_job, job_id=lease.job_id, attempt=lease.attempt, delay=delay))


def _changes(transition: Callable[[], Job | None]) -> bool:
    """Whether the transition was taken. One row that the database refuses is told, and does not stop the others."""
    reach("mid_sweep")
    try:
        job = transition()
        if job is None:
            return False
        # What its worker can no longer tell.
        log.info(
            "sweep.job_moved",
            request_id=job.request_id,
            job_id=str(job.id),
            attempt=job.attempt,
            operation=job.operation,
            state=job.state,
        )
    except DatabaseError:
        if not connection.is_usable():
            raise
        log.exception("sweep.row_failed")
        return False
    return True
