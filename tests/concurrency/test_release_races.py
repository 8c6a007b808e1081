"""A release meets a redrive, a first use, another release: one of them comes first, and the other sees what it left."""

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
from tests.support.threads import PATIENCE, at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job(transactional_db):
    return failed_long_ago(keyed_job(TenantFactory(), "k"))


def releasing(job, owner=0):
    return partial(
        release_key, record_id=job.idempotency_record_id, owner=owner, actor="user ada", note="race"
    )


def redriving(job):
    return partial(services.redrive_job, tenant_id=job.tenant_id, mode="test", job_id=job.id)


def in_turn(job, *actions):
    """What came of each; they queue up for the record one after the other, and the first is served first."""
    with ThreadPoolExecutor(len(actions)) as pool:
        begun = []
        with locked_record(job.idempotency_record_id):
            for number, action in enumerate(actions, 1):
                begun.append(pool.submit(closing, action))
                until_waiting(number)
        return [future.exception(PATIENCE) or future.result() for future in begun]


def closing(action):
    try:
        return action()
    finally:
        connection.close()


def test_a_release_behind_a_redrive_finds_that_the_job_has_not_ended(job):
    redriven, refused = in_turn(job, redriving(job), releasing(job))
    assert (redriven.state, type(refused)) == (State.QUEUED, ResourceNotEnded)
    assert IdempotencyRecord.objects.get().resource == job.resource


def test_a_redrive_behind_a_release_takes_the_key_back(job):
    released, redriven = in_turn(job, releasing(job), redriving(job))
    assert released is None
    assert redriven.state == State.QUEUED
    assert IdempotencyRecord.objects.get().resource == job.resource
    assert Job.objects.get(pk=job.id).idempotency_record_id == IdempotencyRecord.objects.get().id


def test_of_two_releases_one_frees_the_key(job):
    outcomes = in_turn(job, releasing(job), releasing(job))
    assert [type(outcome) for outcome in outcomes] == [type(None), KeyChanged]
    assert AuditEntry.objects.count() == 1


def test_a_first_use_that_takes_the_key_over_meanwhile_keeps_it(job):
    """Both were seen to want the record; whoever took it over committed first."""

    def take_over():
        with transaction.atomic():
            IdempotencyRecord.objects.select_for_update().update(owner=1, resource=None)

    _, refused = in_turn(job, take_over, releasing(job))
    assert isinstance(refused, KeyChanged)
    assert IdempotencyRecord.objects.get().owner == 1


def test_of_releases_and_redrives_at_once_the_job_never_runs_without_its_key(job):
    outcomes = at_once(*[releasing(job)] * 3, *[redriving(job)] * 3)
    released = [outcome for outcome in outcomes[:3] if outcome is None]
    redriven = [outcome for outcome in outcomes[3:] if isinstance(outcome, Job)]
    assert (len(released) <= 1, len(redriven)) == (True, 1)
    assert IdempotencyRecord.objects.get().resource == job.resource
