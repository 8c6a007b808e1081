"""Jobs past retention are deleted with all their rows, unless an idempotency key still refers to them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from idempotency.models import IdempotencyRecord
from idempotency.record_purge import Counts
from jobs import job_purge
from jobs.models import BulkAction, Job, JobAttempt, JobEvent, JobStep
from jobs.states import TERMINAL, State
from tests.support.factories import TenantFactory, backdate, claim, queued_job
from tests.support.keyed import LONG_AGO, expire_key, failed_long_ago, keyed_job
from tests.support.row_locks import locked
from tests.support.scenarios import begin, close, everything, in_state, write
from workers import purge
from workers.tasks import run_purge

pytestmark = pytest.mark.django_db


def rows():
    """Count the rows of all tables about jobs."""
    return sum(model.objects.count() for model in (Job, JobAttempt, JobStep, JobEvent))


def ended_long_ago(tenant, state=State.SUCCEEDED):
    return backdate(in_state(tenant, state).id, finished_at=LONG_AGO)


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_a_job_past_retention_is_deleted_with_its_attempts_and_events(tenant, state):
    ended_long_ago(tenant, state)
    assert job_purge.run_once(10) == Counts(deleted=1)
    assert rows() == 0


def test_a_jobs_steps_are_deleted_with_it_and_those_of_another_stay(tenant):
    jobs = [claim(queued_job(tenant).id) for _ in range(2)]
    for job in jobs:
        begin(job, "charge")
        close(job, "charge", JobStep.State.DONE, {"id": 1})
    stays = everything(jobs[1].id)
    write(
        jobs[0].id,
        "state = 'succeeded', result = '', worker = NULL, lease_expires_at = NULL, finished_at = now() - interval '31 days'",
    )
    assert job_purge.run_once(10).deleted == 1
    assert everything(jobs[1].id) == stays
    assert rows() == sum(map(len, stays.values()))


@pytest.mark.parametrize("state", sorted(set(State) - TERMINAL))
def test_a_job_that_has_not_ended_stays_however_old_it_is(tenant, state):
    job = in_state(tenant, state)
    write(job.id, "created_at = created_at - interval '1 year'", "started_at = started_at - interval '1 year'")
    before = everything(job.id)
    assert job_purge.run_once(10) == Counts()
    assert everything(job.id) == before


def test_a_job_stays_until_its_retention_is_over(tenant, settings):
    settings.JOB_RETENTION_SECONDS = 3600
    job = backdate(in_state(tenant, State.SUCCEEDED).id, finished_at=timedelta(minutes=59))
    assert job_purge.run_once(10) == Counts()
    backdate(job.id, finished_at=timedelta(minutes=1))
    assert job_purge.run_once(10) == Counts(deleted=1)


def test_more_than_a_batch_is_deleted_in_as_many_short_transactions_as_it_takes(tenant):
    for _ in range(5):
        ended_long_ago(tenant)
    with CaptureQueriesContext(connection) as captured:
        assert job_purge.run_once(2) == Counts(deleted=5)
    assert sum(query["sql"].startswith("SAVEPOINT") for query in captured) == 3


def test_jobs_that_ended_at_the_same_instant_are_all_deleted(tenant):
    for _ in range(5):
        write(ended_long_ago(tenant).id, "finished_at = date_trunc('day', clock_timestamp() - interval '40 days')")
    assert job_purge.run_once(2) == Counts(deleted=5)


# --- Keys ------------------------------------------------------------------------------------------------------------


def test_a_job_stays_while_its_key_refers_to_it(tenant):
    job = failed_long_ago(keyed_job(tenant, "k"))
    before = everything(job.id)
    assert job_purge.run_once(10) == Counts(kept=1)
    assert everything(job.id) == before
    IdempotencyRecord.objects.all().delete()
    assert job_purge.run_once(10) == Counts(deleted=1)


def test_a_job_whose_key_has_started_another_job_is_deleted(tenant):
    job = failed_long_ago(keyed_job(tenant, "k"))
    IdempotencyRecord.objects.update(resource=queued_job(tenant).resource)
    assert job_purge.run_once(10) == Counts(deleted=1)
    assert not Job.objects.filter(pk=job.id).exists()


def test_jobs_that_must_stay_do_not_delay_those_behind_them(tenant):
    stuck = [failed_long_ago(keyed_job(tenant, f"stuck-{number}")) for number in range(5)]
    for job in stuck:
        backdate(job.id, finished_at=timedelta(hours=1))
    for _ in range(5):
        ended_long_ago(tenant)
    assert job_purge.run_once(2) == Counts(deleted=5, kept=5)
    assert set(Job.objects.values_list("pk", flat=True)) == {job.id for job in stuck}


def test_an_expired_key_and_its_old_job_are_deleted_in_one_purge(tenant):
    expire_key(failed_long_ago(keyed_job(tenant, "k")))
    assert purge.run_once() == purge.Counts(keys_deleted=1, jobs_deleted=1)
    assert (rows(), IdempotencyRecord.objects.count()) == (0, 0)


def test_an_expired_key_is_deleted_and_its_young_job_stays(tenant):
    job = keyed_job(tenant, "k")
    expire_key(job)
    backdate(failed_long_ago(job).id, finished_at=timedelta(days=-1))
    assert purge.run_once() == purge.Counts(keys_deleted=1)
    assert Job.objects.filter(pk=job.id).exists()


# --- The whole purge -----------------------------------------------------------------------------------------------------


def test_a_purge_out_of_time_has_run_one_batch_of_each_kind_and_the_next_continues(tenant, settings):
    settings.BATCH_ROWS = 2
    for number in range(3):
        expire_key(keyed_job(tenant, f"going-on-{number}"))
        ended_long_ago(tenant)
    assert purge.run_once(seconds=0) == purge.Counts(keys_kept=2, jobs_deleted=2)
    assert purge.run_once(seconds=0) == purge.Counts(keys_kept=2, jobs_deleted=1)
    assert purge.run_once() == purge.Counts(keys_kept=3)


def test_the_task_that_beat_sends_purges(tenant):
    ended_long_ago(tenant)
    run_purge()
    assert rows() == 0


def test_a_purged_job_is_not_found(tenant, api):
    job = ended_long_ago(tenant)
    assert api.get(f"/v1/jobs/{job.id}").status_code == 200
    job_purge.run_once(10)
    answers = [
        api.get(f"/v1/jobs/{job.id}"),
        api.get(f"/v1/jobs/{job.id}/events"),
        api.post(f"/v1/jobs/{job.id}/cancel"),
        api.post(f"/v1/jobs/{job.id}/redrive"),
    ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(404, "not-found")] * 4


@pytest.mark.django_db(transaction=True)
def test_a_locked_job_is_left_for_the_next_purge():
    tenant = TenantFactory()
    held, free = ended_long_ago(tenant), ended_long_ago(tenant)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")  # fail instead of waiting for ever
    with locked(held):
        assert job_purge.run_once(10) == Counts(deleted=1)
    assert not Job.objects.filter(pk=free.id).exists()
    assert job_purge.run_once(10) == Counts(deleted=1)
    connection.close()


def test_bulk_actions_that_finished_long_ago_are_deleted(settings):
    long_ago = timezone.now() - timedelta(seconds=settings.AUDIT_RETENTION_SECONDS, hours=1)
    fields = {"action": "cancel", "selection": {}, "note": "n", "by": "me", "until": UUID(int=1)}
    kept = [BulkAction.objects.create(**fields), BulkAction.objects.create(**fields, finished_at=timezone.now())]
    for _ in range(3):
        BulkAction.objects.create(**fields, finished_at=long_ago)
    assert list(job_purge.bulk_action_batches(2)) == [2, 1]
    assert list(BulkAction.objects.order_by("pk")) == kept
    assert purge.run_once().notices_deleted == 0
