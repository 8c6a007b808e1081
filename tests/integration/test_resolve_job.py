"""Resolving an unknown job: verdict, state, event and audit entry are one transaction."""

from __future__ import annotations

import pytest

from jobs import transitions
from jobs.errors import IllegalTransition, InvalidVerdict, JobNotFound
from jobs.models import JobEvent, JobStep
from jobs.payloads import decode_payload
from jobs.services import resolve_job
from jobs.states import State
from tests.support.factories import TenantFactory, claim, claimed_job
from tests.support.scenarios import begin, everything, history, in_state, publications, write

pytestmark = pytest.mark.django_db

DONE, NOT_DONE = JobStep.State.DONE, JobStep.State.NOT_DONE


def resolve(job, verdict, then, **fields):
    given = {"step": "charge", "note": "asked the bank", "by": "ada", **fields}
    return resolve_job(tenant_id=job.tenant_id, mode="test", job_id=job.id, verdict=verdict, then=then, **given)


def test_a_done_effect_and_a_succeeded_job(tenant):
    job = in_state(tenant, State.UNKNOWN)
    resolved = resolve(job, DONE, State.SUCCEEDED, result={"id": "ch_1"})
    assert (resolved.state, resolved.error) == (State.SUCCEEDED, None)
    assert (resolved.open_effects, resolved.done_effects) == (0, 1)
    assert decode_payload(resolved.result) == {"id": "ch_1"}
    step = JobStep.objects.get(job_id=job.id)
    assert (step.state, decode_payload(step.result)) == ("done", {"id": "ch_1"})


def test_an_effect_that_was_not_done_and_a_failed_job(tenant):
    job = in_state(tenant, State.UNKNOWN)
    resolved = resolve(job, NOT_DONE, State.FAILED)
    assert decode_payload(resolved.error)["code"] == "operation-failed"
    assert (resolved.open_effects, resolved.done_effects) == (0, 0)
    assert JobStep.objects.get(job_id=job.id).state == "not_done"


def test_a_done_effect_and_a_failed_job_is_partially_done(tenant):
    resolved = resolve(in_state(tenant, State.UNKNOWN), DONE, State.FAILED)
    assert decode_payload(resolved.error)["code"] == "partially-done"


@pytest.mark.parametrize(("verdict", "done"), [(DONE, 1), (NOT_DONE, 0)])
def test_a_job_that_is_queued_again_gets_fresh_attempts(tenant, verdict, done, django_capture_on_commit_callbacks):
    job = in_state(tenant, State.UNKNOWN)
    write(job.id, "attempts_left = 0, reconcile_only = TRUE, cancel_requested_at = clock_timestamp()")
    with django_capture_on_commit_callbacks() as callbacks:
        resolved = resolve(job, verdict, State.QUEUED, result={"id": "ch_1"} if verdict is DONE else None)
    assert len(publications(callbacks)) == 1
    assert (resolved.state, resolved.attempts_left, resolved.reconcile_only) == (State.QUEUED, 3, False)
    assert (resolved.open_effects, resolved.done_effects, resolved.error) == (0, done, None)
    assert claim(job.id).attempt == job.attempt + 1


def test_verdict_author_and_note_are_in_the_history(tenant):
    job = in_state(tenant, State.UNKNOWN)
    resolve(job, DONE, State.FAILED)
    assert history(job.id)[-1] == "resolve"
    assert JobEvent.objects.filter(job_id=job.id).order_by("seq").last().data == {
        "step": "charge",
        "verdict": "done",
        "then": "failed",
        "note": "asked the bank",
        "by": "ada",
    }


@pytest.mark.parametrize("step", ["refund", "reserve"])
def test_a_step_with_a_known_outcome_gets_no_verdict(tenant, step):
    job = in_state(tenant, State.UNKNOWN)
    JobStep.objects.create(
        job_id=job.id,
        name="reserve",
        kind="step",
        state="done",
        attempt=1,
        first_started_at=job.created_at,
        last_started_at=job.created_at,
        ended_at=job.created_at,
        result=b"\x01null",
    )
    before = everything(job.id)
    with pytest.raises(InvalidVerdict):
        resolve(job, DONE, State.QUEUED, step=step)
    assert everything(job.id) == before


@pytest.mark.parametrize("then", [State.SUCCEEDED, State.FAILED])
def test_a_job_cannot_end_with_another_effect_open(tenant, then):
    job = claimed_job(tenant)
    begin(job, "charge")
    begin(job, "notify")
    transitions.stop_as_unknown(job_id=job.id, attempt=1, detail="who knows")
    before = everything(job.id)
    with pytest.raises(IllegalTransition):
        resolve(job, DONE, then)
    assert everything(job.id) == before
    assert resolve(job, DONE, State.QUEUED).open_effects == 1


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNKNOWN])
def test_only_an_unknown_job_can_be_resolved(tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    with pytest.raises(IllegalTransition) as refused:
        resolve(job, DONE, State.FAILED)
    assert refused.value.state is state
    assert everything(job.id) == before


def test_another_tenants_job_cannot_be_resolved(tenant):
    job = in_state(tenant, State.UNKNOWN)
    job.tenant_id = TenantFactory().id
    before = everything(job.id)
    with pytest.raises(JobNotFound):
        resolve(job, DONE, State.FAILED)
    assert everything(job.id) == before


def test_a_job_whose_effect_was_not_done_cannot_succeed(tenant):
    job = in_state(tenant, State.UNKNOWN)
    before = everything(job.id)
    with pytest.raises(ValueError, match="cannot succeed"):
        resolve(job, NOT_DONE, State.SUCCEEDED)
    assert everything(job.id) == before


def test_an_effect_that_was_not_done_has_no_result(tenant):
    job = in_state(tenant, State.UNKNOWN)
    before = everything(job.id)
    with pytest.raises(ValueError, match="no result"):
        resolve(job, NOT_DONE, State.QUEUED, result={"id": "ch_1"})
    assert everything(job.id) == before


def test_a_job_is_resolved_once(tenant):
    job = in_state(tenant, State.UNKNOWN)
    resolve(job, DONE, State.SUCCEEDED)
    with pytest.raises(IllegalTransition):
        resolve(job, NOT_DONE, State.FAILED)
