"""deploy/nginx.conf in a real nginx before real processes: limits, routes, headers, and problem documents of its own."""

from __future__ import annotations

import contextlib
import json
import socket
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx2
import pytest

from config.settings import DATA_UPLOAD_MAX_MEMORY_SIZE as BODY_LIMIT
from config.settings import HEADERS_MAX_BYTES as HEADER_LIMIT
from devstack.ports import free_port
from jobs import transitions
from jobs.models import Job
from jobs.payloads import encode_payload
from tests.support.client import CHARGE, PROBLEM_MEMBERS
from tests.support.factories import TenantFactory, claim, new_api_key, queued_job
from tests.support.nginx import needs_nginx, running_nginx, upstream
from tests.support.stack import Caller, running_stack
from tests.support.waiting import until

pytestmark = [pytest.mark.django_db(transaction=True), needs_nginx]

HOST = b"Host: localhost"


@pytest.fixture(scope="module")
def stack(django_db_setup, django_db_blocker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("proxy")
    with django_db_blocker.unblock(), running_stack(folder, STREAMS_URL="", API_WORKERS="2") as stack:
        stack.start_api()
        stack.start_streams()
        yield stack


@pytest.fixture(scope="module")
def proxy(stack, tmp_path_factory):
    addresses = {"api": [stack.urls["api"]], "streams": [stack.urls["streams"]]}
    with running_nginx(tmp_path_factory.mktemp("nginx"), **addresses) as proxy:
        yield proxy


@pytest.fixture
def owner(transactional_db):
    return TenantFactory()


@pytest.fixture
def caller(proxy, owner):
    """A client of the proxy."""
    caller = Caller(proxy.url, new_api_key(owner))
    with caller.http:
        yield caller


@pytest.fixture
def behind(tmp_path):
    """`behind()` is a proxy of its own before an upstream that behaves as its state says; its options are running_nginx's."""
    with contextlib.ExitStack() as started:
        state = started.enter_context(upstream())

        def begin(**options):
            proxy = started.enter_context(running_nginx(tmp_path, **{"api": [state.url], **options}))
            return started.enter_context(httpx2.Client(base_url=proxy.url, trust_env=False, timeout=20)), state

        yield begin


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    document = answer.json()
    assert document.keys() >= PROBLEM_MEMBERS
    assert (document["code"], document["status"]) == (code, status)
    assert document["request_id"] == answer.headers["X-Request-Id"]
    assert document["type"].endswith(f"/problems/{code}")
    return document


def raw(url, *lines):
    """The status, headers and body that these bytes are answered with."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        return answer.status, dict(answer.getheaders()), answer.read()


# --- routes --------------------------------------------------------------------------------------------------------------


def test_a_request_and_its_retry_are_answered_as_without_it(caller, stack):
    first = caller.charge("a-key")
    assert (first.status_code, first.headers["Idempotency-Replayed"]) == (202, "false")
    again = caller.charge("a-key")
    assert (again.content, again.headers["Idempotency-Replayed"]) == (first.content, "true")
    with Caller(stack.urls["api"], caller.http.headers["Authorization"].split()[1]).http as direct:
        assert direct.get(first.headers["Location"]).json() == caller.http.get(first.headers["Location"]).json()
    assert first.json()["links"]["wait"].startswith("/v1/jobs/")


def test_a_long_poll_is_answered_when_the_job_ends(caller, owner):
    job = claim(queued_job(owner).id)
    answer = caller.http.get(f"/v1/jobs/{job.id}", params={"wait": "1"})
    assert answer.json()["state"] == "running"
    transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
    assert caller.http.get(f"/v1/jobs/{job.id}", params={"wait": "30"}).json()["state"] == "succeeded"


def test_an_event_reaches_the_client_while_the_stream_is_open(caller, owner):
    """A proxy that buffers would keep the first until the last."""
    job = queued_job(owner)
    with caller.http.stream("GET", f"/v1/jobs/{job.id}/events", headers={"Accept": "text/event-stream"}) as answer:
        lines = answer.iter_lines()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert next(line for line in lines if line.startswith("id:")) == "id: 1"
        claim(job.id)
        assert next(line for line in lines if line.startswith("id:")) == "id: 2"
        transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
        assert [line for line in lines if line.startswith("id:")] == ["id: 3"]


def test_events_as_a_list_and_files_of_the_admin_come_from_the_api(caller, owner):
    assert [event["type"] for event in caller.http.get(f"/v1/jobs/{queued_job(owner).id}/events").json()["data"]] == [
        "submit"
    ]
    for address in ("/static/admin/css/base.css", "/docs", "/schema", "/livez", "/readyz"):
        assert caller.http.get(address).is_success


def test_the_proxy_does_not_serve_metrics(caller):
    problem(caller.http.get("/metrics"), 404, "not-found")
    assert caller.http.get("/proxyz").status_code == 204


# --- limits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_chunked", [False, True], ids=["in one piece", "in chunks"])
def test_a_body_over_the_limit_is_refused_and_one_of_just_that_size_is_read(caller, is_chunked):
    def post(body):
        headers = {"Idempotency-Key": "a-key", "Content-Type": "application/json"}
        content = iter([body[:1000], body[1000:]]) if is_chunked else body
        return caller.http.post("/v1/jobs", content=content, headers=headers)

    head, tail = b'{"operation": "x", "params": {"a": "', b'"}}'
    fitting = head + b"x" * (BODY_LIMIT - len(head) - len(tail)) + tail
    problem(post(fitting), 400, "unknown-operation")
    document = problem(post(fitting + b" "), 413, "payload-too-large")
    assert document["instance"] == "/v1/jobs"
    assert not Job.objects.exists()


def test_headers_over_the_limit_are_refused_and_smaller_ones_pass(caller):
    def get(*sizes):
        return caller.http.get("/livez", headers={f"X-{place}": "x" * size for place, size in enumerate(sizes)})

    assert get(7_000, 7_000, 7_000).status_code == 204
    problem(get(9_000), 431, "headers-too-large")
    problem(get(*[7_500] * (HEADER_LIMIT // 7_500 + 1)), 431, "headers-too-large")
    problem(caller.http.get("/v1/jobs?operation=" + "x" * 9_000), 431, "headers-too-large")


@pytest.mark.parametrize(
    ("limit", "path", "other"),
    [
        ("limit_conn addresses 10000;", "/v1/jobs", None),
        ("limit_conn waits 1000;", "/v1/jobs/a-job?wait=60", "/v1/jobs/a-job"),
    ],
)
def test_requests_in_progress_of_one_address_are_limited(behind, limit, path, other):
    client, state = behind(changes={limit: f"{limit.rpartition(' ')[0]} 2;"})
    state.is_silent = True
    url = urlsplit(str(client.base_url))
    with contextlib.ExitStack() as sockets:
        for number in (1, 2):
            one = sockets.enter_context(socket.create_connection((url.hostname, url.port)))
            one.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            until(lambda: len(state.requests) == number)  # noqa: B023
        answer = client.get(path)
        problem(answer, 503, "service-unavailable")
        assert answer.headers["Retry-After"] == "1"
        assert len(state.requests) == 2
        if other:
            state.is_silent = False
            assert client.get(other).status_code == 204


# --- failures ------------------------------------------------------------------------------------------------------------


def test_without_an_application_the_proxy_returns_503(behind):
    client, _ = behind(api=[f"http://127.0.0.1:{free_port()}"])
    answer = client.post("/v1/jobs", json=CHARGE, headers={"Idempotency-Key": "a-key"})
    document = problem(answer, 503, "service-unavailable")
    assert (document["retryable"], answer.headers["Retry-After"]) == (True, "1")


@pytest.mark.parametrize("fault", ["hangs_up", "is_silent"])
def test_a_request_that_may_have_been_accepted_is_not_sent_twice(behind, fault):
    """Neither to another replica: its client repeats it, and knows that it does."""
    with upstream() as first, upstream() as second:
        client, _ = behind(api=[first.url, second.url], changes={"proxy_read_timeout 30s;": "proxy_read_timeout 1s;"})
        setattr(first, fault, True)
        setattr(second, fault, True)
        answer = client.post("/v1/jobs", json=CHARGE, headers={"Idempotency-Key": "a-key"})
        problem(answer, 503, "service-unavailable")
        assert len(first.requests + second.requests) == 1


def test_a_request_that_was_not_sent_goes_to_another_replica(behind):
    with upstream() as other:
        client, _ = behind(api=[f"http://127.0.0.1:{free_port()}", other.url])
        for _ in range(4):
            assert client.post("/v1/jobs", json=CHARGE).status_code == 204
        assert len(other.requests) == 4


def test_malformed_http_gets_a_problem_document(proxy):
    for lines in (
        [b"GET /livez HTTP/1.1", HOST, b"Content-Length: abc"],
        [b"GET /livez HTTP/1.1"],
        [b"GET /livez HTTP/1.1", HOST, b"Transfer-Encoding: odd"],
        [b"NONSENSE"],
        [b"GET /livez HTTP/9.9", HOST],
    ):
        status, headers, body = raw(proxy.url, *lines)
        assert (status, headers["Content-Type"]) == (400, "application/problem+json"), (lines, body)
        assert json.loads(body)["code"] == "validation-failed"
    status, headers, body = raw(proxy.url, b"TRACE /livez HTTP/1.1", HOST)
    assert (status, json.loads(body)["code"], headers["Allow"]) == (405, "method-not-allowed", "GET, HEAD")


@pytest.mark.parametrize(("target", "instance"), [(b"/v1/jobs?a=1", "/v1/jobs"), (b'/a"b\\c', "/a"), (b"/%22", "/%22")])
def test_a_path_with_special_characters_keeps_the_problem_document_valid(proxy, target, instance):
    refused = (b"Content-Length: x", 400), (b"X-Long: " + b"x" * 9_000, 431)
    for line, expected in refused:
        status, _, body = raw(proxy.url, b"GET " + target + b" HTTP/1.1", HOST, line)
        assert (status, json.loads(body)["instance"]) == (expected, instance)
    status, _, body = raw(proxy.url, b"TRACE " + target + b" HTTP/1.1", HOST)
    assert (status, json.loads(body)["code"]) == (405, "method-not-allowed")


# --- headers -------------------------------------------------------------------------------------------------------------


def test_a_key_header_with_an_underscore_is_dropped(caller):
    answer = caller.http.post("/v1/jobs", json=CHARGE, headers={"Idempotency_Key": "a-key"})
    problem(answer, 400, "idempotency-key-missing")
    both = {"Idempotency_Key": "another", "Idempotency-Key": "a-key"}
    assert caller.http.post("/v1/jobs", json=CHARGE, headers=both).json()["idempotency_key"] == "a-key"


def test_two_key_headers_are_refused(caller):
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(caller.http.post("/v1/jobs", json=CHARGE, headers=headers), 400, "idempotency-key-invalid")


def test_forwarded_headers_of_the_client_are_replaced(behind):
    client, state = behind()
    lies = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "1.2.3.4",
        "X-Forwarded-Host": "evil",
        "Forwarded": "proto=https",
    }
    client.get("/v1/jobs", headers=lies)
    [(_, headers)] = state.requests
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert not headers.keys() & {"x-forwarded-host", "forwarded"}
    assert headers["host"] == urlsplit(str(client.base_url)).netloc


@pytest.mark.parametrize("given", ["abc-1.2:3_4", "", "two words", "x" * 129, 'a"b'])
def test_a_valid_request_id_is_passed_on_and_an_invalid_one_is_replaced(behind, given):
    client, state = behind()
    client.get("/v1/jobs", headers={"X-Request-Id": given} if given else {})
    [(_, headers)] = state.requests
    if given == "abc-1.2:3_4":
        assert headers["x-request-id"] == given
    else:
        assert len(headers["x-request-id"]) == 32


def test_connections_to_the_api_are_kept(behind):
    client, state = behind(changes={"worker_processes auto;": "worker_processes 1;"})
    for _ in range(10):
        assert client.get("/v1/jobs").status_code == 204
    assert (len(state.requests), state.connections) == (10, 1)


def test_the_access_log_has_each_request_and_no_secret(proxy, caller):
    caller.http.get("/v1/idempotency-keys/my-secret-key", headers={"X-Request-Id": "seen-1"})
    caller.http.get("/v1/jobs?idempotency_key=my-secret-key", headers={"X-Request-Id": "seen-2"})
    until(lambda: '"seen-2"' in proxy.access_log)  # it writes after it has answered
    lines = [json.loads(line) for line in proxy.access_log.splitlines()]
    seen = {line["request_id"]: line for line in lines if line["request_id"].startswith("seen-")}
    assert (seen["seen-1"]["path"], seen["seen-1"]["status"]) == ("/v1/idempotency-keys/-", 404)
    assert (seen["seen-2"]["path"], seen["seen-2"]["status"]) == ("/v1/jobs", 200)
    assert "my-secret-key" not in proxy.access_log
