"""Keys and jobs belong to a tenant and mode, not to a credential. In another scope they look missing."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import uuid_utils.compat as uuid_v7
from rest_framework.test import APIClient

from jobs.models import Job
from tests.support.client import accepted, charge, post, problem
from tests.support.factories import TenantFactory, claim, new_api_key

ADDRESSES = [
    ("GET", "/v1/jobs/{}"),
    ("GET", "/v1/jobs/{}?wait=1"),
    ("GET", "/v1/jobs/{}/events"),
    ("POST", "/v1/jobs/{}/cancel"),
]


def client_of(tenant, **options):
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, **options)}")
    return client


@pytest.fixture(params=["another tenant", "the other mode", "both"])
def other_client(request, tenant):
    """Return a client that must see nothing of the tenant's test mode."""
    owner = tenant if request.param == "the other mode" else TenantFactory()
    return client_of(owner, mode="test" if request.param == "another tenant" else "live")


def facts(response, job_id):
    """Return all that a response shows, without the parts that differ per request."""
    text = response.content.decode().replace(response["X-Request-Id"], "").replace(str(job_id), "")
    headers = {name: value for name, value in response.items() if name != "X-Request-Id"}
    headers.pop("Content-Length", None)
    return response.status_code, text, headers


def test_another_credential_of_the_tenant_may_retry(api, tenant):
    first = post(api)
    again = post(client_of(tenant))
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"


def test_the_same_key_in_another_scope_is_another_request(api, other_client):
    mine, theirs = post(api), post(other_client, charge(amount=1))
    assert theirs["Idempotency-Replayed"] == "false"
    assert accepted(theirs)["id"] != accepted(mine)["id"]
    assert post(other_client, charge(amount=1)).content == theirs.content
    assert Job.objects.count() == 2


@pytest.mark.parametrize(("method", "address"), ADDRESSES)
@pytest.mark.parametrize("state", ["queued", "running"])
def test_a_job_in_another_scope_looks_missing(api, other_client, method, address, state):
    job_id = accepted(post(api))["id"]
    if state == "running":
        claim(UUID(job_id))
    theirs = other_client.generic(method, address.format(job_id))
    problem(theirs, 404, "not-found")
    for missing_id in (uuid4(), uuid_v7.uuid7()):
        missing = other_client.generic(method, address.format(missing_id))
        assert facts(theirs, job_id) == facts(missing, missing_id)
    assert Job.objects.get().cancel_requested_at is None
    assert Job.objects.get().state == state


def test_an_etag_of_another_scope_is_not_found(api, other_client):
    job_id = accepted(post(api))["id"]
    tag = api.get(f"/v1/jobs/{job_id}")["ETag"]
    for known in (tag, "*"):
        problem(other_client.get(f"/v1/jobs/{job_id}", headers={"If-None-Match": known}), 404, "not-found")


def test_a_list_shows_nothing_of_another_scope(api, other_client):
    job = accepted(post(api))
    queries = ["", "?state=queued", "?operation=payments.charge", "?idempotency_key=a-key"]
    for query in queries:
        assert api.get(f"/v1/jobs{query}").json()["data"], query
        assert other_client.get(f"/v1/jobs{query}").json() == {"data": [], "next_cursor": None}, query
    accepted(post(other_client))
    assert [seen["id"] for seen in api.get("/v1/jobs").json()["data"]] == [job["id"]]


def test_a_cursor_of_another_scope_lists_nothing(api, other_client):
    for number in range(3):
        post(api, key=f"key-{number}")
    cursor = api.get("/v1/jobs?limit=1").json()["next_cursor"]
    assert other_client.get("/v1/jobs", {"cursor": cursor}).json()["data"] == []


def test_a_key_cannot_change_its_mode(tenant):
    key = new_api_key(tenant, mode="test")
    client = APIClient(headers={"Authorization": f"Bearer {key.replace('test_', 'live_', 1)}"})
    problem(client.get("/v1/jobs"), 401, "unauthenticated")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic dXNlcjpwYXNz",
        "Bearer test_0123456789abcdef_wrong",
        "Bearer test_0123456789abcde\x00_wrong",
        "Bearer test_\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00_wrong",
        "Bearer test_0123456789abcdef_",
        "Bearer prod_0123456789abcdef_wrong",
        "Bearer \u00fc",
        "Bearer " + "x" * 10_000,
        "Token {key}",
        "{key}",
        "Bearer {key}x",
        "Bearer {key} {key}",
        "Bearer {key},{key}",
    ],
)
def test_every_invalid_credential_gets_the_same_401(tenant, header):
    client = APIClient(raise_request_exception=False)
    header = header.replace("{key}", new_api_key(tenant))
    response = client.get("/v1/jobs", headers={"Authorization": header} if header else {})
    document = problem(response, 401, "unauthenticated")
    assert response["WWW-Authenticate"] == 'Bearer realm="semel"'
    if header:
        assert document["detail"] == "Incorrect authentication credentials."


def test_the_scheme_is_read_in_any_case(tenant):
    client = APIClient(headers={"Authorization": f"bearer {new_api_key(tenant)}"})
    assert client.get("/v1/jobs").status_code == 200
