"""The sweep publishes hints of due jobs: a lost hint costs one sweep, and no job's row is written for it."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest
import redis

from broker.circuit_breaker import redis_breaker
from broker.publisher import publisher
from config.celery import app
from jobs import transitions
from jobs.models import Job
from jobs.payloads import decode_payload
from jobs.services import redrive_job
from jobs.states import State
from tests.support.factories import claimed_job, make_due, queued_job
from tests.support.scenarios import everything, in_state, write
from workers import sweep
from workers.tasks import run_job

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def queue(settings):
    """Return the name of a queue that only this test uses."""
    name = f"test-{uuid4()}"
    yield name
    broker(settings).delete(name)


@pytest.fixture
def dead_broker(settings):
    """Point REDIS_URL at a closed port; return a function that reverts it."""
    address, settings.REDIS_URL = settings.REDIS_URL, "redis://127.0.0.1:1/0"
    yield lambda: _revive(settings, address)
    _revive(settings, address)


def _revive(settings, address):
    redis_breaker.succeeded()
    settings.REDIS_URL = address


def broker(settings):
    return redis.Redis.from_url(settings.REDIS_URL)


def messages(settings, queue):
    """Return the hints that wait in the queue, the oldest first."""
    assert publisher.flush(seconds=20.0)
    return [json.loads(message) for message in reversed(broker(settings).lrange(queue, 0, -1))]


def ids(settings, queue):
    return [message["headers"]["id"] for message in messages(settings, queue)]


def due_job(tenant, queue):
    return _put(make_due(queued_job(tenant).id), queue)


def _put(job, queue):
    return write(job.id, f"queue = '{queue}'")


def test_a_due_job_is_published_as_the_task_that_runs_it(tenant, queue, settings):
    job = due_job(tenant, queue)
    assert sweep.run_once().hinted == 1
    (message,) = messages(settings, queue)
    args, kwargs, _ = json.loads(message["body"])
    assert (message["headers"]["task"], args, kwargs) == (run_job.name, [str(job.id), queue], {})
    assert (message["content-type"], message["properties"]["delivery_info"]["routing_key"]) == (
        "application/json",
        queue,
    )


def test_celery_can_read_and_run_a_hint(tenant, queue, script):
    job = _put(make_due(queued_job(tenant, script=script(lambda _job: "ran")).id), queue)
    sweep.run_once()
    assert publisher.flush(seconds=20.0)
    with app.connection_for_read() as link, link.SimpleQueue(queue) as simple:
        message = simple.get(timeout=5)
        args, kwargs, _ = message.payload
        app.tasks[message.headers["task"]](*args, **kwargs)
        message.ack()
    assert decode_payload(Job.objects.get(pk=job.id).result) == "ran"


def test_a_lost_hint_is_published_again_by_the_next_sweep(tenant, queue, settings):
    job = due_job(tenant, queue)
    before = everything(job.id)
    for _ in range(3):
        assert sweep.run_once().hinted == 1
        assert ids(settings, queue) == [str(job.id)]
        broker(settings).delete(queue)
    assert everything(job.id) == before


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_only_a_queued_job_is_published(tenant, state):
    in_state(tenant, state)
    assert sweep.run_once() == sweep.Counts()


def test_a_job_that_is_due_after_the_next_sweep_is_not_published(tenant):
    job = claimed_job(tenant)
    transitions.retry_job(job_id=job.id, attempt=1, delay=MINUTE, detail="later", cause="test")
    queued_job(tenant, run_at=Job.objects.get(pk=job.id).run_at)
    assert sweep.run_once() == sweep.Counts()


def test_a_job_that_is_due_before_the_next_sweep_is_published_in_time(tenant, hinted):
    job = write(queued_job(tenant).id, "run_at = clock_timestamp() + interval '3 seconds'")
    hinted.clear()
    sweep.run_once()
    [due] = hinted
    assert due.id == job.id
    assert 0 < due.in_seconds <= 3


def test_a_retry_that_is_due_soon_is_published_by_its_worker(tenant, hinted, django_capture_on_commit_callbacks):
    job = claimed_job(tenant)
    with django_capture_on_commit_callbacks(execute=True):
        delay = timedelta(seconds=2)
        transitions.retry_job(job_id=job.id, attempt=1, delay=delay, detail="later", cause="test")
    assert [(due.id, due.in_seconds) for due in hinted] == [(job.id, 2.0)]


def test_a_redriven_job_is_published_at_once(tenant, queue, settings, django_capture_on_commit_callbacks):
    job = _put(in_state(tenant, State.FAILED), queue)
    with django_capture_on_commit_callbacks(execute=True):
        redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert ids(settings, queue) == [str(job.id)]


def test_the_longest_waiting_jobs_are_published_first(tenant, queue, settings):
    settings.HINTS_MAX = 2
    jobs = [due_job(tenant, queue) for _ in range(3)]
    write(jobs[2].id, "run_at = run_at - interval '1 hour'")
    assert sweep.run_once().hinted == 2
    assert ids(settings, queue) == [str(jobs[2].id), str(jobs[0].id)]


def test_a_dead_broker_costs_a_job_nothing_and_is_no_error(tenant, queue, settings, dead_broker):
    job = due_job(tenant, queue)
    before = everything(job.id)
    sweep.run_once()
    assert publisher.flush(seconds=20.0)
    assert everything(job.id) == before
    dead_broker()
    sweep.run_once()
    assert ids(settings, queue) == [str(job.id)]
