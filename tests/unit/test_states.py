"""The rules of states.py equal the design, and no sequence of events leaves a job stuck."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import pytest

from jobs.states import RULES, TERMINAL, Event, Fence, Guard, State, rules_for
from tests.support.job_model import HOLDS, Situation, by_design, by_table, every_situation, is_ended, moved

WORKER_EVENTS = (Event.SUCCEED, Event.FAIL, Event.RETRY, Event.POSTPONE, Event.OUTCOME_UNKNOWN, Event.STOP)


def test_the_model_has_every_guard():
    assert set(HOLDS) == set(Guard)


def test_every_guard_and_every_event_is_used():
    assert {guard for rule in RULES for guard in rule.guards} == set(Guard)
    assert {rule.event for rule in RULES} == set(Event) - {Event.SUBMIT}


@pytest.mark.parametrize("event", [event for event in Event if event not in (Event.SUBMIT, Event.RESOLVE)])
def test_the_table_and_the_handwritten_rules_lead_to_the_same_states(event):
    wrong = [job for job in every_situation() if by_table(event, job) != by_design(event, job)]
    assert wrong == []


@pytest.mark.parametrize("target", [State.SUCCEEDED, State.FAILED, State.QUEUED])
def test_a_verdict_decides_the_state_of_an_unknown_job(target):
    jobs = every_situation()
    wrong = [
        job
        for job in jobs
        if by_table(Event.RESOLVE, job, target=target) != by_design(Event.RESOLVE, job, target=target)
    ]
    assert wrong == []


def test_every_end_of_an_attempt_checks_the_fence_and_only_a_claim_mints_it():
    for rule in RULES:
        if State.RUNNING in rule.sources:
            assert rule.fence is Fence.CHECKS, rule
        elif rule.target is State.RUNNING:
            assert rule.fence is Fence.INCREMENTS, rule
        else:
            assert rule.fence is Fence.NONE, rule


def test_only_redrive_and_resolve_leave_a_settled_state():
    leaving = {rule.event for rule in RULES if rule.sources & (TERMINAL | {State.UNKNOWN})}
    assert leaving == {Event.REDRIVE, Event.RESOLVE}
    assert not any(State.SUCCEEDED in rule.sources for rule in RULES)


def test_a_retry_that_ends_the_job_is_recorded_as_that_end():
    recorded = {(rule.event, rule.target): rule.recorded_as for rule in RULES}
    assert recorded[Event.RETRY, State.QUEUED] is Event.RETRY
    assert recorded[Event.RETRY, State.FAILED] is Event.FAIL
    assert recorded[Event.RETRY, State.CANCELED] is Event.STOP
    assert recorded[Event.RETRY, State.UNKNOWN] is Event.OUTCOME_UNKNOWN
    assert recorded[Event.POSTPONE, State.CANCELED] is Event.STOP
    assert {recorded[Event.EXPIRE, state] for state in State if (Event.EXPIRE, state) in recorded} == {Event.EXPIRE}


def test_the_rules_of_an_event_keep_the_order_of_the_table():
    assert [rule for event in Event for rule in rules_for(event)] == sorted(
        RULES, key=lambda rule: list(Event).index(rule.event)
    )


def test_no_sequence_of_events_leaves_a_job_stuck():
    reached = _reachable(Situation())
    assert {job.state for job in reached} == set(State)
    for job in reached:
        if job.state is State.QUEUED:
            assert job.attempts_left > 0, job
            ready = replace(job, is_due=True, is_blocked=False, is_paused=False)
            assert by_table(Event.CLAIM, ready) or by_table(Event.DEADLINE_PASSED, ready), job
        elif job.state is State.RUNNING:
            assert by_table(Event.EXPIRE, replace(job, lease_expired=True)), job
        elif job.state is State.UNKNOWN:
            assert job.open_effects, f"there is no step for a verdict: {job}"
        else:
            assert job.open_effects == 0, job
            assert job.state is not State.CANCELED or job.done_effects == 0, job


def test_a_job_whose_attempts_all_crash_ends_within_its_attempts_plus_one_that_reconciles():
    for start in _reachable(Situation()):
        if start.state is not State.QUEUED:
            continue
        job, attempts = replace(start, is_due=True, is_blocked=False, is_paused=False), 0
        while job.state is State.QUEUED and (outcome := by_table(Event.CLAIM, job)):
            job = replace(moved(job, Event.CLAIM, outcome), lease_expired=True)
            job = moved(job, Event.EXPIRE, by_table(Event.EXPIRE, job))
            attempts += 1
        past_deadline = job.state is State.QUEUED and by_table(Event.DEADLINE_PASSED, job)
        assert past_deadline or is_ended(job) or job.state is State.UNKNOWN, (start, job)
        assert attempts <= start.attempts_left + 1, start


def _reachable(start):
    seen, waiting = {start}, deque([start])
    while waiting:
        for after in _neighbours(waiting.popleft()):
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return seen


def _neighbours(job):  # noqa: C901 - one case per kind of change
    """Yield the job after each rule, effect, cancel request or passing of time that is possible."""
    for event in Event:
        for target in (State.SUCCEEDED, State.FAILED, State.QUEUED) if event is Event.RESOLVE else (None,):
            outcome = by_table(event, job, target=target)
            if outcome:
                yield moved(job, event, outcome)
    if is_ended(job):
        yield replace(job, is_erased=True)
    else:
        yield replace(job, deadline_passed=True)
        yield replace(job, is_due=not job.is_due)
        yield replace(job, is_blocked=not job.is_blocked)
        yield replace(job, is_paused=not job.is_paused)
    if job.state in (State.QUEUED, State.RUNNING):
        yield replace(job, cancel_requested=True)
    if job.state is State.RUNNING:
        yield replace(job, lease_expired=True)
        if job.open_effects == 0 and not job.reconcile_only:
            yield replace(job, open_effects=1)
    if job.open_effects and job.state is State.RUNNING:
        yield replace(job, open_effects=0)
        yield replace(job, open_effects=0, done_effects=1)
    if job.open_effects and job.state is State.UNKNOWN:
        # The verdict and the transition are one transaction.
        for done in (job.done_effects, 1):
            closed = replace(job, open_effects=0, done_effects=done)
            for target in (State.SUCCEEDED, State.FAILED, State.QUEUED):
                yield moved(closed, Event.RESOLVE, by_table(Event.RESOLVE, closed, target=target))
