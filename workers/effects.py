"""The third guard: what an attempt does to the world is recorded before and after (DESIGN.md §6, Effect).

How it is undone: workers/compensation.py.

Dying before `begin` commits: nothing was sent. Between `begin` and `close`: the step is `started`, and the next attempt
repeats it under the same key, asks the downstream, or stops in doubt. After `close`: the result is remembered.
"""

from __future__ import annotations

import time
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
from jobs.queries.history import append_evidence
from jobs.queries.steps import begin_effect, close_effect, reference_of, seconds_since_start

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.models import Job
    from workers.lease import Lease

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Effect(Generic[T]):
    """One use of `job.effect`: what to call, and what the downstream offers in case of doubt."""

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
        self.open = job.open_effects
        self.done = job.done_effects

    @property
    def sends_nothing(self) -> bool:
        """Whether this attempt may only find out what became of a begun effect."""
        return self._job.reconcile_only

    @property
    def is_untouched(self) -> bool:
        """Whether nothing has been done to the world, for all that is known."""
        return self.open == 0 and self.done == 0

    def run(self, effect: Effect[T]) -> T:
        """The effect's result, from this call, an earlier attempt or the downstream's own record."""
        with structlog.contextvars.bound_contextvars(step=effect.name), span("effect", step=effect.name):
            return self._run(effect)

    def _run(self, effect: Effect[T]) -> T:
        step = self._steps.get(effect.name)
        if step is not None and step.state == JobStep.State.DONE:
            return cast("T", _result_of(step))
        if step is not None and step.state == JobStep.State.STARTED:
            return self._go_on(effect, step)
        if step is not None and step.state == JobStep.State.REFUSED:
            raise EffectRefused(f"Effect {effect.name!r} was refused in an earlier attempt.", code="refused")
        if self.sends_nothing:
            raise RetryableError(
                "No attempts are left for what has not begun yet.", code="attempts-exhausted"
            )
        return self._send(effect, is_repeat=False)

    def _go_on(self, effect: Effect[T], step: JobStep) -> T:
        """An earlier attempt began the effect, and its outcome is not known. The first safe way wins."""
        # Read before anybody is asked: the age of a question is what its answer is worth.
        since_first, since_last = self._lease.insist(
            partial(seconds_since_start, job_id=self._job.id, name=effect.name)
        )
        if _outlasts(effect, since_first) and not self._job.reconcile_only:
            return self._send(effect, is_repeat=True)
        if effect.reconcile is None:
            raise OutcomeUnknown(
                f"Effect {effect.name!r} began, and the downstream cannot be asked about it."
            )
        answer = effect.reconcile(step.downstream_key or "")
        if answer is not None:
            self._close(effect, JobStep.State.DONE, answer)
            return answer
        # A slow request may still land: until then, "there is none" proves nothing.
        still = (effect.timeout + effect.reconcile_after).total_seconds() - since_last
        if still > 0:
            raise RunLater(f"Effect {effect.name!r} may still land.", delay=timedelta(seconds=still))
        self._close(effect, JobStep.State.NOT_DONE)
        if self._job.reconcile_only:
            raise RetryableError(f"Effect {effect.name!r} did not happen.", code="attempts-exhausted")
        if self._lease.cancel_requested and self.is_untouched and effect.undoes is None:
            raise JobCanceled("Canceled as the client asked.")
        return self._send(effect, is_repeat=False)

    def _send(self, effect: Effect[T], *, is_repeat: bool) -> T:
        """Record, send, record. The call is made only if lease and key window outlast it, checked just before."""
        needed = effect.timeout.total_seconds() + settings.EFFECT_MARGIN_SECONDS
        if needed + settings.EFFECT_BEGIN_SECONDS > self._lease.length.total_seconds():
            raise PermanentError(
                f"Effect {effect.name!r} may take {effect.timeout}, which no lease outlasts: see LEASE_SECONDS.",
                code="effect-outlasts-lease",
            )
        asked_at = time.monotonic()
        begin = partial(
            begin_effect,
            job_id=self._job.id,
            attempt=self._job.attempt,
            name=effect.name,
            key=downstream_key(self._job.id, effect.name, 1),
            lease=self._lease.length,
            attempt_limit=self._lease.attempt_limit,
            undoes=effect.undoes,
            because=effect.because,
        )
        # Nothing is sent yet, and a start that was recorded twice counts once.
        begun = self._lease.insist(begin)
        if begun is None:
            self._lease.lose()
            raise LeaseLost(f"Effect {effect.name!r} was not begun.")
        self.open += not is_repeat
        self._lease.extend(asked_at + begun.lease_seconds_left)
        if self._lease.seconds_left < needed or (is_repeat and not _outlasts(effect, begun.age_seconds)):
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
            # A refusal holds for the key. Even so, of a repeat: had the call before it got through, the downstream would know.
            earlier = effect.reconcile(key) if is_repeat and effect.reconcile is not None else None
            if earlier is not None:
                self._close(effect, JobStep.State.DONE, earlier)
                return earlier
            self._close(effect, JobStep.State.REFUSED)
            raise
        except EffectNotDone:
            # Of a repeat it says that this call did nothing; what became of the earlier one is as unknown as before.
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
        """The outcome is on record; or, if the job is another attempt's by now, kept as evidence, and this one ends."""
        name, is_done = effect.name, state == JobStep.State.DONE
        result = encode_payload(answer) if is_done else None
        close = partial(
            close_effect,
            job_id=self._job.id,
            attempt=self._job.attempt,
            name=name,
            state=state,
            result=result,
            reference=reference_of(answer) if is_done else None,
        )
        if self._lease.insist(close):
            self.open -= 1
            if is_done:
                self.done += 1 if effect.undoes is None else -1
            reach("after_record")
            log.info("effect.closed", outcome=state)
            return
        self._lease.lose()
        evidence = {
            "step": name,
            "outcome": state,
            "result": (result or b"").decode(errors="replace")[1:2_000],
        }
        self._lease.insist_as_witness(
            partial(append_evidence, job_id=self._job.id, attempt=self._job.attempt, data=evidence)
        )
        log.warning("effect.late", outcome=state)
        raise LeaseLost(f"Effect {name!r} ended as {state} after the job had gone on without this attempt.")


def _outlasts(effect: Effect[Any], age_seconds: float) -> bool:
    """Whether a call begun now, this long after the effect's first start, would surely end within the key window."""
    if effect.key_window is None:
        return False
    needed = effect.timeout.total_seconds() + settings.KEY_WINDOW_MARGIN_SECONDS
    return age_seconds + needed < effect.key_window.total_seconds()


def _result_of(step: JobStep) -> Any:  # noqa: ANN401 - any JSON value
    if step.result is None:
        raise ValueError(f"Step {step.name!r} is done and has no result.")
    return decode_payload(step.result)
