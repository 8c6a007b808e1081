"""A resume races with a sweep that parks jobs: no job stays parked without a pause."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import pytest
from django.db import connection, transaction

from jobs.errors import AlreadyPaused, NotPaused
from jobs.models import PARKED, Job, Pause
from jobs.queries.pauses import lock_pauses, unpark_resumed_jobs
from jobs.queries.sweep import mark_published
from operators import pauses
from tests.support.factories import TenantFactory, make_due, queued_job
from tests.support.row_locks import until_waiting
from tests.support.threads import TIMEOUT_SECONDS, at_once

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
REASON = {"actor": "user ada", "note": "a race"}


def closing(action):
    try:
        return action()
    finally:
        connection.close()


def mark():
    return mark_published(queue="default", limit=100, grace=HOUR, longest=HOUR)


def test_a_resume_waits_for_a_sweep_that_parks_under_its_pause(transactional_db):
    job = make_due(queued_job(TenantFactory()).id)
    made = pauses.pause(**REASON)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            assert mark().parked == 1
            resumed = pool.submit(closing, partial(pauses.resume, pause_id=made.id, actor="user ada"))
            until_waiting(1)
        assert resumed.result(TIMEOUT_SECONDS) is None
    assert unpark_resumed_jobs(10).unparked == 1
    assert Job.objects.get(pk=job.id).next_publish_at < PARKED


def test_a_sweep_that_waited_for_a_resume_parks_no_job(transactional_db):
    make_due(queued_job(TenantFactory()).id)
    made = pauses.pause(**REASON)
    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            pauses.resume(pause_id=made.id, actor="user ada")
            marked = pool.submit(closing, mark)
            until_waiting(1)
        assert (len(marked.result(TIMEOUT_SECONDS).due), marked.result().parked) == (1, 0)


def test_a_sweep_parks_no_job_under_a_pause_that_it_has_not_locked(transactional_db, monkeypatch):
    """The pause could be resumed, and its jobs unparked, before the sweep's parked job is visible."""
    job = make_due(queued_job(TenantFactory()).id)

    def lock_and_pause():
        locked = lock_pauses()
        pauses.pause(**REASON)
        return locked

    monkeypatch.setattr("jobs.queries.sweep.lock_pauses", lock_and_pause)
    marked = mark()
    assert ([due.id for due in marked.due], marked.parked) == ([job.id], 0)
    monkeypatch.undo()
    make_due(job.id)
    assert mark().parked == 1


def test_of_simultaneous_pauses_and_resumes_one_succeeds(transactional_db):
    outcomes = at_once(*[partial(pauses.pause, **REASON)] * 4)
    assert sorted(type(outcome) is AlreadyPaused for outcome in outcomes) == [False, True, True, True]
    resume = partial(pauses.resume, pause_id=Pause.objects.get().id, actor="user ada")
    outcomes = at_once(*[resume] * 4)
    assert sorted(type(outcome) is NotPaused for outcome in outcomes) == [False, True, True, True]


def test_simultaneous_unparking_frees_each_job_once(transactional_db):
    tenant = TenantFactory()
    for _ in range(20):
        make_due(queued_job(tenant).id)
    made = pauses.pause(**REASON)
    assert mark().parked == 20
    pauses.resume(pause_id=made.id, actor="user ada")

    def unpark_all():
        return sum(step.unparked for step in iter(partial(unpark_resumed_jobs, 3), None))

    assert sum(at_once(*[unpark_all] * 3)) == 20
    assert not Pause.objects.exists()
    assert not Job.objects.filter(next_publish_at=PARKED).exists()
