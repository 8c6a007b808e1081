"""A redriven job runs again without doing anything twice, and only while its key is still its own."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.scopes import format_scope
from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.errors import IllegalTransition, JobNotFound, KeyReassigned
from jobs.models import Job, JobStep
from jobs.operations import downstream_key
from jobs.payloads import decode_payload
from jobs.registry import current_operation
from jobs.services import redrive_job
from jobs.states import State
from jobs.submission import Submission, submit_job
from tests.support.factories import TenantFactory, claim, claimed_job
from tests.support.scenarios import begin, close, everything, history, in_state, publications, write

pytestmark = pytest.mark.django_db


def redrive(job):
    return redrive_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def fail(job):
    return transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")


def steps(job):
    return {step.name: step for step in JobStep.objects.filter(job_id=job.id)}


def keyed_job(tenant, record, *, key="k"):
    submission = Submission(operation=current_operation("test.scripted"), params={"script": "none"})
    return submit_job(
        tenant_id=tenant.id, mode="test", submission=submission, idempotency_record_id=record.id, idempotency_key=key
    )


def record_of(key="k", *, scope="another"):
    now = timezone.now()
    return IdempotencyRecord.objects.create(
        scope=scope,
        key=key,
        fingerprint=b"",
        fingerprint_version=1,
        fingerprint_kid="k1",
        method="POST",
        path="/v1/jobs",
        created_at=now - timedelta(hours=2),
        expires_at=now - timedelta(hours=1),
    )


def name_resource(record, resource):
    IdempotencyRecord.objects.filter(pk=record.pk).update(resource=resource)


def test_a_redriven_job_has_all_its_attempts_again_and_is_published(tenant, django_capture_on_commit_callbacks):
    job = in_state(tenant, State.FAILED)
    write(job.id, "attempts_left = 0, deadline_at = clock_timestamp(), cancel_requested_at = clock_timestamp()")
    with django_capture_on_commit_callbacks() as callbacks:
        again = redrive(job)
    assert len(publications(callbacks)) == 1
    assert (again.state, again.attempt, again.attempts_left) == (State.QUEUED, job.attempt, 3)
    assert (again.error, again.finished_at, again.deadline_at, again.cancel_requested_at) == (None,) * 4
    assert claim(job.id).attempt == job.attempt + 1


def test_finished_steps_stay_and_only_a_refused_one_gets_another_key(tenant):
    job = claimed_job(tenant)
    keys = {name: begin(job, name) for name in ("reserve", "notify", "charge")}
    close(job, "reserve", JobStep.State.DONE, {"id": 1})
    close(job, "notify", JobStep.State.NOT_DONE)
    close(job, "charge", JobStep.State.REFUSED)
    fail(job)
    again = redrive(job)
    assert (again.done_effects, again.open_effects) == (1, 0)
    after = steps(job)
    assert {name: step.state for name, step in after.items()} == {
        "reserve": "done",
        "notify": "not_done",
        "charge": "not_done",
    }
    assert {name: step.generation for name, step in after.items()} == {"reserve": 1, "notify": 1, "charge": 2}
    assert decode_payload(after["reserve"].result) == {"id": 1}
    assert after["charge"].downstream_key == downstream_key(job.id, "charge", 2) != keys["charge"]
    assert after["notify"].downstream_key == keys["notify"]
    assert begin(claim(job.id), "charge") == downstream_key(job.id, "charge", 2)


def test_each_redrive_of_a_refusal_raises_its_generation(tenant):
    job = claimed_job(tenant)
    for generation in (1, 2, 3):
        assert begin(job, "charge") == downstream_key(job.id, "charge", generation)
        close(job, "charge", JobStep.State.REFUSED)
        fail(job)
        redrive(job)
        job = claim(job.id)


def test_a_redriven_jobs_history_continues(tenant):
    job = in_state(tenant, State.CANCELED)
    redrive(job)
    assert history(job.id) == ["submit", "cancel", "redrive"]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.UNKNOWN])
def test_only_failed_and_canceled_jobs_can_be_redriven(tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    with pytest.raises(IllegalTransition) as refused:
        redrive(job)
    assert refused.value.state is state
    assert everything(job.id) == before


def test_another_tenants_job_cannot_be_redriven(tenant):
    job = in_state(tenant, State.FAILED)
    for tenant_id, mode in ((TenantFactory().id, "test"), (tenant.id, "live")):
        with pytest.raises(JobNotFound):
            redrive_job(tenant_id=tenant_id, mode=mode, job_id=job.id)
    assert Job.objects.get(pk=job.id).state == State.FAILED


def test_a_redrive_keeps_the_key_and_extends_it(tenant):
    record = record_of()
    job = keyed_job(tenant, record)
    name_resource(record, job.resource)
    fail(claim(job.id))
    assert redrive(job).state == State.QUEUED
    record.refresh_from_db()
    assert record.expires_at > timezone.now() + timedelta(hours=23)


def test_a_redrive_is_refused_once_the_key_has_started_another_job(tenant):
    record = record_of()
    job = keyed_job(tenant, record)
    fail(claim(job.id))
    name_resource(record, keyed_job(tenant, record).resource)
    before = everything(job.id)
    with pytest.raises(KeyReassigned):
        redrive(job)
    assert everything(job.id) == before
    record.refresh_from_db()
    assert record.expires_at < timezone.now()


def test_a_redrive_is_refused_once_the_key_was_purged_and_has_started_another_job(tenant):
    record = record_of()
    job = keyed_job(tenant, record)
    fail(claim(job.id))
    record.delete()
    keyed_job(tenant, record_of(scope=format_scope(tenant_id=tenant.id, mode="test")))
    with pytest.raises(KeyReassigned):
        redrive(job)
    assert Job.objects.get(pk=job.id).state == State.FAILED


def test_a_redrive_reclaims_a_purged_key(tenant):
    record = record_of()
    job = keyed_job(tenant, record)
    fail(claim(job.id))
    record.delete()
    keyed_job(TenantFactory(), record_of())
    assert redrive(job).state == State.QUEUED
