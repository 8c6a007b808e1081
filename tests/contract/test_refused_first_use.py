"""A refused first use stores nothing and leaves the key free. A stored response is replayed under later, stricter rules."""

from __future__ import annotations

import pytest
import redis
from django.conf import settings as django_settings
from rest_framework.exceptions import PermissionDenied

from accounts.models import ApiKey
from accounts.services import revoke_api_key
from idempotency.models import IdempotencyRecord
from jobs.errors import UnknownOperation
from jobs.models import Job
from tests.support.client import CHARGE, accepted, charge, pointers, post, problem
from tests.support.factories import new_api_key

TOO_LARGE = b'{"operation": "' + b"x" * (256 * 1024) + b'"}'

REFUSALS = {
    "an invalid member": ({"body": charge(amount=-1)}, 400, "validation-failed"),
    "malformed JSON": ({"body": b"{"}, 400, "malformed-json"),
    "an unknown operation": ({"body": {**CHARGE, "operation": "no.such"}}, 400, "unknown-operation"),
    "an invalid TTL": ({"Idempotency_TTL": "1"}, 400, "validation-failed"),
    "an Accept header without JSON": ({"Accept": "text/html"}, 406, "not-acceptable"),
    "a body that is too large": ({"body": TOO_LARGE}, 413, "payload-too-large"),
    "another media type": ({"content_type": "text/plain"}, 415, "unsupported-media-type"),
    "a form": ({"content_type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
    "a compressed body": ({"Content_Encoding": "gzip"}, 415, "unsupported-media-type"),
}


def refuse_operation(name):
    raise UnknownOperation(name, [])


@pytest.fixture
def _empty_valkey():
    with redis.Redis.from_url(django_settings.REDIS_URL) as valkey:
        valkey.flushdb()
        yield
        valkey.flushdb()


@pytest.mark.parametrize(("request_", "status", "code"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refused_request_leaves_the_key_free(api, request_, status, code):
    problem(post(api, **request_), status, code)
    assert not IdempotencyRecord.objects.exists()
    assert not Job.objects.exists()
    assert post(api)["Idempotency-Replayed"] == "false"


def test_an_unauthenticated_request_leaves_the_key_free(api, tenant):
    api.credentials()
    problem(post(api), 401, "unauthenticated")
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant)}")
    assert post(api)["Idempotency-Replayed"] == "false"


def test_a_forbidden_request_leaves_the_key_free(api, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("accounts.authentication.IsTenant.has_permission", _forbid)
        problem(post(api), 403, "forbidden")
    assert post(api)["Idempotency-Replayed"] == "false"


def _forbid(*_arguments):
    raise PermissionDenied


@pytest.mark.usefixtures("_empty_valkey")
def test_a_rate_limited_request_leaves_the_key_free(api, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    api.get("/v1/jobs")
    assert int(post(api)["Retry-After"]) >= 1
    problem(post(api), 429, "rate-limited")
    settings.RATE_LIMIT_PER_SECOND = 0
    assert post(api)["Idempotency-Replayed"] == "false"


def test_a_crash_on_first_use_leaves_the_key_free(api, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("api.jobs.job_document", lambda _job: 1 / 0)
        problem(post(api), 500, "internal-error")
    assert not Job.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    assert post(api)["Idempotency-Replayed"] == "false"


# --- the order of checks: authenticate, rate limit, parse, look up, validate ------------------------------------------


def test_a_replay_works_after_its_operation_was_removed(api, monkeypatch):
    first = post(api)
    monkeypatch.setattr("api.submission_form.current_operation", refuse_operation)
    problem(post(api, key="another"), 400, "unknown-operation")
    assert post(api).content == first.content


def test_a_replay_works_after_validation_became_stricter(api, monkeypatch):
    body = {**CHARGE, "metadata": {"order": "1"}}
    first = post(api, body)
    monkeypatch.setattr("api.submission_form._METADATA_MEMBERS", 0)
    assert pointers(problem(post(api, body, key="another"), 400, "validation-failed")) == {"/metadata"}
    assert post(api, body).content == first.content


def test_a_mismatch_is_refused_before_the_request_is_validated(api):
    post(api)
    problem(post(api, charge(amount=-1)), 409, "idempotency-key-reused")
    problem(post(api, {**CHARGE, "operation": "no.such"}), 409, "idempotency-key-reused")


@pytest.mark.usefixtures("_empty_valkey")
def test_a_rate_limit_comes_before_the_look_up(api, settings):
    first = post(api)
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    assert post(api).content == first.content  # the one request that the limit allows
    problem(post(api), 429, "rate-limited")


def test_the_parser_comes_before_the_look_up(api):
    post(api)
    problem(post(api, b'{"operation": "payments.charge", "operation": "x"}'), 400, "malformed-json")


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_five_seconds_after_its_end_an_api_key_never_gets_a_stored_response(api, end, advance_credentials):
    post(api)
    if end == "revoked":
        assert revoke_api_key(key_id=ApiKey.objects.get().id)
    else:
        ApiKey.objects.update(expires_at=ApiKey.objects.get().created_at)
    advance_credentials(5)
    response = post(api)
    problem(response, 401, "unauthenticated")
    assert "Idempotency-Replayed" not in response
    assert response["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("request_", [{"key": None}, {"key": ""}, {"body": b"{"}, {"content_type": "text/plain"}])
def test_authentication_comes_before_every_other_check(api, request_):
    api.credentials()
    problem(post(api, **request_), 401, "unauthenticated")


def test_a_full_queue_refuses_new_requests_and_still_replays(api, settings):
    accepted(post(api))
    settings.QUEUED_JOBS_MAX = 1
    refused = post(api, key="another")
    problem(refused, 429, "queue-full")
    assert refused["Retry-After"]
    assert post(api)["Idempotency-Replayed"] == "true"
    settings.QUEUED_JOBS_MAX = 2
    assert post(api, key="another")["Idempotency-Replayed"] == "false"
