"""POST /v1/jobs/{id}/redrive and /resolve: a failed job runs again, and an unknown one goes on by an operator's word."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from jobs.models import Job, JobStep
from jobs.states import State
from tests.support.client import pointers, post, problem
from tests.support.factories import TenantFactory, new_api_key
from tests.support.scenarios import in_state, write

pytestmark = pytest.mark.django_db

SAID = {"step": "charge", "verdict": "done", "then": "succeed", "result": {"id": "ch_1"}, "note": "The bank's book."}


@pytest.fixture
def operator(tenant):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, is_admin=True)}")
    return client


def act(client, job, what, body=None, *, key=None):
    return post(client, {} if body is None else body, key=key, path=f"/v1/jobs/{job.id}/{what}")


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED])
def test_a_job_that_ended_without_success_runs_again(api, tenant, state):
    response = act(api, in_state(tenant, state), "redrive")
    assert response.status_code == 200
    document = response.json()
    assert (document["state"], document["error"], document["finished_at"]) == ("queued", None, None)
    assert document["attempts_left"] == 3
    assert response["Retry-After"]


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.UNKNOWN])
def test_no_other_job_runs_again(api, tenant, state):
    job = in_state(tenant, state)
    problem(act(api, job, "redrive"), 409, "illegal-state-transition")
    assert Job.objects.get(pk=job.id).state == state


def test_a_repeated_redrive_with_a_key_is_replayed(api, tenant):
    job = in_state(tenant, State.FAILED)
    first, again = act(api, job, "redrive", key="once-more"), act(api, job, "redrive", key="once-more")
    assert (again.content, again["Idempotency-Replayed"]) == (first.content, "true")
    problem(act(api, job, "redrive"), 409, "illegal-state-transition")


@pytest.mark.parametrize(("what", "body"), [("redrive", None), ("resolve", SAID)])
def test_anothers_job_is_as_missing_as_none(operator, what, body):
    problem(act(operator, in_state(TenantFactory(), State.UNKNOWN), what, body), 404, "not-found")


def test_an_operator_says_that_it_was_done(operator, tenant):
    job = in_state(tenant, State.UNKNOWN)
    document = act(operator, job, "resolve", SAID).json()
    assert (document["state"], document["result"], document["error"]) == ("succeeded", {"id": "ch_1"}, None)
    assert [effect["state"] for effect in document["effects"]] == ["done"]
    *_, told = operator.get(f"/v1/jobs/{job.id}/events").json()["data"]
    assert (told["type"], told["data"]["note"], told["data"]["verdict"]) == ("resolve", "The bank's book.", "done")
    assert told["data"]["by"].startswith("api key ")


@pytest.mark.parametrize(("then", "state"), [("fail", "failed"), ("queue", "queued")])
def test_an_operator_says_that_it_was_not_done(operator, tenant, then, state):
    said = {"step": "charge", "verdict": "not_done", "then": then, "note": "Nothing in the bank's book."}
    document = act(operator, in_state(tenant, State.UNKNOWN), "resolve", said).json()
    assert document["state"] == state
    assert [effect["state"] for effect in document["effects"]] == ["not_done"]


def test_only_an_operator_resolves(api, tenant):
    job = in_state(tenant, State.UNKNOWN)
    problem(act(api, job, "resolve", SAID), 403, "forbidden")
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELED])
def test_only_an_unknown_job_is_resolved(operator, tenant, state):
    problem(act(operator, in_state(tenant, state), "resolve", SAID), 409, "illegal-state-transition")


def test_a_step_that_is_not_in_doubt_gets_no_verdict(operator, tenant):
    job = in_state(tenant, State.UNKNOWN)
    problem(act(operator, job, "resolve", {**SAID, "step": "another"}), 400, "validation-failed")
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN


def test_a_job_whose_effect_was_compensated_cannot_be_resolved_as_succeeded(operator, tenant):
    job = in_state(tenant, State.UNKNOWN)
    write(job.id, "done_effects = 1")
    JobStep.objects.filter(job_id=job.id).update(undoes="order")
    document = problem(act(operator, job, "resolve", SAID), 400, "validation-failed")
    assert "compensated" in document["detail"]
    after = Job.objects.get(pk=job.id)
    assert (after.state, after.open_effects, after.done_effects) == (State.UNKNOWN, 1, 1)
    resolved = act(operator, job, "resolve", {**SAID, "then": "fail", "result": None})
    assert (resolved.status_code, resolved.json()["state"]) == (200, "failed")


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, {"/step", "/verdict", "/then", "/note"}),
        ({**SAID, "verdict": "maybe"}, {"/verdict"}),
        ({**SAID, "then": "cancel"}, {"/then"}),
        ({**SAID, "note": ""}, {"/note"}),
        ({**SAID, "note": 1}, {"/note"}),
        ({**SAID, "more": 1}, {"/more"}),
        ({**SAID, "verdict": "not_done", "result": None}, {"/then"}),
        ({**SAID, "verdict": "not_done", "then": "fail"}, {"/result"}),
        ([], {""}),
    ],
)
def test_a_word_that_makes_no_sense_is_refused(operator, tenant, body, named):
    job = in_state(tenant, State.UNKNOWN)
    assert pointers(problem(act(operator, job, "resolve", body), 400, "validation-failed")) == named
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN
