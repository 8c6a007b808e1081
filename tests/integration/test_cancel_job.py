"""A job is canceled while no effect has begun; otherwise the cancel request is stored or refused."""

from __future__ import annotations

from uuid import uuid4

import pytest

from jobs import transitions
from jobs.errors import IllegalTransition, JobNotFound
from jobs.models import Job, JobStep
from jobs.services import cancel_job
from jobs.states import State
from tests.support.factories import TenantFactory, claim, claimed_job, queued_job
from tests.support.scenarios import HOUR, ZERO, begin, close, everything, expire, history, in_state, write

pytestmark = pytest.mark.django_db


def cancel(job):
    return cancel_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def test_a_queued_job_is_canceled_at_once_and_once(tenant):
    job = queued_job(tenant)
    canceled = cancel(job)
    assert (canceled.state, canceled.attempt) == (State.CANCELED, 0)
    assert canceled.finished_at is not None
    before = everything(job.id)
    assert cancel(job) == canceled
    assert everything(job.id) == before
    assert history(job.id) == ["submit", "cancel"]


def test_a_running_job_gets_one_cancel_request_and_continues(tenant):
    job = claimed_job(tenant)
    requested = cancel(job)
    assert (requested.state, requested.attempt) == (State.RUNNING, 1)
    assert requested.cancel_requested_at is not None
    assert cancel(job).cancel_requested_at == requested.cancel_requested_at
    assert history(job.id) == ["submit", "claim", "cancel-requested"]


def test_a_queued_job_with_a_done_effect_gets_a_cancel_request(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {})
    expire(job)
    assert (cancel(job).state, cancel(job).cancel_requested_at is None) == (State.QUEUED, False)


def test_a_queued_job_with_an_open_effect_gets_a_cancel_request(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    expire(job)
    assert (cancel(job).state, cancel(job).cancel_requested_at is None) == (State.QUEUED, False)


def test_a_backing_off_job_is_canceled_at_once(tenant):
    job = expire(claimed_job(tenant))
    assert cancel(job).state == State.CANCELED


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.UNKNOWN])
def test_succeeded_failed_and_unknown_jobs_cannot_be_canceled(tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    with pytest.raises(IllegalTransition) as refused:
        cancel(job)
    assert refused.value.state is state
    assert everything(job.id) == before


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_another_tenants_job_is_not_found(tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    for tenant_id, mode, job_id in (
        (TenantFactory().id, "test", job.id),
        (tenant.id, "live", job.id),
        (tenant.id, "test", uuid4()),
    ):
        with pytest.raises(JobNotFound):
            cancel_job(tenant_id=tenant_id, mode=mode, job_id=job_id)
    assert everything(job.id) == before


def test_a_retry_grants_the_cancel_request_and_closes_the_attempt(tenant):
    job = claimed_job(tenant)
    cancel(job)
    ended = transitions.retry_job(job_id=job.id, attempt=1, delay=HOUR, detail="later", cause="test")
    assert ended.state == State.CANCELED
    assert history(job.id) == ["submit", "claim", "cancel-requested", "canceled"]


def test_an_expired_lease_leaves_the_cancel_request_to_the_next_attempt(tenant):
    job = claimed_job(tenant)
    cancel(job)
    assert expire(job, delay=-HOUR).state == State.QUEUED
    assert claim(job.id).cancel_requested_at is not None


def test_the_last_expired_lease_grants_the_cancel_request(tenant):
    job = claimed_job(tenant)
    write(job.id, "attempts_left = 0")
    cancel(job)
    assert expire(job).state == State.CANCELED
    assert history(job.id)[-1] == "expire"


def test_a_redrive_clears_the_cancel_request(tenant):
    job = queued_job(tenant)
    cancel(job)
    assert Job.objects.get(pk=job.id).cancel_requested_at is not None
    again = transitions.apply_redrive(job_id=job.id)
    assert (again.state, again.cancel_requested_at) == (State.QUEUED, None)
    assert transitions.retry_job(
        job_id=job.id, attempt=claim(job.id).attempt, delay=ZERO, detail="later", cause="test"
    ).state == (State.QUEUED)
