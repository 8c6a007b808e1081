"""What of the middleware concerns the API, and what only pages for browsers."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.checks import run_checks
from django.test import Client

from tests.support.client import post, problem

pytestmark = pytest.mark.django_db

SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
STRICT = {"Strict-Transport-Security": "max-age=60"}


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/jobs/x", "/v1/operations", "/schema", "/admin/login/", "/problems/not-found"]
)
def test_every_response_has_the_security_headers_and_a_length(api, path):
    response = api.get(path)
    assert SECURITY.items() <= dict(response.headers).items()
    assert response["Content-Length"] == str(len(response.content))


def test_hsts_is_sent_over_tls_where_it_is_configured(api, settings):
    settings.SECURE_HSTS_SECONDS = 60
    client = Client()  # its own middleware, which reads the setting now
    assert STRICT.items() <= dict(client.get("/v1/jobs", secure=True).headers).items()
    assert not STRICT.keys() & client.get("/v1/jobs").headers.keys()


@pytest.mark.parametrize("path", ["/v1/jobs", "/schema"])
def test_an_unknown_host_is_refused_with_a_problem_document(api, path):
    assert problem(api.get(path, headers={"Host": "elsewhere.example"}), 400, "validation-failed")


def test_an_api_request_needs_no_session_and_no_csrf_token(api, monkeypatch):
    def process_request(_middleware, _request):
        raise AssertionError("A session was begun.")

    monkeypatch.setattr(SessionMiddleware, "process_request", process_request)
    assert post(api).status_code == 202
    with pytest.raises(AssertionError, match="A session was begun"):
        Client().get("/admin/")


def test_a_form_of_the_admin_without_its_token_is_refused():
    refused = Client(enforce_csrf_checks=True).post("/admin/login/", {"username": "ada", "password": "x"})
    assert problem(refused, 403, "forbidden")


def test_the_middleware_that_djangos_checks_require_is_there_for_pages():
    """Django looks for it in MIDDLEWARE: these checks are silenced, and this test replaces them."""
    required = {
        *("django.contrib.auth.middleware.AuthenticationMiddleware", "django.middleware.csrf.CsrfViewMiddleware"),
        *("django.contrib.messages.middleware.MessageMiddleware", "django.middleware.security.SecurityMiddleware"),
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    }
    assert required <= set(settings.BROWSER_MIDDLEWARE)
    assert [error.id for error in run_checks() if not error.is_silenced()] == []
