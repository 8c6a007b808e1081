"""Bulk actions: each job in its own transaction, visited once, resumable, counted and audited."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.models import AuditEntry
from idempotency.models import IdempotencyRecord
from jobs import services, transitions
from jobs.models import BulkAction, Job, JobEvent, JobStep
from jobs.selectors import JobFilter
from jobs.states import State
from operators import bulk_actions, bulk_worker
from operators.bulk_actions import Preview, preview, start_bulk_action, stop_bulk_action
from operators.bulk_worker import Counts, run_once
from tests.support.factories import TenantFactory, claimed_job, queued_job
from tests.support.keyed import failed_long_ago, keyed_job
from tests.support.scenarios import begin, history, in_state, write

pytestmark = pytest.mark.django_db

CANCEL, REDRIVE, RESOLVE, RELEASE = BulkAction.Action
REASON = {"actor": "user ada", "note": "the bank is back"}
FAILED = JobFilter(state=State.FAILED)


def failed(tenant, count, cause="card_declined"):
    jobs = [claimed_job(tenant) for _ in range(count)]
    return [transitions.fail_job(job_id=job.id, attempt=1, detail="no", cause=cause) for job in jobs]


def states(jobs):
    return [Job.objects.get(pk=job.id).state for job in jobs]


def started(action, job_filter, **options):
    return start_bulk_action(action=action, job_filter=job_filter, **{**REASON, **options})


def reload(made):
    return BulkAction.objects.get(pk=made.id)


def test_exactly_the_matching_jobs_are_redriven(tenant):
    jobs = [*failed(tenant, 3), *failed(TenantFactory(), 2)]
    others = [in_state(tenant, state) for state in (State.CANCELED, State.SUCCEEDED, State.RUNNING)]
    before = states(others)
    made = started(REDRIVE, FAILED)
    assert run_once() == Counts(changed=5)
    assert states(jobs) == [State.QUEUED] * 5
    assert states(others) == before
    made = reload(made)
    assert (made.changed, made.refused, made.finished_at is not None) == (5, {}, True)
    assert run_once() == Counts()


@pytest.mark.parametrize(
    "narrow",
    [
        {"operation": "operation"},
        {"tenant_id": "tenant_id"},
        {"mode": "mode"},
        {"error_cause": "error_cause"},
        {"created_from": "created_at"},
    ],
    ids=["operation", "tenant", "mode", "error class", "time"],
)
def test_each_filter_field_narrows_the_action(tenant, narrow):
    others = failed(tenant, 2)
    job = failed(TenantFactory(), 1, "expired_card")[0]
    job = write(job.id, "operation = 'test.anything', mode = 'live', created_at = created_at + interval '1 s'")
    job_filter = JobFilter(state=State.FAILED, **{name: getattr(job, column) for name, column in narrow.items()})
    assert str(preview(job_filter)) == "1"
    started(REDRIVE, job_filter)
    assert run_once() == Counts(changed=1)
    assert (states([job]), states(others)) == ([State.QUEUED], [State.FAILED] * 2)


def test_an_action_is_audited_once_and_recorded_in_each_jobs_history(tenant):
    jobs = failed(tenant, 2)
    made = started(REDRIVE, JobFilter(state=State.FAILED, tenant_id=tenant.id))
    run_once()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.note) == ("bulk.start", f"bulk/{made.id}", "the bank is back")
    assert entry.details == {"action": "redrive", "filter": {"state": "failed", "tenant_id": tenant.id}}
    for job in jobs:
        event = JobEvent.objects.filter(job_id=job.id).latest("seq")
        assert (event.type, event.data["by"], event.data["bulk"]) == ("redrive", "user ada", str(made.id))


def test_queued_jobs_are_canceled_and_running_jobs_get_a_cancel_request(tenant):
    waiting, running = [queued_job(tenant) for _ in range(2)], claimed_job(tenant)
    started(CANCEL, JobFilter(state=State.QUEUED))
    started(CANCEL, JobFilter(state=State.RUNNING))
    assert run_once() == Counts(changed=3)
    assert states(waiting) == [State.CANCELED] * 2
    assert Job.objects.get(pk=running.id).cancel_requested_at is not None


def test_unknown_jobs_with_one_open_effect_are_resolved(tenant):
    job, other = in_state(tenant, State.UNKNOWN), claimed_job(tenant)
    begin(other, "charge")
    begin(other, "mail")
    transitions.stop_as_unknown(job_id=other.id, attempt=1, detail="who knows")
    made = started(RESOLVE, JobFilter(state=State.UNKNOWN), verdict=JobStep.State.NOT_DONE, then=State.FAILED)
    assert run_once() == Counts(changed=1, refused=1)
    assert states([job, other]) == [State.FAILED, State.UNKNOWN]
    assert reload(made).refused == {"Several effects of the job have an unknown outcome.": 1}


def test_keys_of_ended_jobs_are_released(tenant):
    jobs = [failed_long_ago(keyed_job(tenant, key)) for key in ("a", "b")]
    unkeyed = failed(tenant, 1)
    made = started(RELEASE, FAILED)
    assert run_once() == Counts(changed=2, refused=1)
    assert not IdempotencyRecord.objects.exists()
    assert reload(made).refused == {"The job has no idempotency key of its own.": 1}
    assert states([*jobs, *unkeyed]) == [State.FAILED] * 3


def test_a_refused_job_is_counted_by_its_reason_and_does_not_stop_the_others(tenant):
    first, erased, last = failed(tenant, 3)
    services.erase_payload(tenant_id=tenant.id, mode="test", job_id=erased.id)
    made = started(REDRIVE, FAILED)
    assert run_once() == Counts(changed=2, refused=1)
    assert states([first, erased, last]) == [State.QUEUED, State.FAILED, State.QUEUED]
    assert reload(made).refused == {"The job's payload was erased, so the job cannot run again.": 1}


def test_a_job_that_no_longer_matches_is_refused(tenant, monkeypatch):
    jobs = failed(tenant, 2)
    made = started(REDRIVE, FAILED)
    meet = bulk_worker._visit

    def after_somebody_else(bulk_id, job_filter, job_id):
        if job_id == jobs[1].id:
            services.redrive_job(tenant_id=tenant.id, mode="test", job_id=job_id)
        return meet(bulk_id, job_filter, job_id)

    monkeypatch.setattr(bulk_worker, "_visit", after_somebody_else)
    assert run_once() == Counts(changed=1, refused=1)
    assert reload(made).refused == {"The job no longer matches the filter.": 1}
    assert history(jobs[1].id).count("redrive") == 1


def test_jobs_accepted_after_the_start_are_not_changed(tenant):
    failed(tenant, 1)
    started(REDRIVE, FAILED)
    later = failed(tenant, 1)
    assert run_once() == Counts(changed=1)
    assert states(later) == [State.FAILED]


def test_a_job_that_fails_again_is_visited_once(tenant):
    job = failed(tenant, 1)[0]
    started(REDRIVE, FAILED)
    run_once()
    write(job.id, "state = 'failed', finished_at = now(), error = ''")
    assert run_once() == Counts()


def test_a_crash_leaves_each_job_changed_or_untouched_and_the_next_run_continues(tenant, monkeypatch):
    jobs = failed(tenant, 4)
    made = started(REDRIVE, FAILED)
    redrive, redriven = services.redrive_job, []

    def die(**values):
        job = redrive(**values)
        redriven.append(job.id)
        if len(redriven) == 3:
            raise KeyboardInterrupt
        return job

    monkeypatch.setattr(services, "redrive_job", die)
    with pytest.raises(KeyboardInterrupt):
        run_once()
    assert states(jobs) == [State.QUEUED, State.QUEUED, State.FAILED, State.FAILED]
    assert (reload(made).changed, reload(made).cursor) == (2, jobs[1].id)
    assert run_once() == Counts(changed=2)
    assert states(jobs) == [State.QUEUED] * 4
    assert [history(job.id).count("redrive") for job in jobs] == [1, 1, 1, 1]
    assert reload(made).changed == 4


def test_a_run_ends_in_time_and_the_next_run_continues(tenant, monkeypatch):
    monkeypatch.setattr(bulk_worker, "_STEP_JOBS", 2)
    monkeypatch.setattr(bulk_worker, "_STEP_ROWS", 3)
    jobs = failed(tenant, 3)
    for _ in range(4):
        queued_job(tenant)
    jobs += failed(tenant, 2)
    started(REDRIVE, FAILED)
    changed = []
    while BulkAction.objects.filter(finished_at=None).exists():
        changed.append(run_once(seconds=0).changed)
    assert (sum(changed), len(changed) > 2, max(changed)) == (5, True, 2)
    assert states(jobs) == [State.QUEUED] * 5


def test_a_stopped_action_changes_no_further_job(tenant, monkeypatch):
    monkeypatch.setattr(bulk_worker, "_STEP_JOBS", 1)
    jobs = failed(tenant, 2)
    made = started(REDRIVE, FAILED)
    run_once(seconds=0)
    assert stop_bulk_action(bulk_id=made.id, actor="user bob")
    assert not stop_bulk_action(bulk_id=made.id, actor="user bob")
    assert run_once() == Counts()
    assert states(jobs) == [State.QUEUED, State.FAILED]
    assert (reload(made).is_stopped, reload(made).changed) == (True, 1)
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["bulk.start", "bulk.stop"]


@pytest.mark.parametrize(
    "changes",
    [
        {"note": " "},
        {"job_filter": JobFilter()},
        {"job_filter": JobFilter(state=State.QUEUED)},
        {"action": CANCEL},
        {"action": RELEASE, "job_filter": JobFilter(state=State.UNKNOWN)},
        {"action": RESOLVE, "job_filter": JobFilter(state=State.UNKNOWN)},
        {"verdict": JobStep.State.DONE, "then": State.FAILED},
        {
            "action": RESOLVE,
            "job_filter": JobFilter(state=State.UNKNOWN),
            "verdict": JobStep.State.REFUSED,
            "then": State.FAILED,
        },
        {
            "action": RESOLVE,
            "job_filter": JobFilter(state=State.UNKNOWN),
            "verdict": JobStep.State.NOT_DONE,
            "then": State.SUCCEEDED,
        },
    ],
)
def test_an_invalid_action_is_not_started(tenant, changes):
    with pytest.raises(ValueError, match=r"."):
        start_bulk_action(**{"action": REDRIVE, "job_filter": FAILED, **REASON, **changes})
    assert not BulkAction.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_preview_counts_up_to_its_limit(tenant, monkeypatch):
    failed(tenant, 3)
    assert preview(FAILED) == Preview(3, has_more=False)
    assert preview(JobFilter(state=State.FAILED, created_before=Job.objects.earliest("id").created_at)).count == 0
    since = Job.objects.latest("id").created_at - timedelta(hours=1)
    assert preview(JobFilter(state=State.FAILED, created_from=since)).count == 3
    monkeypatch.setattr(bulk_actions, "MAX_COUNT", 2)
    assert str(preview(FAILED)) == "2+"
    monkeypatch.setattr(bulk_actions, "_MAX_CANDIDATES", 1)
    assert str(preview(JobFilter(state=State.FAILED, error_cause="another"))) == "0+"
    assert str(Preview(10_000, has_more=True)) == "10,000+"
