"""An operator releases a key early: only if its job has ended, and only if the key still belongs to that request."""

from __future__ import annotations

import pytest
from django.db.models import F

from accounts.models import AuditEntry
from idempotency.errors import KeyChanged, ResourceNotEnded
from idempotency.models import IdempotencyRecord
from jobs import services
from jobs.errors import KeyReassigned
from jobs.models import Job
from jobs.states import State
from operators.job_actions import release_key
from tests.support.client import accepted, post
from tests.support.scenarios import in_state, write

pytestmark = pytest.mark.django_db

ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELED)


def keyed(tenant, state):
    """Create a job in this state and the unexpired record of its key."""
    job = in_state(tenant, state)
    record = IdempotencyRecord.objects.create(
        scope=f"{tenant.id}:test",
        key="order-1",
        fingerprint=b"",
        fingerprint_version=1,
        fingerprint_kid="k1",
        method="POST",
        path="/v1/jobs",
        resource=job.resource,
        expires_at=job.created_at.replace(year=job.created_at.year + 1),
    )
    return write(job.id, f"idempotency_record_id = {record.id}", "idempotency_key = 'order-1'"), record


def release(record, **fields):
    return release_key(record_id=record.id, owner=record.owner, actor="user ada", **{"note": "requested", **fields})


def test_the_next_request_under_a_released_key_is_new(api):
    first = accepted(post(api, key="order-1"))
    services.cancel_job(tenant_id=Job.objects.get().tenant_id, mode="test", job_id=first["id"])
    assert accepted(post(api, key="order-1"))["id"] == first["id"]
    release(IdempotencyRecord.objects.get())
    second = accepted(post(api, key="order-1"))
    assert second["id"] != first["id"]
    assert IdempotencyRecord.objects.get().resource == f"job/{second['id']}"


@pytest.mark.parametrize("state", ENDED)
def test_a_release_is_recorded_with_its_reason(tenant, state):
    job, record = keyed(tenant, state)
    release(record, note="  the shop starts over ")
    assert not IdempotencyRecord.objects.exists()
    entry = AuditEntry.objects.get()
    assert (entry.actor, entry.action, entry.note) == ("user ada", "key.release", "the shop starts over")
    assert entry.subject == f"key/{tenant.id}:test/order-1"
    assert entry.details["resource"] == job.resource


@pytest.mark.parametrize("state", sorted(set(State) - set(ENDED)))
def test_a_key_whose_job_has_not_ended_stays(tenant, state):
    _, record = keyed(tenant, state)
    with pytest.raises(ResourceNotEnded):
        release(record)
    assert IdempotencyRecord.objects.get() == record
    assert not AuditEntry.objects.exists()


def test_a_key_that_started_nothing_can_be_released(tenant):
    _, record = keyed(tenant, State.QUEUED)
    IdempotencyRecord.objects.update(resource=None)
    release(record)
    assert not IdempotencyRecord.objects.exists()


def test_a_release_without_a_reason_is_refused(tenant):
    _, record = keyed(tenant, State.FAILED)
    with pytest.raises(ValueError, match="note"):
        release(record, note=" ")
    assert IdempotencyRecord.objects.exists()


def test_a_key_that_has_been_taken_over_stays(tenant):
    _, record = keyed(tenant, State.FAILED)
    IdempotencyRecord.objects.update(owner=F("owner") + 1)
    with pytest.raises(KeyChanged):
        release(record)
    assert IdempotencyRecord.objects.exists()


def test_a_key_can_be_released_only_once(tenant):
    _, record = keyed(tenant, State.FAILED)
    release(record)
    with pytest.raises(KeyChanged):
        release(record)
    assert AuditEntry.objects.count() == 1


def test_a_redrive_reclaims_a_released_key_that_is_unused(tenant):
    job, record = keyed(tenant, State.FAILED)
    release(record)
    services.redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert IdempotencyRecord.objects.get().resource == job.resource


def test_a_redrive_after_the_released_key_was_used_is_refused(api, tenant):
    job, record = keyed(tenant, State.FAILED)
    release(record)
    accepted(post(api, key="order-1"))
    with pytest.raises(KeyReassigned):
        services.redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert Job.objects.get(pk=job.id).state == State.FAILED
