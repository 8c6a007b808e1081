"""The database away: 503 with Retry-After. The broker away: everything as ever. Too much at once: 429."""

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


def with_its_own_connection(ask, port):
    """What `ask()` gives in a thread whose database is at that port."""

    def run():
        connection.settings_dict = {**connection.settings_dict, "HOST": "127.0.0.1", "PORT": port}
        try:
            return ask()
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


@pytest.fixture(params=["refuses", "never answers"])
def broker_down(request, monkeypatch):
    """A broker of which nothing is to be had."""
    with socket.create_server(("127.0.0.1", 0)) as hung:
        port = hung.getsockname()[1] if request.param == "never answers" else free_port()
        monkeypatch.setattr(django_settings, "REDIS_URL", f"redis://127.0.0.1:{port}/0")
        yield


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/01a20155-72b5-77f2-8f1c-7b06f3db8b29")],
)
def test_without_the_database_clients_are_asked_to_come_back(method, path):
    client = APIClient(headers={"Authorization": CREDENTIAL, "Idempotency-Key": "a-key"})
    ask = partial(client.generic, method, path, b"{}", content_type="application/json")
    response = with_its_own_connection(ask, free_port())
    document = problem(response, 503, "service-unavailable")
    assert int(response["Retry-After"]) >= 1
    assert "same Idempotency-Key" in document["detail"]
    assert b"127.0.0.1" not in response.content.replace(document["type"].encode(), b"")


@pytest.mark.django_db
def test_without_the_database_the_admin_answers_503_in_html():
    client = APIClient(raise_request_exception=False)
    client.cookies["sessionid"] = "unknown"
    response = with_its_own_connection(lambda: client.get("/admin/"), free_port())
    assert (response.status_code, response["Content-Type"]) == (503, "text/html; charset=utf-8")
    assert "The database is not available" in response.content.decode()
    assert int(response["Retry-After"]) >= 1


@pytest.mark.django_db
def test_without_the_database_the_process_lives_and_is_not_ready():
    client = APIClient()
    live, ready = with_its_own_connection(lambda: (client.get("/livez"), client.get("/readyz")), free_port())
    assert live.status_code == 204
    assert "Content-Length" not in live
    problem(ready, 503, "service-unavailable")
    assert ready["Retry-After"]


@pytest.mark.django_db
def test_a_whole_service_is_ready():
    response = APIClient().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "ready"}
    assert response["Cache-Control"] == "no-store"
    assert APIClient().get("/livez").status_code == 204


@pytest.mark.django_db
@pytest.mark.usefixtures("broker_down")
def test_a_broker_that_is_down_degrades_the_service_and_no_more():
    response = APIClient().get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded"}


def test_details_are_for_operators_alone(api, tenant, admin_client, client, monkeypatch):
    key = new_api_key(tenant, is_admin=True)
    operator = APIClient()
    operator.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    whole = {"database": "answers", "broker": "answers", "migrations": "applied"}
    for asked in (operator, admin_client):
        assert asked.get("/readyz").json() == {"status": "ready", "details": whole}
    stranger = APIClient()
    stranger.credentials(HTTP_AUTHORIZATION=f"Bearer {key}x")
    for asked in (api, stranger, client):
        assert asked.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr("observability.health.missing_migrations", lambda: ["jobs.0099_later"])
    assert "jobs.0099_later" in problem(operator.get("/readyz"), 503, "service-unavailable")["detail"]
    assert "0099" not in problem(api.get("/readyz"), 503, "service-unavailable")["detail"]


@pytest.mark.usefixtures("broker_down")
def test_without_the_broker_jobs_are_accepted_and_limits_fail_open(api, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    first = post(api)
    accepted(first)
    assert post(api).content == first.content
    assert api.get("/v1/jobs").status_code == 200


# --- limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_empty_valkey")
def test_concurrent_requests_let_exactly_the_burst_through(tenant, settings):
    # One request in 17 minutes, and 7 at once beyond that: whatever time the test takes, eight may pass.
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 7
    header = {"Authorization": f"Bearer {new_api_key(tenant)}"}

    def ask(_number):
        try:
            return APIClient(headers=header).get("/v1/jobs")
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(ask, range(32)))
    refused = [response for response in responses if response.status_code != 200]
    assert len(responses) - len(refused) == 8
    for response in refused:
        problem(response, 429, "rate-limited")
        assert 1 <= int(response["Retry-After"]) <= 1_001


@pytest.mark.usefixtures("_empty_valkey")
def test_a_limit_is_each_tenants_and_modes_own(api, tenant, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    assert api.get("/v1/jobs").status_code == 200
    problem(api.get("/v1/jobs"), 429, "rate-limited")
    same_scope = APIClient(headers={"Authorization": f"Bearer {new_api_key(tenant)}"})
    problem(same_scope.get("/v1/jobs"), 429, "rate-limited")
    live = APIClient(headers={"Authorization": f"Bearer {new_api_key(tenant, mode='live')}"})
    assert live.get("/v1/jobs").status_code == 200


@pytest.mark.usefixtures("_empty_valkey")
def test_nobodys_requests_count_against_no_tenant(api, settings):
    settings.RATE_LIMIT_PER_SECOND, settings.RATE_LIMIT_BURST = 0.001, 0
    for _ in range(3):
        problem(APIClient().get("/v1/jobs"), 401, "unauthenticated")
    assert api.get("/v1/jobs").status_code == 200
