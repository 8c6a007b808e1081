"""POST /v1/jobs/{id}/redrive queues a failed or canceled job again; /resolve applies an operator's verdict to an unknown one."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from jobs.models import Job, JobStep
from jobs.states import State
from tests.support.client import pointers, post, problem
from tests.support.factories import TenantFactory, new_api_key
from tests.support.scenarios import in_state, write

pytestmark = pytest.mark.django_db

RESOLUTION = {
    "step": "charge",
    "verdict": "done",
    "then": "succeed",
    "result": {"id": "ch_1"},
    "note": "The bank's book.",
}


@pytest.fixture
def operator(tenant):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, is_admin=True)}")
    return client


def act(client, job, verb, body=None, *, key=None):
    return post(client, {} if body is None else body, key=key, path=f"/v1/jobs/{job.id}/{verb}")


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
def test_a_failed_or_canceled_job_is_redriven(api, tenant, state):
    response = act(api, in_state(tenant, state), "redrive")
    assert response.status_code == 200
    document = response.json()
    assert (document["state"], document["error"], document["finished_at"]) == ("queued", None, None)
    assert document["attempts_left"] == 3
    assert response["Retry-After"]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.UNKNOWN])
def test_a_job_in_another_state_cannot_be_redriven(api, tenant, state):
    job = in_state(tenant, state)
    problem(act(api, job, "redrive"), 409, "illegal-state-transition")
    assert Job.objects.get(pk=job.id).state == state


def test_a_repeated_redrive_with_a_key_is_replayed(api, tenant):
    job = in_state(tenant, State.FAILED)
    first, again = act(api, job, "redrive", key="once-more"), act(api, job, "redrive", key="once-more")
    assert (again.content, again["Idempotency-Replayed"]) == (first.content, "true")
    problem(act(api, job, "redrive"), 409, "illegal-state-transition")


@pytest.mark.parametrize(("verb", "body"), [("redrive", None), ("resolve", RESOLUTION)])
def test_another_tenants_job_is_not_found(operator, verb, body):
    problem(act(operator, in_state(TenantFactory(), State.UNKNOWN), verb, body), 404, "not-found")


def test_the_verdict_done_lets_an_operator_end_the_job_as_succeeded(operator, tenant):
    job = in_state(tenant, State.UNKNOWN)
    document = act(operator, job, "resolve", RESOLUTION).json()
    assert (document["state"], document["result"], document["error"]) == ("succeeded", {"id": "ch_1"}, None)
    assert [effect["state"] for effect in document["effects"]] == ["done"]
    *_, event = operator.get(f"/v1/jobs/{job.id}/events").json()["data"]
    assert (event["type"], event["data"]["note"], event["data"]["verdict"]) == ("resolve", "The bank's book.", "done")
    assert event["data"]["by"].startswith("api key ")


@pytest.mark.parametrize(("then", "state"), [("fail", "failed"), ("queue", "queued")])
def test_the_verdict_not_done_fails_or_queues_the_job(operator, tenant, then, state):
    resolution = {"step": "charge", "verdict": "not_done", "then": then, "note": "Nothing in the bank's book."}
    document = act(operator, in_state(tenant, State.UNKNOWN), "resolve", resolution).json()
    assert document["state"] == state
    assert [effect["state"] for effect in document["effects"]] == ["not_done"]


def test_a_key_without_the_admin_scope_cannot_resolve(api, tenant):
    job = in_state(tenant, State.UNKNOWN)
    problem(act(api, job, "resolve", RESOLUTION), 403, "forbidden")
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELED])
def test_a_job_that_is_not_unknown_cannot_be_resolved(operator, tenant, state):
    problem(act(operator, in_state(tenant, state), "resolve", RESOLUTION), 409, "illegal-state-transition")


def test_a_verdict_on_a_step_that_is_not_unknown_is_refused(operator, tenant):
    job = in_state(tenant, State.UNKNOWN)
    problem(act(operator, job, "resolve", {**RESOLUTION, "step": "another"}), 400, "validation-failed")
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN


def test_a_job_whose_effect_was_compensated_cannot_be_resolved_as_succeeded(operator, tenant):
    job = in_state(tenant, State.UNKNOWN)
    write(job.id, "done_effects = 1")
    JobStep.objects.filter(job_id=job.id).update(undoes="order")
    document = problem(act(operator, job, "resolve", RESOLUTION), 400, "validation-failed")
    assert "compensated" in document["detail"]
    after = Job.objects.get(pk=job.id)
    assert (after.state, after.open_effects, after.done_effects) == (State.UNKNOWN, 1, 1)
    resolved = act(operator, job, "resolve", {**RESOLUTION, "then": "fail", "result": None})
    assert (resolved.status_code, resolved.json()["state"]) == (200, "failed")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"/step", "/verdict", "/then", "/note"}),
        ({**RESOLUTION, "verdict": "maybe"}, {"/verdict"}),
        ({**RESOLUTION, "then": "cancel"}, {"/then"}),
        ({**RESOLUTION, "note": ""}, {"/note"}),
        ({**RESOLUTION, "note": 1}, {"/note"}),
        ({**RESOLUTION, "more": 1}, {"/more"}),
        ({**RESOLUTION, "verdict": "not_done", "result": None}, {"/then"}),
        ({**RESOLUTION, "verdict": "not_done", "then": "fail"}, {"/result"}),
        ([], {""}),
    ],
)
def test_an_invalid_resolution_is_refused(operator, tenant, body, expected):
    job = in_state(tenant, State.UNKNOWN)
    assert pointers(problem(act(operator, job, "resolve", body), 400, "validation-failed")) == expected
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN
