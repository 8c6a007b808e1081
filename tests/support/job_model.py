"""The rules of docs/reference/states.md written by hand, without the table of jobs/states.py, which is compared to them.

A situation is what the guards can check about a job.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from jobs.states import RULES, TERMINAL, Event, Guard, State

MAX_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The properties of a job that guards check."""

    state: State = State.QUEUED
    attempts_left: int = MAX_ATTEMPTS
    open_effects: int = 0
    done_effects: int = 0
    cancel_requested: bool = False
    reconcile_only: bool = False
    is_due: bool = True
    deadline_passed: bool = False
    lease_expired: bool = False
    is_blocked: bool = False
    is_paused: bool = False
    is_erased: bool = False

    @property
    def untouched(self) -> bool:
        return self.open_effects == 0 and self.done_effects == 0


HOLDS = {
    Guard.DUE: lambda job: job.is_due,
    Guard.ATTEMPTS_LEFT: lambda job: job.attempts_left > 0,
    Guard.NO_ATTEMPTS_LEFT: lambda job: job.attempts_left == 0,
    Guard.DEADLINE_NOT_PASSED: lambda job: not job.deadline_passed or not job.untouched,
    Guard.DEADLINE_PASSED: lambda job: job.deadline_passed,
    Guard.NOT_BLOCKED: lambda job: not job.is_blocked,
    Guard.NOT_PAUSED: lambda job: not job.is_paused,
    Guard.LEASE_EXPIRED: lambda job: job.lease_expired,
    Guard.NO_OPEN_EFFECTS: lambda job: job.open_effects == 0,
    Guard.OPEN_EFFECTS: lambda job: job.open_effects > 0,
    Guard.NO_DONE_EFFECTS: lambda job: job.done_effects == 0,
    Guard.CANCEL_REQUESTED: lambda job: job.cancel_requested,
    Guard.NOT_RECONCILE_ONLY: lambda job: not job.reconcile_only,
    Guard.NOT_ERASED: lambda job: not job.is_erased,
}

# The target state, and whether the next attempt only reconciles; None if the event does not happen.
Outcome = tuple[State, bool] | None


def by_table(event: Event, job: Situation, *, target: State | None = None) -> Outcome:
    """Return the outcome by the table: the first of the event's rules whose guards hold. target: the verdict names it."""
    for rule in RULES:
        fits = rule.event is event and job.state in rule.sources and target in (None, rule.target)
        if fits and all(HOLDS[guard](job) for guard in rule.guards):
            return rule.target, rule.reconcile_only
    return None


def by_design(event: Event, job: Situation, *, target: State | None = None) -> Outcome:  # noqa: C901 - one case a row
    """Return the outcome by the design."""
    match job.state, event:
        case State.QUEUED, Event.CLAIM:
            past_deadline = job.deadline_passed and job.untouched
            claimable = job.is_due and job.attempts_left > 0 and not past_deadline and not job.is_blocked
            claimable = claimable and not job.is_paused
            return (State.RUNNING, False) if claimable else None
        case State.QUEUED, Event.DEADLINE_PASSED:
            return (State.FAILED, False) if job.deadline_passed and job.untouched else None
        case State.QUEUED, Event.CANCEL:
            return (State.CANCELED, False) if job.untouched else None
        case State.RUNNING, Event.SUCCEED:
            return (State.SUCCEEDED, False) if job.open_effects == 0 else None
        case State.RUNNING, Event.FAIL:
            return (State.FAILED, False) if job.open_effects == 0 else None
        case State.RUNNING, Event.STOP:
            return (State.CANCELED, False) if job.untouched else None
        case State.RUNNING, Event.OUTCOME_UNKNOWN:
            return (State.UNKNOWN, False) if job.open_effects else None
        case State.RUNNING, Event.POSTPONE:
            return (State.CANCELED if job.cancel_requested and job.untouched else State.QUEUED, False)
        case State.RUNNING, Event.RETRY:
            return (State.CANCELED, False) if job.cancel_requested and job.untouched else _after_attempt(job)
        case State.RUNNING, Event.EXPIRE:
            return _after_attempt(job) if job.lease_expired else None
        case State.UNKNOWN, Event.RESOLVE:
            return (target, False) if target is State.QUEUED or job.open_effects == 0 else None
        case ((State.FAILED | State.CANCELED), Event.REDRIVE):
            return None if job.is_erased else (State.QUEUED, False)
    return None


def _after_attempt(job: Situation) -> Outcome:
    if job.attempts_left:
        return (State.QUEUED, False)
    if job.open_effects:
        return (State.UNKNOWN, False) if job.reconcile_only else (State.QUEUED, True)
    return (State.CANCELED if job.cancel_requested and job.done_effects == 0 else State.FAILED, False)


def every_situation() -> list[Situation]:
    """Return all situations, including those that the constraints refuse."""
    names = list(Situation.__dataclass_fields__)
    bools = (False, True)
    values = [list(State), range(MAX_ATTEMPTS + 1), (0, 1), (0, 1), *([bools] * (len(names) - 4))]
    return [Situation(**dict(zip(names, row, strict=True))) for row in product(*values)]


def moved(job: Situation, event: Event, outcome: Outcome) -> Situation:
    """Return the job after the event."""
    target, reconcile_only = outcome
    job = replace(job, state=target, lease_expired=False)
    if event is Event.CLAIM:
        return replace(job, attempts_left=job.attempts_left - 1)
    if event in (Event.REDRIVE, Event.RESOLVE) and target is State.QUEUED:
        return replace(
            job, attempts_left=MAX_ATTEMPTS, cancel_requested=False, deadline_passed=False, reconcile_only=False
        )
    if reconcile_only:
        return replace(job, attempts_left=1, reconcile_only=True)
    if event is Event.POSTPONE and target is State.QUEUED:
        return replace(job, attempts_left=min(job.attempts_left + 1, MAX_ATTEMPTS))
    return job


def is_ended(job: Situation) -> bool:
    return job.state in TERMINAL
