"""The sweep publishes due jobs, ends expired leases and fails jobs past their deadline, each exactly once."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
from django.core.management import call_command
from django.db import connection

from broker.publisher import publisher
from jobs.models import Job
from jobs.payloads import decode_payload
from jobs.states import State
from tests.support.factories import TenantFactory, claimed_job, end_lease, make_due, queued_job
from tests.support.row_locks import locked
from tests.support.scenarios import everything, history, outcomes, write
from workers import sweep

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _longest_backoff(monkeypatch):
    """Make every backoff long enough that a job is not due again before the sweep after the one that ended its lease."""
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: 100 * high)


@pytest.fixture
def queue(settings):
    """Return the name of a queue that only this test uses."""
    name = f"test-{uuid4()}"
    yield name
    broker(settings).delete(name)


def broker(settings):
    return redis.Redis.from_url(settings.REDIS_URL)


def messages(settings, queue):
    assert publisher.flush(seconds=20.0)
    return [json.loads(message) for message in broker(settings).lrange(queue, 0, -1)]


def ids(settings, queue):
    return [message["headers"]["id"] for message in messages(settings, queue)]


def due_job(tenant, queue):
    return _put(make_due(queued_job(tenant).id), queue)


def _put(job, queue):
    return write(job.id, f"queue = '{queue}'")


# --- Leases and deadlines --------------------------------------------------------------------------------------------


def test_an_expired_lease_is_ended_and_the_job_waits_for_its_backoff(tenant, monkeypatch):
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: high)
    job = end_lease(claimed_job(tenant).id)
    assert sweep.run_once().expired == 1
    after = Job.objects.get(pk=job.id)
    assert (after.state, after.attempt, after.attempts_left) == (State.QUEUED, 1, 2)
    assert timedelta(seconds=1.9) < after.run_at - job.attempts.get().ended_at < timedelta(seconds=2.1)
    assert sweep.run_once().expired == 0


def test_an_expired_job_is_published_once_its_backoff_is_over(tenant, queue, settings):
    job = end_lease(_put(claimed_job(tenant), queue).id)
    sweep.run_once()
    make_due(job.id)
    assert sweep.run_once().hinted == 1
    assert ids(settings, queue) == [str(job.id)]


def test_a_live_lease_is_left_alone(tenant):
    job = claimed_job(tenant)
    before = everything(job.id)
    assert sweep.run_once().expired == 0
    assert everything(job.id) == before


def test_a_job_whose_deadline_passed_fails_once_and_is_not_published(tenant, queue, settings):
    job = due_job(tenant, queue)
    write(job.id, "deadline_at = clock_timestamp()")
    assert sweep.run_once() == sweep.Counts(lapsed=1)
    assert decode_payload(Job.objects.get(pk=job.id).error)["code"] == "deadline-exceeded"
    assert sweep.run_once().lapsed == 0
    assert ids(settings, queue) == []


def test_one_sweep_does_every_kind_of_work(tenant, queue):
    due_job(tenant, queue)
    end_lease(claimed_job(tenant).id)
    write(queued_job(tenant).id, "deadline_at = clock_timestamp()")
    assert sweep.run_once() == sweep.Counts(expired=1, lapsed=1, hinted=1)


def test_one_sweep_does_more_than_one_batch_of_each_kind(tenant, queue, settings):
    settings.BATCH_ROWS = 2
    overdue = [end_lease(claimed_job(tenant).id) for _ in range(5)]
    for _ in range(5):
        write(queued_job(tenant).id, "deadline_at = clock_timestamp()")
        due_job(tenant, queue)
    assert sweep.run_once() == sweep.Counts(expired=5, lapsed=5, hinted=5)
    assert all(outcomes(job.id) == ["expire"] for job in overdue)


def test_all_deadlines_of_one_instant_are_found(tenant, settings):
    settings.BATCH_ROWS = 2
    for _ in range(5):
        write(queued_job(tenant).id, "deadline_at = date_trunc('day', clock_timestamp())")
    assert sweep.run_once().lapsed == 5


def test_a_sweep_out_of_time_has_done_a_batch_of_each_kind(tenant, queue, settings):
    settings.BATCH_ROWS, settings.SWEEP_SECONDS = 2, 0
    for _ in range(3):
        end_lease(claimed_job(tenant).id)
        write(queued_job(tenant).id, "deadline_at = clock_timestamp()")
        due_job(tenant, queue)
    # A job whose deadline has passed is still due: its claim fails it.
    assert sweep.run_once() == sweep.Counts(expired=2, lapsed=2, hinted=3 + 1)
    assert sweep.run_once() == sweep.Counts(expired=1, lapsed=1, hinted=3)


def test_the_management_command_sweeps(tenant):
    job = end_lease(claimed_job(tenant).id)
    call_command("sweep", verbosity=0)
    assert history(job.id)[-1] == "expire"


# --- Locked rows -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_locked_row_delays_no_other(queue, settings):
    tenant = TenantFactory()
    held = [
        due_job(tenant, queue),
        end_lease(claimed_job(tenant).id),
        write(queued_job(tenant).id, "deadline_at = clock_timestamp()"),
    ]
    free = [
        due_job(tenant, queue),
        end_lease(claimed_job(tenant).id),
        write(queued_job(tenant).id, "deadline_at = clock_timestamp()"),
    ]
    before = [everything(job.id) for job in held]
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = '5s'")  # fail instead of waiting for ever
    with locked(*held):
        # A hint needs no lock.
        assert sweep.run_once() == sweep.Counts(expired=1, lapsed=1, hinted=3)
    assert [everything(job.id) for job in held] == before
    assert {str(held[0].id), str(free[0].id)} == {*ids(settings, queue)}
    assert sweep.run_once() == sweep.Counts(expired=1, lapsed=1, hinted=2)
    connection.close()
