"""Concurrent changes of one job, with real threads and commits: one takes effect, and the rows stay consistent."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction

from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.errors import IllegalTransition, StaleAttempt
from jobs.models import Job, JobStep
from jobs.payloads import encode_payload
from jobs.provider_events import ProviderEvent, record_provider_event
from jobs.queries.concurrency_queue import lock_concurrency_key
from jobs.queries.events import append_late_effect
from jobs.queries.lease import LeaseKey, renew_leases
from jobs.queries.steps import begin_effect
from jobs.services import cancel_job, redrive_job, resolve_job
from jobs.states import State
from tests.support.factories import TenantFactory, backdate, claimed_job, end_lease, queued_job
from tests.support.row_locks import until_waiting
from tests.support.scenarios import HOUR, ZERO, begin, close, history, in_state, outcomes, write
from tests.support.threads import at_once, at_one_row, in_turn
from tests.support.threads import begin as under_way
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

KNOWN = ["test.scripted@1"]


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


def claiming(job, worker="w"):
    return partial(transitions.claim_job, job_id=job.id, worker=worker, known_operations=KNOWN)


def canceling(job):
    return partial(cancel_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def expiring(job):
    return partial(transitions.expire_job, job_id=job.id, attempt=job.attempt, delay=ZERO)


def succeeding(job):
    return partial(transitions.succeed_job, job_id=job.id, attempt=job.attempt, result=encode_payload("mine"))


def redriving(job):
    return partial(redrive_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def renewing(job):
    return partial(renew_leases, [LeaseKey(job.id, job.attempt, HOUR)], lease=timedelta(seconds=45))


def queueing_by_verdict(job):
    """Resolve the effect as not done and queue the job."""
    verdict = {"step": "charge", "verdict": JobStep.State.NOT_DONE, "note": "", "by": "ada"}
    return partial(resolve_job, tenant_id=job.tenant_id, mode="test", job_id=job.id, then=State.QUEUED, **verdict)


def beginning(job, name="charge"):
    given = {"key": f"k-{name}", "lease": timedelta(seconds=45), "attempt_limit": HOUR}
    return partial(begin_effect, job_id=job.id, attempt=job.attempt, name=name, **given)


def now(job):
    return Job.objects.get(pk=job.id)


def test_one_of_many_concurrent_claims_gets_the_job(tenant):
    job = queued_job(tenant)
    results = at_one_row(job, *[claiming(job, f"w{number}") for number in range(6)])
    (winner,) = [result for result in results if result is not None]
    assert (now(job).worker, now(job).attempt, now(job).attempts_left) == (winner.worker, 1, 2)
    assert (history(job.id), outcomes(job.id)) == (["submit", "claim"], [None])


def test_concurrent_claims_of_many_jobs_take_each_once_without_a_deadlock(tenant):
    jobs = [queued_job(tenant) for _ in range(8)]
    rivals = [lambda order=order: [claiming(job)() for job in order] for order in (jobs, jobs[::-1], jobs, jobs[::-1])]
    results = at_once(*rivals)
    taken = [job.id for rival in results for job in rival if job is not None]
    assert sorted(taken) == sorted(job.id for job in jobs)


def test_a_cancel_after_a_claim_is_left_to_the_attempt(tenant):
    job = queued_job(tenant)
    claimed, canceled = in_turn(job, claiming(job), canceling(job))
    assert (claimed.state, canceled.state) == (State.RUNNING, State.RUNNING)
    assert now(job).cancel_requested_at is not None
    assert history(job.id) == ["submit", "claim", "cancel-requested"]


def test_a_job_canceled_first_cannot_be_claimed(tenant):
    job = queued_job(tenant)
    canceled, claimed = in_turn(job, canceling(job), claiming(job))
    assert (canceled.state, claimed) == (State.CANCELED, None)
    assert (history(job.id), outcomes(job.id)) == (["submit", "cancel"], [])


def test_two_concurrent_cancels_cancel_once(tenant):
    job = queued_job(tenant)
    results = at_one_row(job, canceling(job), canceling(job))
    assert [result.state for result in results] == [State.CANCELED] * 2
    assert history(job.id) == ["submit", "cancel"]


def test_a_cancel_after_an_effect_began_cannot_stop_the_job(tenant):
    job = claimed_job(tenant)
    begun, canceled = in_turn(job, beginning(job), canceling(job))
    assert (begun.key, canceled.state) == ("k-charge", State.RUNNING)
    with pytest.raises(IllegalTransition):
        transitions.stop_canceled_job(job_id=job.id, attempt=1)
    assert now(job).state == State.RUNNING


def test_an_effect_cannot_begin_after_the_job_was_canceled(tenant):
    job = claimed_job(tenant)
    cancel = partial(transitions.stop_canceled_job, job_id=job.id, attempt=1)
    canceled, begun = in_turn(job, cancel, beginning(job))
    assert (canceled.state, begun) == (State.CANCELED, None)
    assert not JobStep.objects.filter(job_id=job.id).exists()


def test_a_renewal_sent_in_time_wins_over_a_later_expiry(tenant):
    """The lease has expired when the expiry gets the row; it checks the lease again and finds it renewed."""
    job = _with_two_seconds_left(claimed_job(tenant))
    with transaction.atomic():
        [view] = renewing(job)().renewed.values()
        _until_expired(job)
        [expired] = under_way(expiring(job))
        until_waiting(1)
    assert (view.seconds_left > 40, expired()) == (True, None)
    assert (now(job).state, history(job.id)) == (State.RUNNING, ["submit", "claim"])


def test_an_effect_begun_in_time_renews_the_lease_before_a_later_expiry(tenant):
    job = _with_two_seconds_left(claimed_job(tenant))
    begun, expired = in_turn(job, beginning(job), expiring(job), between=lambda: _until_expired(job))
    assert (begun.lease_seconds_left > 40, expired) == (True, None)
    assert (now(job).state, now(job).open_effects) == (State.RUNNING, 1)


def _with_two_seconds_left(job):
    return write(job.id, "lease_expires_at = clock_timestamp() + interval '2 seconds'")


def _until_expired(job):
    with connection.cursor() as cursor:
        over = "SELECT %s <= clock_timestamp()"
        until(lambda: cursor.execute(over, [job.lease_expires_at]).fetchone()[0])


def test_a_result_before_the_expiry_counts(tenant):
    job = end_lease(claimed_job(tenant).id)
    succeeded, expired = in_turn(job, succeeding(job), expiring(job))
    assert (succeeded.state, expired) == (State.SUCCEEDED, None)
    assert (now(job).state, outcomes(job.id)) == (State.SUCCEEDED, ["succeed"])


def test_a_result_after_the_expiry_is_refused(tenant):
    job = end_lease(claimed_job(tenant).id)
    expired, refused = in_turn(job, expiring(job), succeeding(job))
    assert expired.state == State.QUEUED
    assert isinstance(refused, StaleAttempt)
    assert (now(job).result, outcomes(job.id)) == (None, ["expire"])


def test_an_effect_that_began_before_the_expiry_is_reconciled_by_the_next_attempt(tenant):
    job = claimed_job(tenant)
    write(job.id, "attempts_left = 0")
    begun, _ = in_turn(job, beginning(job), partial(backdate, job.id, lease_expires_at=HOUR))
    assert begun is not None
    assert (expiring(job)().state, now(job).open_effects, now(job).reconcile_only) == (State.QUEUED, 1, True)


def test_concurrent_settles_of_one_attempt_settle_it_once(tenant):
    job = claimed_job(tenant)
    held = {"job_id": job.id, "attempt": 1}
    results = at_one_row(
        job,
        succeeding(job),
        partial(transitions.fail_job, **held, detail="no", cause="no"),
        partial(transitions.retry_job, **held, delay=ZERO, detail="no", cause="no"),
        partial(transitions.postpone_job, **held, delay=ZERO, detail="no"),
        partial(transitions.stop_canceled_job, **held),
    )
    assert sum(isinstance(result, Job) for result in results) == 1
    assert sum(isinstance(result, StaleAttempt) for result in results) == 4
    assert len(outcomes(job.id)) == 1
    assert len(history(job.id)) == 3


def test_two_concurrent_redrives_queue_the_job_once(tenant):
    job = in_state(tenant, State.FAILED)
    results = at_one_row(job, redriving(job), redriving(job))
    assert sum(isinstance(result, Job) for result in results) == 1
    assert sum(isinstance(result, IllegalTransition) for result in results) == 1
    assert history(job.id).count("redrive") == 1


def test_two_concurrent_redrives_raise_the_generation_of_a_refused_step_once(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", JobStep.State.REFUSED)
    transitions.fail_job(job_id=job.id, attempt=1, detail="no", cause="no")
    at_one_row(job, redriving(job), redriving(job))
    assert JobStep.objects.get(job_id=job.id).generation == 2


def test_two_operators_resolve_a_job_once(tenant):
    job = in_state(tenant, State.UNKNOWN)
    verdict = {"tenant_id": tenant.id, "mode": "test", "job_id": job.id, "step": "charge", "note": "", "by": "ada"}
    done, not_done = in_turn(
        job,
        partial(resolve_job, **verdict, verdict=JobStep.State.DONE, then=State.SUCCEEDED, result=1),
        partial(resolve_job, **verdict, verdict=JobStep.State.NOT_DONE, then=State.FAILED),
    )
    assert done.state == State.SUCCEEDED
    assert isinstance(not_done, IllegalTransition)
    assert (now(job).done_effects, JobStep.objects.get(job_id=job.id).state) == (1, "done")


def reporting(job):
    """Record a provider event: the effect took place."""
    fields = {"source": "s", "message_id": "evt_1", "type": "charge.succeeded", "result": {"id": "ch_1"}}
    event = ProviderEvent(job_id=job.id, key=JobStep.objects.get(job_id=job.id).downstream_key, **fields)

    def record():
        with transaction.atomic():
            record_provider_event(event)

    return record


@pytest.mark.parametrize("first", ["provider", "operator"])
def test_an_operator_and_a_provider_resolve_a_job_once(tenant, first):
    job = in_state(tenant, State.UNKNOWN)
    verdict = {"tenant_id": tenant.id, "mode": "test", "job_id": job.id, "step": "charge", "note": "", "by": "ada"}
    operator = partial(resolve_job, **verdict, verdict=JobStep.State.NOT_DONE, then=State.FAILED)
    if first == "provider":
        recorded, resolved = in_turn(job, reporting(job), operator)
        assert isinstance(resolved, IllegalTransition)
        assert (now(job).state, now(job).done_effects) == (State.QUEUED, 1)
    else:
        resolved, recorded = in_turn(job, operator, reporting(job))
        assert (now(job).state, now(job).done_effects) == (State.FAILED, 0)
    assert recorded is None
    assert sorted(history(job.id)[-2:]) == ["provider-event", "resolve"]
    assert now(job).open_effects == 0


def test_concurrent_events_are_numbered_without_a_gap(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    late = partial(append_late_effect, job_id=job.id, attempt=1, data={})
    at_one_row(job, late, late, canceling(job), canceling(job), late)
    assert sorted(history(job.id)) == [
        "cancel-requested",
        "claim",
        "late-effect",
        "late-effect",
        "late-effect",
        "submit",
    ]


def assert_locks_the_concurrency_queue_before_the_job(job, action):
    with transaction.atomic(), connection.cursor() as cursor:
        lock_concurrency_key(tenant_id=job.tenant_id, mode="test", concurrency_key=job.concurrency_key)
        [begun] = under_way(action)
        until_waiting(1)
        # A transaction that has locked the queue may need the job's row.
        cursor.execute("SELECT FROM job WHERE id = %s FOR UPDATE NOWAIT", [job.id])
    begun()
    assert now(job).state == State.QUEUED


def test_a_provider_event_locks_the_concurrency_queue_before_the_job(tenant):
    job = write(in_state(tenant, State.UNKNOWN).id, "concurrency_key = 'account-1'")
    assert_locks_the_concurrency_queue_before_the_job(job, reporting(job))


@pytest.mark.parametrize(("state", "again"), [(State.FAILED, redriving), (State.UNKNOWN, queueing_by_verdict)])
def test_a_reclaim_of_a_purged_key_locks_the_concurrency_queue_before_the_job(tenant, state, again):
    job = in_state(tenant, state)
    job = write(job.id, "concurrency_key = 'account-1', idempotency_key = 'order-1', idempotency_record_id = 1")
    assert_locks_the_concurrency_queue_before_the_job(job, again(job))
    assert IdempotencyRecord.objects.get(pk=now(job).idempotency_record_id).key == "order-1"
