"""What an attempt has done is undone, the last first, if the job is canceled or fails for good (DESIGN.md §5).

A compensation is an effect: recorded before and after, under a key of its own. Dying before the first has begun: the next
attempt meets the same end and begins. Later: it meets an effect whose compensation has begun or is done, goes no further
forward, and takes the reason from that compensation's record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from jobs.models import JobStep
from jobs.operations import EffectRefused, JobCanceled, PermanentError
from jobs.payloads import decode_payload, encode_payload
from workers.effects import Effect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from jobs.operations import Compensation
    from workers.effects import Effects

T = TypeVar("T")
# Why the job ends: a code of None means that it is canceled.
Reason = dict[str, str | None]


def undo_name(effect: str) -> str:
    """What the compensation of this effect is called."""
    return f"{effect}:undo"


class WayBack:
    """The effects that this attempt has passed on its way forward, and how each is undone."""

    def __init__(self, *, effects: Effects, steps: Mapping[str, JobStep]) -> None:
        self._effects = effects
        self._steps = steps
        self._passed: list[tuple[Effect[Any], Compensation[Any] | None, Any]] = []

    def go_forward(self, effect: Effect[T], compensate: Compensation[T] | None) -> T:
        """The effect's result. Raises the end of the job where an earlier attempt was on its way back already."""
        step, undo = self._steps.get(effect.name), self._steps.get(undo_name(effect.name))
        if step is not None and step.state == JobStep.State.COMPENSATED:
            raise _end_told_by(undo)
        result = self._effects.run(effect)
        self._passed.append((effect, compensate, result))
        if undo is not None and undo.state in (JobStep.State.STARTED, JobStep.State.REFUSED):
            raise _end_told_by(undo)
        return result

    @property
    def _has_passed_all(self) -> bool:
        """Whether nothing was done that this attempt has not met, and nothing is in doubt but a compensation."""
        undoing = [name for effect, *_ in self._passed if (name := undo_name(effect.name)) in self._steps]
        in_doubt = sum(self._steps[name].state == JobStep.State.STARTED for name in undoing)
        return self._effects.open <= in_doubt and self._effects.done == len(self._passed)

    @property
    def _has_begun(self) -> bool:
        """Whether a compensation is in doubt: its effect, once met, ends this attempt as the earlier one was to end."""
        return any(
            step.undoes is not None and step.state == JobStep.State.STARTED for step in self._steps.values()
        )

    @property
    def is_open(self) -> bool | None:
        """Whether all that was done can be undone; None while this attempt has not passed all of it."""
        if any(compensate is None for _, compensate, _ in self._passed):
            return False
        if self._effects.sends_nothing and self._effects.done and not self._has_begun:
            return False
        return True if self._has_passed_all else None

    def go(self, end: JobCanceled | PermanentError, *, check: Callable[[], None]) -> None:
        """What was done is undone, back to where that is impossible. Raises what an effect raises, or that one was refused.

        Nothing is, where an earlier attempt has done more than this one knows how to undo: the order would be lost.
        `check` raises where the attempt must stop.
        """
        if not self._has_passed_all:
            return
        for effect, compensate, result in reversed(self._passed):
            if compensate is None:
                return
            check()
            try:
                self._effects.run(_undoing(effect, compensate, result, _reason(end)))
            except EffectRefused as refusal:
                raise PermanentError(
                    f"{end} Effect {effect.name!r} could not be undone: {refusal}",
                    code="compensation-refused",
                ) from refusal


def _undoing(effect: Effect[T], compensate: Compensation[T], result: T, reason: Reason) -> Effect[Any]:
    """The compensation as an effect. Its record keeps the reason, from its beginning on."""

    def call(key: str) -> dict[str, Any]:
        return {"because": reason, "answer": compensate.call(result, key)}

    def ask(key: str) -> dict[str, Any] | None:
        answer = compensate.reconcile(result, key) if compensate.reconcile else None
        return None if answer is None else {"because": reason, "answer": answer}

    return Effect(
        name=undo_name(effect.name),
        call=call,
        timeout=compensate.timeout or effect.timeout,
        key_window=compensate.key_window,
        reconcile=ask if compensate.reconcile else None,
        reconcile_after=compensate.reconcile_after or effect.reconcile_after,
        undoes=effect.name,
        because=encode_payload({"because": reason}),
    )


def _reason(end: JobCanceled | PermanentError) -> Reason:
    return {"detail": str(end), "code": end.code if isinstance(end, PermanentError) else None}


def _end_told_by(undo: JobStep | None) -> JobCanceled | PermanentError:
    """The end that the earlier attempt was on its way back from; where its record is gone, that it was."""
    told = decode_payload(undo.result) if undo is not None and undo.result is not None else None
    reason = told.get("because") if isinstance(told, dict) else None
    if not isinstance(reason, dict):
        return PermanentError("What had been done was undone.", code="compensated")
    if reason["code"] is None:
        return JobCanceled(reason["detail"])
    return PermanentError(reason["detail"], code=reason["code"])
