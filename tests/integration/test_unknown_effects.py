"""An effect with an unknown outcome: repeated under its key, asked about, or left to an operator. Never guessed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.models import Job
from jobs.operations import EffectNotDone, EffectRefused
from jobs.payloads import decode_payload
from jobs.queries.steps import begin_effect
from jobs.states import State
from tests.support.downstreams import Downstream, charging, later, run, step_of
from tests.support.factories import claim, queued_job
from tests.support.scenarios import HOUR, begin, expire, history, write

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


def test_within_the_key_window_it_is_repeated_under_the_same_key(tenant, script):
    bank = Downstream(LOST, LOST, {"id": "ch_1"})
    job = with_open_effect(tenant, script, bank, key_window=DAY, age=timedelta(hours=23))
    first = step_of(job)
    job = run(job.id)
    assert (job.state, job.open_effects) == (State.QUEUED, 1)
    job = run(job.id)
    assert (job.state, job.open_effects, job.done_effects) == (State.SUCCEEDED, 0, 1)
    assert (len(bank.calls), len(set(bank.calls))) == (3, 1)
    last = step_of(job)
    assert first.first_started_at == last.first_started_at < first.last_started_at + HOUR < last.last_started_at


def test_within_the_key_window_the_effect_is_not_reconciled(tenant, script):
    bank = Downstream(LOST, "ok", finds="found")
    job = run(with_open_effect(tenant, script, bank, asks=True, key_window=DAY).id)
    assert (decode_payload(job.result)["charge"], bank.questions) == ("ok", [])


def test_the_key_window_counts_from_the_first_start(tenant, script):
    bank = Downstream(LOST, LOST, "never")
    job = with_open_effect(tenant, script, bank, key_window=DAY, age=timedelta(hours=23))
    later(run(job.id), by=HOUR)
    assert run(job.id).state == State.UNKNOWN
    assert len(bank.calls) == 2


@pytest.mark.parametrize(("left", "calls"), [(timedelta(seconds=85), 1), (timedelta(seconds=120), 2)])
def test_a_key_window_that_the_call_could_outlast_is_over(tenant, script, left, calls):
    """Of 24 hours, the time-out (30 s) and the margin (60 s) must still be left."""
    bank = Downstream(LOST, "ok")
    run(with_open_effect(tenant, script, bank, key_window=DAY, age=DAY - left).id)
    assert len(bank.calls) == calls


def test_the_key_window_is_checked_again_just_before_the_call(tenant, script, monkeypatch):
    """A process that was frozen before the repeat may continue after the downstream has forgotten the key."""

    def frozen(**values):
        later(Job.objects.get(pk=values["job_id"]))
        return begin_effect(**values)

    bank = Downstream(LOST, "never")
    job = with_open_effect(tenant, script, bank, key_window=DAY)
    monkeypatch.setattr("workers.effects.begin_effect", frozen)
    job = run(job.id)
    assert (job.state, job.open_effects, len(bank.calls)) == (State.QUEUED, 1, 1)


def test_a_refusal_of_the_repeat_closes_the_effect(tenant, script):
    job = run(with_open_effect(tenant, script, Downstream(LOST, EffectRefused("no")), key_window=DAY).id)
    assert (job.state, job.open_effects, step_of(job).state) == (State.FAILED, 0, "refused")


def test_after_a_refused_repeat_the_first_call_is_reconciled(tenant, script):
    bank = Downstream(LOST, EffectRefused("not twice"), finds="found")
    job = run(with_open_effect(tenant, script, bank, asks=True, key_window=DAY).id)
    assert (job.state, decode_payload(job.result), job.done_effects) == (State.SUCCEEDED, {"charge": "found"}, 1)


def test_a_repeat_that_was_not_sent_leaves_the_first_calls_outcome_unknown(tenant, script):
    bank = Downstream(LOST, EffectNotDone("busy"), "ok")
    job = with_open_effect(tenant, script, bank, key_window=DAY)
    first = step_of(job).first_started_at
    job = run(job.id)
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")
    assert (run(job.id).state, step_of(job).first_started_at) == (State.SUCCEEDED, first)


def test_a_repeat_that_does_not_fit_the_lease_leaves_the_outcome_unknown(tenant, script):
    bank = Downstream(LOST, "never")

    def perform(job):
        timeout = timedelta(seconds=30 if job.attempt == 1 else 3600)
        return job.effect("charge", bank.call, key_window=DAY, timeout=timeout)

    job = run(queued_job(tenant, script=script(perform)).id)
    job = run(job.id)
    assert len(bank.calls) == 1
    assert (job.state, job.open_effects, step_of(job).state) == (State.QUEUED, 1, "started")


@pytest.mark.parametrize("options", [{}, {"key_window": DAY, "age": 2 * DAY}], ids=["no window", "window over"])
def test_without_key_window_and_reconcile_the_job_becomes_unknown(tenant, script, options):
    bank = Downstream(LOST)
    job = run(with_open_effect(tenant, script, bank, **options).id)
    assert (job.state, job.open_effects, job.finished_at) == (State.UNKNOWN, 1, None)
    assert decode_payload(job.error)["code"] == "outcome-unknown"
    assert "'charge'" in decode_payload(job.error)["detail"]
    assert len(bank.calls) == 1
    assert history(job.id)[-1] == "doubt"
    assert run(job.id).state == State.UNKNOWN


@pytest.mark.parametrize(
    ("finds", "ends", "code"),
    [
        ("found", State.SUCCEEDED, None),
        (None, State.FAILED, "attempts-exhausted"),
        (LOST, State.UNKNOWN, "outcome-unknown"),
    ],
    ids=["it happened", "it did not", "no answer"],
)
def test_with_no_attempts_left_one_more_only_reconciles(tenant, script, finds, ends, code):
    bank = Downstream(LOST, LOST, "never", finds=finds)
    job = last_attempt(with_open_effect(tenant, script, bank, asks=True, key_window=DAY))
    job = run(job.id)
    assert (job.state, job.attempts_left, job.reconcile_only) == (State.QUEUED, 1, True)
    later(job, by=HOUR)
    job = run(job.id)
    assert job.state == ends
    assert code is None or decode_payload(job.error)["code"] == code
    assert (len(bank.calls), len(bank.questions), job.attempt) == (2, 1, 3)
    assert (job.open_effects, job.done_effects) == {State.SUCCEEDED: (0, 1), State.FAILED: (0, 0)}.get(ends, (1, 0))


def test_the_reconcile_only_attempt_may_reconcile_again_later(tenant, script):
    bank = Downstream(LOST, LOST)
    job = run(last_attempt(with_open_effect(tenant, script, bank, asks=True, key_window=DAY)).id)
    for _ in range(3):
        job = run(job.id)
        assert (job.state, job.attempts_left, job.reconcile_only) == (State.QUEUED, 1, True)
    assert len(bank.calls) == 2


def test_the_reconcile_only_attempt_does_not_repeat_within_the_key_window(tenant, script):
    bank = Downstream(LOST, LOST, "never")
    job = last_attempt(with_open_effect(tenant, script, bank, key_window=DAY))
    assert run(job.id).reconcile_only
    assert run(job.id).state == State.UNKNOWN
    assert len(bank.calls) == 2


def test_the_reconcile_only_attempt_begins_no_effect(tenant, script):
    bank, post = Downstream(LOST, finds={"id": "ch_1"}), Downstream("never")

    def perform(job):
        job.effect("charge", bank.call, reconcile=bank.reconcile)
        job.effect("letter", post.call)

    job = queued_job(tenant, script=script(perform))
    write(job.id, "attempts_left = 1")
    assert run(job.id).reconcile_only
    job = run(job.id)
    assert (job.state, post.calls, job.done_effects) == (State.FAILED, [], 1)
    assert decode_payload(job.error)["code"] == "partially-done"


def test_a_worker_that_died_in_the_call_leaves_the_outcome_unknown(tenant, script):
    bank = Downstream("ok")
    job = queued_job(tenant, script=script(charging(bank, key_window=DAY)))
    held = claim(job.id)
    key = begin(held, "charge")
    expire(held, delay=-HOUR)
    assert run(job.id).state == State.SUCCEEDED
    assert bank.calls == [key]
