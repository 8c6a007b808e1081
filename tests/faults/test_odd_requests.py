"""Requests as no client library would send them, byte by byte: a problem document, whatever they are, and never a 5xx."""

from __future__ import annotations

import json
import socket
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest

from jobs.models import Job
from tests.support.stack import running_stack

pytestmark = pytest.mark.django_db(transaction=True)

JSON = b"Content-Type: application/json"
SLEEP = b'{"operation": "demo.sleep", "params": {"seconds": 0}}'


@pytest.fixture(scope="module")
def address(django_db_setup, django_db_blocker, tmp_path_factory):
    with django_db_blocker.unblock(), running_stack(tmp_path_factory.mktemp("odd")) as stack:
        url = urlsplit(stack.start_api())
        yield url.hostname, url.port


@pytest.fixture
def send(address, api_key):
    """`send(b"GET", b"/livez", b"Name: value", …)` returns the status, the headers and the body."""

    def ask(method, target, *headers, body=b""):
        credentials = f"Authorization: Bearer {api_key}".encode()
        names = [header.partition(b":")[0].lower() for header in headers]
        defaults = [b"Host: localhost", b"Connection: close"]
        defaults += [] if b"authorization" in names else [credentials]
        length = [b"Content-Length: %d" % len(body)]
        framing = [] if not body or b"transfer-encoding" in names else length
        lines = [method + b" " + target + b" HTTP/1.1", *defaults, *framing, *headers]
        with socket.create_connection(address, timeout=10) as connection:
            connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + body)
            answer = HTTPResponse(connection, method=method.decode())
            answer.begin()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    return ask


def problem(answer, status, code):
    got, headers, body = answer
    assert (got, headers["content-type"]) == (status, "application/problem+json"), body
    document = json.loads(body)
    assert (document["code"], document["status"]) == (code, status)
    assert document["request_id"] == headers["x-request-id"]


@pytest.mark.parametrize(
    "target",
    [
        b"/%ff%00",
        b"/v1/jobs/%00",
        b"/v1/jobs/../jobs",
        b"/v1/idempotency-keys/%00",
        b"/v1/idempotency-keys/%ed%a0%80",
        b"/v1/idempotency-keys/",
        b"/v1/idempotency-keys/" + b"a" * 5000,
        b"/problems/%00",
        b"/static/%00",
        b"/static/../manage.py",
        b"/static/%2e%2e/settings.py",
        b"*",
    ],
)
def test_an_unknown_path_is_404(send, target):
    problem(send(b"GET", target), 404, "not-found")


@pytest.mark.parametrize(
    "query",
    [
        b"x=%00",
        b"operation=%00",
        b"idempotency_key=%00",
        b"state=%00",
        b"cursor=%00",
        b"cursor=%C3%A9",
        b"%ff=%fe",
        b"limit=" + b"9" * 5000,
        b"limit=1e400",
        b"limit=1&limit=2",
        b"created_after=9999-12-31T23:59:59-23:59",
        b"created_after=0001-01-01T00:00:00%2B23:59",
        b"created_before=2026-01-01T00:00:00%2B99:99",
        b"&".join(b"a%d=1" % number for number in range(3000)),
    ],
)
def test_a_malformed_query_is_refused(send, query):
    problem(send(b"GET", b"/v1/jobs?" + query), 400, "validation-failed")


@pytest.mark.parametrize("method", [b"TRACE", b"PATCH", b"CONNECT", b"PROPFIND", b"FOO"])
@pytest.mark.parametrize(
    "target", [b"/v1/jobs", b"/v1/idempotency-keys/a", b"/livez", b"/schema", b"/static/api/docs.js"]
)
def test_an_unknown_method_is_405(send, method, target):
    answer = send(method, target)
    problem(answer, 405, "method-not-allowed")
    assert "GET" in answer[1]["allow"]


@pytest.mark.parametrize("target", [b"/v1/jobs", b"/livez", b"/schema", b"/docs", b"/nothing"])
def test_head_is_get_without_its_body(send, target):
    status, headers, body = send(b"HEAD", target)
    as_get = send(b"GET", target)
    assert (status, headers.get("content-type"), body) == (as_get[0], as_get[1].get("content-type"), b"")


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"X-Request-Id: \xe9", 200),
        (b"Cookie: \xff=\xfe; sessionid=\xff", 200),
        (b"If-None-Match: \xff", 200),
        (b"Accept-Language: \xff", 200),
        (b'Accept: application/json;a="', 200),
        (b"Accept: \xff", 406),
        (b"Accept: ;", 406),
        (b"Accept: " + b"a/b," * 5000, 406),
        (b"Authorization: Bearer \xff", 401),
        (b"Authorization: Basic \xff\xfe", 401),
        (b"Authorization:", 401),
        (b"Host: \xff", 400),
    ],
)
def test_non_text_bytes_in_headers_are_refused(send, header, status):
    codes = {400: "validation-failed", 401: "unauthenticated", 406: "not-acceptable"}
    answer = send(b"GET", b"/v1/jobs", header)
    if status in codes:
        problem(answer, status, codes[status])
    else:
        assert answer[0] == status


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ([b"Idempotency-Key: a\xff", JSON], 400, "idempotency-key-invalid"),
        ([b"Idempotency-Key: a", JSON, b"Idempotency-TTL: \xb9\xb2\xb3\xb9"], 400, "validation-failed"),
        ([b"Idempotency-Key: a"], 415, "unsupported-media-type"),
        ([b"Idempotency-Key: a", b"Content-Type: ;"], 415, "unsupported-media-type"),
        ([b"Idempotency-Key: a", b"Content-Type: \xff"], 415, "unsupported-media-type"),
        ([b"Idempotency-Key: a", b"Content-Type: multipart/form-data"], 415, "unsupported-media-type"),
        ([b"Idempotency-Key: a", JSON, b"Content-Encoding: gzip"], 415, "unsupported-media-type"),
        ([b"Idempotency-Key: a", JSON, b"Transfer-Encoding: chunked"], 400, "malformed-json"),
    ],
)
def test_an_invalid_submission_is_refused(send, headers, status, code):
    problem(send(b"POST", b"/v1/jobs", *headers, body=SLEEP), status, code)
    assert not Job.objects.exists()


@pytest.mark.parametrize("charset", [b"utf-16", b"nonsense", b"latin-1"])
def test_json_is_read_as_utf_8_whatever_the_charset(send, charset):
    headers = [b"Idempotency-Key: a", JSON + b"; charset=" + charset]
    assert send(b"POST", b"/v1/jobs", *headers, body=SLEEP)[0] == 202


@pytest.mark.parametrize("line", [b"X-Folded: a\r\n b", b"Content-Length: abc", b"No colon"])
def test_malformed_http_is_refused_without_a_body(send, line):
    status, headers, body = send(b"GET", b"/livez", line)
    assert (status, headers.get("content-type"), body) == (400, None, b"")
