"""What can be wrong with a request about a job. The class docstring is the message; nothing here knows HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jobs.ids import job_resource

if TYPE_CHECKING:
    from uuid import UUID

    from jobs.states import Event, State


class JobError(Exception):
    """Something is wrong with this job."""

    retryable = False

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__)


class JobNotFound(JobError):  # noqa: N818 - reads as the fact it states
    """There is no such job."""


class UnknownOperation(JobError):  # noqa: N818
    """There is no such operation."""

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"There is no operation {name!r}. There are: {', '.join(known)}.")
        self.name = name


class QueueFull(JobError):  # noqa: N818
    """As many of your jobs are waiting as may; try again when some have been run."""

    retryable = True


class TooManyWaits(JobError):  # noqa: N818
    """As many requests wait here as may. Ask without waiting, or come again."""

    retryable = True


class StaleAttempt(JobError):  # noqa: N818
    """The attempt no longer holds the job: another one was begun, or the job has ended."""

    def __init__(self, job_id: UUID, attempt: int) -> None:
        super().__init__(f"Attempt {attempt} no longer holds job {job_id}.")


class IllegalTransition(JobError):  # noqa: N818
    """The job's state does not allow that."""

    def __init__(self, job_id: UUID, event: Event | Literal["erase"], state: State) -> None:
        super().__init__(f"Job {job_id} is {state}, which {event} does not allow.")
        self.event = event
        self.state = state


class DuplicateOperation(JobError):  # noqa: N818
    """Another job of yours stands for the same business intent, and has neither failed nor been canceled."""

    def __init__(self, twin: UUID | None) -> None:
        super().__init__()
        self.resource = None if twin is None else job_resource(twin)


class JobErased(JobError):  # noqa: N818
    """The job's payload was erased, so that it cannot run again."""

    def __init__(self, resource: str) -> None:
        super().__init__()
        self.resource = resource


class KeyReassigned(JobError):  # noqa: N818
    """The job's idempotency key has since started another job, so this one cannot run again."""


class InvalidVerdict(JobError):  # noqa: N818
    """The job has no such step whose outcome is in doubt."""

    def __init__(self, step: str) -> None:
        super().__init__(f"The job has no step {step!r} whose outcome is in doubt.")


class CompensatedJobCannotSucceed(JobError):  # noqa: N818
    """What the job did was undone, or began to be: it cannot have succeeded. Fail it, or queue it to go on."""


class AlreadyPaused(JobError):  # noqa: N818
    """That is paused already."""


class NotPaused(JobError):  # noqa: N818
    """There is no such pause, or it was resumed before."""


class ArtifactNotFound(JobError):  # noqa: N818
    """The job has no such artifact: it never made one of that name, or not yet, or it was not kept longer."""


class ArtifactUnreadable(JobError):  # noqa: N818
    """The artifact's file cannot be read at this moment. Come again."""

    retryable = True


class TooManyDownloads(JobError):  # noqa: N818
    """As many files are being sent here as may. Come again."""

    retryable = True


class RangeNotSatisfiable(JobError):  # noqa: N818
    """The range lies beyond the end of the file."""

    def __init__(self, size: int) -> None:
        super().__init__(f"The range lies beyond the end of the file, which has {size} bytes.")
        self.size = size
