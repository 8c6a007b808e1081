"""An effect that an earlier attempt has begun: the age of an answer, and what "refused" means later."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.operations import EffectRefused, RetryableError, downstream_key
from jobs.payloads import decode_payload
from jobs.services import redrive_job
from jobs.states import State
from tests.support.downstreams import Downstream, charging, later, run, step_of
from tests.support.factories import queued_job
from tests.support.scenarios import HOUR, history, outcomes

pytestmark = pytest.mark.django_db

LOST = ConnectionError  # a new one is raised at each call


def with_open_effect(tenant, script, bank, **options):
    """Return a queued job whose first attempt sent the effect and did not learn its outcome."""
    job = run(queued_job(tenant, script=script(charging(bank, asks=True, **options))).id)
    assert (job.state, step_of(job).state) == (State.QUEUED, "started")
    return job


def test_a_reconciliation_counts_from_when_it_was_sent(tenant, script):
    """While a downstream takes long to answer "not found", the cut request may still arrive."""

    def ask_for_long(_key):
        later(job, by=HOUR)

    bank = Downstream(LOST, "never", finds=ask_for_long)
    job = with_open_effect(tenant, script, bank)
    job = run(job.id)
    assert (len(bank.questions), len(bank.calls)) == (1, 1)
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")
    assert outcomes(job.id) == ["retry", "postpone"]


def test_a_not_found_after_the_waiting_time_counts(tenant, script):
    bank = Downstream(LOST, "ok", finds=None)
    job = with_open_effect(tenant, script, bank)
    later(job, by=HOUR)
    job = run(job.id)
    assert (job.state, len(bank.questions), len(bank.calls)) == (State.SUCCEEDED, 1, 2)


def refused_then_retried(tenant, script, bank):
    """Return a job whose first attempt was refused, and retried because the operation raised another error."""

    def perform(job):
        try:
            return job.effect("charge", bank.call)
        except EffectRefused:
            if job.attempt == 1:
                raise RetryableError("Something else went wrong.") from None
            raise

    job = run(queued_job(tenant, script=script(perform)).id)
    assert (job.state, step_of(job).state) == (State.QUEUED, "refused")
    return job


def test_a_refused_effect_is_not_sent_again_by_a_later_attempt(tenant, script):
    bank = Downstream(EffectRefused("no"), "never")
    job = run(refused_then_retried(tenant, script, bank).id)
    assert (job.state, len(bank.calls)) == (State.FAILED, 1)
    assert (job.open_effects, job.done_effects, step_of(job).state) == (0, 0, "refused")
    error = decode_payload(job.error)
    assert (error["code"], error["cause"]) == ("operation-failed", "refused")
    assert "'charge'" in error["detail"]
    assert history(job.id) == ["submit", "claim", "retry", "claim", "fail"]


def test_a_redrive_sends_a_refused_effect_under_a_new_key(tenant, script):
    bank = Downstream(EffectRefused("no"), "charged")
    job = run(refused_then_retried(tenant, script, bank).id)
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    job = run(job.id)
    assert (job.state, job.done_effects) == (State.SUCCEEDED, 1)
    assert bank.calls == [downstream_key(job.id, "charge", generation) for generation in (1, 2)]


@pytest.mark.parametrize(("seconds", "state"), [(42, State.SUCCEEDED), (42.001, State.FAILED)])
def test_the_longest_effect_is_a_lease_minus_its_begin_and_margin(tenant, script, seconds, state):
    """Of 45 s, one is for recording the start and two are a margin: an effect that just fits is sent, with a real clock."""
    bank = Downstream("ok")
    job = run(queued_job(tenant, script=script(charging(bank, timeout=timedelta(seconds=seconds)))).id)
    assert (job.state, len(bank.calls)) == (state, int(state == State.SUCCEEDED))
    if state == State.FAILED:
        assert decode_payload(job.error)["cause"] == "effect-outlasts-lease"
        assert not job.steps.exists()


def test_too_long_an_effect_after_a_done_one_leaves_the_job_partially_done(tenant, script):
    bank, post = Downstream("ok"), Downstream("never")

    def perform(job):
        job.effect("charge", bank.call)
        job.effect("letter", post.call, timeout=HOUR)

    job = run(queued_job(tenant, script=script(perform)).id)
    assert (job.state, job.open_effects, job.done_effects) == (State.FAILED, 0, 1)
    error = decode_payload(job.error)
    assert (error["code"], error["cause"]) == ("partially-done", "effect-outlasts-lease")
    assert [step.name for step in job.steps.all()] == ["charge"]
    assert post.calls == []
