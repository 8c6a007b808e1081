"""Send requests as a client does, and check problem documents."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from api.problem_catalogue import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.http import HttpResponse
    from rest_framework.test import APIClient

CHARGE: Mapping[str, Any] = {
    "operation": "payments.charge",
    "params": {"amount": 1999, "currency": "usd", "source": "tok_visa"},
}
PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "request_id", "retryable"}


def charge(**params: Any) -> dict[str, Any]:
    """Return the body of a charge with these params changed or added."""
    return {**CHARGE, "params": {**CHARGE["params"], **params}}


def post(
    api: APIClient,
    body: Any = CHARGE,
    *,
    key: str | None = "a-key",
    path: str = "/v1/jobs",
    content_type: str = "application/json",
    retries: bool = True,
    **headers: str,
) -> HttpResponse:
    """Send a POST. A `body` of bytes or text is sent unchanged, any other value as JSON. Header names have underscores.

    Retry once if the key is in progress, as a client does: a busy machine can be slower than a duplicate waits.
    """
    data = body if isinstance(body, bytes | str) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if key is not None:
        named["Idempotency-Key"] = key
    response = api.generic("POST", path, data, content_type=content_type, headers=named)
    if (
        retries
        and response.status_code == HTTPStatus.CONFLICT
        and b'"code":"idempotency-request-in-progress"' in response.content
    ):
        response = api.generic("POST", path, data, content_type=content_type, headers=named)
    return response


def accepted(response: HttpResponse) -> dict[str, Any]:
    """Check that the response is 202, and return its job."""
    assert response.status_code == 202, response.content
    return response.json()


def problem(response: HttpResponse, status: int, code: str) -> dict[str, Any]:
    """The problem document, which must be of this kind and whole (RFC 9457)."""
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/problem+json"
    document = response.json()
    assert document["code"] == code, document
    assert document.keys() >= PROBLEM_MEMBERS
    assert document["status"] == status
    assert document["title"] == PROBLEMS[code].title
    assert document["retryable"] is PROBLEMS[code].retryable
    assert document["detail"]
    assert document["type"].endswith(f"/problems/{code}")
    assert document["request_id"] == response["X-Request-Id"]
    assert document["instance"].isascii()
    assert unquote(document["instance"]) == response.wsgi_request.path
    return document


def pointers(document: Mapping[str, Any]) -> set[str]:
    """Return the JSON pointers of the problem's errors. Check that each error has all its members."""
    assert all(error.keys() == {"pointer", "code", "detail"} for error in document["errors"])
    return {error["pointer"] for error in document["errors"]}
