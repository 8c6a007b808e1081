"""The contract of an operation: the class to write (Operation), the object that it gets (JobHandle), and the errors to raise.

An operation is a class in ``operations/``, named in ``settings.OPERATIONS``. A worker can die at any point, so ``perform`` may
run more than once: every change that it makes goes through the ``job`` that it is given.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

from rest_framework.serializers import Serializer

T = TypeVar("T")

# Safe in a URL without escaping, and never a path.
ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
# The key window of a call that may be repeated without limit, because it only sets a value. Do not use it for an effect with a
# compensation: a frozen process can resume after the compensation and repeat the call (docs/explanation/reliability.md).
IDEMPOTENT_BY_NATURE = timedelta.max
_DOWNSTREAM_KEY = re.compile(r"semel-(?P<job>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-")


def downstream_key(job_id: UUID, step: str, generation: int) -> str:
    """Return an effect's idempotency key at its downstream: the same in each attempt, new after a redriven refusal."""
    return f"semel-{job_id}-{step}-{generation}"


def job_of_key(key: str) -> UUID | None:
    """Return the job whose effect has this downstream key; None if the key has another form."""
    match = _DOWNSTREAM_KEY.match(key)
    return None if match is None else UUID(match["job"])


class PermanentError(Exception):
    """The operation cannot succeed, and a retry cannot help."""

    def __init__(self, message: str | None = None, *, code: str = "permanent") -> None:
        super().__init__(message or self.__doc__)
        self.code = code


class RetryableError(Exception):
    """The operation failed for now; a later attempt may succeed."""

    def __init__(
        self, message: str | None = None, *, code: str = "retryable", retry_after: timedelta | None = None
    ) -> None:
        super().__init__(message or self.__doc__)
        self.code = code
        self.retry_after = retry_after


class EffectRefused(PermanentError):  # noqa: N818 - the downstream's answer
    """The downstream refused the request: nothing was done, and no request under this key will do anything.

    Raise it inside an effect's call.
    """


class EffectNotDone(RetryableError):  # noqa: N818 - as above
    """This call certainly did nothing: it was not sent, or the downstream rejected it before it did anything.

    Raise it in the call.

    Any other exception leaves the outcome unknown: the effect is repeated under its key or reconciled.
    """


class AttemptOver(BaseException):
    """This attempt must stop now. An operation's ``except Exception`` does not catch it."""


class JobCanceled(AttemptOver):
    """A cancel request was granted: no effect of the job is done, or each can be compensated."""


class LeaseLost(AttemptOver):
    """Another attempt may be running: this one can no longer write anything."""


class TimeLimitReached(AttemptOver):
    """The attempt has run for `timeout_seconds`. The job is retried."""


class OutcomeUnknown(AttemptOver):
    """An effect began, and its outcome cannot be learned. The job stops in ``unknown``."""


class RunLater(AttemptOver):
    """The attempt cannot continue now. The job is postponed, which charges no attempt."""

    def __init__(self, message: str, *, delay: timedelta) -> None:
        super().__init__(message)
        self.delay = delay


@dataclass(frozen=True, kw_only=True)
class Compensation(Generic[T]):
    """How to undo an effect: by an effect of its own, named "<effect>:undo", with the same options.

    ``call(result, key)`` gets the effect's result and a separate downstream key.
    """

    call: Callable[[T, str], Any]
    timeout: timedelta | None = None
    key_window: timedelta | None = None
    reconcile: Callable[[T, str], Any] | None = None
    reconcile_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that the job produced; clients find it in the job's `artifacts`."""

    name: str
    content_type: str
    size: int  # bytes
    sha256: str  # hexadecimal


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job of the same scope, as it was when it was read."""

    id: UUID
    operation: str
    state: str
    created_at: datetime
    finished_at: datetime | None
    attempts: int
    result: Any  # any JSON value; None unless requested, the job has succeeded and its payload is not erased


class JobHandle(Protocol):
    """What ``perform`` is given: the job's identity, and the ways to change something."""

    id: UUID  # the same in every attempt
    attempt: int  # the number of this attempt, from 1; it only rises
    fence: int  # the fencing token to send to a downstream that checks one: the attempt's number
    scope: str  # the same for all jobs of one tenant in one mode, to keep their data apart from others'

    def effect(
        self,
        name: str,
        call: Callable[[str], T],
        *,
        timeout: timedelta | None = None,
        key_window: timedelta | None = None,
        reconcile: Callable[[str], T | None] | None = None,
        reconcile_after: timedelta | None = None,
        compensate: Compensation[T] | None = None,
    ) -> T:
        """Change an external system once; return what ``call`` returned, now or in an earlier attempt.

        ``call(key)`` gets the downstream key, which is the same in each attempt, and must return (JSON) or raise within
        ``timeout`` in total (default EFFECT_TIMEOUT_SECONDS). It raises EffectRefused for a definite refusal and EffectNotDone
        if this call certainly did nothing. Any other exception leaves the outcome unknown.

        An unknown outcome is settled by the first of these that applies:

        1. Within ``key_window`` (how long the downstream remembers keys): the same call under the same key.
        2. ``reconcile(key)`` asks the downstream and returns the result, or None if nothing was done. None counts only once
           ``reconcile_after`` (default EFFECT_RECONCILE_AFTER_SECONDS) has passed since the last call's time-out.
        3. The job stops in ``unknown``.

        ``compensate`` undoes the effect if the job is canceled or fails by a PermanentError. Effects are undone in reverse order,
        back to the first that has no compensation. After an effect, a cancel request is granted only if all of them have one.
        Use a name once per attempt.
        """

    def commit(self, name: str, fn: Callable[[], T]) -> T:
        """Change our own database once: ``fn`` and its record commit together. Return its (JSON) result, new or remembered.

        ``fn`` runs inside a transaction and must not call the network.
        """

    def step(self, name: str, fn: Callable[[], T]) -> T:
        """Compute a (JSON) result and remember it for later attempts. ``fn`` may run again after a crash."""

    def result_of(self, job_id: UUID, *, operation: str) -> Any:  # noqa: ANN401 - any JSON value
        """Return the result of another job of the same scope; None unless it has succeeded at this operation."""

    def ended_without_effects(self, job_id: UUID) -> bool:
        """Return True if another job of the same scope has failed or was canceled and none of its effects remains.

        Call it inside ``commit`` where the answer must stay true until the commit, after locking a row that a redrive of that
        job must lock as well.
        """

    def count_jobs(self, start: datetime, end: datetime) -> int:
        """Count the jobs of the same scope that were created from `start` to before `end`, and before this one."""

    def jobs_between(
        self, start: datetime, end: datetime, *, results_of: str | None = None
    ) -> Iterator[list[JobSummary]]:
        """Yield those jobs, oldest first, in batches; with the results of the operation `results_of`.

        Each batch is read when it is requested and shows its jobs as they are then.
        """

    def artifact(
        self,
        name: str,
        write: Callable[[IO[bytes]], object],
        *,
        content_type: str,
        filename: str | None = None,
        keep: timedelta | None = None,
    ) -> Artifact:
        """Produce a file for the client once: ``write(file)`` writes it, now or in an earlier attempt.

        The file is on disk, seekable and of any size; ``write`` may wrap or close it, should hold only a piece in memory, and
        calls ``check`` or ``progress`` as in any long loop. Clients see the artifact once it is complete. If ``write`` raises or
        its process dies, they see nothing, and ``write`` runs again in the next attempt.

        ``name`` is its address: 1 to 100 of A-Z a-z 0-9 . _ -, the first a letter or digit; use it once per attempt.
        ``filename`` is the name of the download (default: ``name``). The artifact is kept as long as its job, or for ``keep``
        from now. An attempt that calls this after the artifact has expired produces it again.
        """

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Show how far the work is, at most once a second; then do what ``check`` does."""

    def check(self) -> None:
        """Raise AttemptOver if this attempt must stop: canceled, lease lost, time limit reached or worker shutting down.

        Call it in long loops.
        """


class Operation(ABC):
    """A kind of work that a client can request."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    # Validated before the request is accepted; unknown members are refused.
    params: ClassVar[type[Serializer[Any]]]
    # What perform returns, as a serializer or JSON Schema: shown to clients and enforced. None: anything.
    result: ClassVar[type[Serializer[Any]] | Mapping[str, Any] | None] = None
    # Five attempts last longer than a deploy or a short downstream outage. If they all fail, an operator must look at the job.
    max_attempts: ClassVar[int] = 5
    # Seconds that one attempt may take. At this limit it must stop; if it does not, its process is ended soon after.
    timeout_seconds: ClassVar[int] = 300
    # Whether an attempt mostly waits for the network: it then shares a process with many others (docs/explanation/scheduling.md).
    # Nothing can kill its thread, so each of its calls must end within a time-out of its own.
    io_bound: ClassVar[bool] = False
    # Effects that deliberately have neither key window nor reconciliation: a crash during one ends in `unknown`.
    blind_effects: ClassVar[Collection[str]] = ()

    def identity(self, params: dict[str, Any]) -> str | None:  # noqa: ARG002 - for operations that have one
        """Return the business intent ("invoice 4711") if a second job for it must be refused; None if each job is separate.

        Unique among the tenant's jobs of this operation that have not failed or been canceled. Any length; only a digest is
        stored. The params are validated, in the form that the client sent.
        """
        return None

    @abstractmethod
    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:  # noqa: ANN401 - any JSON value
        """Do the work and return its result (JSON). Raise PermanentError or RetryableError; anything else is retried."""
