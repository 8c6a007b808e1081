"""The state of a job after an attempt ends: every situation on the row, as docs/reference/states.md says."""

from __future__ import annotations

from itertools import product
from uuid import uuid4

import pytest

from api.problem_catalogue import PROBLEMS
from jobs import transitions
from jobs.errors import IllegalTransition, JobNotFound, StaleAttempt
from jobs.models import Job, JobAttempt, JobStep
from jobs.payloads import decode_payload, encode_payload
from jobs.states import Event, State
from tests.support.factories import claim, claimed_job, end_lease, make_due, queued_job
from tests.support.job_model import Situation, by_design
from tests.support.scenarios import HOUR, ZERO, begin, close, everything, expire, history, outcomes, running, write

pytestmark = pytest.mark.django_db

SITUATIONS = [
    Situation(
        state=State.RUNNING,
        attempts_left=left,
        open_effects=opened,
        done_effects=done,
        cancel_requested=requested,
        reconcile_only=only,
        lease_expired=True,
    )
    for left, opened, done, requested, only in product((0, 1), (0, 1), (0, 1), (False, True), (False, True))
]
END = {
    Event.RETRY: lambda held: transitions.retry_job(**held, delay=ZERO, detail="later", cause="test"),
    Event.POSTPONE: lambda held: transitions.postpone_job(**held, delay=ZERO, detail="later"),
    Event.EXPIRE: lambda held: transitions.expire_job(**held, delay=ZERO),
    Event.SUCCEED: lambda held: transitions.succeed_job(**held, result=encode_payload(1)),
    Event.FAIL: lambda held: transitions.fail_job(**held, detail="never", cause="test"),
    Event.OUTCOME_UNKNOWN: lambda held: transitions.stop_as_unknown(**held, detail="who knows"),
    Event.STOP: lambda held: transitions.stop_canceled_job(**held),
}


def hold(job):
    return {"job_id": job.id, "attempt": job.attempt}


def put(job, situation):
    requested = "clock_timestamp()" if situation.cancel_requested else "NULL"
    write(
        job.id,
        f"attempts_left = {situation.attempts_left}, open_effects = {situation.open_effects}",
        f"done_effects = {situation.done_effects}, reconcile_only = {situation.reconcile_only}",
        f"cancel_requested_at = {requested}",
    )


@pytest.mark.parametrize("event", END)
def test_every_situation_ends_in_the_documented_state(tenant, event):
    for situation in SITUATIONS:
        job = end_lease(running(tenant).id)
        put(job, situation)
        way = by_design(event, situation)
        if way is None:
            before = everything(job.id)
            with pytest.raises(IllegalTransition):
                END[event](hold(job))
            assert everything(job.id) == before
            continue
        target, reconcile_only = way
        after = END[event](hold(job))
        assert (after.state, after.reconcile_only) == (target, reconcile_only or situation.reconcile_only), situation
        assert outcomes(job.id)[-1] is not None
        if target is State.FAILED:
            assert (decode_payload(after.error)["code"] == "partially-done") == (situation.done_effects > 0)


def test_a_lease_that_has_not_expired_is_left_alone(tenant):
    job = running(tenant)
    before = everything(job.id)
    assert transitions.expire_job(**hold(job), delay=ZERO) is None
    assert everything(job.id) == before


@pytest.mark.parametrize("event", [event for event in END if event is not Event.EXPIRE])
def test_a_stale_attempt_gets_an_error_and_changes_nothing(tenant, event):
    stale = claimed_job(tenant)
    expire(stale)
    queued = everything(stale.id)
    with pytest.raises(StaleAttempt):
        END[event](hold(stale))
    assert everything(stale.id) == queued
    claim(stale.id)
    running_again = everything(stale.id)
    with pytest.raises(StaleAttempt):
        END[event](hold(stale))
    assert everything(stale.id) == running_again


def test_an_unknown_operation_cannot_be_claimed(tenant):
    job = queued_job(tenant)
    before = everything(job.id)
    for known in ([], ["test.other@1"], ["test.scripted@2"], ["test.scripted"]):
        assert transitions.claim_job(job_id=job.id, worker="w", known_operations=known) is None
    assert everything(job.id) == before
    assert transitions.claim_job(job_id=uuid4(), worker="w", known_operations=["test.scripted@1"]) is None


def test_a_job_that_kills_every_worker_ends_failed(tenant):
    job = queued_job(tenant)
    fences = []
    while job.state == State.QUEUED:
        job = expire(claim(job.id), delay=-HOUR)
        fences.append(job.attempt)
    assert job.state == State.FAILED
    assert fences == [1, 2, 3]
    assert decode_payload(job.error)["code"] == "attempts-exhausted"
    assert decode_payload(job.error)["cause"] == "lease-expired"
    assert outcomes(job.id) == ["expire"] * 3
    assert history(job.id) == ["submit", *["claim", "expire"] * 3]


def test_a_job_whose_worker_always_dies_in_an_effect_gets_one_more_attempt_and_ends_unknown(tenant):
    job = queued_job(tenant)
    fences, only = [], []
    while job.state == State.QUEUED:
        held = claim(job.id)
        if not held.reconcile_only:
            begin(held, "charge")
        job = expire(held, delay=-HOUR)
        fences.append(job.attempt)
        only.append(held.reconcile_only)
    assert job.state == State.UNKNOWN
    assert (fences, only) == ([1, 2, 3, 4], [False, False, False, True])
    assert (job.open_effects, job.attempts_left, job.finished_at) == (1, 0, None)
    assert decode_payload(job.error)["code"] == "outcome-unknown"
    assert history(job.id)[-2:] == ["claim", "expire"]


def test_a_postponed_attempt_is_not_charged_even_if_it_is_reconcile_only(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    write(job.id, "attempts_left = 0")
    only = expire(job, delay=-HOUR)
    assert (only.attempts_left, only.reconcile_only) == (1, True)
    for _ in range(3):
        held = claim(only.id)
        assert (held.attempts_left, held.reconcile_only) == (0, True)
        only = transitions.postpone_job(**hold(held), delay=-HOUR, detail="too early")
        assert (only.attempts_left, only.reconcile_only) == (1, True)


def test_the_fence_never_falls_whatever_happens_to_the_job(tenant):
    job, seen = queued_job(tenant), [0]
    for event in (Event.RETRY, Event.POSTPONE, Event.EXPIRE, Event.FAIL):
        held = end_lease(claim(make_due(job.id).id).id)
        seen.append(held.attempt)
        seen.append(END[event](hold(held)).attempt)
    seen.append(transitions.apply_redrive(job_id=job.id).attempt)
    seen.append(claim(job.id).attempt)
    assert seen == [0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5]


def test_a_failure_after_a_done_effect_is_partially_done(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {"id": "ch_1"})
    failed = transitions.fail_job(**hold(job), detail="No stock.", cause="out_of_stock")
    error = decode_payload(failed.error)
    assert (error["code"], error["cause"]) == ("partially-done", "out_of_stock")
    assert PROBLEMS[error["code"]].retryable is False
    assert decode_payload(JobAttempt.objects.get(job_id=job.id).error)["code"] == "operation-failed"
    assert (failed.open_effects, failed.done_effects) == (0, 1)


def test_a_deadline_that_passed_fails_the_job_and_no_claim_takes_it(tenant):
    job = queued_job(tenant)
    write(job.id, "deadline_at = clock_timestamp()")
    assert transitions.claim_job(job_id=job.id, worker="w", known_operations=["test.scripted@1"]) is None
    lapsed = Job.objects.get(pk=job.id)
    assert transitions.fail_past_deadline(job_id=job.id) is None
    assert decode_payload(lapsed.error)["code"] == "deadline-exceeded"
    assert (lapsed.state, lapsed.attempt) == (State.FAILED, 0)
    assert history(job.id) == ["submit", "lapse"]


def test_a_job_with_an_open_effect_runs_on_after_its_deadline(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    write(expire(job, delay=-HOUR).id, "deadline_at = clock_timestamp()")
    assert transitions.fail_past_deadline(job_id=job.id) is None
    assert claim(job.id).attempt == 2


def test_a_missing_job_cannot_be_redriven():
    with pytest.raises(JobNotFound):
        transitions.apply_redrive(job_id=uuid4())


def test_a_claim_waits_until_the_retry_is_due(tenant):
    job = claimed_job(tenant)
    transitions.retry_job(**hold(job), delay=HOUR, detail="later", cause="test")
    assert transitions.claim_job(job_id=job.id, worker="w", known_operations=["test.scripted@1"]) is None
    assert Job.objects.get(pk=job.id).attempts_left == 2
    assert claim(make_due(job.id).id).attempt == 2
