"""Every state of a job and every way between them: DESIGN §5 as data. ``transitions.py`` is the only writer.

A rule is one guarded UPDATE. An event with several rules takes the first whose guards hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job stands. Each line says who moves it on."""

    QUEUED = "queued"  # a worker claims it, once due; the sweeper publishes it again until then
    RUNNING = "running"  # its attempt settles it; the sweeper ends a lease that ran out
    SUCCEEDED = "succeeded"  # nobody: the result stands
    FAILED = "failed"  # client or operator, by redrive
    CANCELED = "canceled"  # client or operator, by redrive
    UNKNOWN = "unknown"  # an operator, by resolve: nobody else can know

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended. ``unknown`` has not: a person must say what happened."""
        return self in TERMINAL

    @property
    def is_settled(self) -> bool:
        """Whether no process of ours moves the job on: it has ended, or waits for a person in ``unknown``."""
        return self in TERMINAL or self is State.UNKNOWN


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})


class Event(StrEnum):
    """What happens to a job."""

    SUBMIT = "submit"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    POSTPONE = "postpone"
    EXPIRE = "expire"
    DOUBT = "doubt"
    LAPSE = "lapse"
    CANCEL = "cancel"
    CANCELED = "canceled"
    RESOLVE = "resolve"
    REDRIVE = "redrive"


class Guard(StrEnum):
    """A condition on the job's row; ``queries/transition.py`` holds the SQL of each."""

    DUE = "due"
    ATTEMPTS_LEFT = "attempts_left"
    NO_ATTEMPTS_LEFT = "no_attempts_left"
    NOT_LAPSED = "not_lapsed"
    LAPSED = "lapsed"
    NOT_BLOCKED = "not_blocked"
    NOT_PAUSED = "not_paused"
    LEASE_OVER = "lease_over"
    NO_OPEN_EFFECTS = "no_open_effects"
    OPEN_EFFECTS = "open_effects"
    NO_DONE_EFFECTS = "no_done_effects"
    CANCEL_ASKED = "cancel_asked"
    NOT_RECONCILE_ONLY = "not_reconcile_only"
    NOT_ERASED = "not_erased"


class Fence(StrEnum):
    """What an event has to do with the fencing token."""

    NONE = "none"
    MINTS = "mints"
    CHECKS = "checks"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One way from ``sources`` to ``target``, taken only while every guard holds."""

    event: Event
    sources: frozenset[State]
    target: State
    guards: tuple[Guard, ...] = ()
    fence: Fence = Fence.NONE
    # An attempt that may only find out what became of a begun effect: it sends nothing new.
    reconcile_only: bool = False

    @property
    def recorded_as(self) -> Event:
        """The event's name in the job's history: a retry that ended the job is told by its end."""
        if self.event in (Event.RETRY, Event.POSTPONE):
            return _ENDS.get(self.target, self.event)
        return self.event


_ENDS = {State.FAILED: Event.FAIL, State.CANCELED: Event.CANCELED, State.UNKNOWN: Event.DOUBT}
_QUEUED, _RUNNING, _UNKNOWN = (
    frozenset({State.QUEUED}),
    frozenset({State.RUNNING}),
    frozenset({State.UNKNOWN}),
)
_UNTOUCHED = (Guard.NO_OPEN_EFFECTS, Guard.NO_DONE_EFFECTS)
_CANCELABLE = (Guard.CANCEL_ASKED, *_UNTOUCHED)
_OVER = (Guard.LEASE_OVER, Guard.NO_ATTEMPTS_LEFT)

RULES: tuple[Rule, ...] = (
    Rule(
        event=Event.CLAIM,
        sources=_QUEUED,
        target=State.RUNNING,
        guards=(Guard.DUE, Guard.ATTEMPTS_LEFT, Guard.NOT_LAPSED, Guard.NOT_BLOCKED, Guard.NOT_PAUSED),
        fence=Fence.MINTS,
    ),
    Rule(
        event=Event.SUCCEED,
        sources=_RUNNING,
        target=State.SUCCEEDED,
        guards=(Guard.NO_OPEN_EFFECTS,),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.FAIL,
        sources=_RUNNING,
        target=State.FAILED,
        guards=(Guard.NO_OPEN_EFFECTS,),
        fence=Fence.CHECKS,
    ),
    # retry: cancel first, then another attempt, then the end of attempts in its three shapes
    Rule(event=Event.RETRY, sources=_RUNNING, target=State.CANCELED, guards=_CANCELABLE, fence=Fence.CHECKS),
    Rule(
        event=Event.RETRY,
        sources=_RUNNING,
        target=State.QUEUED,
        guards=(Guard.ATTEMPTS_LEFT,),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.RETRY,
        sources=_RUNNING,
        target=State.FAILED,
        guards=(Guard.NO_ATTEMPTS_LEFT, Guard.NO_OPEN_EFFECTS),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.RETRY,
        sources=_RUNNING,
        target=State.QUEUED,
        guards=(Guard.NO_ATTEMPTS_LEFT, Guard.OPEN_EFFECTS, Guard.NOT_RECONCILE_ONLY),
        fence=Fence.CHECKS,
        reconcile_only=True,
    ),
    Rule(
        event=Event.RETRY,
        sources=_RUNNING,
        target=State.UNKNOWN,
        guards=(Guard.NO_ATTEMPTS_LEFT, Guard.OPEN_EFFECTS),
        fence=Fence.CHECKS,
    ),
    # postpone: a retry that costs no attempt (asked too early; the worker shuts down)
    Rule(
        event=Event.POSTPONE, sources=_RUNNING, target=State.CANCELED, guards=_CANCELABLE, fence=Fence.CHECKS
    ),
    Rule(event=Event.POSTPONE, sources=_RUNNING, target=State.QUEUED, fence=Fence.CHECKS),
    # expire: the same end of attempts, reached by a lease that ran out
    Rule(
        event=Event.EXPIRE,
        sources=_RUNNING,
        target=State.QUEUED,
        guards=(Guard.LEASE_OVER, Guard.ATTEMPTS_LEFT),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.EXPIRE,
        sources=_RUNNING,
        target=State.CANCELED,
        guards=(*_OVER, *_CANCELABLE),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.EXPIRE,
        sources=_RUNNING,
        target=State.FAILED,
        guards=(*_OVER, Guard.NO_OPEN_EFFECTS),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.EXPIRE,
        sources=_RUNNING,
        target=State.QUEUED,
        guards=(*_OVER, Guard.OPEN_EFFECTS, Guard.NOT_RECONCILE_ONLY),
        fence=Fence.CHECKS,
        reconcile_only=True,
    ),
    Rule(
        event=Event.EXPIRE,
        sources=_RUNNING,
        target=State.UNKNOWN,
        guards=(*_OVER, Guard.OPEN_EFFECTS),
        fence=Fence.CHECKS,
    ),
    # Without an open effect there would be no step whose outcome a person could name.
    Rule(
        event=Event.DOUBT,
        sources=_RUNNING,
        target=State.UNKNOWN,
        guards=(Guard.OPEN_EFFECTS,),
        fence=Fence.CHECKS,
    ),
    Rule(
        event=Event.LAPSE,
        sources=_QUEUED,
        target=State.FAILED,
        guards=(Guard.LAPSED, *_UNTOUCHED),
    ),
    Rule(event=Event.CANCEL, sources=_QUEUED, target=State.CANCELED, guards=_UNTOUCHED),
    Rule(
        event=Event.CANCELED, sources=_RUNNING, target=State.CANCELED, guards=_UNTOUCHED, fence=Fence.CHECKS
    ),
    Rule(event=Event.RESOLVE, sources=_UNKNOWN, target=State.SUCCEEDED, guards=(Guard.NO_OPEN_EFFECTS,)),
    Rule(event=Event.RESOLVE, sources=_UNKNOWN, target=State.FAILED, guards=(Guard.NO_OPEN_EFFECTS,)),
    Rule(event=Event.RESOLVE, sources=_UNKNOWN, target=State.QUEUED),
    # Without its params a job cannot run again. A word on an unknown one needs no such guard: only ended jobs are erased.
    Rule(
        event=Event.REDRIVE,
        sources=frozenset({State.FAILED, State.CANCELED}),
        target=State.QUEUED,
        guards=(Guard.NOT_ERASED,),
    ),
)


def rules_for(event: Event) -> tuple[Rule, ...]:
    """The event's rules in the order in which they are tried."""
    return tuple(rule for rule in RULES if rule.event is event)
