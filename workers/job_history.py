"""The jobs before this one that its operation may read: those of its own tenant and mode, whatever its params are."""

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

# Small enough for memory, large enough that the time of the statements does not matter.
_BATCH = 1_000


class JobHistory:
    """Ends before the job itself, so that a report has an end."""

    def __init__(self, *, job: Job, lease: Lease) -> None:
        self._scope: dict[str, Any] = {"tenant_id": job.tenant_id, "mode": job.mode}
        self._before = job.created_at
        self._lease = lease

    def count(self, start: datetime, end: datetime) -> int:
        """Count the jobs of the period."""
        end = min(end, self._before)
        return self._lease.retry_write(partial(count_jobs_between, **self._scope, start=start, end=end))

    def between(
        self, start: datetime, end: datetime, *, results_of: str | None
    ) -> Iterator[list[JobSummary]]:
        """Yield the jobs of the period in batches. Each is one statement: no transaction stays open between them."""
        end = min(end, self._before)
        read = partial(jobs_between, **self._scope, start=start, end=end, results_of=results_of, limit=_BATCH)
        after: UUID | None = None
        while rows := self._lease.retry_write(partial(read, after=after)):
            yield rows
            after = rows[-1].id
