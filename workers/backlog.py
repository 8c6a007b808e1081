"""What a hint makes a worker do: run the job that it names, then continue with the backlog of its queue."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings

from broker.hints import DueJob
from broker.publisher import publisher
from jobs import transitions
from jobs.queries.claim import NextJob, find_next
from jobs.registry import known_operations
from workers.executor import ClaimedJob, claim_hinted_job, run_attempt, worker_name
from workers.shutdown import is_shutting_down

if TYPE_CHECKING:
    from uuid import UUID

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)
# Seconds after which a search begins at the first due job again.
_FULL_SEARCH_SECONDS: Final = 1.0
# A full search takes this part of the time at most, so that it cannot slow the others down.
_FULL_SEARCH_SHARE: Final = 0.05


def run_hint(job_id: UUID, queue: str) -> None:
    """Run the job if it is due, or else the next one of the queue; go on until nothing is due or BACKLOG_SECONDS are over.

    If more is due then, leave a fresh hint. So the worker that takes a hint makes sure that the jobs are run that were committed
    before. A job that takes longer is the last one of its hint. If the process dies, the sweep finds what is left.
    """
    backlog = Backlog(queue)
    claimed = claim_hinted_job(job_id) or backlog.claim()
    while claimed is not None:
        end = run_attempt(claimed, choose_next=backlog.choose_next)
        claimed = backlog.found(end.following) if end.has_searched else backlog.claim()
    if backlog.must_stop:
        backlog.leave_hint()


@dataclass
class _Place:
    """Where this process looks for the next due job of a queue: not before the last one that it found."""

    due_from: datetime = _EARLIEST
    full_search_at: float = 0.0  # of the monotonic clock


_places: dict[str, _Place] = defaultdict(_Place)


class Backlog:
    """The due jobs of a queue, for one hint.

    Claimed jobs leave dead entries in the index, which PostgreSQL cannot remove while an old snapshot is held. A search from the
    beginning passes all of them, so most searches begin at the last job that this process found. A job that is due since before
    that (it was released, or committed late) is found by its own hint, by a full search a second later, or by the sweep.
    """

    def __init__(self, queue: str) -> None:
        self._queue = queue
        self._place = _places[queue]
        self._ends_at = time.monotonic() + settings.BACKLOG_SECONDS
        self._known_operations = sorted(known_operations())
        self._searched_at = 0.0
        self._is_full_search = False

    @property
    def must_stop(self) -> bool:
        """Return whether no further job may be claimed for this hint."""
        return is_shutting_down() or time.monotonic() >= self._ends_at

    def choose_next(self) -> NextJob | None:
        """Return which job to claim next; None if the worker must stop. Pass the result of the claim to `found`."""
        return None if self.must_stop else self._next()

    def claim(self) -> ClaimedJob | None:
        """Claim the next job; None if the worker must stop, or nothing is due."""
        wanted = self.choose_next()
        if wanted is None:
            return None
        claimed_at = time.monotonic()
        job = transitions.claim_next_job(wanted)
        return self.found(None if job is None else ClaimedJob(job, claimed_at))

    def found(self, claimed: ClaimedJob | None) -> ClaimedJob | None:
        """Note the place of the job that a search found."""
        if claimed is not None:
            self._place.due_from = claimed.job.run_at
        if self._is_full_search:
            now = time.monotonic()
            pause = max(_FULL_SEARCH_SECONDS, (now - self._searched_at) / _FULL_SEARCH_SHARE)
            self._place.full_search_at = now + pause
        return claimed

    def leave_hint(self) -> None:
        """Publish a hint of the next due job, if there is one."""
        job_id = find_next(self._next())
        if job_id is not None:
            publisher.publish_hint(DueJob(job_id, self._queue))

    def _next(self) -> NextJob:
        self._searched_at = time.monotonic()
        self._is_full_search = self._searched_at >= self._place.full_search_at
        return NextJob(
            queue=self._queue,
            due_from=_EARLIEST if self._is_full_search else self._place.due_from,
            worker=worker_name(),
            lease=timedelta(seconds=settings.LEASE_SECONDS),
            known_operations=self._known_operations,
        )
