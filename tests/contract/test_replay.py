"""The same key with the same request gets the stored response and changes nothing."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models import F
from django.utils.http import http_date

from idempotency.errors import RequestInProgress
from idempotency.models import IdempotencyRecord
from idempotency.queries import erase_payload
from jobs import transitions
from jobs.models import Job, JobEvent
from jobs.payloads import encode_payload
from tests.support.client import accepted, charge, pointers, post, problem
from tests.support.factories import claim
from tests.support.scenarios import begin

DAY = 24 * 3600


def succeed(job):
    claimed = claim(UUID(job["id"]))
    return transitions.succeed_job(job_id=claimed.id, attempt=claimed.attempt, result=encode_payload({"done": True}))


def expire_record():
    IdempotencyRecord.objects.update(
        created_at=F("created_at") - timedelta(days=31), expires_at=F("expires_at") - timedelta(days=31)
    )


def test_the_first_response_is_marked_as_not_replayed(api):
    response = post(api)
    job = accepted(response)
    assert response["Idempotency-Replayed"] == "false"
    assert response["Location"] == f"/v1/jobs/{job['id']}"
    assert int(response["Retry-After"]) >= 1
    assert response["Content-Type"] == "application/json"


def test_a_replay_has_the_same_status_bytes_and_headers(api):
    first, again = post(api), post(api)
    assert again.status_code == first.status_code == 202
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"
    for name in ("Location", "Retry-After", "Content-Type", "Idempotency-Expires"):
        assert again[name] == first[name], name
    assert again["X-Request-Id"] != first["X-Request-Id"]
    assert not again.cookies


def test_a_replay_creates_no_job_and_writes_nothing(api):
    post(api)
    before = list(IdempotencyRecord.objects.values()), list(Job.objects.values()), JobEvent.objects.count()
    post(api)
    after = list(IdempotencyRecord.objects.values()), list(Job.objects.values()), JobEvent.objects.count()
    assert after == before


def test_a_replay_is_a_snapshot_even_after_the_job_has_ended(api):
    first = post(api)
    succeed(accepted(first))
    again = post(api)
    assert again.content == first.content
    assert accepted(again)["state"] == "queued"
    assert api.get(again["Location"]).json()["state"] == "succeeded"


def test_a_key_is_remembered_for_a_day_by_default(api):
    response = post(api)
    record = IdempotencyRecord.objects.get()
    assert record.expires_at - record.created_at == timedelta(seconds=DAY)
    assert response["Idempotency-Expires"] == http_date(record.expires_at.timestamp())


@pytest.mark.parametrize("seconds", [3_600, 2_592_000])
def test_the_client_can_set_how_long_its_key_is_remembered(api, seconds):
    response = post(api, Idempotency_TTL=str(seconds))
    record = IdempotencyRecord.objects.get()
    assert record.expires_at - record.created_at == timedelta(seconds=seconds)
    assert response["Idempotency-Expires"] == http_date(record.expires_at.timestamp())


@pytest.mark.parametrize(
    "ttl", ["3599", "2592001", "0", "-3600", "3600.0", "1e4", "", "forever", "3600, 3600", "99999999", "٣٦٠٠"]
)
def test_a_ttl_out_of_range_is_refused_and_leaves_the_key_free(api, ttl):
    document = problem(post(api, Idempotency_TTL=ttl), 400, "validation-failed")
    assert [error["parameter"] for error in document["errors"]] == ["Idempotency-TTL"]
    assert post(api)["Idempotency-Replayed"] == "false"


def test_the_first_ttl_applies_and_is_not_compared(api):
    first = post(api, Idempotency_TTL="3600")
    for headers in ({}, {"Idempotency_TTL": "7200"}):
        again = post(api, **headers)
        assert again["Idempotency-Replayed"] == "true"
        assert again["Idempotency-Expires"] == first["Idempotency-Expires"]


def test_an_expired_key_starts_a_new_request(api):
    first = accepted(post(api))
    succeed(first)
    expire_record()
    second = post(api, charge(amount=5))
    assert second["Idempotency-Replayed"] == "false"
    assert accepted(second)["id"] != first["id"]
    assert post(api, charge(amount=5)).content == second.content


@pytest.mark.parametrize("state", ["queued", "running", "unknown"])
def test_a_key_is_never_free_before_its_job_has_ended(api, state):
    first = post(api)
    if state != "queued":
        job = claim(UUID(accepted(first)["id"]))
    if state == "unknown":
        begin(job, "charge")
        transitions.stop_as_unknown(job_id=job.id, attempt=job.attempt, detail="outcome unknown")
    expire_record()
    assert post(api).content == first.content
    problem(post(api, charge(amount=5)), 409, "idempotency-key-reused")
    assert Job.objects.count() == 1


def test_a_replay_works_after_a_rotation_of_the_fingerprint_secret(api, settings):
    first = post(api)
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = [
        "k9:another-secret-of-enough-bytes",
        *settings.IDEMPOTENCY_FINGERPRINT_KEYS,
    ]
    assert post(api).content == first.content
    problem(post(api, charge(amount=5)), 409, "idempotency-key-reused")


def test_without_the_first_requests_secret_the_response_is_503(api, settings):
    post(api)
    settings.IDEMPOTENCY_FINGERPRINT_KEYS = ["k9:another-secret-of-enough-bytes"]
    response = post(api)
    problem(response, 503, "service-unavailable")
    assert int(response["Retry-After"]) >= 1
    assert Job.objects.count() == 1


def test_an_erased_response_is_410_and_never_a_new_job(api):
    job = accepted(post(api))
    erase_payload(IdempotencyRecord.objects.get().id)
    for _ in range(2):
        document = problem(post(api), 410, "payload-erased")
        assert document["resource"] == f"/v1/jobs/{job['id']}"
    document = problem(post(api, charge(amount=5)), 409, "idempotency-key-reused")
    assert document["mismatch"] == []
    assert Job.objects.count() == 1


def test_a_duplicate_that_cannot_wait_gets_409_with_retry_after(api, monkeypatch):
    def still_in_progress(*_arguments, **_options):
        raise RequestInProgress

    monkeypatch.setattr("idempotency.http.accept_at_once", lambda *_, **__: None)
    monkeypatch.setattr("idempotency.http.accept", still_in_progress)
    response = post(api)
    document = problem(response, 409, "idempotency-request-in-progress")
    assert document["retryable"] is True
    assert int(response["Retry-After"]) >= 1
    assert "X-Should-Retry" not in response


def test_other_headers_are_not_compared(api):
    first = post(api)
    again = post(api, User_Agent="another/2.0", X_Request_Id="mine", Accept_Language="la", Accept="*/*")
    assert again.content == first.content


def test_the_charset_of_the_content_type_is_not_compared(api):
    first = post(api)
    assert post(api, content_type="application/json; charset=utf-8").content == first.content


def test_a_malformed_request_under_a_used_key_is_400(api):
    post(api)
    problem(post(api, b"{"), 400, "malformed-json")


def test_validation_errors_name_their_members(api):
    document = problem(post(api, charge(amount=0, currency="USD")), 400, "validation-failed")
    assert pointers(document) == {"/params/amount", "/params/currency"}
