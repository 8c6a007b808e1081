"""A sweep that dies or freezes halfway leaves each row done or to be found again (I2, I8)."""

from __future__ import annotations

import os
import sys
from threading import Event
from uuid import uuid4

import psutil
import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from broker.publisher import publisher
from devstack.processes import Command, start
from jobs.models import Job
from jobs.states import State
from tests.support.broker_proxy import BrokerProxy
from tests.support.factories import TenantFactory, claimed_job, end_lease, make_due, queued_job
from tests.support.row_locks import connection_parameters, sessions_waiting, until_waiting
from tests.support.scenarios import history, outcomes, write
from tests.support.stack import POLL_SECONDS, START_SECONDS, database_url
from tests.support.waiting import until
from workers import sweep

pytestmark = pytest.mark.django_db(transaction=True)


class Swallowing(BrokerProxy):
    """A relay that withholds the first message to a queue, and everything that its connection sends after it."""

    def __init__(self, url):
        self.has_swallowed = Event()
        super().__init__(url)

    def _relay(self, source, sink):
        super()._relay(_Tap(source, self.has_swallowed), sink)


class _Tap:
    """A socket that delivers nothing more once a message comes in."""

    def __init__(self, source, has_swallowed):
        self._source, self._has_swallowed = source, has_swallowed

    def recv(self, size):
        data = self._source.recv(size)
        if b"EVALSHA\r\n" not in data:
            return data
        self._has_swallowed.set()
        while self._source.recv(size):
            pass
        return b""

    def __getattr__(self, name):
        return getattr(self._source, name)

    def __hash__(self):
        return hash(self._source)

    def __eq__(self, other):
        return self._source == other


@pytest.fixture
def start_sweep(tmp_path, transactional_db):
    """Return a function that starts `manage.py sweep`. Sweeps that still run at the end are killed."""
    running = []

    def begin(**env):
        # A long budget: it must wait for its broker until this test kills it.
        # It knows the operation of the tests' jobs: it would hold them otherwise.
        env = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "OPERATIONS": "tests.support.operations.Scripted",
            "PUBLISH_BUDGET_SECONDS": "60",
            **env,
        }
        running.append(start(Command("sweep", [sys.executable, "manage.py", "sweep"], env), tmp_path / "log"))
        return running[-1]

    yield begin
    for one in running:
        one.popen.kill()
        one.popen.wait()


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


def kill(running):
    running.popen.kill()
    assert running.popen.wait() == -9, running.last_lines()


def unchanged(jobs):
    return all(Job.objects.values().get(pk=job.id) == before for job, before in jobs)


def due_jobs(tenant, queue):
    """Return three due jobs, each with its row."""
    jobs = [write(make_due(queued_job(tenant).id).id, f"queue = '{queue}'") for _ in range(3)]
    return [(job, Job.objects.values().get(pk=job.id)) for job in jobs]


def sweep_and_flush():
    assert sweep.run_once().hinted == 3
    assert publisher.flush(seconds=20.0)


def test_a_sweep_killed_before_its_publication_changes_no_job(tenant, start_sweep):
    queue = f"test-{uuid4()}"
    jobs = due_jobs(tenant, queue)
    proxy = Swallowing(settings.REDIS_URL)
    try:
        running = start_sweep(REDIS_URL=proxy.url)
        until(
            lambda: proxy.has_swallowed.is_set() or running.has_ended, seconds=START_SECONDS, pause_seconds=POLL_SECONDS
        )
        kill(running)
    finally:
        proxy.refuse()
    assert unchanged(jobs)
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        assert broker.llen(queue) == 0
        sweep_and_flush()
        assert broker.llen(queue) == 3
        broker.delete(queue)


def test_a_frozen_sweep_that_continues_publishes_again_and_changes_nothing(tenant, start_sweep):
    queue = f"test-{uuid4()}"
    jobs = due_jobs(tenant, queue)
    running = start_sweep(FAULT_POINT="mid_sweep:1:stop")
    sleeper = psutil.Process(running.popen.pid)
    until(lambda: sleeper.status() == psutil.STATUS_STOPPED, seconds=START_SECONDS, pause_seconds=POLL_SECONDS)
    with redis.Redis.from_url(settings.REDIS_URL) as broker:
        sweep_and_flush()
        assert broker.llen(queue) == 3
        sleeper.resume()
        assert running.popen.wait(START_SECONDS) == 0, running.last_lines()
        # Three more hints, late: the second claim of each job finds no row.
        assert broker.llen(queue) == 6
        broker.delete(queue)
    assert unchanged(jobs)


def test_a_sweep_killed_between_two_leases_leaves_the_second_to_the_next(tenant, start_sweep, monkeypatch):
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: high)
    first, second = (end_lease(claimed_job(tenant).id) for _ in range(2))
    with psycopg.connect(**connection_parameters()) as session:
        # Not the job's row, which a sweep would skip.
        session.execute("SELECT FROM job_attempt WHERE job_id = %s FOR UPDATE", [second.id])
        running = start_sweep()
        until(lambda: sessions_waiting() or running.has_ended, seconds=START_SECONDS)
        until_waiting(1)
        kill(running)
        assert [job.state for job in Job.objects.order_by("id")] == [State.QUEUED, State.RUNNING]
        with connection.cursor() as cursor:
            # The dead sweep's session has not noticed yet: its statement would still be executed.
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        until_waiting(0)
    assert sweep.run_once().expired == 1
    for job in (first, second):
        assert (history(job.id), outcomes(job.id)) == (["submit", "claim", "expire"], ["expire"])
