"""A release runs concurrently with a redrive, a first use or another release: the later one sees the result of the earlier."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection, transaction

from accounts.models import AuditEntry
from idempotency.errors import KeyChanged, ResourceNotEnded
from idempotency.models import IdempotencyRecord
from jobs import services
from jobs.models import Job
from jobs.states import State
from operators.job_actions import release_key
from tests.support.factories import TenantFactory
from tests.support.keyed import failed_long_ago, keyed_job
from tests.support.row_locks import locked_record, until_waiting
from tests.support.threads import TIMEOUT_SECONDS, at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(transactional_db):
    return failed_long_ago(keyed_job(TenantFactory(), "k"))


def release_of(job, owner=0):
    return partial(release_key, record_id=job.idempotency_record_id, owner=owner, actor="user ada", note="race")


def redrive_of(job):
    return partial(services.redrive_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def in_turn(job, *actions):
    """Return the outcome of each action. They wait for the record in this order, and get its lock in this order."""
    with ThreadPoolExecutor(len(actions)) as pool:
        begun = []
        with locked_record(job.idempotency_record_id):
            for number, action in enumerate(actions, 1):
                begun.append(pool.submit(run_and_close, action))
                until_waiting(number)
        return [future.exception(TIMEOUT_SECONDS) or future.result() for future in begun]


def run_and_close(action):
    try:
        return action()
    finally:
        connection.close()


def test_a_release_after_a_redrive_is_refused_as_the_job_has_not_ended(job):
    redriven, refused = in_turn(job, redrive_of(job), release_of(job))
    assert (redriven.state, type(refused)) == (State.QUEUED, ResourceNotEnded)
    assert IdempotencyRecord.objects.get().resource == job.resource


def test_a_redrive_after_a_release_reclaims_the_key(job):
    released, redriven = in_turn(job, release_of(job), redrive_of(job))
    assert released is None
    assert redriven.state == State.QUEUED
    assert IdempotencyRecord.objects.get().resource == job.resource
    assert Job.objects.get(pk=job.id).idempotency_record_id == IdempotencyRecord.objects.get().id


def test_one_of_two_concurrent_releases_succeeds(job):
    outcomes = in_turn(job, release_of(job), release_of(job))
    assert [type(outcome) for outcome in outcomes] == [type(None), KeyChanged]
    assert AuditEntry.objects.count() == 1


def test_a_concurrent_take_over_keeps_the_key(job):
    """Both wait for the record; the take-over commits first."""

    def take_over():
        with transaction.atomic():
            IdempotencyRecord.objects.select_for_update().update(owner=1, resource=None)

    _, refused = in_turn(job, take_over, release_of(job))
    assert isinstance(refused, KeyChanged)
    assert IdempotencyRecord.objects.get().owner == 1


def test_concurrent_releases_and_redrives_never_run_a_job_without_its_key(job):
    outcomes = at_once(*[release_of(job)] * 3, *[redrive_of(job)] * 3)
    released = [outcome for outcome in outcomes[:3] if outcome is None]
    redriven = [outcome for outcome in outcomes[3:] if isinstance(outcome, Job)]
    assert (len(released) <= 1, len(redriven)) == (True, 1)
    assert IdempotencyRecord.objects.get().resource == job.resource
