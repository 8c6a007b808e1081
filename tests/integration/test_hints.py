"""Hints of due jobs are published again, with growing pauses, until a worker claims them."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from uuid import uuid4

import pytest
import redis
from django.db import connection

from broker.circuit_breaker import redis_breaker
from broker.hints import DueJob, publish_hints
from broker.publisher import publisher
from config.celery import app
from jobs import transitions
from jobs.models import Job
from jobs.payloads import decode_payload
from jobs.queries.sweep import mark_published
from jobs.services import redrive_job
from jobs.states import State
from tests.support.factories import backdate, claim, claimed_job, make_due, queued_job
from tests.support.scenarios import HOUR, in_state, write
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
    return [json.loads(message) for message in broker(settings).lrange(queue, 0, -1)]


def ids(settings, queue):
    return [message["headers"]["id"] for message in messages(settings, queue)]


def due_job(tenant, queue):
    return _put(make_due(queued_job(tenant).id), queue)


def _put(job, queue):
    return write(job.id, f"queue = '{queue}'")


def seconds_of_pause(job):
    """Return the length of the pause that has just begun, rounded up to seconds."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT next_publish_at - clock_timestamp() FROM job WHERE id = %s", [job.id])
        return math.ceil(cursor.fetchone()[0].total_seconds())


def test_a_due_job_is_published_as_the_task_that_runs_it(tenant, queue, settings):
    job = due_job(tenant, queue)
    assert sweep.run_once().published == 1
    (message,) = messages(settings, queue)
    args, kwargs, _ = json.loads(message["body"])
    assert (message["headers"]["task"], args, kwargs) == (run_job.name, [str(job.id)], {})
    assert (message["content-type"], message["properties"]["delivery_info"]["routing_key"]) == (
        "application/json",
        queue,
    )


def test_celery_can_read_and_run_a_hint(tenant, queue, settings, script):
    job = _put(make_due(queued_job(tenant, script=script(lambda _job: "ran")).id), queue)
    sweep.run_once()
    with app.connection_for_read() as link, link.SimpleQueue(queue) as simple:
        message = simple.get(timeout=5)
        args, kwargs, _ = message.payload
        app.tasks[message.headers["task"]](*args, **kwargs)
        message.ack()
    assert decode_payload(Job.objects.get(pk=job.id).result) == "ran"


def test_each_unclaimed_publication_doubles_the_pause_up_to_a_minute(tenant, queue, settings):
    job = due_job(tenant, queue)
    pauses = []
    for _ in range(8):
        sweep.run_once()
        pauses.append(seconds_of_pause(job))
        make_due(job.id)
    assert pauses == [5, 10, 20, 40, 60, 60, 60, 60]
    assert ids(settings, queue) == [str(job.id)] * 8


@pytest.mark.parametrize("publications", [11, 999, 1000])
def test_the_pause_stays_a_minute_however_often_a_job_was_published(tenant, queue, publications):
    job = due_job(tenant, queue)
    write(job.id, f"publications = {publications}")
    sweep.run_once()
    assert seconds_of_pause(job) == 60


def test_a_claim_resets_the_publication_pause(tenant, queue):
    job = due_job(tenant, queue)
    for _ in range(4):
        sweep.run_once()
        make_due(job.id)
    held = claim(job.id)
    assert (held.next_publish_at, held.publications) == (None, 0)
    transitions.retry_job(job_id=job.id, attempt=1, delay=-HOUR, detail="later", cause="test")
    sweep.run_once()
    assert seconds_of_pause(job) == 5


def test_a_job_is_published_once_until_its_pause_is_over(tenant, queue, settings):
    due_job(tenant, queue)
    assert [sweep.run_once().published for _ in range(3)] == [1, 0, 0]


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_only_a_queued_job_is_published(tenant, state):
    in_state(tenant, state)
    assert sweep.run_once() == sweep.Counts(expired=0, lapsed=0, published=0)


def test_a_job_that_is_not_due_is_not_published(tenant):
    queued_job(tenant)
    job = claimed_job(tenant)
    transitions.retry_job(job_id=job.id, attempt=1, delay=MINUTE, detail="later", cause="test")
    backdate(queued_job(tenant).id, run_at=HOUR)
    assert sweep.run_once().published == 0


def test_a_redriven_job_is_published_at_once_and_by_the_sweep_after_the_grace(
    tenant, queue, settings, django_capture_on_commit_callbacks
):
    job = _put(in_state(tenant, State.FAILED), queue)
    with django_capture_on_commit_callbacks(execute=True):
        redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert publisher.flush(seconds=20.0)
    assert ids(settings, queue) == [str(job.id)]
    assert sweep.run_once().published == 0
    backdate(job.id, next_publish_at=timedelta(seconds=5))
    assert sweep.run_once().published == 1


def test_a_batch_takes_the_longest_waiting_first(tenant, queue, settings):
    settings.BATCH_ROWS = 2
    jobs = [due_job(tenant, queue) for _ in range(3)]
    backdate(jobs[2].id, next_publish_at=HOUR)
    assert sweep.run_once().published == 3
    first_batch = [str(jobs[2].id), str(jobs[0].id)]
    assert sorted(ids(settings, queue)[1:]) == sorted(first_batch)
    assert ids(settings, queue)[0] == str(jobs[1].id)


def test_a_batch_is_never_larger_than_its_limit_whatever_the_plan(tenant, queue):
    """A plan that reads the due rows once for each job would mark them all."""
    for _ in range(6):
        due_job(tenant, queue)
    ways = ("hashagg", "hashjoin", "mergejoin", "indexscan", "bitmapscan", "material", "memoize", "sort")
    with connection.cursor() as cursor:
        for way in ways:
            cursor.execute(f"SET LOCAL enable_{way} = off")
    assert len(mark_published(queue=queue, limit=2, grace=HOUR, longest=HOUR).due) == 2


def test_a_dead_broker_costs_a_job_nothing_and_is_no_error(tenant, queue, settings, dead_broker):
    job = due_job(tenant, queue)
    assert sweep.run_once() == sweep.Counts()
    after = Job.objects.get(pk=job.id)
    assert (after.next_publish_at, after.publications) == (job.next_publish_at, 0)
    dead_broker()
    assert sweep.run_once().published == 1
    assert ids(settings, queue) == [str(job.id)]


def test_a_dead_broker_is_not_tried_for_every_job(queue, dead_broker, settings):
    for _ in range(settings.BREAKER_FAILURES):
        assert redis_breaker.allows()
        assert publish_hints([DueJob(uuid4(), queue) for _ in range(20)]) == 0
    assert not redis_breaker.allows()
