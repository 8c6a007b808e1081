"""One act on all jobs of a filter: each job by itself, once, resumable, counted and told."""

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
SAID = {"actor": "user ada", "note": "the bank is back"}
FAILED = JobFilter(state=State.FAILED)


def failed(tenant, count, cause="card_declined"):
    jobs = [claimed_job(tenant) for _ in range(count)]
    return [transitions.fail_job(job_id=job.id, attempt=1, detail="no", cause=cause) for job in jobs]


def states(jobs):
    return [Job.objects.get(pk=job.id).state for job in jobs]


def started(action, job_filter, **options):
    return start_bulk_action(action=action, job_filter=job_filter, **{**SAID, **options})


def again(made):
    return BulkAction.objects.get(pk=made.id)


def test_every_job_that_fits_is_redriven_and_no_other(tenant):
    jobs = [*failed(tenant, 3), *failed(TenantFactory(), 2)]
    others = [in_state(tenant, state) for state in (State.CANCELED, State.SUCCEEDED, State.RUNNING)]
    before = states(others)
    made = started(REDRIVE, FAILED)
    assert run_once() == Counts(changed=5)
    assert states(jobs) == [State.QUEUED] * 5
    assert states(others) == before
    made = again(made)
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
def test_a_filter_is_as_narrow_as_it_says(tenant, narrow):
    others = failed(tenant, 2)
    job = failed(TenantFactory(), 1, "expired_card")[0]
    job = write(
        job.id, "operation = 'test.anything', mode = 'live', created_at = created_at + interval '1 s'"
    )
    job_filter = JobFilter(
        state=State.FAILED, **{name: getattr(job, column) for name, column in narrow.items()}
    )
    assert str(preview(job_filter)) == "1"
    started(REDRIVE, job_filter)
    assert run_once() == Counts(changed=1)
    assert (states([job]), states(others)) == ([State.QUEUED], [State.FAILED] * 2)


def test_an_act_is_told_once_with_its_filter_and_in_the_history_of_each_job(tenant):
    jobs = failed(tenant, 2)
    made = started(REDRIVE, JobFilter(state=State.FAILED, tenant_id=tenant.id))
    run_once()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.subject, entry.note) == ("bulk.start", f"bulk/{made.id}", "the bank is back")
    assert entry.details == {"action": "redrive", "filter": {"state": "failed", "tenant_id": tenant.id}}
    for job in jobs:
        told = JobEvent.objects.filter(job_id=job.id).latest("seq")
        assert (told.type, told.data["by"], told.data["bulk"]) == ("redrive", "user ada", str(made.id))


def test_waiting_jobs_are_canceled_and_what_runs_is_asked_to(tenant):
    waiting, running = [queued_job(tenant) for _ in range(2)], claimed_job(tenant)
    started(CANCEL, JobFilter(state=State.QUEUED))
    started(CANCEL, JobFilter(state=State.RUNNING))
    assert run_once() == Counts(changed=3)
    assert states(waiting) == [State.CANCELED] * 2
    assert Job.objects.get(pk=running.id).cancel_requested_at is not None


def test_unknown_jobs_are_resolved_where_one_effect_is_in_doubt(tenant):
    job, other = in_state(tenant, State.UNKNOWN), claimed_job(tenant)
    begin(other, "charge")
    begin(other, "mail")
    transitions.stop_as_unknown(job_id=other.id, attempt=1, detail="who knows")
    made = started(RESOLVE, JobFilter(state=State.UNKNOWN), verdict=JobStep.State.NOT_DONE, then=State.FAILED)
    assert run_once() == Counts(changed=1, refused=1)
    assert states([job, other]) == [State.FAILED, State.UNKNOWN]
    assert again(made).refused == {"Several effects of the job have an unknown outcome.": 1}


def test_keys_of_ended_jobs_are_released(tenant):
    jobs = [failed_long_ago(keyed_job(tenant, key)) for key in ("a", "b")]
    unkeyed = failed(tenant, 1)
    made = started(RELEASE, FAILED)
    assert run_once() == Counts(changed=2, refused=1)
    assert not IdempotencyRecord.objects.exists()
    assert again(made).refused == {"The job has no idempotency key of its own.": 1}
    assert states([*jobs, *unkeyed]) == [State.FAILED] * 3


def test_what_is_refused_is_counted_by_its_reason_and_stops_nobody(tenant):
    first, erased, last = failed(tenant, 3)
    services.erase_payload(tenant_id=tenant.id, mode="test", job_id=erased.id)
    made = started(REDRIVE, FAILED)
    assert run_once() == Counts(changed=2, refused=1)
    assert states([first, erased, last]) == [State.QUEUED, State.FAILED, State.QUEUED]
    assert again(made).refused == {"The job's payload was erased, so the job cannot run again.": 1}


def test_a_job_that_went_on_meanwhile_is_left_alone(tenant, monkeypatch):
    jobs = failed(tenant, 2)
    made = started(REDRIVE, FAILED)
    meet = bulk_worker._visit

    def after_somebody_else(bulk_id, job_filter, job_id):
        if job_id == jobs[1].id:
            services.redrive_job(tenant_id=tenant.id, mode="test", job_id=job_id)
        return meet(bulk_id, job_filter, job_id)

    monkeypatch.setattr(bulk_worker, "_visit", after_somebody_else)
    assert run_once() == Counts(changed=1, refused=1)
    assert again(made).refused == {"The job no longer matches the filter.": 1}
    assert history(jobs[1].id).count("redrive") == 1


def test_jobs_that_come_after_the_start_are_left_alone(tenant):
    failed(tenant, 1)
    started(REDRIVE, FAILED)
    later = failed(tenant, 1)
    assert run_once() == Counts(changed=1)
    assert states(later) == [State.FAILED]


def test_a_job_that_fails_again_is_met_once(tenant):
    job = failed(tenant, 1)[0]
    started(REDRIVE, FAILED)
    run_once()
    write(job.id, "state = 'failed', next_publish_at = NULL, finished_at = now(), error = ''")
    assert run_once() == Counts()


def test_dying_in_the_middle_leaves_each_job_done_or_untouched_and_the_next_run_goes_on(tenant, monkeypatch):
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
    assert (again(made).changed, again(made).cursor) == (2, jobs[1].id)
    assert run_once() == Counts(changed=2)
    assert states(jobs) == [State.QUEUED] * 4
    assert [history(job.id).count("redrive") for job in jobs] == [1, 1, 1, 1]
    assert again(made).changed == 4


def test_a_slice_ends_in_time_and_the_next_goes_on(tenant, monkeypatch):
    monkeypatch.setattr(bulk_worker, "_STEP_JOBS", 2)
    monkeypatch.setattr(bulk_worker, "_STEP_ROWS", 3)
    jobs = failed(tenant, 3)
    for _ in range(4):
        queued_job(tenant)
    jobs += failed(tenant, 2)
    started(REDRIVE, FAILED)
    told = []
    while BulkAction.objects.filter(finished_at=None).exists():
        told.append(run_once(seconds=0).changed)
    assert (sum(told), len(told) > 2, max(told)) == (5, True, 2)
    assert states(jobs) == [State.QUEUED] * 5


def test_a_stopped_act_meets_no_further_job(tenant, monkeypatch):
    monkeypatch.setattr(bulk_worker, "_STEP_JOBS", 1)
    jobs = failed(tenant, 2)
    made = started(REDRIVE, FAILED)
    run_once(seconds=0)
    assert stop_bulk_action(bulk_id=made.id, actor="user bob")
    assert not stop_bulk_action(bulk_id=made.id, actor="user bob")
    assert run_once() == Counts()
    assert states(jobs) == [State.QUEUED, State.FAILED]
    assert (again(made).is_stopped, again(made).changed) == (True, 1)
    assert [entry.action for entry in AuditEntry.objects.order_by("id")] == ["bulk.start", "bulk.stop"]


@pytest.mark.parametrize(
    "wrong",
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
def test_an_act_that_makes_no_sense_is_not_begun(tenant, wrong):
    with pytest.raises(ValueError, match=r"."):
        start_bulk_action(**{"action": REDRIVE, "job_filter": FAILED, **SAID, **wrong})
    assert not BulkAction.objects.exists()
    assert not AuditEntry.objects.exists()


def test_a_preview_counts_no_further_than_somebody_reads(tenant, monkeypatch):
    failed(tenant, 3)
    assert preview(FAILED) == Preview(3, has_more=False)
    assert (
        preview(JobFilter(state=State.FAILED, created_before=Job.objects.earliest("id").created_at)).count
        == 0
    )
    since = Job.objects.latest("id").created_at - timedelta(hours=1)
    assert preview(JobFilter(state=State.FAILED, created_from=since)).count == 3
    monkeypatch.setattr(bulk_actions, "MAX_COUNT", 2)
    assert str(preview(FAILED)) == "2+"
    monkeypatch.setattr(bulk_actions, "_MAX_CANDIDATES", 1)
    assert str(preview(JobFilter(state=State.FAILED, error_cause="another"))) == "0+"
    assert str(Preview(10_000, has_more=True)) == "10,000+"
