"""A purge beside a redrive: either the job is queued again and stays, or it is deleted with all its rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction

from idempotency.models import IdempotencyRecord
from idempotency.record_purge import Counts
from jobs import job_purge, services
from jobs.errors import JobNotFound
from jobs.models import Job, JobAttempt, JobEvent, JobStep
from jobs.queries.events import append_late_effect
from jobs.states import State
from tests.support.factories import TenantFactory
from tests.support.keyed import expire_key, failed_long_ago, keyed_job
from tests.support.row_locks import until_waiting
from tests.support.threads import TIMEOUT_SECONDS, at_once
from workers import purge

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


def redriving(job):
    return partial(services.redrive_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def old_job(tenant, key="k", *, with_key=True):
    job = failed_long_ago(keyed_job(tenant, key))
    if not with_key:
        IdempotencyRecord.objects.filter(pk=job.idempotency_record_id).delete()
    return job


def is_whole(job):
    return Job.objects.filter(pk=job.id, state=State.QUEUED, finished_at=None).exists()


def is_gone(job):
    children = (JobAttempt, JobStep, JobEvent)
    return not Job.objects.filter(pk=job.id).exists() and not any(
        model.objects.filter(job_id=job.id).exists() for model in children
    )


@pytest.fixture
def while_held(monkeypatch):
    """Run an action while a purge holds the locks of the jobs; the purge continues once the action waits for one."""
    begun = []
    with ThreadPoolExecutor() as pool:

        def hold(action):
            def look(*values):
                begun.append(pool.submit(_closing, action))
                until_waiting(1)
                return delete(*values)

            delete = job_purge.delete_jobs
            monkeypatch.setattr(job_purge, "delete_jobs", look)
            return lambda: begun[0].exception(TIMEOUT_SECONDS) or begun[0].result()

        yield hold


def _closing(action):
    try:
        return action()
    finally:
        connection.close()


def test_a_redrive_during_the_purge_of_its_job_finds_none_and_takes_no_key(tenant, while_held):
    job = old_job(tenant, with_key=False)
    outcome = while_held(redriving(job))
    assert job_purge.run_once(10) == Counts(deleted=1)
    assert isinstance(outcome(), JobNotFound)
    assert is_gone(job)
    assert not IdempotencyRecord.objects.exists()


def test_a_cancel_whose_job_is_purged_between_its_statements_finds_none(tenant, monkeypatch):
    job = old_job(tenant, with_key=False)
    monkeypatch.setattr(services, "request_cancel", lambda **_values: at_once(partial(job_purge.run_once, 10)) and None)
    with pytest.raises(JobNotFound):
        services.cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)


def test_evidence_of_a_stale_attempt_whose_job_is_purged_leaves_no_row(tenant, while_held):
    job = old_job(tenant, with_key=False)
    outcome = while_held(partial(append_late_effect, job_id=job.id, attempt=1, data={}))
    job_purge.run_once(10)
    assert outcome() is None
    assert is_gone(job)


@pytest.mark.parametrize("with_key", [True, False], ids=["key there", "key taken back"])
def test_a_redrive_before_its_commit_keeps_its_job(tenant, with_key):
    job = old_job(tenant, with_key=with_key)
    with transaction.atomic():
        redriving(job)()
        (counts,) = at_once(partial(job_purge.run_once, 10))
    assert counts == Counts()
    assert is_whole(job)
    assert job_purge.run_once(10) == Counts()


def test_a_redrive_that_has_locked_only_the_record_keeps_its_job(tenant):
    """The redrive has extended the key, and is about to write the job."""
    job = old_job(tenant)
    with transaction.atomic():
        IdempotencyRecord.objects.select_for_update().get()
        (counts,) = at_once(partial(job_purge.run_once, 10))
        assert counts == Counts(kept=1)
        redriving(job)()
    assert is_whole(job)


def test_of_a_redrive_and_a_purge_at_once_exactly_one_takes_effect(tenant):
    jobs = [old_job(tenant, f"k-{number}", with_key=number % 3 != 0) for number in range(18)]
    for job in jobs[1::3]:
        expire_key(job)

    def redrive_all(mine):
        return [(job, _outcome(redriving(job))) for job in mine]

    *redrives, first, second = at_once(
        *[partial(redrive_all, jobs[part::3]) for part in range(3)], *[partial(purge.run_once)] * 2
    )
    outcomes = [pair for part in redrives for pair in part]
    for job, outcome in outcomes:
        if isinstance(outcome, JobNotFound):
            assert is_gone(job)
        else:
            assert outcome.id == job.id
            assert is_whole(job)
            assert IdempotencyRecord.objects.filter(resource=job.resource).exists()
    gone = sum(isinstance(outcome, JobNotFound) for _job, outcome in outcomes)
    assert first.jobs_deleted + second.jobs_deleted == gone
    assert IdempotencyRecord.objects.count() == 18 - gone


def _outcome(action):
    try:
        return action()
    except JobNotFound as error:
        return error
