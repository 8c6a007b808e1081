"""A broker queue stays below its cap; jobs that do not fit wait in PostgreSQL, unchanged (I9)."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import redis
from django.conf import settings as configured
from django.db import connection

from broker.circuit_breaker import redis_breaker
from devstack.binaries import broker_binary
from devstack.ports import free_port
from devstack.processes import Command, start
from jobs.models import Job
from jobs.states import State
from tests.support.broker_proxy import BrokerProxy
from tests.support.factories import claimed_job, end_lease, queued_job
from tests.support.scenarios import write
from tests.support.threads import at_once
from tests.support.waiting import until
from workers import sweep

pytestmark = pytest.mark.django_db

CAP = 500
# Steps of ten minutes: the longest pause, so that every job is due again each time.
STEP = timedelta(minutes=1)

_FILL = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempts_left, max_attempts, run_at,
        next_publish_at, queue, priority)
    SELECT gen_random_uuid(), %(tenant)s, 'test', 'test.scripted', 1, '', 'queued', 3, 3, at, at, %(queue)s, 1
    FROM (SELECT clock_timestamp() - interval '1 hour' - n * interval '1 ms' AS at
          FROM generate_series(1, %(count)s) AS n) AS numbers"""


@pytest.fixture(autouse=True)
def broker():
    """Return a client of this test process's Redis database, which is empty."""
    with redis.Redis.from_url(configured.REDIS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(autouse=True)
def _small(settings):
    settings.PUBLISH_QUEUE_CAP = CAP
    settings.BATCH_ROWS = 200
    # A sweep does everything that is due, however slow the machine is.
    settings.SWEEP_SECONDS = 3600.0


@pytest.fixture
def queue():
    return f"test-{uuid4()}"


def fill(tenant, queue, count):
    """Queue this many jobs, each due for publication since an hour."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL, {"tenant": tenant.id, "queue": queue, "count": count})


def untouched(queue):
    return Job.objects.filter(queue=queue, publications=0).count()


def pass_by(time):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE job SET next_publish_at = next_publish_at - %s WHERE state = 'queued'", [time])


def stand_in(broker, queue, count):
    broker.lpush(queue, *["{}"] * count)


# --- Room ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [CAP, CAP + 1])
def test_the_jobs_of_a_full_queue_are_not_changed(tenant, queue, broker, waiting):
    fill(tenant, queue, 3)
    before = list(Job.objects.order_by("id").values())
    stand_in(broker, queue, waiting)
    assert sweep.run_once() == sweep.Counts(held_back=3)
    assert list(Job.objects.order_by("id").values()) == before
    assert broker.llen(queue) == waiting


def test_a_queue_is_filled_up_to_its_cap(tenant, queue, broker):
    fill(tenant, queue, 600)
    stand_in(broker, queue, 7)
    assert sweep.run_once() == sweep.Counts(published=CAP - 7, held_back=600 - (CAP - 7))
    assert (broker.llen(queue), untouched(queue)) == (CAP, 600 - (CAP - 7))


def test_free_room_is_filled_with_the_jobs_that_waited_longest(tenant, queue, broker):
    fill(tenant, queue, CAP + 100)
    sweep.run_once()
    broker.ltrim(queue, 0, CAP - 101)
    assert sweep.run_once().published == 100
    assert (broker.llen(queue), untouched(queue)) == (CAP, 0)


def test_a_full_queue_does_not_delay_another(tenant, queue, broker):
    fill(tenant, f"a{queue}", CAP)
    stand_in(broker, f"a{queue}", CAP)
    fill(tenant, queue, 3)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE job SET next_publish_at = clock_timestamp() WHERE queue = %s", [queue])
    assert sweep.run_once() == sweep.Counts(published=3, held_back=CAP)
    assert broker.llen(queue) == 3


def test_a_batch_that_fits_exactly_is_published(tenant, queue, broker, settings):
    settings.PUBLISH_QUEUE_CAP = settings.BATCH_ROWS = 5
    fill(tenant, queue, 5)
    assert sweep.run_once() == sweep.Counts(published=5)


@pytest.mark.django_db(transaction=True)
def test_concurrent_sweeps_overshoot_by_at_most_a_batch_each(tenant, queue, broker, settings):
    settings.BATCH_ROWS = 20
    fill(tenant, queue, CAP * 2)
    counts = at_once(*[sweep.run_once] * 3)
    assert sum(count.published for count in counts) == broker.llen(queue)
    assert CAP <= broker.llen(queue) <= CAP + 2 * 20
    assert untouched(queue) == CAP * 2 - broker.llen(queue)


def test_ten_minutes_without_a_worker_fill_the_queue_to_its_cap_and_again_after_a_flush(tenant, queue, broker):
    fill(tenant, queue, 10_000)
    for _ in range(int(timedelta(minutes=10) / STEP)):
        sweep.run_once()
        assert broker.llen(queue) == CAP
        pass_by(STEP)
    # No job's publication has been put off for lack of room.
    assert untouched(queue) == 10_000 - CAP
    broker.flushdb()
    assert sweep.run_once().published == CAP
    assert broker.llen(queue) == CAP


# --- A broker that accepts nothing --------------------------------------------------------------------------------------


@pytest.fixture
def proxy(settings):
    proxy = BrokerProxy(settings.REDIS_URL)
    settings.REDIS_URL = proxy.url
    settings.PUBLISH_BUDGET_SECONDS = 1.0
    yield proxy
    proxy.refuse()


@pytest.fixture
def full_broker(tmp_path, settings):
    """Start a broker for this test without free memory."""
    port = free_port()
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    memory = ["--maxmemory", "1", "--maxmemory-policy", "noeviction"]
    running = start(Command("broker", [str(broker_binary()), *words, *memory], {}), tmp_path / "log")
    settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        until(lambda: answers(client))
        yield client
    running.popen.kill()
    running.popen.wait()


@pytest.fixture(autouse=True)
def _longest_backoff(monkeypatch):
    """Make every backoff so long that an expired job is not due again during the test."""
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: 1000 * high)


def answers(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def prove_that_nothing_is_marked(tenant, queue):
    fill(tenant, queue, 3)
    end_lease(claimed_job(tenant).id)
    write(queued_job(tenant).id, "deadline_at = clock_timestamp()")
    before = list(Job.objects.filter(queue=queue).order_by("id").values())
    assert sweep.run_once() == sweep.Counts(expired=1, lapsed=1)
    assert list(Job.objects.filter(queue=queue).order_by("id").values()) == before
    assert not Job.objects.filter(state=State.RUNNING).exists()


def forget_the_failure():
    """Close the breaker, as after its pause."""
    redis_breaker.succeeded()


@pytest.mark.parametrize("way", ["refuse", "fall_silent"])
def test_nothing_is_marked_while_the_broker_is_down_and_everything_is_published_once_it_is_back(
    tenant, queue, broker, proxy, way
):
    getattr(proxy, way)()
    prove_that_nothing_is_marked(tenant, queue)
    proxy.come_back()
    forget_the_failure()
    assert sweep.run_once().published == 3
    assert broker.llen(queue) == 3


def test_nothing_is_marked_while_the_broker_is_full_and_everything_is_published_once_it_has_memory(
    tenant, queue, full_broker
):
    prove_that_nothing_is_marked(tenant, queue)
    full_broker.config_set("maxmemory", 0)
    forget_the_failure()
    assert sweep.run_once().published == 3
    assert full_broker.llen(queue) == 3


def test_reading_queue_lengths_writes_nothing_to_the_broker(tenant, queue, broker):
    fill(tenant, queue, 1)
    sweep.run_once()
    assert {key.decode() for key in broker.scan_iter()} <= {queue}
