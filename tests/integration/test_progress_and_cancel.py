"""An attempt's progress, and how the attempt learns that it must stop."""

from __future__ import annotations

import time

import pytest

from jobs.models import Job
from jobs.operations import LeaseLost
from jobs.services import cancel_job
from jobs.states import State
from tests.support.downstreams import Downstream, run
from tests.support.factories import claim, claimed_job, queued_job
from tests.support.scenarios import HOUR, everything, expire, history, outcomes
from workers.job_handle import RunningJob
from workers.lease import Lease

pytestmark = pytest.mark.django_db


def lose_the_job(job):
    """Give the job to another attempt."""
    expire(Job.objects.get(pk=job.id), delay=-HOUR)
    claim(job.id)


def handle(job):
    """Return the handle that `perform` would get."""
    lease = Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=time.monotonic())
    return RunningJob(job=job, lease=lease)


def test_progress_is_written_to_the_job_and_makes_no_event(tenant):
    held = claimed_job(tenant)
    handle(held).progress(1, 4, "one of four")
    job = Job.objects.get(pk=held.id)
    assert job.progress == {"done": 1, "total": 4, "message": "one of four"}
    assert history(job.id) == ["submit", "claim"]


def test_a_tight_loop_writes_only_its_first_and_last_progress(tenant, django_assert_num_queries):
    job = handle(claimed_job(tenant))
    with django_assert_num_queries(2):
        for done in range(1, 1001):
            job.progress(done, 1000)
    assert Job.objects.get(pk=job.id).progress["done"] == 1000


def test_progress_of_a_stale_attempt_changes_nothing_and_ends_it(tenant):
    stale = claimed_job(tenant)
    job = handle(stale)
    lose_the_job(stale)
    before = everything(stale.id)
    with pytest.raises(LeaseLost):
        job.progress(1, 2)
    assert everything(stale.id) == before


@pytest.mark.parametrize("message", ["\x00 nul", "\ud800 surrogate", "x" * 5000])
def test_any_message_can_be_written(tenant, message):
    job = handle(claimed_job(tenant))
    job.progress(0, 1, message)
    assert len(Job.objects.get(pk=job.id).progress["message"]) <= 200


@pytest.mark.parametrize(("done", "total"), [(-1, 1), (2, 1), (1, 2**53 + 1)])
def test_impossible_progress_is_an_error(tenant, done, total):
    job = handle(claimed_job(tenant))
    with pytest.raises(ValueError, match="Progress is"):
        job.progress(done, total)


def cancel(job):
    cancel_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def test_a_cancel_request_is_seen_with_the_next_progress(tenant, script):
    def perform(job):
        cancel(queued)
        job.progress(1, 2)
        return "too far"

    queued = queued_job(tenant, script=script(perform))
    job = run(queued.id)
    assert (job.state, job.result) == (State.CANCELED, None)
    assert outcomes(job.id) == ["canceled"]


def test_a_cancel_request_from_before_the_claim_is_granted_before_any_work(tenant, script):
    calls = []
    job = queued_job(tenant, script=script(lambda _job: calls.append(1)))
    held = claim(job.id)
    cancel(job)
    expire(held, delay=-HOUR)
    assert (run(job.id).state, calls) == (State.CANCELED, [])


def test_a_cancel_request_after_a_done_effect_is_declined_once_and_the_job_continues(tenant, script):
    def perform(job):
        job.effect("charge", Downstream("ok").call)
        cancel(queued)
        for _ in range(3):
            job.progress(2, 2)
            job.check()
        return job.effect("letter", Downstream("sent").call)

    queued = queued_job(tenant, script=script(perform))
    job = run(queued.id)
    assert (job.state, job.done_effects) == (State.SUCCEEDED, 2)
    assert history(job.id) == ["submit", "claim", "cancel-requested", "cancel-declined", "succeed"]


def test_an_operation_cannot_swallow_its_cancel(tenant, script):
    def perform(job):
        cancel(queued)
        try:
            job.progress(1, 1)
        except Exception:  # noqa: BLE001
            return "swallowed"

    queued = queued_job(tenant, script=script(perform))
    assert run(queued.id).state == State.CANCELED
