"""Steps inside our own system: recorded results, changes that commit exactly once, progress."""

from __future__ import annotations

import time

import pytest
from django.db import connection

from jobs.models import Job, JobStep
from jobs.operations import LeaseLost, RetryableError
from jobs.payloads import decode_payload
from jobs.states import State
from tests.support.downstreams import run, step_of
from tests.support.factories import claim, claimed_job, queued_job
from tests.support.scenarios import HOUR, everything, expire, outcomes
from workers.job_handle import RunningJob
from workers.lease import Lease

pytestmark = pytest.mark.django_db


class Crash(BaseException):
    """The process is dead: no code of ours runs after it."""


@pytest.fixture
def ledger(db):
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE ledger (amount integer) ON COMMIT PRESERVE ROWS")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE ledger")


def book(amount):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO ledger VALUES (%s)", [amount])
    return {"booked": amount}


def booked():
    with connection.cursor() as cursor:
        cursor.execute("SELECT amount FROM ledger")
        return [amount for (amount,) in cursor.fetchall()]


def lose_the_job(job):
    """Give the job to another attempt."""
    expire(Job.objects.get(pk=job.id), delay=-HOUR)
    claim(job.id)


def handle(job):
    """Return the handle that `perform` would get."""
    lease = Lease(job_id=job.id, attempt=job.attempt, time_limit=HOUR, claimed_at=time.monotonic())
    return RunningJob(job=job, lease=lease)


@pytest.mark.parametrize("kind", ["step", "commit"])
@pytest.mark.parametrize("result", [{"rate": 1.5}, None, 0, False, [], 2**70])
def test_a_result_is_kept_between_attempts(tenant, script, kind, result):
    calls, seen = [], []

    def perform(job):
        seen.append(getattr(job, kind)("rate", lambda: calls.append(1) or result))
        if job.attempt == 1:
            raise RetryableError

    job = queued_job(tenant, script=script(perform))
    run(job.id)
    assert run(job.id).state == State.SUCCEEDED
    assert (seen, len(calls)) == ([result, result], 1)
    step = step_of(job, "rate")
    assert (step.kind, step.state, step.attempt, step.downstream_key) == (kind, "done", 1, None)
    assert decode_payload(step.result) == result


@pytest.mark.parametrize("kind", ["step", "commit"])
def test_a_failed_step_is_not_recorded(tenant, script, kind, ledger):
    def work():
        book(1)
        if len(tries) < 2:
            raise RetryableError
        return "ok"

    def perform(job):
        tries.append(1)
        return getattr(job, kind)("work", work)

    tries = []
    job = queued_job(tenant, script=script(perform))
    assert run(job.id).state == State.QUEUED
    assert not JobStep.objects.filter(job_id=job.id).exists()
    assert run(job.id).state == State.SUCCEEDED
    assert booked() == ([1, 1] if kind == "step" else [1])


def test_a_commit_and_its_record_are_written_together(tenant, script, ledger):
    def perform(job):
        return job.commit("book", lambda: book(5))

    job = run(queued_job(tenant, script=script(perform)).id)
    assert (job.state, decode_payload(job.result), booked()) == (State.SUCCEEDED, {"booked": 5}, [5])
    assert (job.open_effects, job.done_effects) == (0, 0)


def test_a_commit_that_lost_the_fence_is_rolled_back(tenant, script, ledger):
    def work():
        lose_the_job(queued)
        return book(5)

    def perform(job):
        try:
            job.commit("book", work)
        except Exception:  # noqa: BLE001
            return "swallowed"

    queued = queued_job(tenant, script=script(perform))
    job = run(queued.id)
    assert booked() == []
    # `work` gave the job away inside the same transaction, and that is rolled back with it.
    assert (job.state, job.attempt, outcomes(job.id)) == (State.RUNNING, 1, [None])


def test_a_crash_after_the_work_and_before_the_record_keeps_neither(tenant, script, ledger):
    def work():
        book(5)
        raise Crash

    def perform(job):
        return job.commit("book", work if job.attempt == 1 else lambda: book(6))

    queued = queued_job(tenant, script=script(perform))
    with pytest.raises(Crash):
        run(queued.id)
    assert (booked(), JobStep.objects.filter(job_id=queued.id).count()) == ([], 0)
    expire(Job.objects.get(pk=queued.id), delay=-HOUR)
    assert run(queued.id).state == State.SUCCEEDED
    assert booked() == [6]


def test_a_commit_whose_result_is_not_json_is_rolled_back(tenant, script, ledger):
    def perform(job):
        return job.commit("book", lambda: book(5) and object())

    job = run(queued_job(tenant, script=script(perform)).id)
    assert (job.state, booked()) == (State.QUEUED, [])


def test_a_step_of_a_stale_attempt_is_not_recorded(tenant):
    stale = claimed_job(tenant)
    job = handle(stale)
    lose_the_job(stale)
    before = everything(stale.id)
    with pytest.raises(LeaseLost):
        job.step("rate", lambda: 1)
    with pytest.raises(LeaseLost):
        job.check()
    assert everything(stale.id) == before


def test_an_operation_cannot_swallow_the_loss_of_its_lease(tenant, script):
    reached = []

    def perform(job):
        job.step("one", lambda: None)
        lose_the_job(queued)
        try:
            job.step("two", lambda: None)
        except Exception:  # noqa: BLE001
            reached.append("swallowed")
        reached.append("went on")

    queued = queued_job(tenant, script=script(perform))
    job = run(queued.id)
    assert reached == []
    assert (job.state, job.attempt, outcomes(job.id)) == (State.RUNNING, 2, ["expire", None])
    assert not JobStep.objects.filter(job_id=job.id, name="two").exists()
