"""POST /v1/jobs/{id}/cancel in every state, with and without a key; and the history that GET /events returns."""

from __future__ import annotations

from uuid import uuid4

import pytest

from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.payloads import encode_payload
from jobs.states import State
from tests.support.client import accepted, post, problem
from tests.support.factories import claim
from tests.support.scenarios import HOUR, begin, close, in_state


def cancel(api, job_id, **headers):
    return api.post(f"/v1/jobs/{job_id}/cancel", headers=headers)


def events(api, job_id, query=""):
    response = api.get(f"/v1/jobs/{job_id}/events{query}")
    assert response.status_code == 200, response.content
    return response.json()["data"]


def test_a_queued_job_is_canceled_at_once(api, tenant):
    response = cancel(api, in_state(tenant, State.QUEUED).id)
    assert response.status_code == 200
    job = response.json()
    assert job["state"] == "canceled"
    assert job["finished_at"] is not None
    assert api.get(job["links"]["self"]).json() == job


def test_canceling_a_running_job_records_a_cancel_request(api, tenant):
    job_id = in_state(tenant, State.RUNNING).id
    job = cancel(api, job_id).json()
    assert job["state"] == "running"
    assert job["cancel_requested_at"] is not None
    assert cancel(api, job_id).json()["cancel_requested_at"] == job["cancel_requested_at"]


def test_canceling_a_queued_job_with_a_completed_effect_records_a_cancel_request(api, tenant):
    job = in_state(tenant, State.RUNNING)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {"id": 1})
    transitions.postpone_job(job_id=job.id, attempt=job.attempt, delay=-HOUR, detail="postponed")
    document = cancel(api, job.id).json()
    assert document["state"] == "queued"
    assert document["cancel_requested_at"] is not None
    assert document["effects"][0]["state"] == "done"


def test_canceling_a_canceled_job_changes_nothing(api, tenant):
    job_id = in_state(tenant, State.CANCELED).id
    before = api.get(f"/v1/jobs/{job_id}").json()
    response = cancel(api, job_id)
    assert response.status_code == 200
    assert response.json() == before
    assert len(events(api, job_id)) == 2


@pytest.mark.parametrize("state", ["succeeded", "failed", "unknown"])
def test_a_succeeded_failed_or_unknown_job_cannot_be_canceled(api, tenant, state):
    job_id = in_state(tenant, State(state)).id
    document = problem(cancel(api, job_id), 409, "illegal-state-transition")
    assert state in document["detail"]
    assert api.get(f"/v1/jobs/{job_id}").json()["state"] == state


def test_a_missing_job_cannot_be_canceled(api):
    problem(cancel(api, uuid4()), 404, "not-found")


def test_a_cancel_needs_no_key_and_stores_nothing_without_one(api, tenant):
    response = cancel(api, in_state(tenant, State.QUEUED).id)
    assert "Idempotency-Replayed" not in response
    assert not IdempotencyRecord.objects.exists()


def test_a_keyed_cancel_is_replayed(api, tenant):
    job_id = in_state(tenant, State.RUNNING).id
    first = cancel(api, job_id, **{"Idempotency-Key": "stop"})
    assert first["Idempotency-Replayed"] == "false"
    running = Job.objects.get()
    transitions.stop_canceled_job(job_id=job_id, attempt=running.attempt)
    again = cancel(api, job_id, **{"Idempotency-Key": "stop"})
    assert again["Idempotency-Replayed"] == "true"
    assert again.content == first.content
    assert again.json()["state"] == "running"


def test_a_refused_cancel_with_a_key_is_stored_and_replayed(api, tenant):
    job_id = in_state(tenant, State.SUCCEEDED).id
    first = cancel(api, job_id, **{"Idempotency-Key": "stop"})
    problem(first, 409, "illegal-state-transition")
    assert first["Idempotency-Replayed"] == "false"
    again = cancel(api, job_id, **{"Idempotency-Key": "stop"})
    assert again.status_code == 409
    assert again["Content-Type"] == "application/problem+json"
    assert again["Idempotency-Replayed"] == "true"
    assert again.content == first.content
    # SDKs retry a 409 unless these headers forbid it.
    for response in (first, again):
        assert (response["Stripe-Should-Retry"], response["X-Should-Retry"]) == ("false", "false")


def test_a_keyed_cancel_of_a_missing_job_leaves_the_key_free(api, tenant):
    problem(cancel(api, uuid4(), **{"Idempotency-Key": "stop"}), 404, "not-found")
    response = cancel(api, in_state(tenant, State.QUEUED).id, **{"Idempotency-Key": "stop"})
    assert response["Idempotency-Replayed"] == "false"


def test_a_ttl_out_of_range_is_refused_even_without_a_key(api, tenant):
    job = in_state(tenant, State.QUEUED)
    path = f"/v1/jobs/{job.id}/cancel"
    problem(post(api, {}, key=None, path=path, Idempotency_TTL="2592001"), 400, "validation-failed")
    assert post(api, {}, key=None, path=path, Idempotency_TTL="3600").status_code == 200


def test_a_malformed_key_is_refused_even_if_the_key_is_optional(api, tenant):
    job_id = in_state(tenant, State.QUEUED).id
    problem(cancel(api, job_id, **{"Idempotency-Key": "a b"}), 400, "idempotency-key-invalid")
    assert Job.objects.get().state == "queued"


# --- the history ------------------------------------------------------------------------------------------------------


def test_the_history_is_numbered_without_a_gap(api):
    job_id = accepted(post(api))["id"]
    job = claim(job_id)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {"id": 1})
    transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload({"done": True}))
    history = events(api, job_id)
    assert [event["seq"] for event in history] == list(range(1, len(history) + 1))
    assert history[0]["type"] == "submit"
    assert history[-1]["type"] == "succeed"
    assert [event["created_at"] for event in history] == sorted(event["created_at"] for event in history)
    for event in history:
        assert event.keys() == {"seq", "type", "attempt", "data", "created_at"}
        assert event["created_at"].endswith("Z")


def test_after_returns_the_events_that_follow_any_number(api, tenant):
    job_id = in_state(tenant, State.SUCCEEDED).id
    history = events(api, job_id)
    for after in range(len(history) + 2):
        assert events(api, job_id, f"?after={after}") == history[after:]
    assert events(api, job_id, f"?after={2**31 - 1}") == []


@pytest.mark.parametrize("query", ["after=-1", "after=x", "after=2147483648", "after=", "after=1&after=2", "since=1"])
def test_an_invalid_query_of_the_history_is_refused(api, tenant, query):
    job_id = in_state(tenant, State.QUEUED).id
    problem(api.get(f"/v1/jobs/{job_id}/events?{query}"), 400, "validation-failed")


def test_a_missing_job_has_no_history(api):
    problem(api.get(f"/v1/jobs/{uuid4()}/events"), 404, "not-found")


def test_a_request_for_a_stream_gets_406_with_the_streams_url(api, tenant, settings):
    """There is no redirect, because clients drop their credentials on a redirect to another port."""
    path = f"/v1/jobs/{in_state(tenant, State.QUEUED).id}/events"
    for settings.STREAMS_URL in ("https://streams.example", ""):
        document = problem(api.get(path, headers={"Accept": "text/event-stream"}), 406, "not-acceptable")
        assert document["streams_url"] == (settings.STREAMS_URL or None)
        assert settings.STREAMS_URL + (path if settings.STREAMS_URL else "") in document["detail"]
    other = problem(api.get(path, headers={"Accept": "text/html"}), 406, "not-acceptable")
    assert "streams_url" not in other


@pytest.mark.parametrize("method", ["POST", "PUT", "TRACE"])
def test_an_unsupported_method_gets_405_even_if_a_stream_is_accepted(api, tenant, method):
    path = f"/v1/jobs/{in_state(tenant, State.QUEUED).id}/events"
    response = api.generic(method, path, headers={"Accept": "text/event-stream"})
    problem(response, 405, "method-not-allowed")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/event-stream, */*;q=0.1"])
def test_a_client_that_also_accepts_json_gets_the_list(api, tenant, accept):
    path = f"/v1/jobs/{in_state(tenant, State.QUEUED).id}/events"
    response = api.get(path, headers={"Accept": accept})
    assert [event["seq"] for event in response.json()["data"]] == [1]
