"""A job stores the id of the request that started it; the job's document does not show it."""

from __future__ import annotations

from uuid import UUID

import pytest

from api.middleware import REQUEST_ID_MAX_LENGTH
from jobs.models import Job
from jobs.states import State
from tests.support.client import accepted, post
from tests.support.factories import queued_job
from tests.support.scenarios import in_state

pytestmark = pytest.mark.django_db


def stored(document):
    return Job.objects.get(pk=UUID(document["id"]))


def test_a_job_stores_the_id_of_the_request_that_started_it(api):
    response = post(api, X_Request_Id="order-17")
    assert stored(accepted(response)).request_id == response["X-Request-Id"] == "order-17"


def test_the_longest_valid_request_id_is_stored_whole(api):
    longest = "x" * REQUEST_ID_MAX_LENGTH
    assert stored(accepted(post(api, X_Request_Id=longest))).request_id == longest


def test_a_generated_request_id_is_stored_too(api):
    response = post(api, X_Request_Id="not valid")
    assert stored(accepted(response)).request_id == response["X-Request-Id"] != "not valid"


def test_a_replay_keeps_the_first_request_id(api):
    first = accepted(post(api, X_Request_Id="first"))
    again = accepted(post(api, X_Request_Id="second"))
    assert again["id"] == first["id"]
    assert stored(first).request_id == "first"


def test_the_job_document_does_not_show_the_request_id(api):
    document = accepted(post(api, X_Request_Id="order-17"))
    assert "order-17" not in api.get(document["links"]["self"]).content.decode()


def test_the_request_id_is_kept_when_the_payload_is_erased(api, tenant):
    job = in_state(tenant, State.SUCCEEDED)
    Job.objects.filter(pk=job.id).update(request_id="order-17")
    assert api.delete(f"/v1/jobs/{job.id}/payload").status_code == 200
    assert Job.objects.get(pk=job.id).request_id == "order-17"


def test_a_job_that_no_request_started_has_no_request_id(tenant):
    assert queued_job(tenant).request_id is None
