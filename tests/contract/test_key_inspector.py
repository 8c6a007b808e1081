"""`GET /v1/idempotency-keys/{key}` shows a key to its own tenant only."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from django.db import connection
from rest_framework.test import APIClient

from idempotency.models import IdempotencyRecord
from idempotency.queries import erase_payload
from idempotency.replay_counter import replay_counter
from tests.support.client import CHARGE, accepted, post, problem
from tests.support.factories import TenantFactory, claim, new_api_key

pytestmark = pytest.mark.django_db

MEMBERS = {
    *["object", "key", "method", "path", "status", "first_seen_at", "last_seen_at", "replays", "expires_at"],
    *["fingerprint_version", "payload_erased_at", "resource", "resource_state"],
}


def inspect(api, key):
    return api.get(f"/v1/idempotency-keys/{quote(key, safe='')}")


def test_a_key_shows_its_request_resource_and_replays(api):
    first = post(api)
    job = accepted(first)
    shown = inspect(api, "a-key").json()
    assert shown.keys() == MEMBERS
    assert (shown["object"], shown["key"]) == ("idempotency_key", "a-key")
    assert (shown["method"], shown["path"], shown["status"]) == ("POST", "/v1/jobs", 202)
    assert (shown["resource"], shown["resource_state"]) == (f"/v1/jobs/{job['id']}", "queued")
    assert (shown["replays"], shown["fingerprint_version"], shown["payload_erased_at"]) == (0, 1, None)
    assert shown["first_seen_at"] == shown["last_seen_at"]
    assert shown["first_seen_at"].endswith("Z")
    post(api)
    replay_counter.flush()
    claim(job["id"])
    later = inspect(api, "a-key").json()
    assert (later["replays"], later["resource_state"]) == (1, "running")
    assert later["last_seen_at"] >= later["first_seen_at"] == shown["first_seen_at"]


@pytest.mark.parametrize("key", ["a/b", "a%2Fb", "a?b#c", "100%", "a+b&c=d", "~!@$'()*"])
def test_any_key_can_be_inspected_percent_encoded(api, key):
    accepted(post(api, key=key))
    assert inspect(api, key).json()["key"] == key


def test_a_quoted_key_is_inspected_without_its_quotes(api):
    accepted(post(api, key='"with a blank, and a comma"'))
    assert inspect(api, "with a blank, and a comma").json()["status"] == 202


@pytest.mark.parametrize("owner", ["another tenant", "the other mode"])
def test_another_tenants_or_modes_key_looks_unused(api, tenant, owner):
    accepted(post(api))
    other_client = APIClient(raise_request_exception=False)
    other = TenantFactory() if owner == "another tenant" else tenant
    mode = "test" if owner == "another tenant" else "live"
    other_client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(other, mode=mode)}")
    refused = problem(inspect(other_client, "a-key"), 404, "not-found")
    unused = problem(inspect(other_client, "b-key"), 404, "not-found")
    assert refused["detail"] == unused["detail"]


def test_an_erased_payload_is_shown(api):
    accepted(post(api))
    erase_payload(IdempotencyRecord.objects.get().id)
    assert inspect(api, "a-key").json()["payload_erased_at"] is not None


def test_it_needs_a_credential_and_takes_no_query(api):
    problem(inspect(APIClient(), "a-key"), 401, "unauthenticated")
    problem(api.get("/v1/idempotency-keys/a-key?x=1"), 400, "validation-failed")
    problem(api.post("/v1/idempotency-keys/a-key", CHARGE, format="json"), 405, "method-not-allowed")


def test_a_key_that_has_expired_is_free_once_its_job_has_ended(api):
    job = accepted(post(api))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - interval '2 d', expires_at = now() - interval '1 h'"
        )
    assert inspect(api, "a-key").json()["resource_state"] == "queued"
    assert api.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    problem(inspect(api, "a-key"), 404, "not-found")


@pytest.mark.parametrize("text", ["%00", "a%00b", "%0a", "%7f", "%ff", "%C3%A9", "a" * 256, "%ed%a0%80"])
def test_text_that_no_header_can_contain_is_not_found(api, text):
    problem(api.get(f"/v1/idempotency-keys/{text}"), 404, "not-found")
