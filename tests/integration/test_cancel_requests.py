"""Cancel requests that meet a retry, a stale attempt or a second attempt: granted at once, or declined once."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from jobs import transitions
from jobs.models import Job, JobEvent
from jobs.operations import JobCanceled, LeaseLost, RetryableError
from jobs.services import cancel_job, redrive_job
from jobs.states import State
from tests.support.downstreams import Downstream, run
from tests.support.factories import claim, claimed_job, queued_job
from tests.support.scenarios import HOUR, everything, expire, history
from workers.job_handle import RunningJob
from workers.lease import Lease

pytestmark = pytest.mark.django_db

DECLINED = "cancel-declined"


def cancel(job):
    return cancel_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def retry(job, *, delay=HOUR):
    return transitions.retry_job(job_id=job.id, attempt=job.attempt, delay=delay, detail="no", cause="no")


def handle(job, *, has_charged=False):
    """Return the handle of an attempt that sees a cancel request, optionally after it has charged."""
    lease = Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=time.monotonic())
    running = RunningJob(job=job, lease=lease)
    if has_charged:
        running.effect("charge", lambda _key: {}, timeout=timedelta(seconds=1))
    lease.cancel_requested = True
    return running


def half_done(tenant):
    """A running job with a done effect, and the handle of its attempt."""
    job = claimed_job(tenant)
    running = handle(job, has_charged=True)
    return Job.objects.get(pk=job.id), running


@pytest.fixture
def meanwhile(monkeypatch):
    """Run an action after the first statement of `cancel_job` has found no queued job."""

    def set_up(happen):
        first = [happen]

        def look_then_happen(*, job_id, event_data):
            found = cancel_queued_job(job_id=job_id)
            if first:
                first.pop()()
            return found

        cancel_queued_job = transitions.cancel_queued_job
        monkeypatch.setattr(transitions, "cancel_queued_job", look_then_happen)

    return set_up


def test_a_running_job_that_a_retry_queues_in_between_is_canceled_at_once(tenant, meanwhile):
    job = claimed_job(tenant)
    meanwhile(lambda: retry(job))
    canceled = cancel(job)
    assert canceled.state == State.CANCELED
    assert canceled.finished_at is not None
    assert history(job.id) == ["submit", "claim", "retry", "cancel-requested", "cancel"]
    assert Job.objects.get(pk=job.id).state == State.CANCELED


def test_a_job_with_a_done_effect_that_a_retry_queues_in_between_gets_a_cancel_request(tenant, meanwhile):
    job, _ = half_done(tenant)
    meanwhile(lambda: retry(job))
    requested = cancel(job)
    assert (requested.state, requested.cancel_requested_at is None) == (State.QUEUED, False)
    assert history(job.id) == ["submit", "claim", "retry", "cancel-requested"]


def test_a_job_that_is_claimed_again_in_between_gets_a_cancel_request(tenant, meanwhile):
    job = claimed_job(tenant)

    def retry_and_claim():
        retry(job, delay=-HOUR)
        claim(job.id)

    meanwhile(retry_and_claim)
    requested = cancel(job)
    assert (requested.state, requested.attempt, requested.cancel_requested_at is None) == (State.RUNNING, 2, False)
    with pytest.raises(JobCanceled):
        handle(requested).check()


def test_a_stale_attempt_declines_nothing(tenant):
    stale, job = half_done(tenant)
    cancel(stale)
    expire(stale, delay=-HOUR)
    claim(stale.id)
    before = everything(stale.id)
    with pytest.raises(LeaseLost):
        job.check()
    assert everything(stale.id) == before
    with pytest.raises(LeaseLost):
        job.progress(1, 1)
    assert everything(stale.id) == before


def test_an_attempt_of_an_ended_job_declines_nothing(tenant):
    stale, job = half_done(tenant)
    transitions.fail_job(job_id=stale.id, attempt=stale.attempt, detail="no", cause="no")
    before = everything(stale.id)
    with pytest.raises(LeaseLost):
        job.check()
    assert everything(stale.id) == before


def test_a_cancel_request_is_declined_once_however_many_attempts_see_it(tenant, script):
    def perform(job):
        job.effect("charge", Downstream("ok").call)
        if job.attempt == 1:
            cancel(queued)
        job.progress(1, 1)
        job.check()
        if job.attempt < 3:
            raise RetryableError
        return "done"

    queued = queued_job(tenant, script=script(perform))
    for state in (State.QUEUED, State.QUEUED, State.SUCCEEDED):
        assert run(queued.id).state == state
    assert history(queued.id).count(DECLINED) == 1
    assert JobEvent.objects.get(job_id=queued.id, type=DECLINED).attempt == 1


def test_a_new_cancel_request_after_a_redrive_is_declined_again(tenant):
    job, running = half_done(tenant)
    for requests in (1, 2):
        cancel(job)
        running.check()
        assert history(job.id).count(DECLINED) == requests
        transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")
        redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        job = claim(job.id)
        running = handle(job, has_charged=True)
