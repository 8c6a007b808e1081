"""Facts that jobs announces and others act on; nobody here knows who listens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.dispatch import Signal

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True)
class DueJob:
    """A queued job that a worker may claim now."""

    id: UUID
    queue: str


# Sent after the commit that made jobs due: ``jobs_due.send(sender=None, due=[DueJob, …])``. A hint: losing it costs latency.
jobs_due = Signal()
