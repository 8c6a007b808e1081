"""Without the database, 503 with Retry-After; without the broker, normal service; above the rate limit, 429."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection
from rest_framework.test import APIClient

from devstack.ports import free_port
from tests.support.client import accepted, post, problem
from tests.support.factories import new_api_key

CREDENTIAL = "Bearer test_0123456789abcdef_any"


def with_database_at(port, send):
    """Return the result of `send()`, called in a thread that connects to the database at this port."""

    def run():
        connection.settings_dict = {**connection.settings_dict, "HOST": "127.0.0.1", "PORT": port}
        try:
            return send()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


@pytest.fixture
def _empty_valkey():
    with redis.Redis.from_url(django_settings.REDIS_URL) as valkey:
        valkey.flushdb()
        yield
        valkey.flushdb()


@pytest.fixture(params=["refuses", "never responds"])
def broker_down(request, monkeypatch):
    """Configure a broker that refuses connections or accepts them and never responds."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        port = hung.getsockname()[1] if request.param == "never responds" else free_port()
        monkeypatch.setattr(django_settings, "REDIS_URL", f"redis://127.0.0.1:{port}/0")
        yield


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/01a20155-72b5-77f2-8f1c-7b06f3db8b29")],
)
def test_without_the_database_requests_get_503_with_retry_after(method, path):
    client = APIClient(headers={"Authorization": CREDENTIAL, "Idempotency-Key": "a-key"})
    send = partial(client.generic, method, path, b"{}", content_type="application/json")
    response = with_database_at(free_port(), send)
    document = problem(response, 503, "service-unavailable")
    assert int(response["Retry-After"]) >= 1
    assert "same Idempotency-Key" in document["detail"]
    assert b"127.0.0.1" not in response.content.replace(document["type"].encode(), b"")


@pytest.mark.django_db
def test_without_the_database_the_admin_returns_503_as_html():
    client = APIClient(raise_request_exception=False)
    # Django reads a session from the database only if its key has eight characters or more.
    client.cookies["sessionid"] = "unknown-session"
    response = with_database_at(free_port(), lambda: client.get("/admin/"))
    assert (response.status_code, response["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "The database is not available" in response.content.decode()
    assert int(response["Retry-After"]) >= 1


@pytest.mark.django_db
def test_without_the_database_the_process_is_alive_but_not_ready():
    client = APIClient()
    live, ready = with_database_at(free_port(), lambda: (client.get("/livez"), client.get("/readyz")))
    assert live.status_code == 204
    assert "Content-Length" not in live
    problem(ready, 503, "service-unavailable")
    assert ready["Retry-After"]


@pytest.mark.django_db
def test_a_healthy_service_is_ready_and_alive():
    response = APIClient().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready"}
    assert response["Cache-Control"] == "no-store"
    assert APIClient().get("/livez").status_code == 204


@pytest.mark.django_db
@pytest.mark.usefixtures("broker_down")
def test_without_the_broker_the_service_is_ready_but_degraded():
    response = APIClient().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded"}


def test_only_operators_see_the_details_of_readiness(api, tenant, admin_client, client, monkeypatch):
    key = new_api_key(tenant, is_admin=True)
    operator = APIClient()
    operator.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    healthy = {"database": "answers", "broker": "answers", "migrations": "applied"}
    for allowed in (operator, admin_client):
        assert allowed.get("/readyz").json() == {"status": "ready", "details": healthy}
    unauthenticated = APIClient()
    unauthenticated.credentials(HTTP_AUTHORIZATION=f"Bearer {key}x")
    for other in (api, unauthenticated, client):
        assert other.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr("observability.health.missing_migrations", lambda: ["jobs.0099_later"])
    assert "jobs.0099_later" in problem(operator.get("/readyz"), 503, "service-unavailable")["detail"]
    assert "0099" not in problem(api.get("/readyz"), 503, "service-unavailable")["detail"]


@pytest.mark.usefixtures("broker_down")
def test_without_the_broker_jobs_are_accepted_and_no_rate_limit_applies(api, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    first = post(api)
    accepted(first)
    assert post(api).content == first.content
    assert api.get("/v1/jobs").status_code == 200


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_empty_valkey")
def test_exactly_the_burst_of_concurrent_requests_passes(tenant, settings):
    # One request in 17 minutes plus a burst of 7: eight requests pass, however long the test takes.
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 7
    header = {"Authorization": f"Bearer {new_api_key(tenant)}"}

    def send(_number):
        try:
            return APIClient(headers=header).get("/v1/jobs")
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(send, range(32)))
    refused = [response for response in responses if response.status_code != 200]
    assert len(responses) - len(refused) == 8
    for response in refused:
        problem(response, 429, "rate-limited")
        assert 1 <= int(response["Retry-After"]) <= 1_001


@pytest.mark.usefixtures("_empty_valkey")
def test_each_tenant_and_mode_has_its_own_rate_limit(api, tenant, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    assert api.get("/v1/jobs").status_code == 200
    problem(api.get("/v1/jobs"), 429, "rate-limited")
    same_scope = APIClient(headers={"Authorization": f"Bearer {new_api_key(tenant)}"})
    problem(same_scope.get("/v1/jobs"), 429, "rate-limited")
    live = APIClient(headers={"Authorization": f"Bearer {new_api_key(tenant, mode='live')}"})
    assert live.get("/v1/jobs").status_code == 200


@pytest.mark.usefixtures("_empty_valkey")
def test_unauthenticated_requests_do_not_count_against_a_tenant(api, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    for _ in range(3):
        problem(APIClient().get("/v1/jobs"), 401, "unauthenticated")
    assert api.get("/v1/jobs").status_code == 200
