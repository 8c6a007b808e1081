"""Each rule of states.py on the row: applied completely if its guards hold, and else nothing changes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import IntegrityError, connection

from jobs.models import Job, JobAttempt, JobEvent
from jobs.payloads import encode_payload
from jobs.queries.rule_statement import apply_first_rule
from jobs.states import RULES, TERMINAL, Event, Fence, Guard, State
from tests.support.factories import known_operations
from tests.support.scenarios import (
    WITH,
    WITHOUT,
    blocker,
    errors,
    everything,
    history,
    in_state,
    outcomes,
    write,
    write_what_fits,
)

pytestmark = pytest.mark.django_db

DELAY, GRACE, LEASE = timedelta(minutes=7), timedelta(seconds=5), timedelta(seconds=45)
RECORDED_END = {State.FAILED: "fail", State.CANCELED: "canceled", State.UNKNOWN: "doubt"}


def named(rule):
    marks = [*rule.guards, *(["reconcile"] if rule.reconcile_only else [])]
    return "-".join([rule.event, rule.target, *marks])


def each(rules=RULES):
    return pytest.mark.parametrize("rule", rules, ids=named)


def apply(rule, job, **values):
    """Pass every value that a rule may use, so that only the row decides."""
    given = {
        "attempt": job.attempt,
        "event_data": {"key": "value"},
        "delay": DELAY,
        "lease": LEASE,
        "worker": "w",
        "known_operations": sorted(known_operations()),
        "result": encode_payload("new"),
        "keep_cancel_request": False,
        **errors(),
        **values,
    }
    return apply_first_rule([rule], job_id=job.id, **given)


def ready(tenant, rule, *, state=None):
    """Return a job in one of the rule's states, with every guard of the rule holding."""
    job = in_state(tenant, state or min(rule.sources))
    return write(job.id, *(WITH[guard] for guard in rule.guards))


def clock():
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


@each()
def test_a_rule_is_applied_if_its_guards_hold(tenant, rule):
    for source in sorted(rule.sources):
        before = ready(tenant, rule, state=source)
        began = clock()
        after = apply(rule, before)
        ended = clock()
        assert after == Job.objects.get(pk=before.id)
        assert after.state == rule.target
        assert after.attempt == before.attempt + (rule.fence is Fence.INCREMENTS)
        check_event(rule, before, after)
        check_attempt(rule, before, began, ended)
        check_target(rule, before, after, began, ended)


def check_event(rule, before, after):
    assert after.event_seq == before.event_seq + 1
    assert history(after.id)[-1] == recorded_name(rule)
    event = JobEvent.objects.get(job_id=after.id, seq=after.event_seq)
    assert (event.attempt, event.data) == (after.attempt, {"key": "value"})


def recorded_name(rule):
    ended_by_retry = rule.event in (Event.RETRY, Event.POSTPONE) and rule.target is not State.QUEUED
    return RECORDED_END[rule.target] if ended_by_retry else rule.event


def check_attempt(rule, before, began, ended):
    attempts = list(JobAttempt.objects.filter(job_id=before.id).order_by("number"))
    if rule.fence is Fence.INCREMENTS:
        assert (attempts[-1].number, attempts[-1].worker) == (before.attempt + 1, "w")
        assert (attempts[-1].ended_at, attempts[-1].outcome) == (None, None)
        assert began <= attempts[-1].started_at <= ended
    elif State.RUNNING in rule.sources:
        assert outcomes(before.id) == ["postpone", recorded_name(rule)]
        assert began <= attempts[-1].ended_at <= ended
        assert bytes(attempts[-1].error) == errors()["attempt_error"]
    else:
        assert len(attempts) == before.attempt
        assert not any(began <= attempt.ended_at <= ended for attempt in attempts)


def check_target(rule, before, after, began, ended):
    unchanged = {"open_effects", "done_effects", "started_at", "worker", "lease_expires_at", "created_at"}
    match rule.target:
        case State.RUNNING:
            unchanged -= {"started_at", "worker", "lease_expires_at"}
            assert began <= after.started_at <= ended
            assert began + LEASE <= after.lease_expires_at <= ended + LEASE
            assert (after.worker, after.attempts_left) == ("w", before.attempts_left - 1)
        case State.QUEUED:
            assert began + DELAY <= after.run_at <= ended + DELAY
            check_queued_again(rule, before, after)
        case State.SUCCEEDED:
            assert (bytes(after.result), after.error) == (encode_payload("new"), None)
        case State.FAILED:
            assert bytes(after.error) == errors()["error"]
        case State.CANCELED:
            assert (after.error, after.result) == (None, None)
            assert (after.cancel_requested_at is None) == (rule.event is Event.STOP)
        case State.UNKNOWN:
            assert bytes(after.error) == errors()["unknown_error"]
    if rule.target is not State.RUNNING:
        unchanged -= {"worker", "lease_expires_at"}
        assert (after.worker, after.lease_expires_at) == (None, None)
    assert not after.held
    if rule.target in TERMINAL:
        assert began <= after.finished_at <= ended
    else:
        assert after.finished_at is None
    for name in unchanged:
        assert getattr(after, name) == getattr(before, name), name


def check_queued_again(rule, before, after):
    if rule.event in (Event.REDRIVE, Event.RESOLVE):
        assert (after.attempts_left, after.reconcile_only) == (after.max_attempts, False)
        assert (after.cancel_requested_at, after.deadline_at) == (None, None)
        assert (after.error, after.result) == (None, None)
    elif rule.reconcile_only:
        assert (after.attempts_left, after.reconcile_only) == (1, True)
    elif rule.event is Event.POSTPONE:
        assert after.attempts_left == before.attempts_left + 1
    else:
        assert after.attempts_left == before.attempts_left


@pytest.mark.parametrize(
    ("rule", "guard"),
    [(rule, guard) for rule in RULES for guard in rule.guards],
    ids=lambda value: value if isinstance(value, str) else named(value),
)
def test_a_rule_is_not_applied_if_one_guard_does_not_hold(tenant, rule, guard):
    job = ready(tenant, rule)
    blocker(tenant)
    try:
        write(job.id, WITHOUT[guard])
    except IntegrityError as forbidden:
        # The only row that a constraint refuses.
        assert (rule.event, guard) == (Event.CLAIM, Guard.ATTEMPTS_LEFT), forbidden  # noqa: PT017
        return
    before = everything(job.id)
    assert apply(rule, job) is None
    assert everything(job.id) == before


@pytest.mark.parametrize(
    ("rule", "state"),
    [(rule, state) for rule in RULES for state in State if state not in rule.sources],
    ids=lambda value: value if isinstance(value, str) else named(value),
)
def test_a_rule_is_not_applied_in_any_other_state(tenant, rule, state):
    job = in_state(tenant, state)
    write_what_fits(job.id, *(WITH[guard] for guard in rule.guards))
    before = everything(job.id)
    assert apply(rule, job) is None
    assert everything(job.id) == before


@each([rule for rule in RULES if rule.fence is Fence.CHECKS])
@pytest.mark.parametrize("off", [-1, 1])
def test_a_rule_is_not_applied_for_another_attempt(tenant, rule, off):
    job = ready(tenant, rule)
    before = everything(job.id)
    assert apply(rule, job, attempt=job.attempt + off) is None
    assert everything(job.id) == before
    assert apply(rule, job) is not None


@each([rule for rule in RULES if rule.target is State.FAILED and Guard.NO_DONE_EFFECTS not in rule.guards])
def test_a_failure_after_a_done_effect_is_partially_done(tenant, rule):
    job = ready(tenant, rule)
    write(job.id, "done_effects = 1")
    assert bytes(apply(rule, job).error) == errors()["partial_error"]


@each([rule for rule in RULES if rule.event is Event.POSTPONE and rule.target is State.QUEUED])
def test_a_postpone_never_raises_attempts_left_above_max_attempts(tenant, rule):
    job = ready(tenant, rule)
    write(job.id, "attempts_left = max_attempts")
    assert apply(rule, job).attempts_left == job.max_attempts
