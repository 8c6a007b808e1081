"""Errors of requests about jobs. A class docstring is the message that clients read.

api/problem_catalogue.py maps them to HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from uuid import UUID

from jobs.ids import job_resource

if TYPE_CHECKING:
    from jobs.states import Event, State


class JobError(Exception):
    """The request about the job failed."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class JobNotFound(JobError):  # noqa: N818 - reads as the fact it states
    """The job was not found."""


class UnknownOperation(JobError):  # noqa: N818
    """The operation is not known."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"The operation {name!r} is not known. Use one of: {', '.join(known)}.")
        self.name = name


class QueueFull(JobError):  # noqa: N818
    """Your queue is full. Retry after some jobs have finished."""


class TooManyWaits(JobError):  # noqa: N818
    """Too many requests are waiting on this server. Poll without `wait`, or retry later."""


class StaleAttempt(JobError):  # noqa: N818
    """The attempt no longer holds the job: another attempt has begun, or the job has ended."""

    def __init__(self, job_id: UUID, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} no longer holds job {job_id}.")


class IllegalTransition(JobError):  # noqa: N818
    """The job's state does not allow this action."""

    def __init__(self, job_id: UUID, event: Event | Literal["erase"], state: State) -> None:
        super().__init__(f"Job {job_id} is {state}, which does not allow {event}.")
        self.event = event
        self.state = state


class DuplicateOperation(JobError):  # noqa: N818
    """Another job has the same business intent and has neither failed nor been canceled. Use that job."""

    def __init__(self, duplicate: UUID | None) -> None:
        super().__init__()
        self.resource = None if duplicate is None else job_resource(duplicate)


class JobErased(JobError):  # noqa: N818
    """The job's payload was erased, so the job cannot run again."""

    def __init__(self, resource: str) -> None:
        super().__init__()
        self.resource = resource


class KeyReassigned(JobError):  # noqa: N818
    """The job's idempotency key has since started another job, so this job cannot run again. Submit a new one."""


class InvalidVerdict(JobError):  # noqa: N818
    """The job has no such step with an unknown outcome."""

    def __init__(self, step: str) -> None:
        super().__init__(f"The job has no step {step!r} with an unknown outcome.")


class CompensatedJobCannotSucceed(JobError):  # noqa: N818
    """An effect of the job was compensated, so the job cannot succeed. Resolve it as failed, or queue it again."""


class AlreadyPaused(JobError):  # noqa: N818
    """A pause of the same jobs exists already."""


class NotPaused(JobError):  # noqa: N818
    """The pause does not exist, or was resumed before."""


class ArtifactNotFound(JobError):  # noqa: N818
    """The job has no artifact of this name: it was never produced, is not ready yet, or has expired."""


class ArtifactUnreadable(JobError):  # noqa: N818
    """The artifact is temporarily unavailable. Try again later."""


class TooManyDownloads(JobError):  # noqa: N818
    """This server is sending too many files. Try again later."""


class RangeNotSatisfiable(JobError):  # noqa: N818
    """The range begins after the end of the file."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The range begins after the end of the file, which has {size} bytes.")
        self.size = size
