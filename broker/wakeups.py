"""Wake-ups: one PUBLISH on one Redis channel for each event of a job, so that waiting requests look at it at once.

A wake-up is a hint and holds no secret. Waiters also look at the database by themselves.
"""

from dataclasses import dataclass
from uuid import UUID

from django.db import transaction

from broker.client import quick_redis_client, try_redis

# One for all jobs: a subscription for each wait would cost each its round trips, and most jobs have no waiters.
CHANNEL = "semel:job-changed"


@dataclass(frozen=True)
class JobChange:
    """A job has a new event; `seq` is its number (the job's `event_seq`)."""

    id: UUID
    seq: int


def encode(change: JobChange) -> str:
    """Return `<job id>:<seq>`."""
    return f"{change.id}:{change.seq}"


def decode(message: bytes) -> JobChange | None:
    """Return the change; None for any other text, so that a foreign writer on the channel cannot stop the listener."""
    job_id, _, seq = message.decode("ascii", "replace").partition(":")
    try:
        return JobChange(UUID(job_id), int(seq))
    except ValueError:
        return None


def wake_waiters_on_commit(job_id: UUID, seq: int) -> None:
    """Publish the change after this transaction's commit. Called next to each statement that appends an event.

    Robust: a failure here must not turn a committed change into an error.
    """
    change = JobChange(job_id, seq)
    transaction.on_commit(lambda: publish_wakeup(change), robust=True)


def publish_wakeup(change: JobChange) -> bool:
    """Publish the change; return False if Redis did not take it. Never raises for Redis.

    One round trip, and none while the breaker is open.
    """
    message = encode(change)
    return try_redis(lambda: quick_redis_client().publish(CHANNEL, message), event="wakeup.skipped") is not None
