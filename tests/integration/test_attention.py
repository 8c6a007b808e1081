"""The attention list and the groups of failures."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs import services, transitions
from jobs.models import Job, JobStep, Pause
from jobs.services import erase_payload
from jobs.states import State
from operators.attention import group_errors, needs_attention
from tests.support.factories import TenantFactory, backdate, claimed_job, queued_job
from tests.support.scenarios import begin, close, in_state, write

pytestmark = pytest.mark.django_db

TWO_DAYS = timedelta(days=2)
NOTHING = {"unknown": [], "partially_done": [], "failed": [], "overdue_leases": [], "overdue_jobs": []}


def attention_ids(**options):
    attention = needs_attention(**options)
    return {name: [job.id for job in getattr(attention, name)] for name in NOTHING}


def failed(tenant, cause="card_declined"):
    job = claimed_job(tenant)
    return transitions.fail_job(job_id=job.id, attempt=1, detail="The bank said no.", cause=cause)


def half_done(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {"id": "ch_1"})
    return transitions.fail_job(job_id=job.id, attempt=1, detail="Half.", cause="later-step")


def groups(**options):
    result = group_errors(**{"since": timezone.now() - timedelta(hours=1), **options})
    return [(group.operation, group.code, group.cause, group.count) for group in result.groups]


def test_healthy_jobs_are_not_in_the_attention_list(tenant):
    for state in (State.QUEUED, State.RUNNING, State.SUCCEEDED, State.CANCELED):
        in_state(tenant, state)
    assert attention_ids() == NOTHING


def test_each_kind_of_trouble_is_listed_across_tenants_newest_first(tenant):
    unknown = [in_state(tenant, State.UNKNOWN).id, in_state(TenantFactory(), State.UNKNOWN).id]
    ended = [failed(tenant).id, half_done(tenant).id]
    stuck = backdate(claimed_job(tenant).id, lease_expires_at=TWO_DAYS).id
    waiting = backdate(queued_job(tenant).id, run_at=TWO_DAYS).id
    assert attention_ids() == {
        "unknown": unknown[::-1],
        "partially_done": ended[1:],
        "failed": ended[::-1],
        "overdue_leases": [stuck],
        "overdue_jobs": [waiting],
    }
    assert attention_ids(limit=1)["unknown"] == unknown[1:]


def test_an_old_failure_is_listed_only_if_it_is_partially_done(tenant):
    jobs = [failed(tenant), half_done(tenant)]
    for job in jobs:
        backdate(job.id, finished_at=TWO_DAYS)
    assert attention_ids() == {**NOTHING, "partially_done": [jobs[1].id]}
    assert len(attention_ids(since=timezone.now() - timedelta(days=3))["failed"]) == 2


def test_a_redriven_job_is_not_listed(tenant):
    job = half_done(tenant)
    services.redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert attention_ids() == NOTHING
    assert groups() == []


def test_a_scheduled_or_paused_job_is_not_stuck(tenant):
    later = queued_job(tenant)
    write(later.id, "run_at = clock_timestamp() + interval '1 day'")
    paused = backdate(queued_job(tenant).id, run_at=TWO_DAYS)
    pause = Pause.objects.create(tenant=tenant, by="user ada", note="a test")
    assert attention_ids() == NOTHING
    pause.delete()
    assert attention_ids() == {**NOTHING, "overdue_jobs": [paused.id]}


def test_failures_are_grouped_by_operation_code_and_cause(tenant):
    for cause in ("card_declined", "card_declined", "expired_card"):
        latest = failed(tenant, cause)
    write(failed(tenant).id, "operation = 'test.anything'")
    half_done(tenant)
    in_state(tenant, State.UNKNOWN)
    in_state(tenant, State.SUCCEEDED)
    found = groups()
    assert found[0] == ("test.scripted", "operation-failed", "card_declined", 2)
    assert sorted(found[1:]) == [
        ("test.anything", "operation-failed", "card_declined", 1),
        ("test.scripted", "operation-failed", "expired_card", 1),
        ("test.scripted", "outcome-unknown", "outcome-unknown", 1),
        ("test.scripted", "partially-done", "later-step", 1),
    ]
    assert groups(operation="test.anything") == [("test.anything", "operation-failed", "card_declined", 1)]
    found = group_errors(since=latest.finished_at).groups
    assert latest.id in {group.sample_id for group in found}


def test_groups_report_whether_all_failures_were_counted(tenant, monkeypatch):
    failed(tenant)
    failed(tenant)
    since = timezone.now() - timedelta(hours=1)
    assert group_errors(since=since).is_complete
    monkeypatch.setattr("operators.attention._MAX_FAILURES_READ", 1)
    found = group_errors(since=since)
    assert (found.is_complete, [group.count for group in found.groups]) == (False, [1])


def test_failures_before_the_period_are_not_counted(tenant):
    backdate(failed(tenant).id, finished_at=TWO_DAYS)
    assert groups() == []


def test_an_erased_job_keeps_its_error_code_but_not_its_cause(tenant):
    job = failed(tenant, "x" * 300)
    assert (job.error_code, job.error_cause) == ("operation-failed", "x" * 100)
    erase_payload(tenant_id=tenant.id, mode="test", job_id=job.id)
    job = Job.objects.get(pk=job.id)
    assert (job.error_code, job.error_cause) == ("operation-failed", None)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.CANCELED])
def test_a_job_without_an_error_has_no_error_code(tenant, state):
    job = in_state(tenant, state)
    assert (job.error_code, job.error_cause) == (None, None)
