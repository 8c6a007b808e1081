"""The one channel of Redis pub/sub on which waiters are woken. What is said there is a hint, and holds no secret."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class JobChange:
    """A job has one more event: its number is the job's `event_seq`."""

    id: UUID
    seq: int


# One for all jobs: a subscription for each wait would cost each its round trips, and most jobs nobody waits for.
CHANNEL = "semel:job-changed"


def encode(change: JobChange) -> str:
    """`<job id>:<seq>`."""
    return f"{change.id}:{change.seq}"


def decode(message: bytes) -> JobChange | None:
    """The change; None for what is none: whoever can write to Redis could wake waiters, and must not be able to stop them."""
    job_id, _, seq = message.decode("ascii", "replace").partition(":")
    try:
        return JobChange(UUID(job_id), int(seq))
    except ValueError:
        return None
