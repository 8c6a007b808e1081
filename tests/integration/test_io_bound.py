"""The queue of a job: chosen by its operation's `io_bound` and its priority when it is submitted, and kept from then on."""

from __future__ import annotations

import pytest

from jobs.models import Job, Priority
from jobs.operations import RetryableError
from jobs.registry import current_operation
from jobs.states import State
from jobs.submission import queue_of
from tests.support.factories import backdate, queued_job
from tests.support.operations import Scripted
from tests.support.scenarios import HOUR
from workers.executor import execute_job

pytestmark = pytest.mark.django_db


def test_each_priority_has_a_queue_in_both_families(monkeypatch):
    operation = current_operation("test.scripted")
    assert [queue_of(operation, priority) for priority in Priority] == ["high", "default", "low"]
    monkeypatch.setattr(Scripted, "io_bound", True)
    assert [queue_of(operation, priority) for priority in Priority] == ["io-high", "io-default", "io-low"]


@pytest.mark.parametrize(("before", "queues"), [(False, ["low", "io-low"]), (True, ["io-low", "low"])])
def test_a_job_stays_on_its_queue_when_io_bound_changes(tenant, script, monkeypatch, before, queues):
    """Workers of the old kind go on taking its hints and run all its attempts."""

    def fail_once(job):
        if job.attempt == 1:
            raise RetryableError

    monkeypatch.setattr(Scripted, "io_bound", before)
    job = queued_job(tenant, script=script(fail_once), priority=Priority.LOW)
    monkeypatch.setattr(Scripted, "io_bound", not before)
    later = queued_job(tenant, script=script(lambda _job: None), priority=Priority.LOW)
    assert execute_job(job.id).state == State.QUEUED
    backdate(job.id, run_at=HOUR)
    assert execute_job(job.id).state == State.SUCCEEDED
    assert execute_job(later.id).state == State.SUCCEEDED
    assert [Job.objects.get(pk=one.id).queue for one in (job, later)] == queues
