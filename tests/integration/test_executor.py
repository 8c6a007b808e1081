"""One delivery of a job: the outcome of each way in which an operation can end."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from uuid import uuid4

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from api.problem_catalogue import PROBLEMS
from jobs import transitions
from jobs.errors import IllegalTransition
from jobs.models import Job, JobAttempt, JobEvent
from jobs.operations import EffectRefused, PermanentError, RetryableError, RunLater
from jobs.payloads import decode_payload, encode_payload
from jobs.services import cancel_job
from jobs.states import State
from tests.support.downstreams import Downstream, charging, run
from tests.support.factories import claim, queued_job
from tests.support.scenarios import HOUR, everything, expire, history, in_state, outcomes, write
from workers.executor import execute_job, worker_name

pytestmark = pytest.mark.django_db


def raising(error):
    def perform(job):
        raise error

    return perform


def job_of(tenant, script, perform):
    return queued_job(tenant, script=script(perform))


def test_the_operations_return_value_is_the_jobs_result(tenant, script):
    job = execute_job(job_of(tenant, script, lambda _job: {"n": 2**70, "text": "é"}).id)
    assert (job.state, decode_payload(job.result)) == (State.SUCCEEDED, {"n": 2**70, "text": "é"})
    assert outcomes(job.id) == ["succeed"]
    attempt = JobAttempt.objects.get(job_id=job.id)
    assert attempt.worker == worker_name()
    assert attempt.started_at <= attempt.ended_at
    assert history(job.id) == ["submit", "claim", "succeed"]


def test_the_handle_has_the_jobs_id_attempt_and_scope(tenant, script):
    def perform(job):
        seen.append((job.id, job.attempt, job.fence))
        if len(seen) < 2:
            raise RetryableError

    seen = []
    job = job_of(tenant, script, perform)
    run(job.id)
    run(job.id)
    assert seen == [(job.id, 1, 1), (job.id, 2, 2)]


def test_a_permanent_error_fails_the_job_with_its_code(tenant, script):
    error = PermanentError("The account is closed.", code="account_closed")
    job = execute_job(job_of(tenant, script, raising(error)).id)
    assert (job.state, job.attempts_left) == (State.FAILED, 2)
    assert decode_payload(job.error) == {
        "code": "operation-failed",
        "detail": "The account is closed.",
        "cause": "account_closed",
    }
    assert decode_payload(JobAttempt.objects.get(job_id=job.id).error) == decode_payload(job.error)


def test_a_retryable_error_queues_the_job_and_records_the_reason(tenant, script):
    job = execute_job(job_of(tenant, script, raising(RetryableError("Busy.", code="busy"))).id)
    assert (job.state, job.error, job.attempts_left) == (State.QUEUED, None, 2)
    event = JobEvent.objects.get(job_id=job.id, seq=3)
    assert (event.type, event.data) == ("retry", {"cause": "busy", "detail": "Busy."})


def test_a_downstreams_retry_after_is_respected(tenant, script):
    error = RetryableError("Busy.", retry_after=timedelta(minutes=10))
    job = execute_job(job_of(tenant, script, raising(error)).id)
    ended = JobAttempt.objects.get(job_id=job.id).ended_at
    assert timedelta(minutes=10) <= job.run_at - ended + timedelta(seconds=1) < timedelta(minutes=11)


@pytest.mark.parametrize(("charged", "ceiling"), [(1, 2), (2, 4), (3, 8)])
def test_the_backoff_doubles_with_each_attempt(tenant, script, monkeypatch, charged, ceiling):
    monkeypatch.setattr("workers.backoff.random.uniform", lambda _low, high: high)
    queued = job_of(tenant, script, raising(RetryableError()))
    write(queued.id, f"max_attempts = 5, attempts_left = {6 - charged}")
    job = execute_job(queued.id)
    ended = JobAttempt.objects.get(job_id=job.id).ended_at
    assert abs(job.run_at - ended - timedelta(seconds=ceiling)) < timedelta(seconds=1)


def test_any_other_exception_is_retried_until_the_attempts_are_used_up(tenant, script):
    job = job_of(tenant, script, raising(ZeroDivisionError("\x00 by \ud800")))
    for _ in range(3):
        assert Job.objects.get(pk=job.id).state == State.QUEUED
        job = run(job.id)
    assert (job.state, outcomes(job.id)) == (State.FAILED, ["retry", "retry", "fail"])
    error = decode_payload(job.error)
    assert (error["code"], error["cause"]) == ("attempts-exhausted", "ZeroDivisionError")
    assert PROBLEMS[error["code"]].retryable is True
    assert history(job.id)[-1] == "fail"


def test_a_soft_time_limit_is_a_retry(tenant, script):
    job = execute_job(job_of(tenant, script, raising(SoftTimeLimitExceeded())).id)
    assert JobEvent.objects.get(job_id=job.id, seq=3).data["cause"] == "time-limit"
    assert job.state == State.QUEUED


def test_an_attempt_out_of_time_stops_at_its_next_check_and_is_retried(tenant, script):
    def perform(job):
        job._lease._time_is_over_at = 0.0
        # Not even `except Exception` keeps it running.
        with contextlib.suppress(Exception):
            job.check()
        return "went on"

    job = execute_job(job_of(tenant, script, perform).id)
    assert JobEvent.objects.get(job_id=job.id, seq=3).data["cause"] == "time-limit"
    assert (job.state, job.attempts_left) == (State.QUEUED, 2)


def test_a_postponed_attempt_is_not_charged(tenant, script):
    job = execute_job(job_of(tenant, script, raising(RunLater("Not yet.", delay=HOUR))).id)
    assert (job.state, job.attempts_left, outcomes(job.id)) == (State.QUEUED, 3, ["postpone"])
    assert execute_job(job.id) is None


@pytest.mark.parametrize("result", [object(), {1, 2}, float("nan")], ids=["object", "set", "nan"])
def test_a_result_that_is_not_json_is_an_error_of_the_operation(tenant, script, result):
    job = execute_job(job_of(tenant, script, lambda _job: result).id)
    assert (job.state, job.result) == (State.QUEUED, None)


def test_a_result_that_is_too_large_fails_the_job_and_is_not_stored(tenant, script, settings):
    settings.RESULT_MAX_BYTES = 100
    job = execute_job(job_of(tenant, script, lambda _job: "x" * 100).id)
    assert (job.state, job.result, decode_payload(job.error)["cause"]) == (State.FAILED, None, "result-too-large")
    assert execute_job(job_of(tenant, script, lambda _job: "x" * 90).id).state == State.SUCCEEDED


def test_a_too_large_result_after_an_effect_is_partially_done(tenant, script, settings):
    settings.RESULT_MAX_BYTES = 10
    job = execute_job(job_of(tenant, script, charging(Downstream("x" * 100))).id)
    assert decode_payload(job.error)["code"] == "partially-done"


def test_params_that_the_operation_no_longer_accepts_fail_the_job(tenant, script):
    job = job_of(tenant, script, raising(AssertionError("never")))
    Job.objects.filter(pk=job.id).update(params=encode_payload({"old": 1}))
    job = execute_job(job.id)
    assert (job.state, decode_payload(job.error)["cause"]) == (State.FAILED, "invalid-params")


@pytest.mark.parametrize(
    "assignment", ["operation = 'test.gone'", "operation_version = 9"], ids=["operation", "version"]
)
def test_an_unknown_operation_is_left_to_other_workers(tenant, assignment):
    job = queued_job(tenant)
    write(job.id, assignment)
    before = everything(job.id)
    assert execute_job(job.id) is None
    assert everything(job.id) == before


@pytest.mark.parametrize("state", [state for state in State if state is not State.QUEUED])
def test_a_redelivered_message_changes_nothing(tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    assert execute_job(job.id) is None
    assert everything(job.id) == before


def test_a_message_without_a_job_is_dropped(db):
    assert execute_job(uuid4()) is None


def test_a_job_of_another_attempt_is_not_settled(tenant, script):
    def perform(job):
        expire(Job.objects.get(pk=job.id), delay=-HOUR)
        claim(job.id)
        before.update(everything(job.id))
        return "too late"

    before = {}
    job = job_of(tenant, script, perform)
    assert execute_job(job.id) is None
    assert everything(job.id) == before


def test_a_job_that_is_lost_between_two_tries_to_settle_it_is_left_alone(tenant, script, monkeypatch):
    """A success that an open effect forbids becomes a retry; the lease may be over by then."""

    def refuse(**held):
        with pytest.raises(IllegalTransition):
            succeed(**held)
        expire(Job.objects.get(pk=held["job_id"]))
        raise IllegalTransition(held["job_id"], "succeed", State.RUNNING)

    def perform(job):
        with pytest.raises(ConnectionError):
            job.effect("charge", Downstream(ConnectionError).call)

    succeed = transitions.succeed_job
    monkeypatch.setattr(transitions, "succeed_job", refuse)
    job = job_of(tenant, script, perform)
    assert execute_job(job.id) is None
    assert outcomes(job.id) == ["expire"]


def test_a_cancel_request_during_the_last_statement_is_too_late(tenant, script):
    def perform(job):
        cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        return "done"

    assert execute_job(job_of(tenant, script, perform).id).state == State.SUCCEEDED


def test_a_retry_grants_the_cancel_request(tenant, script):
    def perform(job):
        cancel_job(tenant_id=tenant.id, mode="test", job_id=job.id)
        raise RetryableError

    assert execute_job(job_of(tenant, script, perform).id).state == State.CANCELED


def test_a_refusal_outranks_the_cancel_request(tenant, script):
    def call(_key):
        cancel_job(tenant_id=tenant.id, mode="test", job_id=queued.id)
        raise EffectRefused("no", code="declined")

    queued = job_of(tenant, script, charging(Downstream(call)))
    assert execute_job(queued.id).state == State.FAILED


def test_a_process_that_dies_writes_no_outcome(tenant, script):
    job = job_of(tenant, script, raising(SystemExit()))
    with pytest.raises(SystemExit):
        execute_job(job.id)
    assert outcomes(job.id) == [None]
    assert Job.objects.get(pk=job.id).state == State.RUNNING
