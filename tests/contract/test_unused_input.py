"""Input that a request would ignore is refused: a query string of a POST, and a body where none is used."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from idempotency.models import IdempotencyRecord
from jobs.models import Job
from jobs.states import State
from tests.support.client import accepted, pointers, post, problem
from tests.support.factories import new_api_key
from tests.support.scenarios import in_state

RESOLUTION = {"step": "charge", "verdict": "done", "then": "succeed", "note": "seen"}
# Each change with a state in which it is allowed, and its body.
CHANGES = [("cancel", State.QUEUED, b""), ("redrive", State.FAILED, b""), ("resolve", State.UNKNOWN, RESOLUTION)]


@pytest.fixture
def operator(tenant):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, is_admin=True)}")
    return client


@pytest.mark.parametrize("query", ["wait=30", "x", "%00=%ff", "dry_run=true"])
def test_a_submission_with_a_query_is_refused(api, query):
    problem(post(api, path=f"/v1/jobs?{query}"), 400, "validation-failed")
    assert not Job.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    accepted(post(api))


@pytest.mark.parametrize("key", [None, "a-key"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change[0])
def test_a_change_with_a_query_is_refused(operator, tenant, change, key):
    verb, state, body = change
    job = in_state(tenant, state)
    path = f"/v1/jobs/{job.id}/{verb}"
    refused = problem(post(operator, body, path=f"{path}?force=1", key=key), 400, "validation-failed")
    assert [error["parameter"] for error in refused["errors"]] == ["force"]
    assert Job.objects.get(pk=job.id).state == state
    assert not IdempotencyRecord.objects.exists()
    assert post(operator, body, path=path, key=key).status_code == 200


@pytest.mark.parametrize("key", [None, "a-key"])
@pytest.mark.parametrize(("verb", "state"), [one[:2] for one in CHANGES[:2]])
def test_a_change_that_uses_no_body_refuses_one(operator, tenant, verb, state, key):
    job = in_state(tenant, state)
    path = f"/v1/jobs/{job.id}/{verb}"
    refused = problem(post(operator, {"reason": "x"}, path=path, key=key), 400, "validation-failed")
    assert pointers(refused) == {"/reason"}
    for body in ([], 0, None, "x"):
        problem(post(operator, body if body != "x" else b'"x"', path=path, key=key), 400, "validation-failed")
    problem(post(operator, b"{", path=path, key=key), 400, "malformed-json")
    plain_text = post(operator, b"a=1", path=path, key=key, content_type="text/plain")
    problem(plain_text, 415, "unsupported-media-type")
    assert Job.objects.get(pk=job.id).state == state
    assert not IdempotencyRecord.objects.exists()
    assert post(operator, {}, path=path, key=key).status_code == 200
