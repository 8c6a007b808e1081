"""Facts that jobs announces and others act on; nobody here knows who listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction
from django.dispatch import Signal

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True)
class DueJob:
    """A queued job that a worker may claim now."""

    id: UUID
    queue: str


@dataclass(frozen=True)
class JobChange:
    """A job has one more event: its number is the job's `event_seq`."""

    id: UUID
    seq: int


# Sent after the commit that made jobs due: ``jobs_due.send(sender=None, due=[DueJob, …])``. A hint: losing it costs latency.
jobs_due = Signal()
# Sent after the commit that gave a job an event: ``job_changed.send(sender=None, change=JobChange)``. A hint as well.
job_changed = Signal()


def announce_change(job_id: UUID, seq: int) -> None:
    """Once this transaction is committed, whoever wakes waiters is told. Called next to each statement that appends an event.

    Robust: a listener's failure must not turn a committed change into an error; waiters look for themselves in any case.
    """
    change = JobChange(job_id, seq)
    transaction.on_commit(lambda: _send_change(change), robust=True)


def _send_change(change: JobChange) -> None:
    job_changed.send(sender=None, change=change)
