"""A stale attempt's answer: the attempt has lost the job, and what it learned is kept as evidence only."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobs.models import Job, JobEvent, JobStep
from jobs.operations import EffectNotDone, EffectRefused
from jobs.payloads import encode_payload
from jobs.queries.steps import close_effect, record_step
from jobs.states import State
from tests.support.downstreams import Downstream, charging, run, step_of
from tests.support.factories import claim, claimed_job, queued_job
from tests.support.scenarios import HOUR, begin, close, expire, history

pytestmark = pytest.mark.django_db

DAY = timedelta(hours=24)
LOST = ConnectionError  # a new one is raised at each call


def job_for(tenant, script, perform):
    return queued_job(tenant, script=script(perform))


@pytest.mark.parametrize("second", ["runs", "has begun it too", "has done it", "none: the job waits"])
@pytest.mark.parametrize("answer", [{"id": "ch_late"}, EffectRefused("late"), EffectNotDone("late")], ids=repr)
def test_a_response_to_a_stale_attempt_is_recorded_as_an_event_and_changes_nothing(tenant, script, answer, second):
    def other_attempt(_key):
        expire(Job.objects.get(pk=queued.id), delay=-HOUR)
        if second != "none: the job waits":
            job = claim(queued.id)
            if second != "runs":
                begin(job, "charge")
            if second == "has done it":
                close(job, "charge", JobStep.State.DONE, {"id": "ch_2"})
        before.extend((Job.objects.values().get(pk=queued.id), step_of(job=queued).__dict__))
        if isinstance(answer, Exception):
            raise answer
        return answer

    before = []
    queued = job_for(tenant, script, charging(Downstream(other_attempt)))
    job = run(queued.id)
    changed = {name for name, value in Job.objects.values().get(pk=job.id).items() if value != before[0][name]}
    assert changed == {"event_seq"}
    assert {**step_of(job).__dict__, "_state": None} == {**before[1], "_state": None}
    assert history(job.id)[-1] == "late-effect"
    event = JobEvent.objects.get(job_id=job.id, seq=job.event_seq)
    outcome = {dict: "done", EffectRefused: "refused", EffectNotDone: "not_done"}[type(answer)]
    assert (event.attempt, event.data["step"], event.data["outcome"]) == (1, "charge", outcome)
    assert ("ch_late" in event.data["result"]) == (outcome == "done")


def test_a_stale_attempt_that_failed_records_nothing(tenant, script):
    def other_attempt(_key):
        expire(Job.objects.get(pk=queued.id), delay=-HOUR)
        raise LOST

    queued = job_for(tenant, script, charging(Downstream(other_attempt)))
    assert run(queued.id).state == State.QUEUED
    assert history(queued.id) == ["submit", "claim", "expire"]


def test_a_write_whose_reply_was_lost_finds_its_own_record(tenant):
    job = claimed_job(tenant)
    begin(job, "charge")
    held = {"job_id": job.id, "attempt": job.attempt}
    closing = {**held, "name": "charge", "state": JobStep.State.DONE, "result": encode_payload({"id": "ch_1"})}
    remembering = {**held, "name": "count", "kind": JobStep.Kind.STEP, "result": encode_payload(7)}
    for _ in range(2):
        assert close_effect(**closing)
        assert record_step(**remembering)
    fresh = Job.objects.get(pk=job.id)
    assert (fresh.open_effects, fresh.done_effects) == (0, 1)
    # With another outcome it is not a repeat, and another attempt's record is not its own.
    assert not close_effect(**{**closing, "state": JobStep.State.REFUSED, "result": None})
    expire(fresh, delay=-HOUR)
    second = claim(job.id)
    assert not close_effect(**{**closing, "attempt": second.attempt})
    assert not record_step(**{**remembering, "attempt": second.attempt})
    assert not close_effect(**closing)
