"""The states of a job and the rules between them, as data. Only transitions.py writes a job's state.

A rule is one guarded UPDATE. An event with several rules takes the first whose guards hold. docs/reference/states.md explains
the table.
"""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """The state of a job. Each comment names what changes it."""

    QUEUED = "queued"  # a worker claims it once it is due; the sweep publishes hints of it until it is claimed
    RUNNING = "running"  # its attempt settles it; the sweeper ends an expired lease
    SUCCEEDED = "succeeded"  # final
    FAILED = "failed"  # a redrive by client or operator
    CANCELED = "canceled"  # a redrive by client or operator
    UNKNOWN = "unknown"  # the verdict of an operator or of a provider event

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended. ``unknown`` has not: it needs a verdict."""
        return self in TERMINAL

    @property
    def is_settled(self) -> bool:
        """Return whether no worker will change the job: it has ended, or is ``unknown``."""
        return self in TERMINAL or self is State.UNKNOWN


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELED})


class Event(StrEnum):
    """What happens to a job. Clients read the values in a job's history, so they keep their names."""

    SUBMIT = "submit"
    CLAIM = "claim"
    SUCCEED = "succeed"
    FAIL = "fail"
    RETRY = "retry"
    POSTPONE = "postpone"
    EXPIRE = "expire"
    OUTCOME_UNKNOWN = "doubt"
    DEADLINE_PASSED = "lapse"
    CANCEL = "cancel"  # a queued job, by the API
    STOP = "canceled"  # a running job, by its worker, after a cancel request
    RESOLVE = "resolve"
    REDRIVE = "redrive"


class Guard(StrEnum):
    """A condition on the job's row; its SQL is in queries/rule_statement.py."""

    DUE = "due"
    ATTEMPTS_LEFT = "attempts_left"
    NO_ATTEMPTS_LEFT = "no_attempts_left"
    DEADLINE_NOT_PASSED = "deadline_not_passed"
    DEADLINE_PASSED = "deadline_passed"
    NOT_BLOCKED = "not_blocked"
    NOT_PAUSED = "not_paused"
    LEASE_EXPIRED = "lease_expired"
    NO_OPEN_EFFECTS = "no_open_effects"
    OPEN_EFFECTS = "open_effects"
    NO_DONE_EFFECTS = "no_done_effects"
    CANCEL_REQUESTED = "cancel_requested"
    NOT_RECONCILE_ONLY = "not_reconcile_only"
    NOT_ERASED = "not_erased"


class Fence(StrEnum):
    """How an event uses the fencing token (`job.attempt`)."""

    NONE = "none"
    INCREMENTS = "increments"
    CHECKS = "checks"  # requires it


@dataclass(frozen=True)
class Rule:
    """A change from one of ``sources`` to ``target``, made only while every guard holds."""

    event: Event
    sources: frozenset[State]
    target: State
    fence: Fence
    guards: tuple[Guard, ...] = ()
    # The next attempt may only reconcile open effects; it sends nothing new.
    reconcile_only: bool = False

    @property
    def recorded_as(self) -> Event:
        """The event's name in the job's history: a retry that ends the job is recorded as that end."""
        if self.event in (Event.RETRY, Event.POSTPONE):
            return _ENDS.get(self.target, self.event)
        return self.event


_ENDS = {State.FAILED: Event.FAIL, State.CANCELED: Event.STOP, State.UNKNOWN: Event.OUTCOME_UNKNOWN}
_QUEUED, _RUNNING, _UNKNOWN = (frozenset({state}) for state in (State.QUEUED, State.RUNNING, State.UNKNOWN))
_FAILED_OR_CANCELED = frozenset({State.FAILED, State.CANCELED})

_UNTOUCHED = (Guard.NO_OPEN_EFFECTS, Guard.NO_DONE_EFFECTS)
_CANCELABLE = (Guard.CANCEL_REQUESTED, *_UNTOUCHED)
# After the last attempt: fail, reconcile once, or become unknown.
_FAILS = (Guard.NO_ATTEMPTS_LEFT, Guard.NO_OPEN_EFFECTS)
_RECONCILES = (Guard.NO_ATTEMPTS_LEFT, Guard.OPEN_EFFECTS, Guard.NOT_RECONCILE_ONLY)
_IS_UNKNOWN = (Guard.NO_ATTEMPTS_LEFT, Guard.OPEN_EFFECTS)
_EXPIRED = Guard.LEASE_EXPIRED

RULES: tuple[Rule, ...] = (
    Rule(
        Event.CLAIM,
        _QUEUED,
        State.RUNNING,
        Fence.INCREMENTS,
        (Guard.DUE, Guard.ATTEMPTS_LEFT, Guard.DEADLINE_NOT_PASSED, Guard.NOT_BLOCKED, Guard.NOT_PAUSED),
    ),
    Rule(Event.SUCCEED, _RUNNING, State.SUCCEEDED, Fence.CHECKS, (Guard.NO_OPEN_EFFECTS,)),
    Rule(Event.FAIL, _RUNNING, State.FAILED, Fence.CHECKS, (Guard.NO_OPEN_EFFECTS,)),
    # A requested cancel comes first, then another attempt.
    Rule(Event.RETRY, _RUNNING, State.CANCELED, Fence.CHECKS, _CANCELABLE),
    Rule(Event.RETRY, _RUNNING, State.QUEUED, Fence.CHECKS, (Guard.ATTEMPTS_LEFT,)),
    Rule(Event.RETRY, _RUNNING, State.FAILED, Fence.CHECKS, _FAILS),
    Rule(Event.RETRY, _RUNNING, State.QUEUED, Fence.CHECKS, _RECONCILES, reconcile_only=True),
    Rule(Event.RETRY, _RUNNING, State.UNKNOWN, Fence.CHECKS, _IS_UNKNOWN),
    # POSTPONE is a retry that charges no attempt: it was too early to reconcile, or the worker is shutting down.
    Rule(Event.POSTPONE, _RUNNING, State.CANCELED, Fence.CHECKS, _CANCELABLE),
    Rule(Event.POSTPONE, _RUNNING, State.QUEUED, Fence.CHECKS),
    # As a retry, after the lease has expired.
    Rule(Event.EXPIRE, _RUNNING, State.QUEUED, Fence.CHECKS, (_EXPIRED, Guard.ATTEMPTS_LEFT)),
    Rule(Event.EXPIRE, _RUNNING, State.CANCELED, Fence.CHECKS, (_EXPIRED, Guard.NO_ATTEMPTS_LEFT, *_CANCELABLE)),
    Rule(Event.EXPIRE, _RUNNING, State.FAILED, Fence.CHECKS, (_EXPIRED, *_FAILS)),
    Rule(Event.EXPIRE, _RUNNING, State.QUEUED, Fence.CHECKS, (_EXPIRED, *_RECONCILES), reconcile_only=True),
    Rule(Event.EXPIRE, _RUNNING, State.UNKNOWN, Fence.CHECKS, (_EXPIRED, *_IS_UNKNOWN)),
    # Requires an open effect: a verdict is about an open effect, so a job without one could never be resolved.
    Rule(Event.OUTCOME_UNKNOWN, _RUNNING, State.UNKNOWN, Fence.CHECKS, (Guard.OPEN_EFFECTS,)),
    Rule(Event.DEADLINE_PASSED, _QUEUED, State.FAILED, Fence.NONE, (Guard.DEADLINE_PASSED, *_UNTOUCHED)),
    Rule(Event.CANCEL, _QUEUED, State.CANCELED, Fence.NONE, _UNTOUCHED),
    Rule(Event.STOP, _RUNNING, State.CANCELED, Fence.CHECKS, _UNTOUCHED),
    Rule(Event.RESOLVE, _UNKNOWN, State.SUCCEEDED, Fence.NONE, (Guard.NO_OPEN_EFFECTS,)),
    Rule(Event.RESOLVE, _UNKNOWN, State.FAILED, Fence.NONE, (Guard.NO_OPEN_EFFECTS,)),
    Rule(Event.RESOLVE, _UNKNOWN, State.QUEUED, Fence.NONE),
    # A job cannot run again without its params. RESOLVE needs no such guard: only ended jobs are erased.
    Rule(Event.REDRIVE, _FAILED_OR_CANCELED, State.QUEUED, Fence.NONE, (Guard.NOT_ERASED,)),
)


def rules_for(event: Event) -> tuple[Rule, ...]:
    """Return the event's rules in the order in which they are tried."""
    return tuple(rule for rule in RULES if rule.event is event)
