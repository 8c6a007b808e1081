"""Exact search for jobs by any of their names, across tenants."""

from __future__ import annotations

import pytest
from uuid_utils import uuid7

from jobs import services
from jobs.models import JobStep
from jobs.queries.steps import reference_of
from jobs.services import erase_payload
from jobs.states import State
from operators.search import find_jobs
from tests.support.factories import TenantFactory, queued_job
from tests.support.keyed import keyed_job, write_record
from tests.support.scenarios import in_state, write
from workers.executor import execute_job

pytestmark = pytest.mark.django_db


def found(text):
    return [(found.job.id, found.by) for found in find_jobs(text)]


def charged(tenant, script, answer):
    """Return a job whose effect got this answer."""
    job = queued_job(tenant, script=script(lambda handle: handle.effect("charge", lambda _key: answer)))
    execute_job(job.id)
    return job


def test_a_job_is_found_by_its_id(tenant):
    job = in_state(tenant, State.QUEUED)
    for spelling in (str(job.id), f"  {job.id}\n", job.id.hex, f"job/{job.id}"):
        assert found(spelling) == [(job.id, "job id")]


def test_jobs_are_found_by_the_key_of_any_tenant_and_mode_newest_first(tenant):
    jobs = [queued_job(tenant, mode="live"), queued_job(tenant), queued_job(TenantFactory()), queued_job(tenant)]
    for job in jobs[:3]:
        write_record(write(job.id, "idempotency_key = 'order-1'"))
    write(jobs[3].id, "idempotency_key = 'order-10'")
    assert found("order-1") == [(job.id, "idempotency key") for job in reversed(jobs[:3])]
    assert [found.job.id for found in find_jobs("order-1", limit=1)] == [jobs[2].id]


def test_ended_jobs_are_found_by_a_key_that_was_purged_or_used_again(tenant):
    ended = [in_state(tenant, state) for state in (State.SUCCEEDED, State.FAILED, State.CANCELED)]
    for job in ended:
        write(job.id, "idempotency_key = 'order-2'")
    live = keyed_job(tenant, "order-2")
    assert [job_id for job_id, _ in found("order-2")] == [live.id, *(job.id for job in reversed(ended))]


def test_a_job_is_found_by_the_id_that_its_request_was_given(tenant):
    before, request_id, job, after = queued_job(tenant), str(uuid7()), queued_job(tenant), queued_job(tenant)
    for one in (before, job, after):
        write(one.id, f"request_id = '{request_id if one is job else uuid7()}'")
    assert found(request_id) == [(job.id, "request id")]


def test_a_job_is_found_by_the_downstreams_reference(tenant, script):
    job = charged(tenant, script, {"id": "ch_1", "amount": 1})
    assert found("ch_1") == [(job.id, "provider reference")]


def test_a_job_is_found_by_the_reference_in_an_operators_verdict(tenant):
    job = in_state(tenant, State.UNKNOWN)
    resolution = {"verdict": JobStep.State.DONE, "then": State.SUCCEEDED, "note": "the bank's book", "by": "ada"}
    services.resolve_job(
        tenant_id=tenant.id, mode="test", job_id=job.id, step="charge", result={"id": "ch_2"}, **resolution
    )
    assert found("ch_2") == [(job.id, "provider reference")]


def test_an_erased_job_is_found_by_its_reference(tenant, script):
    job = charged(tenant, script, {"id": "ch_3"})
    erase_payload(tenant_id=tenant.id, mode="test", job_id=job.id)
    assert found("ch_3") == [(job.id, "provider reference")]


def test_a_job_with_one_text_for_several_names_is_found_once(tenant, script):
    job = charged(tenant, script, {"id": "same"})
    write_record(write(job.id, "idempotency_key = 'same'"))
    assert found("same") == [(job.id, "idempotency key")]


@pytest.mark.parametrize("text", ["", "  ", "nothing", "a\x00b", "\ud800", "x" * 256, "%", "'"])
def test_a_text_that_is_no_name_finds_nothing(tenant, text):
    write(in_state(tenant, State.QUEUED).id, "idempotency_key = 'k'")
    assert found(text) == []


@pytest.mark.parametrize(
    "answer", [None, "ch_1", ["ch_1"], {}, {"id": 7}, {"id": ""}, {"id": "x" * 256}, {"id": "a\x00"}, {"id": "\ud800"}]
)
def test_an_answer_without_a_usable_id_gives_no_reference(answer):
    assert reference_of(answer) is None


def test_an_answer_with_an_oversized_id_is_still_a_result(tenant, script):
    job = charged(tenant, script, {"id": "x" * 300})
    step = JobStep.objects.get(job_id=job.id)
    assert (step.state, step.reference) == ("done", None)


def test_a_refused_effect_has_no_reference(tenant):
    job = in_state(tenant, State.UNKNOWN)
    resolution = {"verdict": JobStep.State.NOT_DONE, "then": State.QUEUED, "note": "no", "by": "ada"}
    services.resolve_job(tenant_id=tenant.id, mode="test", job_id=job.id, step="charge", **resolution)
    assert JobStep.objects.get(job_id=job.id).reference is None
