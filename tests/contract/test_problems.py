"""Every 4xx and 5xx response is a problem document and never HTML, no matter which layer creates it."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from rest_framework.test import APIClient

from api.problem_catalogue import PROBLEMS
from tests.support.client import CHARGE, accepted, pointers, post, problem

# The Accept header that browsers send.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def anyone():
    """Return a client without an API key, with CSRF checks as for a browser."""
    return APIClient(raise_request_exception=False, enforce_csrf_checks=True)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/job",
        "/v1/jobs/",
        "/jobs",
        "/v1/jobs/x/events",
        "/problems/",
        "/favicon.ico",
        "/%00",
        "/%ff%fe",
        "/é",
        "/static/none.css",
        "/v1/jobs/" + "0" * 5000,
        "//livez",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_not_found(anyone, method, path):
    problem(anyone.generic(method, path), 404, "not-found")


def test_the_instance_of_a_problem_is_a_valid_uri_reference(anyone):
    """RFC 9457 §3.1.5: a URI reference, which has neither spaces nor quotes nor letters beyond ASCII."""
    document = problem(anyone.get("/v1/a%20b%22%3C%25/é?x=1"), 404, "not-found")
    assert document["instance"] == "/v1/a%20b%22%3C%25/%C3%A9"


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/jobs", {"GET", "POST"}),
        ("/v1/jobs/{}", {"GET"}),
        ("/v1/jobs/{}/events", {"GET"}),
        ("/v1/jobs/{}/cancel", {"POST"}),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET", "POST"])
def test_an_unsupported_method_is_refused_with_the_allowed_ones(api, path, allowed, method):
    if method in allowed:
        return
    response = api.generic(method, path.format(UUID(int=1)), headers={"Idempotency-Key": "a-key"})
    problem(response, 405, "method-not-allowed")
    assert set(response["Allow"].split(", ")) >= allowed


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/problems/not-found", "/static/api/docs.js"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "FOO"])
def test_a_read_only_page_refuses_other_methods(anyone, db, path, method):
    response = anyone.generic(method, path)
    problem(response, 405, "method-not-allowed")
    assert "GET" in response["Allow"]


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/png, text/*"])
def test_an_unsupported_media_type_in_accept_is_refused(api, accept):
    for response in (api.get("/v1/jobs", headers={"Accept": accept}), post(api, Accept=accept)):
        problem(response, 406, "not-acceptable")


@pytest.mark.parametrize("accept", ["*/*", "application/*", "application/json", "text/html, */*;q=0.1"])
def test_an_accept_header_that_allows_json_gets_json(api, accept):
    response = api.get("/v1/jobs", headers={"Accept": accept})
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


def test_a_host_that_is_not_allowed_is_refused(anyone):
    response = anyone.get("/v1/jobs", headers={"Host": "evil.example"})
    document = problem(response, 400, "validation-failed")
    assert document["type"] == "/problems/validation-failed"
    assert b"evil" not in response.content


def test_an_exception_in_a_view_is_a_problem_without_the_exceptions_text(api, monkeypatch):
    def fail(**_arguments):
        raise RuntimeError("a secret")

    monkeypatch.setattr("api.jobs.list_jobs", fail)
    response = api.get("/v1/jobs")
    document = problem(response, 500, "internal-error")
    assert b"secret" not in response.content
    assert document["retryable"] is True


def test_an_exception_outside_the_api_is_a_problem_too(api, monkeypatch):
    monkeypatch.setattr("observability.health.missing_migrations", lambda: 1 / 0)
    problem(api.get("/readyz"), 500, "internal-error")


def test_an_exception_in_the_authentication_is_a_problem_too(api, monkeypatch):
    monkeypatch.setattr("accounts.authentication.parse_credential", lambda _text: 1 / 0)
    problem(api.get("/v1/jobs"), 500, "internal-error")


def test_a_response_that_cannot_be_rendered_is_a_problem_and_leaves_the_key_free(api, monkeypatch):
    monkeypatch.setattr("api.jobs.job_document", lambda _job, _effects=(): {"set": {1}})
    problem(post(api), 500, "internal-error")
    monkeypatch.undo()
    assert post(api)["Idempotency-Replayed"] == "false"


# --- the catalogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", PROBLEMS)
def test_the_type_of_every_problem_has_a_json_explanation(anyone, slug):
    response = anyone.get(f"/problems/{slug}")
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"
    explanation = response.json()
    assert explanation["code"] == slug
    assert explanation["title"] == PROBLEMS[slug].title
    assert explanation["status"] == PROBLEMS[slug].status
    assert explanation["retryable"] is PROBLEMS[slug].retryable
    assert explanation["advice"]
    assert explanation["meaning"]
    assert explanation["key"]["use"] in {"same or new", "same", "new", "none"}
    assert explanation["key"]["reason"]


def test_exactly_the_retryable_problems_advise_the_same_key():
    responses = {slug: one for slug, one in PROBLEMS.items() if one.status}
    assert {slug for slug, one in responses.items() if one.retryable} == {
        slug for slug, one in responses.items() if one.key == "same"
    }


@pytest.mark.parametrize("slug", PROBLEMS)
def test_the_type_of_every_problem_has_an_html_page_that_loads_nothing(anyone, slug):
    response = anyone.get(f"/problems/{slug}", headers={"Accept": BROWSER})
    assert (response.status_code, response["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response["Vary"] == "Accept"
    assert "default-src 'none'" in response["Content-Security-Policy"]
    page = response.content.decode()
    entry = PROBLEMS[slug]
    for text in (slug, entry.title, entry.meaning, entry.advice, entry.key.reason):
        assert escape(text) in page
    assert not re.search(r"(src|href)=|<script|<style|url\(|//", page)


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/html", "image/png"])
def test_a_client_that_does_not_prefer_html_gets_the_explanation_as_json(anyone, accept):
    response = anyone.get("/problems/not-found", headers={"Accept": accept})
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


def test_a_member_with_the_name_of_drfs_general_errors_is_named(api):
    name = "non_field_errors"
    document = problem(post(api, {**CHARGE, name: 1, "": 2, "a/b~c": 3}), 400, "validation-failed")
    assert pointers(document) == {f"/{name}", "/", "/a~1b~0c"}
    document = problem(api.get(f"/v1/jobs?{name}=1"), 400, "validation-failed")
    assert [error["parameter"] for error in document["errors"]] == [name]


def test_an_error_of_the_whole_body_has_the_root_pointer(api):
    document = problem(post(api, ["not", "an", "object"]), 400, "validation-failed")
    assert pointers(document) == {""}


def test_an_unknown_problem_type_is_not_found(anyone):
    problem(anyone.get("/problems/no-such"), 404, "not-found")


def test_the_type_of_a_problem_is_a_url_that_resolves(api):
    document = problem(api.get("/v1/nothing"), 404, "not-found")
    assert document["type"] == "http://testserver/problems/not-found"
    assert api.get(urlsplit(document["type"]).path).json()["code"] == "not-found"


def test_problem_types_start_with_the_public_base_url_if_configured(api, settings):
    settings.PUBLIC_BASE_URL = "https://semel.example/api"
    document = problem(api.get("/v1/nothing"), 404, "not-found")
    assert document["type"] == "https://semel.example/api/problems/not-found"


@pytest.mark.parametrize("given", ["a", "A-z_0.9:x", "0199f3a4-7a3c-7000-8000-000000000000", "x" * 128])
def test_a_valid_request_id_of_the_client_is_used(api, given):
    headers = {"X-Request-Id": given}
    for path in ("/v1/jobs", "/livez", "/v1/jobs?limit=x", "/nothing"):
        assert api.get(path, headers=headers)["X-Request-Id"] == given
    assert problem(api.get("/nothing", headers=headers), 404, "not-found")["request_id"] == given


@pytest.mark.parametrize("given", ["", " ", "a b", "x" * 129, "a\nb", "<b>", "a,b", '"a"', "é", "%00", "a\x00"])
def test_an_invalid_request_id_is_replaced(api, given):
    response = api.get("/nothing", headers={"X-Request-Id": given})
    assert response["X-Request-Id"] != given
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,128}", response["X-Request-Id"])
    problem(response, 404, "not-found")


def test_every_response_has_a_unique_request_id(api):
    paths = ["/v1/jobs", "/livez", "/readyz", "/nothing", "/problems/not-found"]
    given = [api.get(path)["X-Request-Id"] for path in paths] + [post(api)["X-Request-Id"] for _ in range(2)]
    assert len(set(given)) == len(given)


def test_no_response_of_the_api_sets_a_cookie(api):
    job = accepted(post(api))
    responses = [api.get("/v1/jobs"), api.get(job["links"]["self"]), api.post(job["links"]["cancel"])]
    responses += [post(api), post(api, {**CHARGE, "x": 1}, key="other"), api.get("/nothing"), api.get("/livez")]
    assert not any(response.cookies for response in responses)


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/jobs/{}/cancel"])
def test_options_is_supported(api, path):
    response = api.options(path.format(UUID(int=1)))
    assert response.status_code == 200
    assert response["Content-Type"] == "application/json"


def test_a_post_needs_no_csrf_token(tenant, api):
    with_csrf_checks = APIClient(enforce_csrf_checks=True)
    with_csrf_checks._credentials = api._credentials
    accepted(post(with_csrf_checks))
