"""Implement jobs.operations.JobHandle: the object that `perform` gets for one attempt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import IO, TYPE_CHECKING, Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import transaction

from accounts.scopes import format_scope
from foundation.fault_points import reach
from jobs.models import JobStep
from jobs.operations import JobCanceled, JobHandle, LeaseLost, RunLater, TimeLimitReached
from jobs.payloads import decode_payload, encode_payload, printable
from jobs.queries.events import decline_cancel
from jobs.queries.lease import write_progress
from jobs.queries.steps import record_step, steps_of
from jobs.selectors import count_jobs_between, ended_without_effects, find_result, jobs_between
from workers.artifacts import Artifacts, Draft
from workers.compensation import Compensator, undo_name
from workers.effects import Effect, Effects
from workers.shutdown import is_shutting_down

if TYPE_CHECKING:
    from jobs.models import Job
    from jobs.operations import Artifact, Compensation, JobSummary, PermanentError
    from workers.lease import Lease

T = TypeVar("T")

# Progress is for people: one write a second is enough, and a tight loop may report it a million times.
_PROGRESS_SECONDS = 1.0
_MESSAGE_MAX = 200
_NUMBER_MAX = 2**53
# Jobs that are read at once: small enough for memory, large enough that the time of the statements does not matter.
_HISTORY_BATCH = 1_000
_NAME_MAX = 100  # characters of a step's name in its column, ":undo" included


class RunningJob(JobHandle):
    """The handle of a running job. Every write is fenced; one that matches no row ends the attempt with LeaseLost."""

    def __init__(self, *, job: Job, lease: Lease) -> None:
        self.id = job.id
        self.attempt = self.fence = job.attempt
        self.scope = format_scope(tenant_id=job.tenant_id, mode=job.mode)
        self._job = job
        self._owner: dict[str, Any] = {"tenant_id": job.tenant_id, "mode": job.mode}
        self._lease = lease
        # A first attempt has no steps yet.
        self._steps = lease.retry_write(partial(steps_of, job.id)) if job.attempt > 1 else {}
        self._effects = Effects(job=job, lease=lease, steps=self._steps)
        self._compensator = Compensator(effects=self._effects, steps=self._steps)
        self._artifacts = Artifacts(job=job, lease=lease)
        self._used_names: set[str] = set()
        self._progress_written_at = float("-inf")
        self._cancel_declined = False

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
        self._use_step_name(name)
        if compensate is not None:
            self._use_step_name(undo_name(name))
        self.check()
        effect = Effect(
            name=name,
            call=call,
            timeout=_or_default(timeout, settings.EFFECT_TIMEOUT_SECONDS),
            key_window=key_window,
            reconcile=reconcile,
            reconcile_after=_or_default(reconcile_after, settings.EFFECT_RECONCILE_AFTER_SECONDS),
        )
        result = self._compensator.run(effect, compensate)
        # A cancel request may have arrived during the effect. From here on it can be declined, because the effect is done.
        self._apply_cancel_request()
        return result

    def compensate(self, end: JobCanceled | PermanentError) -> None:
        """Undo the done effects that have a compensation, because the job ends with `end`."""
        self._compensator.compensate_all(end, check=self._check_attempt)

    def commit(self, name: str, fn: Callable[[], T]) -> T:
        return self._run_step(name, fn, JobStep.Kind.COMMIT)

    def step(self, name: str, fn: Callable[[], T]) -> T:
        return self._run_step(name, fn, JobStep.Kind.STEP)

    def _run_step(self, name: str, fn: Callable[[], T], kind: JobStep.Kind) -> T:
        self._use_step_name(name)
        self.check()
        step = self._steps.get(name)
        if step is not None and step.result is not None:
            return decode_payload(step.result)  # type: ignore[no-any-return]
        is_commit = kind is JobStep.Kind.COMMIT
        with transaction.atomic(durable=True) if is_commit else nullcontext():
            # Run `fn` before the fenced write. That write locks the job's row, and the heartbeat would wait for
            # it while `fn` runs.
            result = fn()
            reach("mid_step")
            self._lease.fenced_write(
                record_step,
                name=name,
                kind=kind,
                result=encode_payload(result),
                error=f"Step {name!r} was not recorded: the job is another attempt's.",
                retry=not is_commit,
            )
        reach("after_record")
        return result

    def result_of(self, job_id: UUID, *, operation: str) -> Any:  # noqa: ANN401 - any JSON value
        find = partial(find_result, **self._owner, job_id=job_id, operation=operation)
        result = self._lease.retry_write(find)
        return None if result is None else decode_payload(result)

    def ended_without_effects(self, job_id: UUID) -> bool:
        # Not retried on a new connection: it may be part of a commit's transaction.
        return ended_without_effects(**self._owner, job_id=job_id)

    def count_jobs(self, start: datetime, end: datetime) -> int:
        end = min(end, self._job.created_at)
        return self._lease.retry_write(partial(count_jobs_between, **self._owner, start=start, end=end))

    def jobs_between(
        self, start: datetime, end: datetime, *, results_of: str | None = None
    ) -> Iterator[list[JobSummary]]:
        # Ends before this job, so that a report has an end. Each batch is one statement: no transaction stays open in between.
        end = min(end, self._job.created_at)
        read = partial(jobs_between, **self._owner, start=start, end=end, results_of=results_of, limit=_HISTORY_BATCH)
        after: UUID | None = None
        while jobs := self._lease.retry_write(partial(read, after=after)):
            yield jobs
            after = jobs[-1].id

    def artifact(
        self,
        name: str,
        write: Callable[[IO[bytes]], object],
        *,
        content_type: str,
        filename: str | None = None,
        keep: timedelta | None = None,
    ) -> Artifact:
        draft = Draft(name=name, content_type=content_type, filename=filename or name, keep=keep)
        self._use_name(f"artifact {name}")
        self.check()
        return self._artifacts.make(draft, write, self.check)

    def progress(self, done: int, total: int, message: str = "") -> None:
        if not 0 <= done <= total <= _NUMBER_MAX:
            raise ValueError(f"Progress is 0 <= done <= total <= 2^53, not {done} of {total}.")
        now = time.monotonic()
        # The last call (done == total) is always written.
        if done < total and now - self._progress_written_at < _PROGRESS_SECONDS:
            return
        self._progress_written_at = now
        document = json.dumps({"done": done, "total": total, "message": printable(message[:_MESSAGE_MAX])})
        view = self._lease.fenced_write(write_progress, progress=document, error="The job is another attempt's.")
        self._lease.apply_renewal(view, now)
        self.check()

    def check(self) -> None:
        self._check_attempt()
        self._apply_cancel_request()

    def _check_attempt(self) -> None:
        if self._lease.is_lost:
            raise LeaseLost("The lease is over.")
        if is_shutting_down():
            raise RunLater("The worker shuts down.", delay=timedelta(0))
        if self._lease.is_out_of_time:
            raise TimeLimitReached

    def _apply_cancel_request(self) -> None:
        """Raise JobCanceled if every done effect can be undone. If one cannot, record once that the request is declined."""
        if not self._lease.cancel_requested or self._cancel_declined:
            return
        can_undo = self._effects.none_started or self._compensator.can_undo_everything
        if can_undo is None:
            return  # an effect is open, or this attempt has not reached it yet; decide after it
        if can_undo:
            raise JobCanceled("Canceled at the client's request.")
        self._cancel_declined = True
        self._lease.fenced_write(
            decline_cancel,
            detail="An effect is done that cannot be undone; the job continues.",
            error="The job is another attempt's.",
        )

    def _use_step_name(self, name: str) -> None:
        if len(name) > _NAME_MAX:
            raise ValueError(f"A step's name has at most {_NAME_MAX} characters, not {len(name)}: {name!r}.")
        self._use_name(name)

    def _use_name(self, name: str) -> None:
        if name in self._used_names:
            raise ValueError(f"The name {name!r} was used before in this attempt: its record would answer for both.")
        self._used_names.add(name)


def _or_default(given: timedelta | None, default_seconds: float) -> timedelta:
    return timedelta(seconds=default_seconds) if given is None else given
