"""The job as the contract shows it, in each state; and conditional requests for it."""

from __future__ import annotations

import re
from uuid import UUID

import pytest

from jobs import transitions
from jobs.models import Job, JobStep
from jobs.payloads import encode_payload
from jobs.states import State
from tests.support.client import CHARGE, accepted, post, problem
from tests.support.factories import claim
from tests.support.scenarios import begin, close, in_state, write

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def is_instant(value):
    return isinstance(value, str) and INSTANT.fullmatch(value)


def is_null(value):
    return value is None


QUEUED = {
    "id": lambda value: UUID(value).version == 7,
    "object": "job",
    "operation": "payments.charge",
    "state": "queued",
    "params": CHARGE["params"],
    "metadata": {"order": "17"},
    "attempt": 0,
    "attempts_left": 5,
    "progress": is_null,
    "result": is_null,
    "error": is_null,
    "priority": "default",
    "created_at": is_instant,
    "run_at": is_instant,
    "started_at": is_null,
    "finished_at": is_null,
    "deadline": is_null,
    "cancel_requested_at": is_null,
    "concurrency_key": is_null,
    "idempotency_key": "a-key",
    "artifacts": [],
    "effects": [],
    "links": lambda value: {"self", "events", "wait", "cancel"} <= value.keys(),
}


def check(document, expected):
    assert document.keys() == expected.keys()
    for name, member in expected.items():
        value = document[name]
        assert member(value) if callable(member) else value == member, f"{name}: {value!r}"


def read(api, job_id):
    return api.get(f"/v1/jobs/{job_id}")


@pytest.fixture
def job(api):
    return accepted(post(api, {**CHARGE, "metadata": {"order": "17"}}))


def test_a_queued_job_has_every_member_of_the_contract(api, job):
    check(job, QUEUED)
    assert read(api, job["id"]).json() == job


def test_links_lead_to_the_job_its_events_and_its_cancel(api, job):
    assert api.get(job["links"]["self"]).json() == job
    assert api.get(job["links"]["events"]).json()["data"]
    assert api.get(job["links"]["wait"]).json() == job
    assert api.post(job["links"]["cancel"]).json()["state"] == "canceled"


def test_a_running_job_shows_its_attempt(api, job):
    claim(UUID(job["id"]))
    expected = {**QUEUED, "state": "running", "attempt": 1, "attempts_left": 4, "started_at": is_instant}
    check(read(api, job["id"]).json(), expected)


def test_a_succeeded_job_shows_its_result_and_effects(api, job):
    running = claim(UUID(job["id"]))
    key = begin(running, "charge")
    close(running, "charge", JobStep.State.DONE, {"id": "ch_1"})
    transitions.succeed_job(job_id=running.id, attempt=1, result=encode_payload({"charge_id": "ch_1"}))
    expected = {
        **QUEUED,
        "state": "succeeded",
        "attempt": 1,
        "attempts_left": 4,
        "started_at": is_instant,
        "finished_at": is_instant,
        "result": {"charge_id": "ch_1"},
        "effects": [{"name": "charge", "state": "done", "key": key}],
    }
    check(read(api, job["id"]).json(), expected)


@pytest.mark.parametrize(("state", "code"), [("failed", "operation-failed"), ("unknown", "outcome-unknown")])
def test_a_failed_or_unknown_job_has_its_error_as_a_problem(api, tenant, state, code):
    job = in_state(tenant, State(state))
    error = read(api, job.id).json()["error"]
    assert error["code"] == code
    assert {"type", "title", "detail", "code", "retryable"} <= error.keys()
    assert error["retryable"] is False
    explanation = api.get(error["type"])
    assert explanation.json()["code"] == code
    assert explanation.json()["title"] == error["title"]


def test_a_job_canceled_before_it_started_has_no_attempt(api, tenant):
    document = read(api, in_state(tenant, State.CANCELED).id).json()
    assert document["state"] == "canceled"
    assert document["attempt"] == 0
    assert is_instant(document["finished_at"])
    assert document["error"] is None


@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_queued_or_running_job_has_retry_after(api, tenant, state):
    assert int(read(api, in_state(tenant, State(state)).id)["Retry-After"]) >= 1


def test_an_unknown_job_has_a_retry_after_of_a_minute(api, tenant):
    assert read(api, in_state(tenant, State.UNKNOWN).id)["Retry-After"] == "60"


@pytest.mark.parametrize("state", ["succeeded", "failed", "canceled"])
def test_an_ended_job_has_no_retry_after(api, tenant, state):
    assert "Retry-After" not in read(api, in_state(tenant, State(state)).id)


# --- conditional requests ---------------------------------------------------------------------------------------------


def test_an_unchanged_job_is_not_sent_again(api, job):
    first = read(api, job["id"])
    tag = first["ETag"]
    assert re.fullmatch(r'W/"[!#-~]+"', tag)
    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        again = api.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": known})
        assert again.status_code == 304, known
        assert again.content == b""
        assert again["ETag"] == tag
        assert again["Retry-After"] == first["Retry-After"]


@pytest.mark.parametrize("known", ["", '"other"', 'W/"other"', "garbage", ","])
def test_a_different_or_invalid_etag_gets_the_job(api, job, known):
    response = api.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": known})
    assert response.status_code == 200
    assert response.json() == job


def test_every_change_of_the_job_changes_its_etag(api, job):
    job_id = UUID(job["id"])
    tags = [read(api, job_id)["ETag"]]
    running = claim(job_id)
    tags.append(read(api, job_id)["ETag"])
    begin(running, "charge")
    tags.append(read(api, job_id)["ETag"])
    close(running, "charge", JobStep.State.NOT_DONE)
    tags.append(read(api, job_id)["ETag"])
    write(job_id, """progress = '{"done": 1, "total": 2, "message": ""}'""")
    tags.append(read(api, job_id)["ETag"])
    transitions.succeed_job(job_id=job_id, attempt=1, result=encode_payload(None))
    tags.append(read(api, job_id)["ETag"])
    assert len(set(tags)) == len(tags)


def test_head_returns_the_etag_of_a_get_without_a_body(api, job):
    get, head = read(api, job["id"]), api.head(f"/v1/jobs/{job['id']}")
    assert head.status_code == 200
    assert head.content == b""
    assert head["ETag"] == get["ETag"]


@pytest.mark.parametrize("seconds", [0, 1, 30, 60])
def test_a_wait_returns_at_once_without_the_streams_process(api, job, seconds):
    assert api.get(f"/v1/jobs/{job['id']}?wait={seconds}").json() == job


def test_the_wait_and_events_links_lead_to_the_streams_url(api, job, settings):
    settings.STREAMS_URL = "https://streams.example"
    links = api.get(f"/v1/jobs/{job['id']}").json()["links"]
    assert links["wait"] == f"https://streams.example/v1/jobs/{job['id']}?wait=30"
    assert links["events"] == f"https://streams.example/v1/jobs/{job['id']}/events"
    assert links["self"] == job["links"]["self"] == f"/v1/jobs/{job['id']}"


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "wait=", "wait=1&wait=2", "weit=1"])
def test_an_invalid_or_unknown_query_parameter_is_refused(api, job, query):
    problem(api.get(f"/v1/jobs/{job['id']}?{query}"), 400, "validation-failed")


@pytest.mark.parametrize("job_id", ["x", "0", "0199", "%00", "..", "01a20155-72b5-77f2-8f1c-7b06f3db8b2"])
def test_an_invalid_id_is_not_found(api, job_id):
    problem(api.get(f"/v1/jobs/{job_id}"), 404, "not-found")


def test_a_number_beyond_the_precision_of_a_double_is_shown_exactly(api, tenant):
    running = in_state(tenant, State.RUNNING)
    transitions.succeed_job(job_id=running.id, attempt=running.attempt, result=b"\x01" + b"12345678901234567890.5")
    assert b'"result":12345678901234567890.5' in read(api, running.id).content
    assert Job.objects.get().state == "succeeded"
