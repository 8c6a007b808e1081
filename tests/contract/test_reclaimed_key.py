"""A job that is redriven after its key was purged reclaims the key, so that no other job can start under it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from accounts.scopes import format_scope
from idempotency import record_purge
from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.errors import KeyReassigned
from jobs.models import Job
from jobs.services import redrive_job
from jobs.states import State
from tests.support.client import accepted, charge, post, problem
from tests.support.factories import TenantFactory, claim
from tests.support.scenarios import everything

LONG = timedelta(days=3)


def expire_keys():
    """Backdate all keys, so that they have expired."""
    IdempotencyRecord.objects.update(created_at=F("created_at") - LONG, expires_at=F("expires_at") - LONG)


def fail(job_id):
    claimed = claim(job_id)
    return transitions.fail_job(job_id=claimed.id, attempt=claimed.attempt, detail="no", cause="no")


def redrive(tenant, job_id):
    return redrive_job(tenant_id=tenant.id, mode="test", job_id=job_id)


@pytest.fixture
def failed(api):
    """Return the id of a failed job whose key has been purged."""
    job_id = accepted(post(api))["id"]
    fail(job_id)
    expire_keys()
    assert record_purge.run_once(100) is not None
    assert not IdempotencyRecord.objects.exists()
    return job_id


def refused(api, job_id, body=None):
    document = problem(post(api) if body is None else post(api, body), 409, "idempotency-key-reused")
    assert document["resource"] == f"/v1/jobs/{job_id}"
    assert Job.objects.count() == 1


def test_the_key_of_a_redriven_job_starts_no_other_job(api, tenant, failed):
    redrive(tenant, failed)
    refused(api, failed)
    refused(api, failed, charge(amount=2000))
    record = IdempotencyRecord.objects.get()
    assert (record.scope, record.key) == (format_scope(tenant_id=tenant.id, mode="test"), "a-key")
    assert record.expires_at > timezone.now() + timedelta(hours=23)
    assert Job.objects.get().idempotency_record_id == record.id


def test_the_key_becomes_free_when_the_redriven_job_has_ended(api, tenant, failed):
    redrive(tenant, failed)
    expire_keys()
    refused(api, failed)
    record_purge.run_once(100)
    refused(api, failed)
    fail(failed)
    answer = post(api)
    assert accepted(answer)["id"] != failed
    assert answer["Idempotency-Replayed"] == "false"


def test_the_next_redrive_extends_a_reclaimed_key(api, tenant, failed):
    redrive(tenant, failed)
    fail(failed)
    expire_keys()
    redrive(tenant, failed)
    assert IdempotencyRecord.objects.get().expires_at > timezone.now() + timedelta(hours=23)
    refused(api, failed)


def test_a_job_whose_key_has_been_reused_is_not_redriven(api, tenant, failed):
    other = accepted(post(api))["id"]
    before = everything(failed)
    with pytest.raises(KeyReassigned):
        redrive(tenant, failed)
    assert everything(failed) == before
    assert IdempotencyRecord.objects.get().resource == f"job/{other}"


def test_the_same_key_of_another_tenant_does_not_prevent_a_redrive(api, tenant, failed):
    other_tenant = TenantFactory()
    accepted(post(api))
    scope = format_scope(tenant_id=other_tenant.id, mode="test")
    IdempotencyRecord.objects.update(scope=scope)
    assert redrive(tenant, failed).state == State.QUEUED
    assert IdempotencyRecord.objects.filter(key="a-key").count() == 2
