"""Each effect is recorded before and after its call: every answer of a downstream, and its outcome for the job."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from jobs.models import Job
from jobs.operations import EffectNotDone, EffectRefused, OutcomeUnknown, PermanentError, RetryableError, downstream_key
from jobs.payloads import decode_payload
from jobs.services import redrive_job
from jobs.states import State
from tests.support.downstreams import Downstream, charging, run, step_of
from tests.support.factories import backdate, queued_job
from tests.support.scenarios import history, outcomes

pytestmark = pytest.mark.django_db

DAY = timedelta(hours=24)
LOST = ConnectionError  # a new one is raised at each call


def job_for(tenant, script, perform):
    return queued_job(tenant, script=script(perform))


def test_a_done_effect_is_recorded_with_its_result(tenant, script):
    bank = Downstream({"id": "ch_1"})
    job = run(job_for(tenant, script, charging(bank)).id)
    assert (job.state, decode_payload(job.result)) == (State.SUCCEEDED, {"charge": {"id": "ch_1"}})
    assert (job.open_effects, job.done_effects) == (0, 1)
    step = step_of(job)
    assert (step.kind, step.state, step.attempt, step.generation) == ("effect", "done", 1, 1)
    assert decode_payload(step.result) == {"id": "ch_1"}
    assert bank.calls == [step.downstream_key] == [downstream_key(job.id, "charge", 1)]
    assert step.first_started_at == step.last_started_at <= step.ended_at


def test_the_effect_is_recorded_before_it_is_sent(tenant, script):
    def look(key):
        job = Job.objects.get(pk=queued.id)
        seen.append((job.open_effects, job.done_effects, step_of(job).state, step_of(job).downstream_key == key))

    seen = []
    queued = job_for(tenant, script, charging(Downstream(look)))
    run(queued.id)
    assert seen == [(1, 0, "started", True)]


@pytest.mark.parametrize("result", [{"id": "ch_1"}, None, 0, "", [1, "é"]])
def test_the_next_attempt_returns_the_recorded_result_and_does_not_call(tenant, script, result):
    bank, seen = Downstream(result), []

    def perform(job):
        seen.append(job.effect("charge", bank.call))
        if job.attempt == 1:
            raise RetryableError
        return seen

    job = job_for(tenant, script, perform)
    assert run(job.id).state == State.QUEUED
    assert run(job.id).state == State.SUCCEEDED
    assert seen == [result, result]
    assert len(bank.calls) == 1


def test_a_refusal_fails_the_job_with_its_cause_and_leaves_nothing_open(tenant, script):
    bank = Downstream(EffectRefused("The card was declined.", code="card_declined"))
    job = run(job_for(tenant, script, charging(bank)).id)
    error = decode_payload(job.error)
    assert job.state == State.FAILED
    assert (error["code"], error["cause"]) == ("operation-failed", "card_declined")
    assert error["detail"] == "The card was declined."
    assert (job.open_effects, job.done_effects, step_of(job).state) == (0, 0, "refused")


def test_a_redriven_refusal_is_sent_under_another_key(tenant, script):
    bank = Downstream(EffectRefused("no"), {"id": "ch_2"})
    job = run(job_for(tenant, script, charging(bank)).id)
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    job = run(job.id)
    assert job.state == State.SUCCEEDED
    assert bank.calls == [downstream_key(job.id, "charge", generation) for generation in (1, 2)]
    assert step_of(job).attempt == 2


def test_a_redrive_does_not_repeat_a_done_effect(tenant, script):
    bank, shop = Downstream({"id": "ch_1"}), Downstream(EffectRefused("sold out"), "shipped")

    def perform(job):
        job.effect("charge", bank.call)
        return job.effect("ship", shop.call)

    job = run(job_for(tenant, script, perform).id)
    assert decode_payload(job.error)["code"] == "partially-done"
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    job = run(job.id)
    assert (job.state, job.done_effects) == (State.SUCCEEDED, 2)
    assert (len(bank.calls), len(shop.calls)) == (1, 2)


def test_an_effect_that_was_not_done_is_sent_under_the_same_key_with_a_new_key_window(tenant, script):
    bank = Downstream(EffectNotDone("refused connection", retry_after=timedelta(seconds=90)), "ok")
    job = run(job_for(tenant, script, charging(bank, key_window=DAY)).id)
    first = step_of(job)
    assert (job.state, job.open_effects, first.state) == (State.QUEUED, 0, "not_done")
    assert job.run_at - first.ended_at > timedelta(seconds=85)
    job = run(job.id)
    assert job.state == State.SUCCEEDED
    assert len(set(bank.calls)) == 1
    assert step_of(job).first_started_at > first.ended_at


def test_any_other_exception_leaves_the_effect_open(tenant, script):
    job = run(job_for(tenant, script, charging(Downstream(LOST), key_window=DAY)).id)
    step = step_of(job)
    assert (job.state, job.open_effects, job.done_effects) == (State.QUEUED, 1, 0)
    assert (step.state, step.ended_at, step.result) == ("started", None, None)
    assert history(job.id) == ["submit", "claim", "retry"]


def test_a_name_used_twice_in_one_attempt_is_an_error_of_the_operation(tenant, script):
    bank = Downstream("first", "second")

    def perform(job):
        job.effect("charge", bank.call)
        job.effect("charge", bank.call)

    job = run(job_for(tenant, script, perform).id)
    assert (job.state, job.done_effects, len(bank.calls)) == (State.QUEUED, 1, 1)
    assert "used before" in decode_payload(_last_error(job))["detail"]


@pytest.mark.parametrize("first", ["effect", "step", "commit"])
@pytest.mark.parametrize("second", ["effect", "step", "commit"])
def test_a_name_belongs_to_one_step_of_any_kind(tenant, script, first, second):
    def use(job, kind):
        getattr(job, kind)("name", (lambda _key: 1) if kind == "effect" else (lambda: 1))

    def perform(job):
        use(job, first)
        with pytest.raises(ValueError, match="used before"):
            use(job, second)

    assert run(job_for(tenant, script, perform).id).state == State.SUCCEEDED


@pytest.mark.parametrize("seconds", [44, 60, 3600])
def test_an_effect_longer_than_a_lease_fails_the_job_unsent(tenant, script, seconds):
    bank = Downstream("never")
    job = run(job_for(tenant, script, charging(bank, timeout=timedelta(seconds=seconds))).id)
    assert bank.calls == []
    assert (job.state, job.open_effects) == (State.FAILED, 0)
    assert decode_payload(job.error)["cause"] == "effect-outlasts-lease"
    assert not job.steps.exists()


def test_an_effect_longer_than_the_rest_of_the_attempt_is_not_sent(tenant, script):
    bank = Downstream("never")

    def perform(job):
        # Most of the attempt's time is over: its lease can no longer be renewed for long.
        backdate(job.id, started_at=timedelta(seconds=70))
        job._lease._ends_at = time.monotonic() + 20
        backdate(job.id, lease_expires_at=timedelta(seconds=25))
        return charging(bank, timeout=timedelta(seconds=30))(job)

    job = run(job_for(tenant, script, perform).id)
    assert bank.calls == []
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 0, "not_done")
    assert outcomes(job.id) == ["retry"]


def test_an_operation_that_swallows_an_effects_exception_cannot_succeed_while_it_is_open(tenant, script):
    bank = Downstream(LOST, "ok")

    def perform(job):
        try:
            return job.effect("charge", bank.call, key_window=DAY)
        except ConnectionError:
            return "as if nothing had been"

    job = run(job_for(tenant, script, perform).id)
    assert (job.state, job.result, job.open_effects) == (State.QUEUED, None, 1)
    assert run(job.id).state == State.SUCCEEDED
    assert len(set(bank.calls)) == 1


def test_an_operation_cannot_fail_permanently_while_an_effect_is_open(tenant, script):
    bank = Downstream(LOST, "ok")

    def perform(job):
        try:
            return job.effect("charge", bank.call, key_window=DAY)
        except ConnectionError as error:
            raise PermanentError("I give up.") from error

    job = run(job_for(tenant, script, perform).id)
    assert (job.state, job.error, job.open_effects) == (State.QUEUED, None, 1)
    assert run(job.id).state == State.SUCCEEDED


def test_an_unknown_outcome_without_an_open_effect_is_retried(tenant, script):
    def perform(job):
        raise OutcomeUnknown("A feeling.")

    assert run(job_for(tenant, script, perform).id).state == State.QUEUED


def test_an_operation_may_handle_a_refusal(tenant, script):
    def perform(job):
        try:
            job.effect("charge", Downstream(EffectRefused("no")).call)
        except EffectRefused:
            return job.effect("invoice", Downstream("sent").call)

    job = run(job_for(tenant, script, perform).id)
    assert (job.state, decode_payload(job.result), job.done_effects) == (State.SUCCEEDED, "sent", 1)


def _last_error(job):
    return job.attempts.order_by("number").last().error
