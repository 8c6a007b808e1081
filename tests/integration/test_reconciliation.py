"""An effect in doubt whose downstream can be asked: what its answers, and its silence, prove."""

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
LOST = ConnectionError  # raised anew at each call


def in_doubt(tenant, script, bank, *, age=None, **options):
    """Return a queued job whose first attempt sent the effect and did not hear what became of it."""
    job = run(queued_job(tenant, script=script(charging(bank, **options))).id)
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")
    if age:
        later(job, by=age)
    return job


def last_attempt(job):
    """Let the next attempt be the job's last one."""
    return write(job.id, "attempts_left = 1")


@pytest.mark.parametrize("answer", [{"id": "ch_1"}, 0, False, "", []])
def test_an_answer_closes_the_doubt_and_no_call_is_made(tenant, script, answer):
    bank = Downstream(LOST, finds=answer)
    job = run(in_doubt(tenant, script, bank, asks=True).id)
    assert (job.state, decode_payload(job.result)) == (State.SUCCEEDED, {"charge": answer})
    assert (job.open_effects, job.done_effects) == (0, 1)
    assert bank.questions == bank.calls == [step_of(job).downstream_key]
    assert step_of(job).state == "done"


def test_after_the_window_the_downstream_is_asked(tenant, script):
    bank = Downstream(LOST, finds="found")
    job = run(in_doubt(tenant, script, bank, asks=True, key_window=DAY, age=2 * DAY).id)
    assert (job.state, len(bank.calls), len(bank.questions)) == (State.SUCCEEDED, 1, 1)


def test_none_too_early_proves_nothing_and_costs_no_attempt(tenant, script):
    bank = Downstream(LOST)
    job = in_doubt(tenant, script, bank, asks=True)
    left = job.attempts_left
    for _ in range(5):
        job = run(job.id)
        assert (job.state, job.attempts_left, job.open_effects) == (State.QUEUED, left, 1)
        # Time-out 30 s and 60 s for a slow request to land, from the last start.
        assert timedelta(seconds=80) < job.run_at - step_of(job).last_started_at < timedelta(seconds=100)
    assert (len(bank.calls), len(bank.questions)) == (1, 5)
    assert outcomes(job.id) == ["retry", *["postpone"] * 5]


def test_none_late_enough_means_that_it_is_sent_again(tenant, script):
    bank = Downstream(LOST, "ok")
    job = in_doubt(tenant, script, bank, asks=True, age=2 * MINUTE)
    first = step_of(job)
    job = run(job.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.SUCCEEDED, 0, 1)
    assert (len(bank.calls), len(set(bank.calls)), len(bank.questions)) == (2, 1, 1)
    assert step_of(job).first_started_at > first.first_started_at + MINUTE


def test_how_long_none_proves_nothing_is_the_effects_to_say(tenant, script):
    bank = Downstream(LOST, "ok")
    job = in_doubt(tenant, script, bank, asks=True, reconcile_after=HOUR, age=2 * MINUTE)
    assert run(job.id).state == State.QUEUED
    assert len(bank.calls) == 1
    later(job, by=HOUR)
    assert run(job.id).state == State.SUCCEEDED


@pytest.mark.parametrize("trouble", [LOST, RetryableError("busy"), EffectNotDone("busy")], ids=repr)
def test_a_question_without_an_answer_leaves_the_doubt(tenant, script, trouble):
    bank = Downstream(LOST, finds=trouble)
    job = run(in_doubt(tenant, script, bank, asks=True).id)
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")
    assert len(bank.calls) == 1


def cancel(job):
    cancel_job(tenant_id=job.tenant_id, mode="test", job_id=job.id)


def test_a_job_in_doubt_is_not_canceled_before_it_is_known_that_nothing_happened(tenant, script):
    bank = Downstream(LOST, "never", finds=None)
    job = in_doubt(tenant, script, bank, asks=True)
    cancel(job)
    job = run(job.id)
    assert (job.state, history(job.id).count("cancel-declined")) == (State.QUEUED, 0)
    later(job, by=HOUR)
    job = run(job.id)
    assert (job.state, job.open_effects, len(bank.calls)) == (State.CANCELED, 0, 1)
    assert step_of(job).state == "not_done"


def test_a_job_whose_doubt_turns_out_as_done_runs_on_and_says_so(tenant, script):
    bank = Downstream(LOST, finds="found")

    def perform(job):
        job.effect("charge", bank.call, reconcile=bank.reconcile)
        job.check()
        return "done"

    job = run(queued_job(tenant, script=script(perform)).id)
    cancel(job)
    job = run(job.id)
    assert (job.state, history(job.id).count("cancel-declined")) == (State.SUCCEEDED, 1)


def test_a_wish_that_the_attempt_which_only_asks_can_grant_was_never_declined(tenant, script):
    job = last_attempt(in_doubt(tenant, script, Downstream(LOST, LOST), asks=True, key_window=DAY))
    job = run(job.id)
    assert (job.state, job.reconcile_only) == (State.QUEUED, True)
    cancel(job)
    later(job)
    job = run(job.id)
    assert (job.state, step_of(job).state) == (State.CANCELED, "not_done")
    assert "cancel-declined" not in history(job.id)


def test_what_was_not_sent_is_canceled_as_asked(tenant, script):
    def ask_to_cancel(_key):
        cancel(Job.objects.get(pk=queued.id))
        raise EffectNotDone("busy")

    queued = queued_job(tenant, script=script(charging(Downstream(ask_to_cancel))))
    assert run(queued.id).state == State.CANCELED
