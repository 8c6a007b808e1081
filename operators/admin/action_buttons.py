"""What can be done to a job from its page: the states that allow it, what is asked first, and the service that does it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.states import TERMINAL, Event, State, rules_for
from operators import job_actions

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from idempotency.models import IdempotencyRecord
    from jobs.models import Job


@dataclass(frozen=True, kw_only=True)
class Action:
    """One thing to do. `said`: what follows, for whoever is about to do it. `done`: what is then true."""

    name: str
    label: str
    states: frozenset[State]
    said: str
    done: str
    is_dangerous: bool = False
    needs_payload: bool = False
    perform: Callable[..., object] | None = None  # None: it has a form of its own


def _sources(event: Event) -> frozenset[State]:
    return frozenset().union(*(rule.sources for rule in rules_for(event)))


ACTIONS = {
    action.name: action
    for action in (
        Action(
            name="redrive",
            label="Redrive",
            states=_sources(Event.REDRIVE),
            said="The job is queued again with all its attempts. Finished steps stay finished; an effect that was refused "
            "begins anew under another downstream key.",
            done="The job is queued again.",
            needs_payload=True,
            perform=job_actions.redrive_job,
        ),
        Action(
            name="resolve",
            label="Resolve",
            states=_sources(Event.RESOLVE),
            said="You say what became of the effect, and where the job goes.",
            done="The job is resolved.",
        ),
        Action(
            name="cancel",
            label="Cancel",
            states=_sources(Event.CANCEL) | {State.RUNNING},
            said="A job that has done nothing yet is canceled. One that runs is asked to stop, and stops only while "
            "nothing has been done to the world, or all of it can be undone.",
            done="The job is canceled, or will be as soon as its attempt sees the wish and may grant it.",
            is_dangerous=True,
            perform=job_actions.cancel_job,
        ),
        Action(
            name="erase",
            label="Erase payload",
            states=TERMINAL,
            said="Params, result, errors and step results are gone for good, and so is the stored answer of the key. "
            "The job can never run again. Ids, keys and states stay.",
            done="The payload is erased.",
            is_dangerous=True,
            needs_payload=True,
            perform=job_actions.erase_payload,
        ),
    )
}


# A job's key, and not the job: it has a form of its own, with a mandatory reason.
RELEASE = Action(
    name="release-key",
    label="Release key",
    states=TERMINAL,
    said="The idempotency key is free before its time: the next request under it is a new one, and does its work (again). "
    "The client that still repeats the old request will start a second job.",
    done="The key is free.",
    is_dangerous=True,
)


def actions_for(job: Job, record: IdempotencyRecord | None) -> list[Action]:
    """What the job's state allows. The services decide for themselves: another may have been quicker."""
    state = State(job.state)
    allowed = [
        action
        for action in ACTIONS.values()
        if state in action.states and not (action.needs_payload and job.erased_at)
    ]
    if record is not None and record.resource == job.resource and state in RELEASE.states:
        allowed.append(RELEASE)
    return allowed


def perform(action: Action, *, job_id: UUID, actor: str, note: str) -> None:
    """The action is done, once, and audited. Raises what its service raises."""
    if action.perform is None:
        raise ValueError(f"{action.name} has a form of its own.")
    action.perform(job_id=job_id, actor=actor, note=note)
