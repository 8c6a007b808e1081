"""What a job may know of the jobs before it: those of its own scope, whatever its params say (JobHandle.jobs_between)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.selectors import count_jobs_between, jobs_between

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID

    from jobs.models import Job
    from jobs.operations import JobSummary
    from workers.lease import Lease

# Few enough to be nothing in memory, and so many that the statements are not what takes the time.
_BATCH = 1_000


class Past:
    """The jobs of the tenant, in the mode of this attempt's job. Not itself, nor any later one: a report of these has an end."""

    def __init__(self, *, job: Job, lease: Lease) -> None:
        self._scope: dict[str, Any] = {"tenant_id": job.tenant_id, "mode": job.mode}
        self._now = job.created_at
        self._lease = lease

    def count(self, start: datetime, end: datetime) -> int:
        """How many there are in the period."""
        end = min(end, self._now)
        return self._lease.insist(partial(count_jobs_between, **self._scope, start=start, end=end))

    def between(
        self, start: datetime, end: datetime, *, results_of: str | None
    ) -> Iterator[list[JobSummary]]:
        """Those of the period, batch by batch, each read in a statement of its own: no transaction stays open between them."""
        read = partial(
            jobs_between,
            **self._scope,
            start=start,
            end=min(end, self._now),
            results_of=results_of,
            limit=_BATCH,
        )
        after: UUID | None = None
        while rows := self._lease.insist(partial(read, after=after)):
            yield rows
            after = rows[-1].id
