"""Paused jobs are not claimed and not published, running jobs continue, and a resume makes everything due again."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import AuditEntry
from jobs import services, transitions
from jobs.errors import AlreadyPaused, NotPaused
from jobs.models import Job, Pause
from jobs.payloads import encode_payload
from jobs.queries.held import release_resumed_jobs
from jobs.registry import known_operations
from jobs.states import State
from operators import pauses
from tests.support.client import accepted, post
from tests.support.factories import TenantFactory, claim, claimed_job, make_due, queued_job
from tests.support.scenarios import write
from workers import sweep

pytestmark = pytest.mark.django_db

REASON = {"actor": "user ada", "note": "the bank is down"}


def is_claimed(job):
    known = known_operations()
    return transitions.claim_job(job_id=job.id, worker="w", known_operations=known) is not None


def refreshed(job):
    return Job.objects.get(pk=job.id)


def due_jobs(tenant, count, **options):
    return [make_due(queued_job(tenant, **options).id) for _ in range(count)]


@pytest.mark.parametrize(
    ("paused", "expected"),
    [
        ({}, {"mine", "other operation", "other tenant"}),
        ({"operation": "test.scripted"}, {"mine", "other tenant"}),
        ({"tenant_id": True}, {"mine", "other operation"}),
        ({"operation": "test.scripted", "tenant_id": True}, {"mine"}),
        ({"operation": "test.quick"}, set()),
    ],
    ids=["everything", "an operation", "a tenant", "both", "something else"],
)
def test_paused_jobs_are_not_claimed_and_all_others_are(tenant, paused, expected):
    jobs = {
        "mine": queued_job(tenant),
        "other operation": write(queued_job(tenant).id, "operation = 'test.anything'"),
        "other tenant": queued_job(TenantFactory()),
    }
    if "tenant_id" in paused:
        paused = {**paused, "tenant_id": tenant.id}
    pauses.pause(**paused, **REASON)
    assert {name for name, job in jobs.items() if not is_claimed(job)} == expected


def test_a_resumed_job_is_claimed(tenant):
    job = queued_job(tenant)
    paused = pauses.pause(**REASON)
    assert not is_claimed(job)
    pauses.resume(pause_id=paused.id, actor="user ada")
    assert is_claimed(job)


def test_running_jobs_continue_and_are_counted_until_they_end(tenant):
    jobs = [claimed_job(tenant), claimed_job(TenantFactory())]
    pauses.pause(**REASON)
    pauses.pause(tenant_id=tenant.id, **REASON)
    pauses.pause(operation="test.anything", **REASON)
    assert [running for _, running in pauses.list_pauses()] == [2, 1, 0]
    for job in jobs:
        transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(1))
    assert [running for _, running in pauses.list_pauses()] == [0, 0, 0]


def test_the_api_accepts_jobs_during_a_pause(api):
    pauses.pause(**REASON)
    assert accepted(post(api))["state"] == "queued"


def test_a_pause_is_listed_and_audited_with_its_actor_and_reason(tenant):
    made = pauses.pause(operation="test.scripted", tenant_id=tenant.id, **REASON)
    ((shown, _),) = pauses.list_pauses()
    assert (shown.operation, shown.tenant.name, shown.by, shown.note) == (
        "test.scripted",
        tenant.name,
        "user ada",
        "the bank is down",
    )
    pauses.resume(pause_id=made.id, actor="user bob", note="it is back")
    entries = [
        (entry.actor, entry.action, entry.subject, entry.note, entry.details)
        for entry in AuditEntry.objects.order_by("id")
    ]
    details = {"operation": "test.scripted", "tenant": tenant.name}
    assert entries == [
        ("user ada", "pause", f"pause/{made.id}", "the bank is down", details),
        ("user bob", "resume", f"pause/{made.id}", "it is back", details),
    ]


def test_the_same_pause_is_created_once_and_resumed_once(tenant):
    first = pauses.pause(operation="test.scripted", **REASON)
    with pytest.raises(AlreadyPaused):
        pauses.pause(operation="test.scripted", **REASON)
    pauses.pause(operation="test.scripted", tenant_id=tenant.id, **REASON)
    pauses.resume(pause_id=first.id, actor="user ada")
    with pytest.raises(NotPaused):
        pauses.resume(pause_id=first.id, actor="user ada")
    pauses.pause(operation="test.scripted", **REASON)
    assert AuditEntry.objects.count() == 4


@pytest.mark.parametrize(
    "changes", [{"note": " "}, {"operation": ""}, {"operation": "x" * 101}, {"tenant_id": 987_654_321}]
)
def test_an_invalid_pause_is_refused(tenant, changes):
    with pytest.raises(ValueError, match=r"."):
        pauses.pause(**{**REASON, **changes})
    assert not Pause.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_paused_job_is_held_once_and_never_published(tenant, hinted):
    job = due_jobs(tenant, 1)[0]
    other = due_jobs(TenantFactory(), 1)[0]
    pauses.pause(tenant_id=tenant.id, **REASON)
    assert sweep.run_once() == sweep.Counts(hinted=1, held=1)
    assert [due.id for due in hinted] == [other.id]
    assert refreshed(job).held
    assert sweep.run_once() == sweep.Counts(hinted=1)


def test_paused_jobs_do_not_delay_the_jobs_behind_them(tenant, hinted, settings):
    settings.BATCH_ROWS = 3
    due_jobs(tenant, 10)
    behind = due_jobs(TenantFactory(), 1)[0]
    pauses.pause(tenant_id=tenant.id, **REASON)
    assert sweep.run_once() == sweep.Counts(hinted=1, held=10)
    assert [due.id for due in hinted] == [behind.id]


def test_a_resume_releases_all_held_jobs_at_once(tenant, hinted, settings):
    settings.BATCH_ROWS = 3
    jobs = due_jobs(tenant, 10)
    made = pauses.pause(**REASON)
    sweep.run_once()
    pauses.resume(pause_id=made.id, actor="user ada")
    assert sweep.run_once() == sweep.Counts(hinted=10, released=10)
    assert {due.id for due in hinted} == {job.id for job in jobs}
    assert pauses.list_pauses() == []


def test_a_job_under_two_pauses_stays_held_until_both_are_resumed(tenant, hinted):
    mine, others = due_jobs(tenant, 2), due_jobs(TenantFactory(), 2)
    everything, one = pauses.pause(**REASON), pauses.pause(tenant_id=tenant.id, **REASON)
    assert sweep.run_once().held == 4
    pauses.resume(pause_id=everything.id, actor="user ada")
    assert sweep.run_once() == sweep.Counts(hinted=2, released=2)
    assert {due.id for due in hinted} == {job.id for job in others}
    pauses.resume(pause_id=one.id, actor="user ada")
    assert sweep.run_once() == sweep.Counts(hinted=4, released=2)
    assert {due.id for due in hinted} == {job.id for job in (*mine, *others)}


def test_a_release_that_is_interrupted_continues_where_it_stopped(tenant, settings):
    settings.BATCH_ROWS = 4
    due_jobs(tenant, 10)
    made = pauses.pause(**REASON)
    sweep.run_once()
    pauses.resume(pause_id=made.id, actor="user ada")
    known = known_operations()
    progress = [release_resumed_jobs(limit=4, known_operations=known) for _ in range(4)]
    assert [one and one.released for one in progress] == [4, 4, 2, None]
    assert pauses.list_pauses() == []
    assert not Job.objects.filter(held=True).exists()


def test_the_deadline_of_a_paused_job_expires(tenant):
    job = write(due_jobs(tenant, 1)[0].id, "deadline_at = clock_timestamp() - interval '1 second'")
    pauses.pause(**REASON)
    assert sweep.run_once().lapsed == 1
    assert refreshed(job).state == State.FAILED


def test_a_held_job_can_be_canceled(tenant):
    job = due_jobs(tenant, 1)[0]
    pauses.pause(**REASON)
    sweep.run_once()
    assert services.cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id).state == State.CANCELED


def test_a_paused_job_keeps_its_place_in_its_concurrency_queue(tenant):
    head, second = (queued_job(tenant, concurrency_key="a-queue") for _ in range(2))
    write(second.id, "operation = 'test.anything'")
    made = pauses.pause(operation="test.scripted", **REASON)
    assert not is_claimed(head)
    assert not is_claimed(second)
    pauses.resume(pause_id=made.id, actor="user ada")
    assert not is_claimed(second)
    assert is_claimed(head)


def test_a_job_whose_lease_expires_during_a_pause_waits_for_the_resume(tenant, hinted):
    job = claimed_job(tenant)
    made = pauses.pause(**REASON)
    write(job.id, "lease_expires_at = clock_timestamp() - interval '1 second'")
    assert sweep.run_once().expired == 1
    make_due(job.id)
    assert not is_claimed(job)
    assert sweep.run_once().held == 1
    hinted.clear()
    pauses.resume(pause_id=made.id, actor="user ada")
    sweep.run_once()
    assert [due.id for due in hinted] == [job.id]
    assert claim(job.id).attempt == 2


def test_a_resume_does_not_shorten_a_backoff(tenant):
    job = due_jobs(tenant, 1)[0]
    made = pauses.pause(**REASON)
    sweep.run_once()
    later = write(job.id, "run_at = clock_timestamp() + interval '1 hour'").run_at
    pauses.resume(pause_id=made.id, actor="user ada")
    assert sweep.run_once() == sweep.Counts(released=1)
    assert refreshed(job).run_at == later
    assert not is_claimed(job)


def test_a_claim_takes_one_statement(tenant):
    job = queued_job(tenant)
    with CaptureQueriesContext(connection) as queries:
        assert is_claimed(job)
    assert len(queries) == 1
