"""A key with a different request is refused, with the differences and without values."""

from __future__ import annotations

from datetime import timedelta

import pytest

from api.job_documents import format_time
from idempotency.models import IdempotencyRecord
from jobs.models import Job
from tests.support.client import CHARGE, accepted, charge, post, problem


def test_another_body_under_the_same_key_is_refused(api):
    job = accepted(post(api))
    response = post(api, charge(amount=2000))
    document = problem(response, 409, "idempotency-key-reused")
    assert document["retryable"] is False
    assert document["mismatch"] == ["/params/amount"]
    assert document["resource"] == f"/v1/jobs/{job['id']}"
    assert document["first_request_at"] == format_time(IdempotencyRecord.objects.get().created_at)
    assert Job.objects.count() == 1


def test_the_refusal_tells_sdks_not_to_retry(api):
    post(api)
    response = post(api, charge(amount=2000))
    assert response["Stripe-Should-Retry"] == "false"
    assert response["X-Should-Retry"] == "false"
    assert "Retry-After" not in response
    assert "Idempotency-Replayed" not in response


def test_the_refusal_can_have_the_status_of_the_ietf_draft(api, settings):
    settings.IDEMPOTENCY_MISMATCH_STATUS = 422
    post(api)
    document = problem(post(api, charge(amount=2000)), 422, "idempotency-key-reused")
    assert document["status"] == 422
    assert document["mismatch"] == ["/params/amount"]


def test_a_refusal_does_not_change_the_stored_response(api):
    first = post(api)
    post(api, charge(amount=2000))
    assert post(api).content == first.content


def test_no_value_of_either_request_is_shown(api):
    post(api, charge(description="first secret"))
    response = post(api, charge(description="second secret", source="tok_other"))
    assert problem(response, 409, "idempotency-key-reused")["mismatch"] == ["/params/description", "/params/source"]
    assert b"secret" not in response.content
    assert b"tok_" not in response.content


@pytest.mark.parametrize(
    ("body", "mismatch"),
    [
        ({**CHARGE, "metadata": {"order": "1"}}, ["/metadata"]),
        ({**CHARGE, "operation": "demo.sleep"}, ["/operation"]),
        (charge(description=""), ["/params/description"]),
        ({"operation": "payments.charge", "params": {}}, ["/params/amount", "/params/currency", "/params/source"]),
        ([1], ["/operation", "/params/amount", "/params/currency", "/params/source"]),
    ],
    ids=["added", "changed", "added below", "removed", "not an object"],
)
def test_differing_members_are_named_by_json_pointers(api, body, mismatch):
    post(api)
    named = problem(post(api, body), 409, "idempotency-key-reused")["mismatch"]
    # An added object may be named by itself or by its inner members.
    assert [pointer.removesuffix("/order") for pointer in named] == mismatch


def test_names_in_pointers_are_escaped(api):
    post(api, {**CHARGE, "metadata": {"a/b": "1", "a~b": "1"}})
    document = problem(post(api, {**CHARGE, "metadata": {"a/b": "2", "a~b": "2"}}), 409, "idempotency-key-reused")
    assert document["mismatch"] == ["/metadata/a~0b", "/metadata/a~1b"] or document["mismatch"] == [
        "/metadata/a~1b",
        "/metadata/a~0b",
    ]


def test_at_most_64_members_are_named(api):
    many = {f"name-{number}": "1" for number in range(50)}
    post(api, {**CHARGE, "metadata": many})
    params = {f"name-{number}": 1 for number in range(50)}
    document = problem(post(api, {"operation": "x", "params": params, "metadata": {}}), 409, "idempotency-key-reused")
    assert 1 <= len(document["mismatch"]) <= 64
    assert all(pointer.count("/") <= 2 for pointer in document["mismatch"])


def test_another_query_string_is_another_request(api):
    post(api)
    document = problem(post(api, path="/v1/jobs?dry_run=1"), 409, "idempotency-key-reused")
    assert document["mismatch"] == []
    assert "query" in document["detail"]


def test_another_path_is_another_request(api):
    job = accepted(post(api))
    response = post(api, b"", path=f"/v1/jobs/{job['id']}/cancel")
    document = problem(response, 409, "idempotency-key-reused")
    assert "path" in document["detail"]
    assert document["resource"] == f"/v1/jobs/{job['id']}"
    assert Job.objects.get().state == "queued"


def test_the_refusal_shows_when_the_first_request_was_accepted(api):
    post(api)
    IdempotencyRecord.objects.update(created_at=IdempotencyRecord.objects.get().created_at - timedelta(hours=3))
    document = problem(post(api, charge(amount=5)), 409, "idempotency-key-reused")
    assert document["first_request_at"] == format_time(IdempotencyRecord.objects.get().created_at)
