"""Commit steps and sweeps that race for the same rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction

from broker.publisher import publisher
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.operations import LeaseLost
from jobs.payloads import encode_payload
from jobs.queries.steps import record_step
from jobs.states import State
from tests.support.factories import TenantFactory, claim, claimed_job, end_lease, make_due, queued_job
from tests.support.row_locks import until_waiting
from tests.support.scenarios import HOUR, ZERO, expire, history, outcomes, write
from tests.support.threads import at_once
from workers import sweep

pytestmark = pytest.mark.django_db(transaction=True)

KNOWN = ["test.scripted@1"]


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


def expiring(job):
    return partial(transitions.expire_job, job_id=job.id, attempt=job.attempt, delay=ZERO)


def now(job):
    return Job.objects.get(pk=job.id)


def test_a_commit_step_of_an_attempt_that_lost_its_job_is_rolled_back(tenant):
    """The work is done in an open transaction when another attempt takes the job."""
    job = claimed_job(tenant)
    taken = []

    def commit():
        with transaction.atomic():
            TenantFactory(name="made by the commit")
            (other,) = at_once(lambda: expire(now(job), delay=-HOUR) and claim(job.id))
            taken.append(other.attempt)
            if not record_step(job_id=job.id, attempt=1, name="book", kind="commit", result=encode_payload(1)):
                raise LeaseLost

    with pytest.raises(LeaseLost):
        commit()
    assert taken == [2]
    assert not type(tenant).objects.filter(name="made by the commit").exists()
    assert not JobStep.objects.filter(job_id=job.id).exists()


def test_a_recorded_commit_step_cannot_lose_its_job_before_its_commit(tenant):
    job = end_lease(claimed_job(tenant).id)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert record_step(job_id=job.id, attempt=1, name="book", kind="commit", result=encode_payload(1))
            expired = pool.submit(_expire_and_close, job)
            until_waiting(1)
            assert now(job).state == State.RUNNING
        assert expired.result(20).state == State.QUEUED
    assert JobStep.objects.get(job_id=job.id).state == "done"


def _expire_and_close(job):
    try:
        return expiring(job)()
    finally:
        connection.close()


def test_concurrent_sweeps_expire_each_job_once_and_publish_them_all(tenant, monkeypatch):
    for _ in range(10):
        end_lease(claimed_job(tenant).id)
        make_due(queued_job(tenant).id)
        write(queued_job(tenant).id, "deadline_at = clock_timestamp()")
    sent = []
    monkeypatch.setattr(sweep, "retry_delay", lambda **_: HOUR)
    monkeypatch.setattr(publisher, "publish_hint", sent.append)
    counts = at_once(*[sweep.run_once] * 4)
    assert sum(count.expired for count in counts) == 10
    assert sum(count.lapsed for count in counts) == 10
    # A hint more than once is harmless; a job without one would wait for the next sweep.
    assert len({due.id for due in sent}) == 10
    for job in Job.objects.all():
        history(job.id)
        outcomes(job.id)
