"""The line of each request: who asked for what and what came of it; never a path, a query, a key or a body."""

from __future__ import annotations

import pytest
import structlog

from observability import access_log
from tests.support.client import charge, post

pytestmark = pytest.mark.django_db


@pytest.fixture
def told(monkeypatch):
    """Return the lines, as (level, members)."""
    seen = []

    class Log:
        def __getattr__(self, level):
            return lambda event, **members: seen.append(
                (level, {"event": event, **structlog.contextvars.get_contextvars(), **members})
            )

    monkeypatch.setattr(access_log, "log", Log())
    return seen


def test_a_first_use_and_its_replay_tell_the_same_key_and_job(api, told):
    job = post(api, key='"my secret key"', X_Request_Id="one").json()
    post(api, key='"my secret key";a=1', X_Request_Id="two")
    (level, first), (_, again) = told
    assert level == "info"
    assert (first["route"], first["method"], first["status"]) == ("v1/jobs", "POST", 202)
    assert [line["request_id"] for line in (first, again)] == ["one", "two"]
    assert [line["replayed"] for line in (first, again)] == [False, True]
    assert first["job_id"] == again["job_id"] == job["id"]
    assert first["idempotency_key_digest"] == again["idempotency_key_digest"]
    assert "my secret key" not in repr(told)


def test_two_spellings_of_a_key_are_one_key(api, told):
    post(api, key="abc")
    post(api, key='"abc"')
    post(api, key="abd")
    digests = [line["idempotency_key_digest"] for _, line in told]
    assert digests[0] == digests[1] != digests[2]


def test_neither_path_nor_query_is_told(api, told):
    api.get("/v1/idempotency-keys/my-secret-key")
    api.get("/v1/jobs?idempotency_key=my-secret-key")
    api.get("/my-secret-key")
    assert [line["status"] for _, line in told] == [404, 200, 404]
    assert "my-secret-key" not in repr(told)


def test_who_asked_is_told_and_a_stranger_has_no_name(api, told, tenant):
    api.get("/v1/jobs")
    api.credentials()
    api.get("/v1/jobs")
    (_, known), (_, unknown) = told
    assert known["tenant_id"] == tenant.id
    assert len(known["api_key_id"]) == 16
    assert "tenant_id" not in unknown


def test_a_malformed_key_is_told_as_such(api, told):
    assert post(api, key='"broken').status_code == 400
    assert told[0][1]["idempotency_key_digest"] is None


def test_what_machines_ask_all_the_time_is_quiet_until_it_fails(api, told, monkeypatch):
    api.get("/livez")
    monkeypatch.setattr("observability.health._missing_migrations", lambda: ["jobs.0099_later"])
    api.get("/readyz")
    assert [level for level, _ in told] == ["debug", "warning"]


def test_the_admin_is_asked_nothing_for_the_line(client, told, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.get("/admin/login/")
    assert told[0][1]["route"].startswith("admin/")


def test_a_refusal_is_told_with_its_status(api, told):
    post(api, charge(amount=-1))
    assert told[0][1]["status"] == 400
