"""Idempotency keys and pauses in the admin."""

from __future__ import annotations

import pytest

from accounts.models import AuditEntry
from idempotency.models import IdempotencyRecord
from jobs.models import Pause
from tests.support.admin_pages import client_of, text_of, user_with
from tests.support.client import accepted, charge, post
from tests.support.factories import TenantFactory, claimed_job
from tests.support.keyed import keyed_job

pytestmark = pytest.mark.django_db

KEYS, PAUSES = "/admin/idempotency/idempotencyrecord/", "/admin/jobs/pause/"
READ_ONLY = ("view_job", "view_idempotencyrecord")


@pytest.fixture
def reader():
    return client_of(user_with(*READ_ONLY))


@pytest.fixture
def operator():
    return client_of(user_with(*READ_ONLY, "operate_job", name="grace"))


# --- Keys ---


def test_a_key_is_found_for_each_tenant_that_uses_it(tenant, reader):
    other = TenantFactory()
    jobs = [keyed_job(whose, "order-1001") for whose in (tenant, other)]
    IdempotencyRecord.objects.filter(pk=jobs[0].idempotency_record_id).update(replays=7)
    text = text_of(reader.get(KEYS, {"key": "order-1001"}))
    for part in (tenant.name, other.name, str(jobs[0].id), str(jobs[1].id), "Replays 7"):
        assert part in text


@pytest.mark.parametrize("key", ["order-100", "ORDER-1001", "\x00", "é", "%"])
def test_an_unused_key_is_not_found(tenant, reader, key):
    keyed_job(tenant, "order-1001")
    assert "There is no record with exactly the key" in text_of(reader.get(KEYS, {"key": key}))


def test_the_stored_response_is_not_shown(api, reader):
    job = accepted(post(api, charge(source="tok_visa", description="for-ada"), key="order-1001"))
    html = reader.get(KEYS, {"key": "order-1001"}).content.decode()
    assert job["id"] in html
    assert "tok_visa" not in html
    assert "for-ada" not in html


def test_only_operators_are_offered_a_release(tenant, reader, operator):
    job = keyed_job(tenant, "order-1001")
    address = f"/admin/jobs/job/{job.id}/release-key/"
    assert address in operator.get(KEYS, {"key": "order-1001"}).content.decode()
    assert address not in reader.get(KEYS, {"key": "order-1001"}).content.decode()


def test_the_key_search_needs_its_own_permission():
    assert client_of(user_with("view_job")).get(KEYS).status_code == 403


# --- Pauses ---


def pause(client, **data):
    return client.post(f"{PAUSES}add/", {"note": "The provider is down.", **data}, follow=True)


def test_an_operation_is_paused_and_resumed_with_the_users_name(tenant, operator):
    claimed_job(tenant)
    pause(operator, operation="test.scripted")
    made = Pause.objects.get()
    assert (made.operation, made.tenant_id, made.by) == ("test.scripted", None, "user grace")
    text = text_of(operator.get(PAUSES))
    assert "test.scripted every tenant" in text
    assert "1 running" in text
    operator.post(f"{PAUSES}{made.id}/resume/")
    assert "resumed" in text_of(operator.get(PAUSES))
    operator.post(f"{PAUSES}{made.id}/resume/")
    entries = AuditEntry.objects.exclude(actor="command").order_by("id")
    assert [(entry.action, entry.actor) for entry in entries] == [("pause", "user grace"), ("resume", "user grace")]


def test_a_tenant_is_paused(tenant, operator):
    pause(operator, tenant=tenant.id)
    assert Pause.objects.get().tenant_id == tenant.id
    assert "drained" in text_of(operator.get(PAUSES))


def test_empty_fields_do_not_pause_everything(tenant, operator):
    assert "choose to pause everything" in text_of(pause(operator))
    assert "choose to pause everything" in text_of(pause(operator, everything="on", tenant=tenant.id))
    assert not Pause.objects.exists()
    pause(operator, everything="on")
    made = Pause.objects.get()
    assert (made.operation, made.tenant_id) == (None, None)


def test_a_pause_needs_a_reason_and_is_created_once(operator):
    assert "This field is required" in text_of(pause(operator, everything="on", note=" "))
    for _ in range(2):
        answer = pause(operator, everything="on")
    assert "Not done." in text_of(answer)
    assert Pause.objects.count() == 1


def test_a_read_only_user_sees_pauses_but_cannot_change_them(reader, operator):
    pause(operator, everything="on")
    made = Pause.objects.get()
    html = reader.get(PAUSES).content.decode()
    assert "every operation" in html
    assert 'method="post" action="/admin/jobs' not in html
    for path in (f"{PAUSES}add/", f"{PAUSES}{made.id}/resume/"):
        assert reader.post(path, {"everything": "on", "note": "x"}).status_code == 403
        assert reader.get(path).status_code == 403
    assert Pause.objects.get().resumed_at is None
    assert Pause.objects.count() == 1
