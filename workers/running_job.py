"""What an operation's `perform` is given (jobs.operations.JobHandle), for one attempt."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar

from django.conf import settings
from django.db import transaction

from accounts.scopes import format_scope
from foundation.fault_points import reach
from jobs.failures import printable
from jobs.models import JobStep
from jobs.operations import JobCanceled, LeaseLost, RunLater, TimeLimitReached
from jobs.payloads import decode_payload, encode_payload
from jobs.queries.history import decline_cancel
from jobs.queries.lease import write_progress
from jobs.queries.steps import remember_step, steps_of
from jobs.selectors import find_result
from workers.artifacts import Artifacts, Draft
from workers.compensation import WayBack, undo_name
from workers.effects import Effect, Effects
from workers.job_history import Past
from workers.shutdown import is_shutting_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from uuid import UUID

    from jobs.models import Job
    from jobs.operations import Artifact, Compensation, JobSummary, PermanentError
    from workers.lease import Lease

T = TypeVar("T")

# Writes of progress are for people: one a second is enough, and a tight loop may call it a million times.
_PROGRESS_SECONDS = 1.0
_MESSAGE_MAX = 200
_NUMBER_MAX = 2**53
_NAME_MAX = 100  # characters of a step's name, as the column has it; ":undo" among them where a compensation has the name


class RunningJob:
    """One attempt's hold on its job. Every write shows the fence; a write that matches no row ends the attempt."""

    def __init__(self, *, job: Job, lease: Lease) -> None:
        self._job = job
        self._lease = lease
        # A first attempt has no past.
        self._steps = lease.insist(partial(steps_of, job.id)) if job.attempt > 1 else {}
        self._effects = Effects(job=job, lease=lease, steps=self._steps)
        self._way_back = WayBack(effects=self._effects, steps=self._steps)
        self._artifacts = Artifacts(job=job, lease=lease)
        self._past = Past(job=job, lease=lease)
        self._used: set[str] = set()
        self._progress_written_at = float("-inf")
        self._declined = False

    @property
    def id(self) -> UUID:
        """The job's id, the same in every attempt."""
        return self._job.id

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1; it only rises."""
        return self._job.attempt

    @property
    def fence(self) -> int:
        """The fencing token to send along to a downstream that checks one."""
        return self._job.attempt

    @property
    def scope(self) -> str:
        """See JobHandle.scope."""
        return format_scope(tenant_id=self._job.tenant_id, mode=self._job.mode)

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
        """See JobHandle.effect. A wish to cancel is heeded after it as well: it may have come too late by then."""
        self._use_step(name)
        if compensate is not None:
            self._use_step(undo_name(name))
        self.check()
        effect = Effect(
            name=name,
            call=call,
            timeout=_or_default(timeout, settings.EFFECT_TIMEOUT_SECONDS),
            key_window=key_window,
            reconcile=reconcile,
            reconcile_after=_or_default(reconcile_after, settings.EFFECT_RECONCILE_AFTER_SECONDS),
        )
        result = self._way_back.go_forward(effect, compensate)
        self._heed_cancel()
        return result

    def undo(self, end: JobCanceled | PermanentError) -> None:
        """What this job has done is undone as far as it can be, because of this end (workers/compensation.py)."""
        self._way_back.go(end, check=self._stop_if_over)

    def commit(self, name: str, fn: Callable[[], T]) -> T:
        """See JobHandle.commit. `fn` first, the fence last: the other way round would block our own heartbeat."""
        self._use_step(name)
        self.check()
        step = self._steps.get(name)
        if step is not None and step.result is not None:
            return decode_payload(step.result)  # type: ignore[no-any-return]
        with transaction.atomic(durable=True):
            result = fn()
            reach("mid_step")
            self._remember(name, JobStep.Kind.COMMIT, result)
        reach("after_record")
        return result

    def step(self, name: str, fn: Callable[[], T]) -> T:
        """See JobHandle.step."""
        self._use_step(name)
        self.check()
        step = self._steps.get(name)
        if step is not None and step.result is not None:
            return decode_payload(step.result)  # type: ignore[no-any-return]
        result = fn()
        reach("mid_step")
        self._remember(name, JobStep.Kind.STEP, result)
        reach("after_record")
        return result

    def result_of(self, job_id: UUID, *, operation: str) -> Any:  # noqa: ANN401 - any JSON value
        """See JobHandle.result_of."""
        found = partial(
            find_result,
            tenant_id=self._job.tenant_id,
            mode=self._job.mode,
            job_id=job_id,
            operation=operation,
        )
        encoded = self._lease.insist(found)
        return None if encoded is None else decode_payload(encoded)

    def count_jobs(self, start: datetime, end: datetime) -> int:
        """See JobHandle.count_jobs."""
        return self._past.count(start, end)

    def jobs_between(
        self, start: datetime, end: datetime, *, results_of: str | None = None
    ) -> Iterator[list[JobSummary]]:
        """See JobHandle.jobs_between."""
        return self._past.between(start, end, results_of=results_of)

    def artifact(
        self,
        name: str,
        write: Callable[[IO[bytes]], object],
        *,
        content_type: str,
        filename: str | None = None,
        keep: timedelta | None = None,
    ) -> Artifact:
        """See JobHandle.artifact."""
        draft = Draft(name=name, content_type=content_type, filename=filename or name, keep=keep)
        self._use(f"artifact {name}")
        self.check()
        return self._artifacts.make(draft, write, self.check)

    def progress(self, done: int, total: int, message: str = "") -> None:
        """See JobHandle.progress. The last of a series is always written."""
        if not 0 <= done <= total <= _NUMBER_MAX:
            raise ValueError(f"Progress is 0 <= done <= total <= 2^53, not {done} of {total}.")
        now = time.monotonic()
        if done < total and now - self._progress_written_at < _PROGRESS_SECONDS:
            return
        self._progress_written_at = now
        document = json.dumps({"done": done, "total": total, "message": printable(message[:_MESSAGE_MAX])})
        view = self._lease.insist(
            partial(write_progress, job_id=self._job.id, attempt=self._job.attempt, progress=document)
        )
        self._lease.learn(view, now)
        self.check()

    def check(self) -> None:
        """See JobHandle.check."""
        self._stop_if_over()
        self._heed_cancel()

    def _stop_if_over(self) -> None:
        if self._lease.is_lost:
            raise LeaseLost("The lease is over.")
        if is_shutting_down():
            raise RunLater("The worker shuts down.", delay=timedelta(0))
        if self._lease.is_out_of_time:
            raise TimeLimitReached

    def _heed_cancel(self) -> None:
        """A wish that comes too late, since something was done that cannot be undone, is declined once, in the job's history."""
        if not self._lease.cancel_requested or self._declined:
            return
        if self._effects.is_untouched or self._way_back.is_open:
            raise JobCanceled("Canceled as the client asked.")
        if self._way_back.is_open is None:
            return  # in doubt, or not met again yet: what became of the effect decides
        self._declined = True
        detail = "Something has been done to the world already; the job goes on."
        decline = partial(decline_cancel, job_id=self._job.id, attempt=self._job.attempt, detail=detail)
        if not self._lease.insist(decline):
            self._lease.lose()
            raise LeaseLost("The job is another attempt's.")

    def _use_step(self, name: str) -> None:
        if len(name) > _NAME_MAX:
            raise ValueError(f"A step's name has at most {_NAME_MAX} characters, not {len(name)}: {name!r}.")
        self._use(name)

    def _use(self, name: str) -> None:
        if name in self._used:
            raise ValueError(
                f"The name {name!r} was used before in this attempt: its record would answer for both."
            )
        self._used.add(name)

    def _remember(self, name: str, kind: JobStep.Kind, result: object) -> None:
        remember = partial(
            remember_step,
            job_id=self._job.id,
            attempt=self._job.attempt,
            name=name,
            kind=kind,
            result=encode_payload(result),
        )
        # A commit step's record belongs to its transaction, and is lost or kept with it: nothing to try again.
        kept = remember() if kind is JobStep.Kind.COMMIT else self._lease.insist(remember)
        if not kept:
            self._lease.lose()
            raise LeaseLost(f"Step {name!r} was not recorded: the job is another attempt's.")


def _or_default(given: timedelta | None, default_seconds: float) -> timedelta:
    return timedelta(seconds=default_seconds) if given is None else given
