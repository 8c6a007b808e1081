"""A row that the database refuses to change is a logged error, and delays no other row."""

from __future__ import annotations

import logging
from uuid import uuid4

import pytest
import redis
from django.conf import settings as configured
from django.db import IntegrityError, OperationalError, connection

from jobs import transitions
from jobs.models import Job, JobAttempt
from jobs.registry import known_operations
from jobs.states import State
from tests.support.factories import backdate, claimed_job, end_lease, make_due, queued_job
from tests.support.scenarios import HOUR, blocker, everything, write
from workers import sweep

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _connection(transactional_db):
    """Close the connection that the test has cut."""
    yield
    connection.close()


def claim(job):
    return transitions.claim_job(job_id=job.id, worker="a-worker", known_operations=known_operations())


def spoil(job):
    """Insert another event under the job's next number, as a defect would."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)"
            " SELECT id, event_seq + 1, 'claim', attempt, '{}', now() FROM job WHERE id = %s",
            [job.id],
        )
    return job


def state_of(job):
    return Job.objects.get(pk=job.id).state


def test_a_claim_that_the_database_refuses_is_an_error_and_not_a_blocked_job(tenant):
    job = queued_job(tenant)
    JobAttempt.objects.create(job_id=job.id, number=1, worker="another", started_at=job.created_at)
    before = everything(job.id)
    with pytest.raises(IntegrityError, match="job_attempt"):
        claim(job)
    assert everything(job.id) == before


def test_a_claim_that_meets_a_running_job_of_its_key_is_blocked(tenant):
    """The unique index decides if the guard saw nothing a moment before."""
    blocker(tenant)
    job = queued_job(tenant)
    # Older by its number, so that the guard lets it pass.
    write(job.id, "concurrency_key = 'taken', accept_seq = 0")
    assert claim(job) is None
    assert state_of(job) == State.QUEUED


@pytest.fixture
def queue():
    """Return the name of a queue that only this test uses."""
    name = f"test-{uuid4()}"
    with redis.Redis.from_url(configured.REDIS_URL) as broker:
        yield lambda: broker.llen(name), name
        broker.delete(name)


def test_one_lease_that_cannot_be_ended_does_not_stop_the_sweep(tenant, queue, caplog, monkeypatch):
    length, name = queue
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: high)
    first, spoiled, last = (claimed_job(tenant) for _ in range(3))
    spoil(spoiled)
    for job in (first, spoiled, last):
        end_lease(job.id)
    before = everything(spoiled.id)
    lapsing = queued_job(tenant)
    write(lapsing.id, "deadline_at = clock_timestamp() - interval '1 hour'")
    due = make_due(queued_job(tenant).id)
    write(due.id, f"queue = '{name}'")
    monkeypatch.setattr(logging.getLogger("workers"), "propagate", True)
    with caplog.at_level(logging.ERROR, logger="workers"):
        counts = sweep.run_once()
    # The two jobs whose lease has expired are due before the next sweep, and get their hints too.
    assert (counts.expired, counts.lapsed, counts.hinted) == (2, 1, 3)
    assert [state_of(job) for job in (first, spoiled, last)] == [State.QUEUED, State.RUNNING, State.QUEUED]
    assert state_of(lapsing) == State.FAILED
    assert length() == 1
    assert everything(spoiled.id) == before
    assert "sweep.row_failed" in caplog.text


def test_one_deadline_that_cannot_be_written_does_not_stop_the_sweep(tenant):
    jobs = [queued_job(tenant) for _ in range(3)]
    for hours, job in enumerate(jobs, 1):
        write(job.id, f"deadline_at = clock_timestamp() - interval '{4 - hours} hours'")
    spoil(jobs[0])
    assert sweep.run_once().lapsed == 2
    assert [state_of(job) for job in jobs] == [State.QUEUED, State.FAILED, State.FAILED]


def test_refused_rows_are_met_once_a_sweep_however_small_its_batches(tenant, settings):
    settings.BATCH_ROWS = 1
    leases = [end_lease(claimed_job(tenant).id) for _ in range(3)]
    deadlines = [
        write(queued_job(tenant).id, f"deadline_at = clock_timestamp() - interval '{hours} hours'")
        for hours in (3, 2, 1)
    ]
    for job in (*leases[:2], *deadlines[:2]):
        spoil(job)
    counts = sweep.run_once()
    assert (counts.expired, counts.lapsed) == (1, 1)
    assert [state_of(job) for job in leases] == [State.RUNNING, State.RUNNING, State.QUEUED]
    assert [state_of(job) for job in deadlines] == [State.QUEUED, State.QUEUED, State.FAILED]


def test_a_kind_of_work_that_the_database_refuses_does_not_stop_the_others(tenant, monkeypatch):
    def refused(**_values):
        raise OperationalError("canceling statement due to statement timeout")

    end_lease(claimed_job(tenant).id)
    write(queued_job(tenant).id, "deadline_at = clock_timestamp() - interval '1 hour'")
    monkeypatch.setattr(sweep, "expired_leases", refused)
    counts = sweep.run_once()
    assert (counts.expired, counts.lapsed) == (0, 1)


def test_a_refused_row_is_swept_once_the_defect_is_fixed(tenant):
    job = spoil(claimed_job(tenant))
    backdate(job.id, lease_expires_at=HOUR)
    assert sweep.run_once().expired == 0
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM job_event WHERE job_id = %s AND seq > %s", [job.id, job.event_seq])
    assert sweep.run_once().expired == 1


def test_a_sweep_without_its_database_ends_at_once(tenant, monkeypatch):
    def gone(**_values):
        calls.append(1)
        connection.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    calls = []
    for _ in range(3):
        end_lease(claimed_job(tenant).id)
    monkeypatch.setattr(transitions, "expire_job", gone)
    with pytest.raises(OperationalError):
        sweep.run_once()
    assert len(calls) == 1
