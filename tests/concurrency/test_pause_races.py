"""A resume races with a sweep that holds jobs: no job stays held without a pause."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction

from jobs.errors import AlreadyPaused, NotPaused
from jobs.models import Job, Pause
from jobs.queries.held import hold_front, release_resumed_jobs
from jobs.queries.pauses import lock_pauses
from jobs.registry import known_operations
from operators import pauses
from tests.support.factories import TenantFactory, make_due, queued_job
from tests.support.row_locks import until_waiting
from tests.support.threads import TIMEOUT_SECONDS, at_once

pytestmark = pytest.mark.django_db(transaction=True)

REASON = {"actor": "user ada", "note": "a race"}


def closing(action):
    try:
        return action()
    finally:
        connection.close()


def hold():
    return hold_front(queue="default", limit=100, known_operations=known_operations())


def release(limit):
    return release_resumed_jobs(limit=limit, known_operations=known_operations())


def is_held(job):
    return Job.objects.get(pk=job.id).held


def test_a_resume_waits_for_a_sweep_that_holds_under_its_pause(transactional_db):
    job = make_due(queued_job(TenantFactory()).id)
    made = pauses.pause(**REASON)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert hold() == 1
            resumed = pool.submit(closing, partial(pauses.resume, pause_id=made.id, actor="user ada"))
            until_waiting(1)
        assert resumed.result(TIMEOUT_SECONDS) is None
    assert is_held(job)
    assert release(10).released == 1
    assert not is_held(job)


def test_a_sweep_that_waited_for_a_resume_holds_no_job(transactional_db):
    job = make_due(queued_job(TenantFactory()).id)
    made = pauses.pause(**REASON)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            pauses.resume(pause_id=made.id, actor="user ada")
            held = pool.submit(closing, hold)
            until_waiting(1)
        assert held.result(TIMEOUT_SECONDS) == 0
    assert not is_held(job)


def test_a_sweep_holds_no_job_under_a_pause_that_it_has_not_locked(transactional_db, monkeypatch):
    """The pause could be resumed, and its jobs released, before the sweep's held job is visible."""
    job = make_due(queued_job(TenantFactory()).id)

    def lock_and_pause():
        locked = lock_pauses()
        pauses.pause(**REASON)
        return locked

    monkeypatch.setattr("jobs.queries.held.lock_pauses", lock_and_pause)
    assert hold() == 0
    assert not is_held(job)
    monkeypatch.undo()
    assert hold() == 1


def test_of_simultaneous_pauses_and_resumes_one_succeeds(transactional_db):
    outcomes = at_once(*[partial(pauses.pause, **REASON)] * 4)
    assert sorted(type(outcome) is AlreadyPaused for outcome in outcomes) == [False, True, True, True]
    resume = partial(pauses.resume, pause_id=Pause.objects.get().id, actor="user ada")
    outcomes = at_once(*[resume] * 4)
    assert sorted(type(outcome) is NotPaused for outcome in outcomes) == [False, True, True, True]


def test_simultaneous_releases_free_each_job_once(transactional_db):
    tenant = TenantFactory()
    for _ in range(20):
        make_due(queued_job(tenant).id)
    made = pauses.pause(**REASON)
    assert hold() == 20
    pauses.resume(pause_id=made.id, actor="user ada")

    def release_all():
        return sum(step.released for step in iter(partial(release, 3), None))

    assert sum(at_once(*[release_all] * 3)) == 20
    assert not Pause.objects.exists()
    assert not Job.objects.filter(held=True).exists()
