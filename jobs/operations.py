"""The contract of an operation: what you write, what you are given, what you may raise.

An operation is one file in ``operations/``, named in ``settings.OPERATIONS``. Its ``perform`` may be run more than
once (a worker can die anywhere), so everything that it does to the world goes through the ``job`` that it is given.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from datetime import datetime

    from rest_framework.serializers import Serializer

T = TypeVar("T")

# It stands in an address as it is, and is no path.
ARTIFACT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
# The key window of a call that may be repeated for ever: it sets something to what it is anyway. Not once it was undone: a
# frozen process that wakes after the way back does it again (docs/reliability.md, "What it cannot do").
IDEMPOTENT_BY_NATURE = timedelta.max


_KEY_OF_OURS = re.compile(r"semel-(?P<job>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-")


def downstream_key(job_id: UUID, step: str, generation: int) -> str:
    """The idempotency key of an effect at its downstream: the same for every attempt, another after a redriven refusal."""
    return f"semel-{job_id}-{step}-{generation}"


def job_of_key(key: str) -> UUID | None:
    """The job whose effect has this downstream key; None where it is no key of ours."""
    found = _KEY_OF_OURS.match(key)
    return None if found is None else UUID(found["job"])


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


class EffectRefused(PermanentError):  # noqa: N818 - an answer of the downstream, not an error of ours
    """The downstream refuses this key for good: nothing was done, and no request under it will do anything.

    Raised inside an effect's call.
    """


class EffectNotDone(RetryableError):  # noqa: N818 - see above
    """This call certainly did nothing (never sent, or turned away). Raised inside an effect's call.

    Any other exception leaves the effect in doubt: it may have happened, and is repeated or reconciled, never assumed.
    """


class AttemptOver(BaseException):
    """This attempt must stop now. No ``except Exception`` of an operation can swallow it."""


class JobCanceled(AttemptOver):
    """The client asked to cancel, and nothing has been done to the world."""


class LeaseLost(AttemptOver):
    """Another attempt may be running: nothing that this one writes counts any more."""


class TimeLimitReached(AttemptOver):
    """The attempt has run for as long as its operation allows; another one may be quicker."""


class OutcomeUnknown(AttemptOver):
    """An effect began, and nobody can tell whether it happened. The job stops in ``unknown``."""


class RunLater(AttemptOver):
    """The question can only be answered later: run again then, without charging an attempt."""

    def __init__(self, message: str, *, delay: timedelta) -> None:
        super().__init__(message)
        self.delay = delay


@dataclass(frozen=True, kw_only=True)
class Compensation(Generic[T]):
    """How an effect is undone: by an effect of its own, named "<effect>:undo", with the same options and the same care.

    ``call(result, key)`` gets the effect's result and a downstream key of its own.
    """

    call: Callable[[T, str], Any]
    timeout: timedelta | None = None
    key_window: timedelta | None = None
    reconcile: Callable[[T, str], Any] | None = None
    reconcile_after: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """A file that the job made; clients find it in the job's `artifacts`."""

    name: str
    content_type: str
    size: int  # bytes
    sha256: str  # hexadecimal


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSummary:
    """A job of the same scope, as it was when it was read."""

    id: UUID
    operation: str
    state: str
    created_at: datetime
    finished_at: datetime | None
    attempts: int
    result: Any  # any JSON value; None unless it was asked for, the job has succeeded and its payload is not erased


class JobHandle(Protocol):
    """What ``perform`` is given: the job's identity and its only ways to act on the world."""

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
        """Change something outside our database, once; returns what ``call`` returned, now or in an earlier attempt.

        ``call(key)`` gets the downstream key, which stays the same between attempts, and must return (JSON) or raise
        within ``timeout`` (EFFECT_TIMEOUT_SECONDS), all in all. It raises EffectRefused for a definite refusal and
        EffectNotDone where this call certainly did nothing; anything else leaves the effect in doubt.

        A doubt is settled, in this order: within ``key_window`` (how long the downstream remembers keys) by the same call
        under the same key; else by ``reconcile(key)``, which asks the downstream and returns the result or None, and whose
        None counts only ``reconcile_after`` (EFFECT_RECONCILE_AFTER_SECONDS) the last call's time-out; else the job
        becomes ``unknown``. A name is used once in an attempt.

        ``compensate`` undoes it if the job is canceled, or fails by a PermanentError: what was done is undone, the last first,
        as far back as to an effect that cannot be. Only where all of it can be is a wish to cancel granted so late.
        """

    def commit(self, name: str, fn: Callable[[], T]) -> T:
        """Change our own database exactly once: ``fn`` and its record commit together or not at all.

        ``fn`` runs inside a transaction and must not call the network. Returns its (JSON) result, now or remembered.
        """

    def step(self, name: str, fn: Callable[[], T]) -> T:
        """Compute something once and remember its (JSON) result between attempts. ``fn`` may run again after a crash."""

    def result_of(self, job_id: UUID, *, operation: str) -> Any:  # noqa: ANN401 - any JSON value
        """The result of another job of the same scope that has succeeded at this operation; None where there is none."""

    def count_jobs(self, start: datetime, end: datetime) -> int:
        """How many jobs of the same scope were created from `start` to before `end`, and before this one."""

    def jobs_between(
        self, start: datetime, end: datetime, *, results_of: str | None = None
    ) -> Iterator[list[JobSummary]]:
        """Those jobs, oldest first, in batches that are read as they are asked for; with the results of that operation's.

        Each batch shows its jobs as they are when it is read: a job that is still running may be read in either state.
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
        """Make a file for the client once: ``write(file)`` writes it, now or in an earlier attempt.

        The file is on disk, seekable and of any size; ``write`` may wrap or close it, need not hold more than a piece in
        memory, and calls ``check`` or ``progress`` as in any long loop. Clients see the artifact once it is whole, and
        nothing of one whose ``write`` raised or whose process died: then ``write`` runs again in the next attempt.

        ``name`` is its address: 1 to 100 of A-Z a-z 0-9 . _ -, the first a letter or digit; used once in an attempt.
        ``filename`` is what a download is called (``name``). It is kept as long as its job, or for ``keep`` from now; once
        that is over it is gone, and an attempt that comes to it makes it again.
        """

    def progress(self, done: int, total: int, message: str = "") -> None:
        """Show how far the work is; writes at most once a second, and then checks as ``check`` does."""

    def check(self) -> None:
        """Raise AttemptOver if this attempt must stop: canceled, its lease lost, its time over, the worker told to stop.

        Call it in long loops.
        """


class Operation(ABC):
    """A kind of work that a client can ask for."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    params: ClassVar[
        type[Serializer[Any]]
    ]  # checked before the request is accepted; unknown members are refused
    result: ClassVar[type[Serializer[Any]] | Mapping[str, Any] | None] = (
        None  # what perform returns: a serializer, or JSON Schema; shown to clients, and binding for you. None: anything
    )
    max_attempts: ClassVar[int] = (
        5  # outlives a deploy and a short outage downstream; then a person should look
    )
    timeout_seconds: ClassVar[int] = (
        300  # how long one attempt may take; then it is asked to stop, and soon made to
    )

    # Effects that offer neither a key window nor reconciliation, on purpose: a crash in their middle ends in `unknown`.
    blind_effects: ClassVar[Collection[str]] = ()

    def identity(self, params: dict[str, Any]) -> str | None:  # noqa: ARG002 - for operations that have one
        """The business intent, where a second click must not be a second job: "invoice 4711", say. None: each job is its own.

        Unique among the tenant's jobs of this operation that have not failed or been canceled; another one is refused.
        Of any length; only a digest is kept. The params are as the client sent them, checked.
        """
        return None

    @abstractmethod
    def perform(self, params: dict[str, Any], job: JobHandle) -> Any:  # noqa: ANN401 - any JSON value
        """Do the work and return its result (JSON). Raise PermanentError or RetryableError; anything else is retried."""
