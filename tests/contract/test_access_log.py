"""The access log contains the caller, the route and the outcome, never a path, a query, a key or a body."""

from __future__ import annotations

import pytest
import structlog

from observability import access_log
from tests.support.client import charge, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def entries(monkeypatch):
    """Return the list of log entries as (level, members); it grows with each request."""
    seen = []

    class Log:
        def __getattr__(self, level):
            return lambda event, **members: seen.append(
                (level, {"event": event, **structlog.contextvars.get_contextvars(), **members})
            )

    monkeypatch.setattr(access_log, "log", Log())
    return seen


def test_a_first_use_and_its_replay_have_the_same_key_digest_and_job(api, entries):
    job = post(api, key='"my secret key"', X_Request_Id="one").json()
    post(api, key='"my secret key";a=1', X_Request_Id="two")
    (level, first), (_, again) = entries
    assert level == "info"
    assert (first["route"], first["method"], first["status"]) == ("v1/jobs", "POST", 202)
    assert [entry["request_id"] for entry in (first, again)] == ["one", "two"]
    assert [entry["replayed"] for entry in (first, again)] == [False, True]
    assert first["job_id"] == again["job_id"] == job["id"]
    assert first["idempotency_key_digest"] == again["idempotency_key_digest"]
    assert "my secret key" not in repr(entries)


def test_both_spellings_of_a_key_have_one_digest(api, entries):
    post(api, key="abc")
    post(api, key='"abc"')
    post(api, key="abd")
    digests = [entry["idempotency_key_digest"] for _, entry in entries]
    assert digests[0] == digests[1] != digests[2]


def test_paths_and_queries_are_not_logged(api, entries):
    api.get("/v1/idempotency-keys/my-secret-key")
    api.get("/v1/jobs?idempotency_key=my-secret-key")
    api.get("/my-secret-key")
    assert [entry["status"] for _, entry in entries] == [404, 200, 404]
    assert "my-secret-key" not in repr(entries)


def test_the_caller_is_logged_if_authenticated(api, entries, tenant):
    api.get("/v1/jobs")
    api.credentials()
    api.get("/v1/jobs")
    (_, known), (_, unknown) = entries
    assert known["tenant_id"] == tenant.id
    assert len(known["api_key_id"]) == 16
    assert "tenant_id" not in unknown


def test_a_malformed_key_has_no_digest(api, entries):
    assert post(api, key='"broken').status_code == 400
    assert entries[0][1]["idempotency_key_digest"] is None


def test_health_checks_are_logged_at_debug_until_they_fail(api, entries, monkeypatch):
    api.get("/livez")
    monkeypatch.setattr("observability.health.missing_migrations", lambda: ["jobs.0099_later"])
    api.get("/readyz")
    assert [level for level, _ in entries] == ["debug", "warning"]


def test_logging_a_request_to_the_admin_needs_no_database_query(client, entries, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get("/admin/login/")
    assert entries[0][1]["route"].startswith("admin/")


def test_a_refused_request_is_logged_with_its_status(api, entries):
    post(api, charge(amount=-1))
    assert entries[0][1]["status"] == 400
