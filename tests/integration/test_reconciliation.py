"""An effect with an unknown outcome whose downstream can be asked: what its answers prove."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.models import Job
from jobs.operations import EffectNotDone, RetryableError
from jobs.payloads import decode_payload
from jobs.services import cancel_job
from jobs.states import State
from tests.support.downstreams import Downstream, charging, later, run, step_of
from tests.support.factories import queued_job
from tests.support.scenarios import HOUR, history, outcomes, write

pytestmark = pytest.mark.django_db

DAY, MINUTE = timedelta(hours=24), timedelta(minutes=1)
LOST = ConnectionError  # a new one is raised at each call


def with_open_effect(tenant, script, bank, *, age=None, **options):
    """Return a queued job whose first attempt sent the effect and did not learn its outcome."""
    job = run(queued_job(tenant, script=script(charging(bank, **options))).id)
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")
    if age:
        later(job, by=age)
    return job


def last_attempt(job):
    """Make the next attempt the job's last one."""
    return write(job.id, "attempts_left = 1")


@pytest.mark.parametrize("answer", [{"id": "ch_1"}, 0, False, "", []])
def test_an_answer_closes_the_effect_and_no_call_is_made(tenant, script, answer):
    bank = Downstream(LOST, finds=answer)
    job = run(with_open_effect(tenant, script, bank, asks=True).id)
    assert (job.state, decode_payload(job.result)) == (State.SUCCEEDED, {"charge": answer})
    assert (job.open_effects, job.done_effects) == (0, 1)
    assert bank.questions == bank.calls == [step_of(job).downstream_key]
    assert step_of(job).state == "done"


def test_after_the_key_window_the_effect_is_reconciled(tenant, script):
    bank = Downstream(LOST, finds="found")
    job = run(with_open_effect(tenant, script, bank, asks=True, key_window=DAY, age=2 * DAY).id)
    assert (job.state, len(bank.calls), len(bank.questions)) == (State.SUCCEEDED, 1, 1)


def test_an_early_not_found_proves_nothing_and_costs_no_attempt(tenant, script):
    bank = Downstream(LOST)
    job = with_open_effect(tenant, script, bank, asks=True)
    left = job.attempts_left
    for _ in range(5):
        job = run(job.id)
        assert (job.state, job.attempts_left, job.open_effects) == (State.QUEUED, left, 1)
        # The time-out (30 s) and 60 s for a slow request to arrive, from the last start.
        assert timedelta(seconds=80) < job.run_at - step_of(job).last_started_at < timedelta(seconds=100)
    assert (len(bank.calls), len(bank.questions)) == (1, 5)
    assert outcomes(job.id) == ["retry", *["postpone"] * 5]


def test_after_a_late_not_found_the_effect_is_sent_again(tenant, script):
    bank = Downstream(LOST, "ok")
    job = with_open_effect(tenant, script, bank, asks=True, age=2 * MINUTE)
    first = step_of(job)
    job = run(job.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.SUCCEEDED, 0, 1)
    assert (len(bank.calls), len(set(bank.calls)), len(bank.questions)) == (2, 1, 1)
    assert step_of(job).first_started_at > first.first_started_at + MINUTE


def test_the_effect_sets_how_long_not_found_proves_nothing(tenant, script):
    bank = Downstream(LOST, "ok")
    job = with_open_effect(tenant, script, bank, asks=True, reconcile_after=HOUR, age=2 * MINUTE)
    assert run(job.id).state == State.QUEUED
    assert len(bank.calls) == 1
    later(job, by=HOUR)
    assert run(job.id).state == State.SUCCEEDED


@pytest.mark.parametrize("trouble", [LOST, RetryableError("busy"), EffectNotDone("busy")], ids=repr)
def test_a_failed_reconciliation_leaves_the_outcome_unknown(tenant, script, trouble):
    bank = Downstream(LOST, finds=trouble)
    job = run(with_open_effect(tenant, script, bank, asks=True).id)
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")
    assert len(bank.calls) == 1


def cancel(job):
    cancel_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def test_a_job_with_an_open_effect_is_not_canceled_before_the_effect_is_known_not_done(tenant, script):
    bank = Downstream(LOST, "never", finds=None)
    job = with_open_effect(tenant, script, bank, asks=True)
    cancel(job)
    job = run(job.id)
    assert (job.state, history(job.id).count("cancel-declined")) == (State.QUEUED, 0)
    later(job, by=HOUR)
    job = run(job.id)
    assert (job.state, job.open_effects, len(bank.calls)) == (State.CANCELED, 0, 1)
    assert step_of(job).state == "not_done"


def test_a_job_whose_open_effect_proves_done_declines_the_cancel_request(tenant, script):
    bank = Downstream(LOST, finds="found")

    def perform(job):
        job.effect("charge", bank.call, reconcile=bank.reconcile)
        job.check()
        return "done"

    job = run(queued_job(tenant, script=script(perform)).id)
    cancel(job)
    job = run(job.id)
    assert (job.state, history(job.id).count("cancel-declined")) == (State.SUCCEEDED, 1)


def test_a_cancel_request_granted_by_the_reconcile_only_attempt_was_never_declined(tenant, script):
    job = last_attempt(with_open_effect(tenant, script, Downstream(LOST, LOST), asks=True, key_window=DAY))
    job = run(job.id)
    assert (job.state, job.reconcile_only) == (State.QUEUED, True)
    cancel(job)
    later(job)
    job = run(job.id)
    assert (job.state, step_of(job).state) == (State.CANCELED, "not_done")
    assert "cancel-declined" not in history(job.id)


def test_an_effect_that_was_not_done_lets_the_cancel_request_be_granted(tenant, script):
    def ask_to_cancel(_key):
        cancel(Job.objects.get(pk=queued.id))
        raise EffectNotDone("busy")

    queued = queued_job(tenant, script=script(charging(Downstream(ask_to_cancel))))
    assert run(queued.id).state == State.CANCELED
