"""Wake-ups: messages on one Redis channel that name jobs with a new event, so that waiting requests look at them at once.

A wake-up is a hint and holds no secret. Waiters also look at the database by themselves.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

# One for all jobs: a subscription for each wait would cost each its round trips, and most jobs have no waiters.
CHANNEL = "semel:job-changed"


@dataclass(frozen=True, slots=True)
class JobChange:
    """A job has a new event; `seq` is its number (the job's `event_seq`)."""

    id: UUID
    seq: int


def encode(changes: Iterable[JobChange]) -> str:
    """Return `<job id>:<seq>` of each change, separated by spaces."""
    return " ".join(f"{change.id}:{change.seq}" for change in changes)


def decode(message: bytes) -> Iterator[JobChange]:
    """Yield the changes. Any other text is left out, so that a foreign writer on the channel cannot stop the listener."""
    for part in message.decode("ascii", "replace").split():
        job_id, _, seq = part.partition(":")
        try:
            yield JobChange(UUID(job_id), int(seq))
        except ValueError:
            continue
