"""A broker queue stays short however many jobs wait; they wait in PostgreSQL, unchanged (I9)."""

from __future__ import annotations

from uuid import uuid4

import pytest
import redis
from django.conf import settings as configured
from django.db import connection

from broker.circuit_breaker import redis_breaker
from broker.publisher import publisher
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

_FILL = """
    INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempts_left, max_attempts, run_at,
        queue, priority)
    SELECT gen_random_uuid(), %(tenant)s, 'test', 'test.scripted', 1, '', 'queued', 3, 3,
        clock_timestamp() - interval '1 hour' - n * interval '1 ms', %(queue)s, 1
    FROM generate_series(1, %(count)s) AS n"""


@pytest.fixture(autouse=True)
def broker():
    """Return a client of this test process's Redis database, which is empty."""
    with redis.Redis.from_url(configured.REDIS_URL) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture(autouse=True)
def _unhurried(settings):
    # A sweep does everything that is due, however slow the machine is.
    settings.SWEEP_SECONDS = 3600.0


@pytest.fixture
def queue():
    return f"test-{uuid4()}"


def fill(tenant, queue, count):
    """Queue this many jobs, each due since an hour."""
    with connection.cursor() as cursor:
        cursor.execute(_FILL, {"tenant": tenant.id, "queue": queue, "count": count})


def rows():
    return list(Job.objects.order_by("id").values())


def sweep_and_flush():
    counts = sweep.run_once()
    assert publisher.flush(seconds=20.0)
    return counts


# --- Room ------------------------------------------------------------------------------------------------------------


def test_ten_thousand_jobs_without_a_worker_fill_their_queue_to_its_limit_and_again_after_a_flush(
    tenant, queue, broker
):
    fill(tenant, queue, 10_000)
    before = rows()
    for _ in range(10):
        sweep_and_flush()
        assert broker.llen(queue) == configured.HINTS_MAX
    broker.flushdb()
    sweep_and_flush()
    assert broker.llen(queue) == configured.HINTS_MAX
    assert rows() == before


def test_many_submissions_leave_a_short_queue(tenant, broker, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(200):
            queued_job(tenant)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM job WHERE state = 'queued' AND NOT held")
        assert cursor.fetchone() == (200,)
    assert publisher.flush(seconds=20.0)
    assert broker.llen("default") <= configured.HINTS_MAX


def test_a_queue_with_fewer_due_jobs_gets_a_hint_of_each(tenant, queue, broker):
    fill(tenant, queue, 5)
    assert sweep_and_flush() == sweep.Counts(hinted=5)
    assert broker.llen(queue) == 5


def test_a_full_queue_does_not_delay_another(tenant, queue, broker):
    fill(tenant, f"a{queue}", 1_000)
    sweep_and_flush()
    fill(tenant, queue, 3)
    sweep_and_flush()
    assert broker.llen(queue) == 3


@pytest.mark.django_db(transaction=True)
def test_concurrent_sweeps_do_not_overfill_a_queue(tenant, queue, broker):
    fill(tenant, queue, 500)
    before = rows()
    at_once(*[sweep.run_once] * 3)
    assert publisher.flush(seconds=20.0)
    assert broker.llen(queue) == configured.HINTS_MAX
    assert rows() == before


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
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: 10_000 * high)


def answers(client):
    try:
        return client.ping()
    except redis.RedisError:
        return False


def prove_that_no_job_is_changed_for_its_hint(tenant, queue):
    """The sweep does its other work without the broker."""
    fill(tenant, queue, 3)
    end_lease(claimed_job(tenant).id)
    write(queued_job(tenant).id, "deadline_at = clock_timestamp()")
    before = list(Job.objects.filter(queue=queue).order_by("id").values())
    assert sweep_and_flush() == sweep.Counts(expired=1, lapsed=1, hinted=3)
    assert list(Job.objects.filter(queue=queue).order_by("id").values()) == before
    assert not Job.objects.filter(state=State.RUNNING).exists()


def forget_the_failure():
    """Close the breaker, as after its pause."""
    redis_breaker.succeeded()


@pytest.mark.parametrize("way", ["refuse", "fall_silent"])
def test_a_sweep_changes_nothing_while_the_broker_is_down_and_everything_is_published_once_it_is_back(
    tenant, queue, broker, proxy, way
):
    getattr(proxy, way)()
    prove_that_no_job_is_changed_for_its_hint(tenant, queue)
    broker.flushdb()
    proxy.come_back()
    forget_the_failure()
    sweep_and_flush()
    # A broker that was silent may have received the first hints after all.
    assert 3 <= broker.llen(queue) <= 6


def test_a_sweep_changes_nothing_while_the_broker_is_full_and_everything_is_published_once_it_has_memory(
    tenant, queue, full_broker
):
    prove_that_no_job_is_changed_for_its_hint(tenant, queue)
    assert full_broker.llen(queue) == 0
    full_broker.config_set("maxmemory", 0)
    forget_the_failure()
    sweep_and_flush()
    assert full_broker.llen(queue) == 3


def test_a_sweep_writes_nothing_to_the_broker_but_hints(tenant, queue, broker):
    fill(tenant, queue, 1)
    sweep_and_flush()
    assert {key.decode() for key in broker.scan_iter()} == {queue}
