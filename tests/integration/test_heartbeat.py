"""The heartbeat renews all leases of a process from its own thread and connection, each within its attempt's limit."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from datetime import timedelta
from threading import Event
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from jobs import transitions
from jobs.models import Job
from jobs.operations import JobCanceled, LeaseLost
from jobs.queries.lease import LeaseKey, renew_leases
from jobs.services import cancel_job
from jobs.states import State
from tests.support.factories import TenantFactory, backdate, claim, claimed_job, end_lease, queued_job
from tests.support.row_locks import locked
from tests.support.scenarios import HOUR, everything, expire, history, write
from tests.support.waiting import until
from workers.executor import execute_job
from workers.heartbeat import heartbeat
from workers.lease import Lease

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = timedelta(seconds=45)


@pytest.fixture
def tenant(transactional_db):
    return TenantFactory()


@pytest.fixture(autouse=True)
def _own_thread(fresh_heartbeat):
    """Let each test set the intervals of the heartbeat."""


@pytest.fixture
def _quick(settings):
    settings.HEARTBEAT_SECONDS = 0.02


def expiry(job_id):
    return Job.objects.values_list("lease_expires_at", flat=True).get(pk=job_id)


def renewed(job_id, *, after):
    return until(lambda: (now := expiry(job_id)) and now > after and now)


def lease_of(job):
    return Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=time.monotonic())


def renew(job, *, lease=LEASE, **changes):
    key = LeaseKey(job.id, job.attempt, HOUR)._replace(**changes)
    return renew_leases([key], lease=lease).renewed.get((key.job_id, key.attempt))


@pytest.mark.usefixtures("_quick")
def test_a_long_attempt_keeps_its_lease(tenant, script):
    def perform(job):
        first = expiry(job.id)
        second = renewed(job.id, after=first)
        return renewed(job.id, after=second) > second

    job = queued_job(tenant, script=script(perform))
    assert execute_job(job.id).state == State.SUCCEEDED
    assert history(job.id) == ["submit", "claim", "succeed"]


@pytest.mark.usefixtures("_quick")
def test_the_heartbeat_delivers_a_cancel_request_to_a_long_attempt(tenant, script):
    def perform(job):
        cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        until(lambda: _raises(JobCanceled, job.check))
        job.check()

    job = queued_job(tenant, script=script(perform))
    assert execute_job(job.id).state == State.CANCELED


def _raises(kind, function):
    try:
        function()
    except kind:
        return True
    return False


@pytest.mark.usefixtures("_quick")
def test_the_heartbeat_stops_a_long_attempt_that_lost_its_lease(tenant, script):
    def perform(job):
        expire(Job.objects.get(pk=job.id), delay=-HOUR)
        claim(job.id)
        until(lambda: _raises(LeaseLost, job.check))
        before.update(everything(job.id))

    before = {}
    job = queued_job(tenant, script=script(perform))
    assert execute_job(job.id) is None
    assert everything(job.id) == before


@pytest.mark.usefixtures("_quick")
def test_a_heartbeat_that_loses_its_connection_opens_another(tenant, script):
    def perform(job):
        first = renewed(job.id, after=expiry(job.id))
        victims = until(other_backends)
        for pid in victims:
            terminate(pid)
        until(lambda: not set(victims) & set(other_backends()))
        renewed(job.id, after=max(first, expiry(job.id)))
        return "still mine"

    job = queued_job(tenant, script=script(perform))
    assert execute_job(job.id).state == State.SUCCEEDED


@pytest.mark.usefixtures("_quick")
def test_a_heartbeat_leaves_no_connection_behind(tenant, script):
    def perform(job):
        renewed(job.id, after=expiry(job.id))
        return len(until(other_backends))

    assert execute_job(queued_job(tenant, script=script(perform)).id).state == State.SUCCEEDED
    until(lambda: not other_backends())


def test_a_short_attempt_costs_no_renewal_and_no_connection(tenant, script, monkeypatch):
    renewals, seen = [], []
    monkeypatch.setattr("workers.heartbeat.renew_leases", lambda *values, **_: renewals.append(values))
    job = queued_job(tenant, script=script(lambda _job: seen.append(other_backends())))
    assert execute_job(job.id).state == State.SUCCEEDED
    assert (renewals, seen, other_backends()) == ([], [[]], [])


def test_the_lease_is_lost_when_the_database_cannot_be_reached_until_its_local_end(tenant, monkeypatch):
    lease = lease_of(claimed_job(tenant))
    monkeypatch.setattr("workers.heartbeat.renew_leases", _unreachable)
    with heartbeat.renewing(lease):
        _set_clock(monkeypatch, seconds=44)
        assert heartbeat.run_once() == pytest.approx(0.5)
        assert not lease.is_lost
        _set_clock(monkeypatch, seconds=46)
        heartbeat.run_once()
        assert lease.is_lost


def _unreachable(*_keys, **_values):
    raise OperationalError("no route")


def test_the_local_lease_counts_from_before_the_claim_was_sent(tenant):
    claimed_at = time.monotonic() - 40
    job = claimed_job(tenant)
    lease = Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=claimed_at)
    assert 0 < lease.seconds_left <= 5


def test_a_renewal_never_goes_beyond_the_attempts_limit(tenant):
    job = claimed_job(tenant)
    started = job.started_at
    view = renew(job, attempt_limit=timedelta(seconds=50))
    assert 44 < view.seconds_left <= 45
    job = backdate(job.id, started_at=timedelta(seconds=10))
    view = renew(job, attempt_limit=timedelta(seconds=50))
    assert view.seconds_left <= 45
    job = write(job.id, "lease_expires_at = clock_timestamp() + interval '3 seconds'")
    view = renew(job, attempt_limit=timedelta(seconds=15))
    assert 3 < view.seconds_left <= 5
    assert expiry(job.id) == started - timedelta(seconds=10) + timedelta(seconds=15)


def test_a_renewal_never_shortens_a_lease(tenant):
    job = claimed_job(tenant)
    assert renew(job, lease=timedelta(seconds=1)).seconds_left > 40
    job = backdate(job.id, started_at=HOUR)
    assert renew(job, attempt_limit=timedelta(seconds=1)).seconds_left > 40
    assert expiry(job.id) == job.lease_expires_at


def test_an_expired_lease_is_not_renewed_even_before_the_sweep(tenant):
    job = end_lease(claimed_job(tenant).id)
    before = everything(job.id)
    assert renew(job) is None
    assert everything(job.id) == before


@pytest.mark.parametrize("off", [-1, 1])
def test_a_renewal_is_fenced(tenant, off):
    job = claimed_job(tenant)
    before = everything(job.id)
    assert renew(job, attempt=job.attempt + off) is None
    assert everything(job.id) == before


def test_a_settled_job_is_not_renewed(tenant, script):
    job = execute_job(queued_job(tenant, script=script(lambda _job: None)).id)
    assert renew(job) is None


def test_a_renewal_changes_nothing_but_the_lease(tenant):
    job = claimed_job(tenant)
    renew(job)
    after = Job.objects.get(pk=job.id)
    changed = {field.name for field in Job._meta.fields if getattr(job, field.attname) != getattr(after, field.attname)}
    assert changed == {"lease_expires_at"}
    assert history(job.id) == ["submit", "claim"]


def other_backends():
    """Return the process ids of all other connections to this database."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def terminate(pid):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])


def test_a_process_is_not_ended_during_an_unfenced_write(tenant, settings, monkeypatch):
    """The write has its own time limit; after it the process ends like any other."""
    settings.HEARTBEAT_SECONDS = settings.LOST_LEASE_EXIT_SECONDS = 0.02
    ended, tries = Event(), []
    monkeypatch.setattr("workers.heartbeat.os._exit", lambda _code: ended.set())
    monkeypatch.setattr("workers.lease._RETRY_SECONDS", 0.05)
    lease = lease_of(claimed_job(tenant))

    def write():
        if not tries:
            lease.mark_lost()
        tries.append(ended.is_set())
        if len(tries) < 6:
            raise OperationalError("away")
        return "written"

    with heartbeat.renewing(lease):
        assert lease.retry_unfenced_write(write) == "written"
        assert tries == [False] * 6
        assert ended.wait(20)


def test_a_renewal_that_failed_is_tried_again_long_before_the_next_one_is_due(tenant, settings, monkeypatch):
    job = claimed_job(tenant)
    tried, done = [], Event()

    def renew_once_it_is_back(keys, **params):
        tried.append(keys)
        if len(tried) == 1:
            settings.HEARTBEAT_SECONDS = 3600
            raise OperationalError("The database is away.")
        done.set()
        return renew_leases(keys, **params)

    settings.HEARTBEAT_SECONDS = 0.02
    monkeypatch.setattr("workers.heartbeat.renew_leases", renew_once_it_is_back)
    with heartbeat.renewing(lease_of(job)):
        assert done.wait(20)
    assert len(tried) == 2


def test_one_statement_renews_all_leases_of_a_process_and_finds_the_stale_ones(tenant, monkeypatch):
    jobs = [claimed_job(tenant) for _ in range(4)]
    kept, canceled, settled, expired = map(lease_of, jobs)
    cancel_job(tenant_id=tenant.id, mode="test", job_id=canceled.job_id)
    transitions.fail_job(job_id=settled.job_id, attempt=1, detail="no", cause="no")
    end_lease(expired.job_id)
    before = [expiry(job.id) for job in jobs]
    with ExitStack() as attempts:
        for lease in (kept, canceled, settled, expired):
            attempts.enter_context(heartbeat.renewing(lease))
        _set_clock(monkeypatch, seconds=20)
        with CaptureQueriesContext(connection) as statements:
            heartbeat.run_once()
    assert len(statements) == 1
    assert [lease.is_lost for lease in (kept, canceled, settled, expired)] == [False, False, True, True]
    assert [lease.cancel_requested for lease in (kept, canceled)] == [False, True]
    changed = [expiry(job.id) != old for job, old in zip(jobs, before, strict=True)]
    assert changed == [True, True, False, False]


def test_a_locked_row_does_not_delay_the_renewal_of_the_other_leases(tenant, monkeypatch):
    free, held = claimed_job(tenant), claimed_job(tenant)
    leases = [lease_of(free), lease_of(held)]
    before = [expiry(job.id) for job in (free, held)]
    with heartbeat.renewing(leases[0]), heartbeat.renewing(leases[1]):
        _set_clock(monkeypatch, seconds=20)
        with locked(held):
            assert heartbeat.run_once() == pytest.approx(0.5)
            assert (expiry(free.id) > before[0], expiry(held.id) == before[1]) == (True, True)
        _set_clock(monkeypatch, seconds=20.5)
        heartbeat.run_once()
        assert expiry(held.id) > before[1]
        assert not any(lease.is_lost for lease in leases)


def _set_clock(monkeypatch, *, seconds):
    """Let leases and heartbeat see a clock that is this much later."""
    later = time.monotonic() + seconds
    for module in ("workers.heartbeat", "workers.lease"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: later))


def test_a_process_that_forked_has_no_leases_of_its_parent(tenant):
    lease = lease_of(claimed_job(tenant))
    with heartbeat.renewing(lease):
        child = os.fork()
        if child == 0:
            os._exit(0 if (heartbeat._watches, heartbeat._thread) == ({}, None) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert list(heartbeat._watches) == [lease]


def test_an_error_in_one_round_does_not_end_the_heartbeat(tenant, settings, monkeypatch):
    """Otherwise no later attempt of the process would keep its lease."""
    settings.HEARTBEAT_SECONDS = 0.02
    job = claimed_job(tenant)
    rounds = []

    def renew(keys, **params):
        rounds.append(keys)
        if len(rounds) == 1:
            raise ValueError
        return renew_leases(keys, **params)

    monkeypatch.setattr("workers.heartbeat.renew_leases", renew)
    with heartbeat.renewing(lease_of(job)):
        renewed(job.id, after=expiry(job.id))
