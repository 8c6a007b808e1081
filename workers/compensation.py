"""Undo the done effects of a job that is canceled or fails permanently, the last one first (docs/reference/states.md).

A compensation is a separate effect: it is recorded before and after its call and has its own key. If the process dies before the
first compensation begins, the next attempt gets the same error and begins it. If the process dies later, the next attempt finds
an effect whose compensation has begun or is done: it runs no other effect and raises the original error from that record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from jobs.models import JobStep
from jobs.operations import EffectRefused, JobCanceled, PermanentError
from jobs.payloads import decode_payload, encode_payload
from workers.effects import Effect

if TYPE_CHECKING:
    from jobs.operations import Compensation
    from workers.effects import Effects

T = TypeVar("T")
# The reason for which the job ends, as stored in a compensation's record. If `code` is None, the job is canceled.
Reason = dict[str, str | None]


def undo_name(effect: str) -> str:
    """Return the step name of this effect's compensation."""
    return f"{effect}:undo"


class Compensator:
    """Runs the effects of one attempt and remembers how to undo each."""

    def __init__(self, *, effects: Effects, steps: Mapping[str, JobStep]) -> None:
        self._effects = effects
        self._steps = steps
        self._completed: list[tuple[Effect[Any], Compensation[Any] | None, Any]] = []

    def run(self, effect: Effect[T], compensate: Compensation[T] | None) -> T:
        """Return the effect's result. Raise the original error if an earlier attempt had begun to compensate."""
        step, undo = self._steps.get(effect.name), self._steps.get(undo_name(effect.name))
        if step is not None and step.state == JobStep.State.COMPENSATED:
            raise _original_error(undo)
        result = self._effects.run(effect)
        self._completed.append((effect, compensate, result))
        if undo is not None and undo.state in (JobStep.State.STARTED, JobStep.State.REFUSED):
            raise _original_error(undo)
        return result

    @property
    def can_undo_everything(self) -> bool | None:
        """Return whether every done effect can be undone; None while this attempt has not yet reached every done effect."""
        if any(compensate is None for _, compensate, _ in self._completed):
            return False
        if self._effects.is_reconcile_only and self._effects.done and not self._has_begun:
            return False
        return True if self._has_met_every_effect else None

    def compensate_all(self, end: JobCanceled | PermanentError, *, check: Callable[[], None]) -> None:
        """Undo the done effects in reverse order; stop at an effect without a compensation.

        `check` raises if the attempt must stop.

        Does nothing while this attempt has not reached every effect that earlier attempts did: their order is not known yet.
        Raises what an effect raises, and PermanentError if a compensation is refused.
        """
        if not self._has_met_every_effect:
            return
        for effect, compensate, result in reversed(self._completed):
            if compensate is None:
                return
            check()
            try:
                self._effects.run(_undo_effect(effect, compensate, result, _reason(end)))
            except EffectRefused as refusal:
                raise PermanentError(
                    f"{end} Effect {effect.name!r} could not be undone: {refusal}", code="compensation-refused"
                ) from refusal

    @property
    def _has_met_every_effect(self) -> bool:
        """Return whether this attempt has met every done effect, and only compensations are open."""
        undo_names = [name for effect, *_ in self._completed if (name := undo_name(effect.name)) in self._steps]
        open_undos = sum(self._steps[name].state == JobStep.State.STARTED for name in undo_names)
        return self._effects.open <= open_undos and self._effects.done == len(self._completed)

    @property
    def _has_begun(self) -> bool:
        """Return whether a compensation is open. Then this attempt must end with the error for which it was started."""
        return any(step.undoes is not None and step.state == JobStep.State.STARTED for step in self._steps.values())


def _undo_effect(effect: Effect[T], compensate: Compensation[T], result: T, reason: Reason) -> Effect[Any]:
    """Return the compensation as an effect. Its record keeps the reason from its start on."""

    def call(key: str) -> dict[str, Any]:
        return {"because": reason, "answer": compensate.call(result, key)}

    def reconcile(key: str) -> dict[str, Any] | None:
        answer = compensate.reconcile(result, key) if compensate.reconcile else None
        return None if answer is None else {"because": reason, "answer": answer}

    return Effect(
        name=undo_name(effect.name),
        call=call,
        timeout=compensate.timeout or effect.timeout,
        key_window=compensate.key_window,
        reconcile=reconcile if compensate.reconcile else None,
        reconcile_after=compensate.reconcile_after or effect.reconcile_after,
        undoes=effect.name,
        because=encode_payload({"because": reason}),
    )


def _reason(end: JobCanceled | PermanentError) -> Reason:
    return {"detail": str(end), "code": end.code if isinstance(end, PermanentError) else None}


def _original_error(undo: JobStep | None) -> JobCanceled | PermanentError:
    """Return the error that made the earlier attempt compensate; a generic error if its record is erased."""
    record = decode_payload(undo.result) if undo is not None and undo.result is not None else None
    reason = record.get("because") if isinstance(record, dict) else None
    if not isinstance(reason, dict):
        return PermanentError("The effects of this job were undone.", code="compensated")
    if reason["code"] is None:
        return JobCanceled(reason["detail"])
    return PermanentError(reason["detail"], code=reason["code"])
