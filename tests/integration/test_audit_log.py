"""An audit entry commits with the action that it describes, and cannot be changed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts import audit
from accounts.models import ApiKey, AuditEntry, Tenant
from accounts.services import create_api_key, create_tenant, revoke_api_key
from jobs.errors import IllegalTransition, JobErased, JobNotFound
from jobs.models import Job, JobEvent, JobStep
from jobs.states import State
from operators import job_actions
from tests.support.scenarios import in_state
from workers import purge

pytestmark = pytest.mark.django_db

ADA = "user ada"
NOBODYS = "00000000-0000-7000-8000-000000000000"


def audited():
    return list(AuditEntry.objects.order_by("id").values_list("actor", "action", "subject", "note"))


def last_audited(job):
    return JobEvent.objects.filter(job_id=job.id).latest("seq").data


def entry(**values):
    with transaction.atomic():
        return audit.record(**{"actor": ADA, "action": "test", "subject": "job/1", **values})


def test_creating_a_tenant_and_creating_and_revoking_a_key_are_audited():
    tenant = create_tenant(name="acme", actor=ADA)
    credential = create_api_key(tenant=tenant, mode="live", is_admin=True)
    assert revoke_api_key(key_id=credential.id, actor=ADA, note="it leaked")
    assert not revoke_api_key(key_id=credential.id, actor=ADA, note="again")
    assert audited() == [
        (ADA, "tenant.create", "tenant/acme", ""),
        ("command", "key.create", f"api-key/{credential.id}", ""),
        (ADA, "key.revoke", f"api-key/{credential.id}", "it leaked"),
    ]
    made = AuditEntry.objects.get(action="key.create")
    assert made.details == {"tenant": "acme", "mode": "live", "is_admin": True}
    assert credential.secret not in str(AuditEntry.objects.values())


def test_a_rolled_back_action_is_not_audited():
    with transaction.atomic():
        create_tenant(name="acme")
        transaction.set_rollback(True)
    assert (Tenant.objects.count(), ApiKey.objects.count(), audited()) == (0, 0, [])


@pytest.mark.django_db(transaction=True)
def test_an_entry_outside_of_a_transaction_is_refused():
    with pytest.raises(RuntimeError, match="transaction"):
        audit.record(actor=ADA, action="test", subject="job/1")
    assert audited() == []


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET note = ''", "DELETE FROM audit_entry"])
def test_the_database_refuses_to_change_an_entry(statement):
    entry(note="as it was")
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert [note for *_, note in audited()] == ["as it was"]


def test_text_that_the_database_cannot_hold_does_not_stop_an_action():
    assert entry(note="a\x00b\ud800c", subject="key/" + "k" * 999).note == "ab?c"


def test_entries_are_purged_after_their_retention_and_not_before(settings):
    settings.AUDIT_RETENTION_SECONDS = 100 * 24 * 3600
    settings.BATCH_ROWS = 2
    for days in (103, 102, 101, 99, 1):
        at = timezone.now() - timedelta(days=days)
        AuditEntry.objects.create(at=at, actor=ADA, action="test", subject=str(days))
    assert purge.run_once() == purge.Counts(audit_deleted=3)
    assert [subject for _, _, subject, _ in audited()] == ["99", "1"]


def test_a_cancel_by_an_operator_is_audited_with_its_reason(tenant):
    waiting, running = in_state(tenant, State.QUEUED), in_state(tenant, State.RUNNING)
    assert job_actions.cancel_job(job_id=waiting.id, actor=ADA, note="a mistake").state == State.CANCELED
    assert job_actions.cancel_job(job_id=running.id, actor=ADA).cancel_requested_at is not None
    assert audited() == [(ADA, "job.cancel", waiting.resource, "a mistake"), (ADA, "job.cancel", running.resource, "")]
    assert last_audited(waiting) == {"by": ADA, "note": "a mistake"}
    assert last_audited(running) == {"by": ADA}


def test_a_redrive_by_an_operator_is_audited(tenant):
    job = in_state(tenant, State.FAILED)
    assert job_actions.redrive_job(job_id=job.id, actor=ADA, note="the bank is back").state == State.QUEUED
    assert audited() == [(ADA, "job.redrive", job.resource, "the bank is back")]
    assert last_audited(job) == {"by": ADA, "note": "the bank is back"}


def test_a_verdict_is_audited_and_needs_a_reason(tenant):
    job = in_state(tenant, State.UNKNOWN)
    verdict = {
        "job_id": job.id,
        "step": "charge",
        "verdict": JobStep.State.NOT_DONE,
        "then": State.FAILED,
        "actor": ADA,
    }
    with pytest.raises(ValueError, match="note"):
        job_actions.resolve_job(**verdict, note="  ")
    assert audited() == []
    assert job_actions.resolve_job(**verdict, note="not in the bank's book").state == State.FAILED
    assert audited() == [(ADA, "job.resolve", job.resource, "not in the bank's book")]
    assert AuditEntry.objects.get().details == {"step": "charge", "verdict": "not_done", "then": "failed"}


def test_an_erasure_by_an_operator_is_audited_without_the_payload(tenant):
    job = in_state(tenant, State.SUCCEEDED)
    job_actions.erase_payload(job_id=job.id, actor=ADA, note="asked by the customer")
    assert audited() == [(ADA, "job.erase", job.resource, "asked by the customer")]
    assert AuditEntry.objects.get().details == {}


@pytest.mark.parametrize(
    ("act", "state"),
    [
        (job_actions.cancel_job, State.SUCCEEDED),
        (job_actions.redrive_job, State.SUCCEEDED),
        (job_actions.erase_payload, State.RUNNING),
    ],
)
def test_a_refused_action_is_not_audited(tenant, act, state):
    job = in_state(tenant, state)
    with pytest.raises(IllegalTransition):
        act(job_id=job.id, actor=ADA)
    assert audited() == []
    assert Job.objects.get(pk=job.id).state == state


def test_an_action_on_a_missing_or_erased_job_is_refused(tenant):
    job = in_state(tenant, State.FAILED)
    job_actions.erase_payload(job_id=job.id, actor=ADA)
    with pytest.raises(JobErased):
        job_actions.redrive_job(job_id=job.id, actor=ADA)
    with pytest.raises(JobNotFound):
        job_actions.cancel_job(job_id=NOBODYS, actor=ADA)
    assert len(audited()) == 1
