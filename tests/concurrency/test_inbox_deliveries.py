"""Concurrent deliveries of one event are handled once, and none of them fails or waits forever."""

from __future__ import annotations

import pytest

from jobs.models import Job
from jobs.states import State
from tests.contract.test_provider_events import SECRET, deliver, provider_events_of, succeeded, unknown_job
from tests.support.factories import TenantFactory, queued_job
from tests.support.threads import at_once

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _sandbox_may_send(settings):
    settings.INBOX_SECRETS = [f"sandbox:{SECRET}"]


def test_one_of_many_concurrent_deliveries_is_the_first():
    job = queued_job(TenantFactory())
    answers = at_once(*[lambda: deliver(succeeded(job))] * 8)
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["first"] for answer in answers) == [False] * 7 + [True]
    assert len(provider_events_of(job)) == 1


def test_concurrent_events_resolve_a_job_once():
    job = unknown_job(TenantFactory())
    answers = at_once(*[lambda n=n: deliver(succeeded(job), f"evt_{n}") for n in range(6)])
    assert {answer.status_code for answer in answers} == {200}
    found = Job.objects.get(pk=job.id)
    assert (found.state, found.open_effects, found.done_effects) == (State.QUEUED, 0, 1)
    assert len(provider_events_of(job)) == 6
