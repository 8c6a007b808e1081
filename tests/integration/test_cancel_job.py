"""A wish to cancel is granted while nothing has been done to the world, and else kept or refused, never half granted."""

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


def test_a_running_job_carries_the_wish_once_and_goes_on(tenant):
    job = claimed_job(tenant)
    asked = cancel(job)
    assert (asked.state, asked.attempt) == (State.RUNNING, 1)
    assert asked.cancel_requested_at is not None
    assert cancel(job).cancel_requested_at == asked.cancel_requested_at
    assert history(job.id) == ["submit", "claim", "cancel-requested"]


def test_a_queued_job_that_has_done_something_carries_the_wish(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {})
    expire(job)
    assert (cancel(job).state, cancel(job).cancel_requested_at is None) == (State.QUEUED, False)


def test_a_queued_job_in_doubt_carries_the_wish(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    expire(job)
    assert (cancel(job).state, cancel(job).cancel_requested_at is None) == (State.QUEUED, False)


def test_a_backing_off_job_is_canceled_at_once(tenant):
    job = expire(claimed_job(tenant))
    assert cancel(job).state == State.CANCELED


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.UNKNOWN])
def test_what_has_ended_otherwise_or_is_unknown_cannot_be_canceled(tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    with pytest.raises(IllegalTransition) as refused:
        cancel(job)
    assert refused.value.state is state
    assert everything(job.id) == before


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED])
def test_anothers_job_is_as_missing_as_none(tenant, state):
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


def test_a_retry_grants_the_wish_and_closes_the_attempt(tenant):
    job = claimed_job(tenant)
    cancel(job)
    ended = transitions.retry_job(job_id=job.id, attempt=1, delay=HOUR, detail="later", cause="test")
    assert ended.state == State.CANCELED
    assert history(job.id) == ["submit", "claim", "cancel-requested", "canceled"]


def test_an_expired_lease_leaves_the_wish_to_the_next_attempt(tenant):
    job = claimed_job(tenant)
    cancel(job)
    assert expire(job, delay=-HOUR).state == State.QUEUED
    assert claim(job.id).cancel_requested_at is not None


def test_the_last_lease_that_expires_grants_the_wish(tenant):
    job = claimed_job(tenant)
    write(job.id, "attempts_left = 0")
    cancel(job)
    assert expire(job).state == State.CANCELED
    assert history(job.id)[-1] == "expire"


def test_a_redrive_forgets_the_wish(tenant):
    job = queued_job(tenant)
    cancel(job)
    assert Job.objects.get(pk=job.id).cancel_requested_at is not None
    again = transitions.redrive_job(job_id=job.id)
    assert (again.state, again.cancel_requested_at) == (State.QUEUED, None)
    assert transitions.retry_job(
        job_id=job.id, attempt=claim(job.id).attempt, delay=ZERO, detail="later", cause="test"
    ).state == (State.QUEUED)
