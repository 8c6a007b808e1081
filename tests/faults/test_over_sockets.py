"""Behaviour that needs a real server: chunked bodies, repeated header lines, problem documents instead of HTML."""

from __future__ import annotations

import contextlib
import json
import socket
from urllib.parse import urlsplit

import httpx2
import pytest

from jobs.models import Job
from tests.support.client import CHARGE, PROBLEM_MEMBERS
from tests.support.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

LIMIT = 256 * 1024


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sockets")
    with django_db_blocker.unblock(), running_stack(folder) as stack:
        stack.start_api()
        yield stack


def post_in_chunks(caller, *chunks, key="a-key"):
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    return caller.http.post("/v1/jobs", content=iter(chunks), headers=headers)


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document.keys() >= PROBLEM_MEMBERS
    assert document["code"] == code
    assert document["request_id"] == answer.headers["X-Request-Id"]


def test_a_chunked_body_is_the_same_request_as_an_unchunked_one(caller):
    body = httpx2.Request("POST", "http://x", json=CHARGE).content
    first = post_in_chunks(caller, body[:20], body[20:])
    assert first.status_code == 202, first.text
    again = caller.charge("a-key")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.content == first.content


def test_a_chunked_body_has_the_same_limit(caller):
    head, tail = b'{"operation": "x", "params": {"a": "', b'"}}'
    fitting = b"x" * (LIMIT - len(head) - len(tail))
    problem(post_in_chunks(caller, head, fitting, tail), 400, "unknown-operation")
    problem(post_in_chunks(caller, head, fitting, b"x", tail), 413, "payload-too-large")


def test_an_endless_body_is_refused(caller):
    # How much the client has sent by then decides whether it gets the response.
    with contextlib.suppress(httpx2.TransportError):
        problem(post_in_chunks(caller, *[b"x" * LIMIT] * 40), 413, "payload-too-large")
    assert not Job.objects.exists()
    assert caller.charge("a-key").status_code == 202


def test_two_key_headers_are_refused(caller):
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(caller.http.post("/v1/jobs", json=CHARGE, headers=headers), 400, "idempotency-key-invalid")
    assert not Job.objects.exists()


def test_two_credentials_are_refused(caller):
    name, value = "Authorization", caller.http.headers["Authorization"]
    with httpx2.Client(base_url=caller.http.base_url, trust_env=False) as plain:
        problem(plain.get("/v1/jobs", headers=[(name, value), (name, value)]), 401, "unauthenticated")


def test_headers_over_the_limit_are_refused_and_the_server_stays_up(caller):
    with httpx2.Client(base_url=caller.http.base_url, trust_env=False) as plain:
        for length in (40_000, 300_000):
            problem(plain.get("/livez", headers={"X-Long": "x" * length}), 431, "headers-too-large")
        assert plain.get("/livez", headers={"X-Long": "x" * 30_000}).status_code == 204
        # Refused by the server itself.
        assert plain.get("/livez", headers={"X-Long": "x" * 1_000_000}).status_code == 431
    assert caller.http.get("/livez").status_code == 204


@pytest.mark.parametrize("path", ["/", "/v1/nothing", "/%ff%00", "/v1/jobs/%2e%2e", "/admin/none"])
def test_an_unknown_path_is_a_problem_document(caller, path):
    answer = caller.http.get(path)
    if path.startswith("/admin"):
        assert answer.status_code in (302, 404)
    else:
        problem(answer, 404, "not-found")


def test_http_2_is_refused(caller):
    """The application would take a body over HTTP/2 for an empty one if the client does not send its length."""
    url = urlsplit(str(caller.http.base_url))
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        assert connection.recv(2**16) == b""  # closed, without a frame
    # An upgrade to it is ignored.
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"}
    answer = caller.http.get("/livez", headers=upgrade)
    assert (answer.status_code, answer.http_version) == (204, "HTTP/1.1")


def test_an_unknown_host_is_a_problem_document(caller):
    problem(caller.http.get("/livez", headers={"Host": "evil.example"}), 400, "validation-failed")


def test_a_request_whose_client_disconnects_in_its_body_stores_nothing(caller):
    url = urlsplit(str(caller.http.base_url))
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nAuthorization: {caller.http.headers['Authorization']}\r\n"
        "Idempotency-Key: a-key\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port)) as connection:
        connection.sendall(head.encode() + b'{"operation": "payments.charge"')
    first = caller.charge("a-key")
    assert first.status_code == 202
    assert first.headers["Idempotency-Replayed"] == "false"
    assert Job.objects.count() == 1


@pytest.mark.parametrize(("credential", "status"), [("Bearer unknown", 401), (None, 202)])
def test_a_response_sent_before_the_whole_body_closes_the_connection(caller, credential, status):
    """Without `Connection: close` the client would send its next request into a closed connection."""
    url = urlsplit(str(caller.http.base_url))
    body = json.dumps(CHARGE).encode()
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nIdempotency-Key: a-key\r\nContent-Type: application/json\r\n"
        f"Authorization: {credential or caller.http.headers['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port), timeout=20) as connection:
        connection.sendall(head.encode())
        if status == 202:
            connection.sendall(body)
        answer = connection.recv(2**16).lower()
        assert answer.startswith(f"http/1.1 {status} ".encode())
        assert (b"\r\nconnection: close\r\n" in answer) == (status == 401)
