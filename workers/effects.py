"""Run the effects of an attempt: each is recorded before and after its call (docs/reference/states.md).

workers/compensation.py undoes effects.

If a process dies before `begin_effect` commits, nothing was sent. If it dies between begin and close, the step stays `started`:
the next attempt repeats the call under the same key, or queries the downstream with `reconcile`, or stops the job in `unknown`.
If it dies after the close, the next attempt uses the recorded result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import structlog
from django.conf import settings

from foundation.fault_points import reach
from foundation.spans import span
from jobs.models import JobStep
from jobs.operations import (
    EffectNotDone,
    EffectRefused,
    JobCanceled,
    LeaseLost,
    OutcomeUnknown,
    PermanentError,
    RetryableError,
    RunLater,
    downstream_key,
)
from jobs.payloads import decode_payload, encode_payload
from jobs.queries.events import append_late_effect
from jobs.queries.steps import begin_effect, close_effect, reference_of, seconds_since_start

if TYPE_CHECKING:
    from jobs.models import Job
    from workers.lease import Lease

log = structlog.get_logger(__name__)
T = TypeVar("T")

# Characters of a late result that are kept for an operator.
_LATE_RESULT_MAX = 2_000


@dataclass(frozen=True, kw_only=True)
class Effect(Generic[T]):
    """The arguments of one `job.effect` call: the call, and how to find its outcome if it is unknown."""

    name: str
    call: Callable[[str], T]
    timeout: timedelta
    key_window: timedelta | None
    reconcile: Callable[[str], T | None] | None
    reconcile_after: timedelta
    # Of a compensation: the effect that it undoes, and (encoded) why.
    undoes: str | None = None
    because: bytes | None = None


class Effects:
    """The effects of one attempt."""

    def __init__(self, *, job: Job, lease: Lease, steps: dict[str, JobStep]) -> None:
        self._job = job
        self._lease = lease
        self._steps = steps
        # This attempt may only learn the outcome of started effects, and sends nothing.
        self.is_reconcile_only = job.reconcile_only
        self.open = job.open_effects
        self.done = job.done_effects

    @property
    def none_started(self) -> bool:
        """Return whether no effect is done or open."""
        return self.open == 0 and self.done == 0

    def run(self, effect: Effect[T]) -> T:
        """Return the effect's result: of this call, of an earlier attempt, or as the downstream reports it."""
        with structlog.contextvars.bound_contextvars(step=effect.name), span("effect", step=effect.name):
            step = self._steps.get(effect.name)
            if step is not None and step.state == JobStep.State.DONE:
                return cast("T", _result_of(step))
            if step is not None and step.state == JobStep.State.STARTED:
                return self._settle_started(effect, step)
            if step is not None and step.state == JobStep.State.REFUSED:
                raise EffectRefused(f"Effect {effect.name!r} was refused in an earlier attempt.", code="refused")
            if self.is_reconcile_only:
                raise RetryableError("No attempts are left for what has not begun yet.", code="attempts-exhausted")
            return self._send(effect, is_repeat=False)

    def _settle_started(self, effect: Effect[T], step: JobStep) -> T:
        """Return the result of an effect that an earlier attempt started.

        Repeat its call, or reconcile, or raise OutcomeUnknown.
        """
        # Read the ages before the call of `reconcile`: "not found" proves something only if the last call is old
        # enough at that time.
        since_first, since_last = self._lease.retry_write(
            partial(seconds_since_start, job_id=self._job.id, name=effect.name)
        )
        if _fits_key_window(effect, since_first) and not self.is_reconcile_only:
            return self._send(effect, is_repeat=True)
        if effect.reconcile is None:
            raise OutcomeUnknown(f"Effect {effect.name!r} began, and the downstream cannot be asked about it.")
        answer = effect.reconcile(step.downstream_key or "")
        if answer is not None:
            self._close(effect, JobStep.State.DONE, answer)
            return answer
        # The earlier request may still reach the downstream. "Not found" counts only after that is impossible.
        wait_seconds = (effect.timeout + effect.reconcile_after).total_seconds() - since_last
        if wait_seconds > 0:
            raise RunLater(
                f"The request of effect {effect.name!r} may still arrive.", delay=timedelta(seconds=wait_seconds)
            )
        self._close(effect, JobStep.State.NOT_DONE)
        if self.is_reconcile_only:
            raise RetryableError(f"Effect {effect.name!r} did not happen.", code="attempts-exhausted")
        if self._lease.cancel_requested and self.none_started and effect.undoes is None:
            raise JobCanceled("Canceled at the client's request.")
        return self._send(effect, is_repeat=False)

    def _send(self, effect: Effect[T], *, is_repeat: bool) -> T:
        """Record the start, make the call and record the outcome.

        Makes the call only if the lease and the key window are long enough.
        """
        needed = effect.timeout.total_seconds() + settings.EFFECT_MARGIN_SECONDS
        if needed + settings.EFFECT_BEGIN_SECONDS > self._lease.length.total_seconds():
            raise PermanentError(
                f"Effect {effect.name!r} may take {effect.timeout}, which no lease outlasts: see LEASE_SECONDS.",
                code="effect-outlasts-lease",
            )
        sent_at = time.monotonic()
        # This write may be repeated: nothing has been sent yet, and a second record of the start changes no count.
        begun = self._lease.fenced_write(
            begin_effect,
            name=effect.name,
            key=downstream_key(self._job.id, effect.name, 1),
            lease=self._lease.length,
            attempt_limit=self._lease.attempt_limit,
            undoes=effect.undoes,
            original_error=effect.because,
            error=f"Effect {effect.name!r} was not begun.",
        )
        self.open += not is_repeat
        self._lease.extend(sent_at + begun.lease_seconds_left)
        if self._lease.seconds_left < needed or (is_repeat and not _fits_key_window(effect, begun.age_seconds)):
            if not is_repeat:
                self._close(effect, JobStep.State.NOT_DONE)
            raise RetryableError(
                f"Too little of the lease or key window is left for effect {effect.name!r}.", code="too-late"
            )
        return self._call(effect, begun.key, is_repeat=is_repeat)

    def _call(self, effect: Effect[T], key: str, *, is_repeat: bool) -> T:
        reach("before_effect")
        log.info("effect.sent", downstream_key=key, is_repeat=is_repeat)
        try:
            answer = effect.call(key)
            reach("after_effect")
        except EffectRefused:
            # Only this repeated call may have been refused. If the first call took effect, `reconcile` finds its result.
            earlier = effect.reconcile(key) if is_repeat and effect.reconcile is not None else None
            if earlier is not None:
                self._close(effect, JobStep.State.DONE, earlier)
                return earlier
            self._close(effect, JobStep.State.REFUSED)
            raise
        except EffectNotDone:
            # If this call is a repeat, EffectNotDone covers only the repeat. The outcome of the first call stays unknown.
            if not is_repeat:
                self._close(effect, JobStep.State.NOT_DONE)
            raise
        except Exception as error:
            # The step stays `started`: the effect may have happened.
            log.warning("effect.in_doubt", raised=type(error).__name__)
            raise
        self._close(effect, JobStep.State.DONE, answer)
        return answer

    def _close(self, effect: Effect[Any], state: JobStep.State, answer: Any = None) -> None:  # noqa: ANN401 - any JSON value
        """Record the outcome. If the lease is lost, record it in the job's history instead, and raise LeaseLost."""
        is_done = state == JobStep.State.DONE
        result = encode_payload(answer) if is_done else None
        try:
            self._lease.fenced_write(
                close_effect,
                name=effect.name,
                state=state,
                result=result,
                reference=reference_of(answer) if is_done else None,
                error=f"Effect {effect.name!r} ended as {state} after this attempt had lost the job.",
            )
        except LeaseLost:
            self._record_late_outcome(effect.name, state, result)
            raise
        self.open -= 1
        if is_done:
            self.done += 1 if effect.undoes is None else -1
        reach("after_record")
        log.info("effect.closed", outcome=state)

    def _record_late_outcome(self, name: str, state: JobStep.State, result: bytes | None) -> None:
        """Record what a stale attempt learned from the downstream, for the operator who resolves the job."""
        # [1:] drops the version byte of the payload.
        text = (result or b"").decode(errors="replace")[1:_LATE_RESULT_MAX]
        data = {"step": name, "outcome": state, "result": text}
        self._lease.retry_unfenced_write(
            partial(append_late_effect, job_id=self._job.id, attempt=self._job.attempt, data=data)
        )
        log.warning("effect.late", outcome=state)


def _fits_key_window(effect: Effect[Any], age_seconds: float) -> bool:
    """Return whether a call that is sent now, this long after the first one, ends inside the downstream's key window."""
    if effect.key_window is None:
        return False
    needed = effect.timeout.total_seconds() + settings.KEY_WINDOW_MARGIN_SECONDS
    return age_seconds + needed < effect.key_window.total_seconds()


def _result_of(step: JobStep) -> Any:  # noqa: ANN401 - any JSON value
    if step.result is None:
        raise ValueError(f"Step {step.name!r} is done and has no result.")
    return decode_payload(step.result)
