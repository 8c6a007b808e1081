"""The sandbox provider is reliable: every count of charges in other tests depends on it."""

from __future__ import annotations

import ast
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from devstack import services
from tests.support.provider import ROOT, running_provider, start_provider, stop_provider


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    store = tmp_path_factory.mktemp("provider") / "store.sqlite"
    with running_provider(store, "--slow-seconds", "0.2", "--silent-seconds", "30") as running:
        yield running


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store.sqlite"


def test_a_charge_is_answered_and_listed(provider, request):
    key = request.node.name
    answer = provider.charge(key, **{"X-Job": "job-1", "X-Fence": "3"})
    charge = answer.json()
    assert answer.status_code == 200
    assert charge["id"].startswith("ch_")
    assert charge == {"id": charge["id"], "status": "succeeded", "amount": 1999, "currency": "usd"}
    [listed] = provider.charges(key)
    assert listed.items() >= charge.items()
    [call] = provider.calls(key)
    assert call.items() >= {"key": key, "job": "job-1", "fence": "3", "outcome": "charged"}.items()


@pytest.mark.parametrize(("source", "status"), [("tok_visa", 200), ("tok_declined", 402), ("tok_slow", 200)])
def test_a_repeat_gets_the_first_answer_byte_for_byte(provider, source, status, request):
    first, second = (provider.charge(request.node.name, source) for _ in range(2))
    assert (first.status_code, second.status_code) == (status, status)
    assert first.content == second.content
    assert provider.outcomes(request.node.name)[1] == "replayed"


def test_a_declined_card_is_refused_with_a_code_and_not_charged(provider, request):
    assert provider.charge(request.node.name, "tok_declined").json()["error"]["code"] == "card_declined"
    assert provider.charges(request.node.name) == []


def test_another_request_under_the_key_is_refused(provider, request):
    provider.charge(request.node.name)
    answer = provider.charge(request.node.name, amount=2000)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "idempotency_key_reused"
    assert len(provider.charges(request.node.name)) == 1


def test_the_same_request_may_be_spelled_differently(provider, request):
    first = provider.charge(request.node.name)
    body = ' {"source":"tok_visa", "currency":"usd", "amount":1999, "description":null} '
    again = provider.request("POST", "/v1/charges", content=body, headers={"Idempotency-Key": request.node.name})
    assert again.content == first.content


@pytest.mark.parametrize(
    ("source", "status", "outcome"), [("tok_500_then_ok", 500, "failed"), ("tok_429_then_ok", 429, "rate_limited")]
)
def test_a_failing_first_call_charges_nothing_and_the_second_succeeds(provider, source, status, outcome, request):
    first = provider.charge(request.node.name, source)
    assert first.status_code == status
    assert provider.charges(request.node.name) == []
    assert provider.charge(request.node.name, source).status_code == 200
    assert provider.outcomes(request.node.name) == [outcome, "charged"]


def test_a_rate_limit_has_retry_after(provider, request):
    assert provider.charge(request.node.name, "tok_429_then_ok").headers["Retry-After"] == "1"


def test_a_charge_whose_connection_is_cut_is_made_and_the_repeat_returns_it(provider, request):
    with pytest.raises(httpx2.RemoteProtocolError):
        provider.charge(request.node.name, "tok_cut")
    [charge] = provider.charges(request.node.name)
    assert provider.charge(request.node.name, "tok_cut").json()["id"] == charge["id"]
    assert provider.outcomes(request.node.name) == ["charged_then_cut", "replayed"]


def test_a_charge_without_an_answer_is_made_and_the_repeat_returns_it_at_once(provider, request):
    body = json.dumps({"amount": 1, "currency": "usd", "source": "tok_timeout_after_charge"})
    headers = {"Authorization": f"Bearer {provider.key}", "Idempotency-Key": request.node.name}
    silent = http.client.HTTPConnection(provider.url.removeprefix("http://"))
    silent.request("POST", "/v1/charges", body, headers)
    provider.wait_for(request.node.name, ["charged_then_silent"])
    repeat = provider.request("POST", "/v1/charges", content=body, headers=headers)
    assert repeat.json()["id"] == provider.charges(request.node.name)[0]["id"]
    silent.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        silent.sock.recv(1)  # neither answered nor closed
    silent.close()


def test_twenty_concurrent_calls_under_one_key_charge_once(provider, request):
    start = threading.Barrier(20)

    def call(_):
        start.wait()
        return provider.charge(request.node.name)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(call, range(20)))
    assert len(provider.charges(request.node.name)) == 1
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert len(provider.calls(request.node.name)) == 20


def test_a_call_during_another_one_under_its_key_is_refused(store):
    process, provider = start_provider(store, "--slow-seconds", "60")
    with process, ThreadPoolExecutor(1) as pool:
        first = pool.submit(provider.charge, "k", "tok_slow")
        provider.wait_for("k", ["in_progress"])
        second = provider.charge("k", "tok_slow")
        process.kill()
        assert isinstance(first.exception(), httpx2.HTTPError)
    assert second.status_code == 409
    assert second.json()["error"]["code"] == "key_in_use"

    # Killed during a call, it has charged nothing; and the key is free again.
    with running_provider(store, "--slow-seconds", "0") as provider:
        assert provider.charges("k") == []
        assert provider.charge("k", "tok_slow").status_code == 200
        assert provider.outcomes("k") == ["lost", "key_in_use", "charged"]


def test_a_kill_after_the_answer_loses_nothing(store):
    process, provider = start_provider(store)
    with process:
        charged, refused = provider.charge("k1"), provider.charge("k2", "tok_declined")
        stats = provider.stats()
        process.kill()
    # On the same port, so that its callers find it again.
    process, again = start_provider(store, port=int(provider.url.rsplit(":", 1)[1]))
    try:
        assert again.url == provider.url
        assert (
            again.stats()
            == stats
            == {
                "calls": 2,
                "charges": 1,
                "charged_amount": 1999,
                "refunds": 0,
                "refunded_amount": 0,
                "refusals": 1,
                "replays": 0,
            }
        )
        assert again.charge("k1").content == charged.content
        assert again.charge("k2", "tok_declined").content == refused.content
        assert again.stats() == {**stats, "calls": 4, "replays": 2}
    finally:
        stop_provider(process)


def test_sigterm_ends_it_at_once_even_while_a_client_waits(store):
    process, provider = start_provider(store, "--silent-seconds", "600")
    host, port = provider.url.removeprefix("http://").split(":")
    with ThreadPoolExecutor(1) as pool:
        silent = pool.submit(provider.charge, "k", "tok_timeout_after_charge")
        provider.wait_for("k", ["charged_then_silent"])
        assert stop_provider(process) == 0
        assert isinstance(silent.exception(), httpx2.HTTPError)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[" * 50_000,
        b'{"amount": 0, "currency": "usd", "source": "tok_visa"}',
        b'{"amount": true, "currency": "usd", "source": "tok_visa"}',
        b'{"amount": "1999", "currency": "usd", "source": "tok_visa"}',
        b'{"amount": 19.5, "currency": "usd", "source": "tok_visa"}',
        b'{"amount": 99999999999999999999, "currency": "usd", "source": "tok_visa"}',
        b'{"amount": 1999, "currency": "USD", "source": "tok_visa"}',
        b'{"amount": 1999, "currency": "us", "source": "tok_visa"}',
        b'{"amount": 1999, "currency": "usd", "source": ""}',
        b'{"amount": 1999, "currency": "usd"}',
        b'{"amount": 1999, "currency": "usd", "source": "tok_visa", "description": "\\ud800"}',
        b'{"amount": 1999, "currency": "usd", "source": "tok_visa", "descripton": "x"}',
    ],
    ids=lambda body: repr(body[:60]),
)
def test_a_wrong_body_is_refused_and_the_key_stays_free(provider, body, request):
    key = request.node.name
    answer = provider.request("POST", "/v1/charges", content=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"code", "message"}
    assert provider.charge(key).status_code == 200


def test_a_charge_needs_a_key(provider):
    body = {"amount": 1, "currency": "usd", "source": "tok_visa"}
    assert provider.request("POST", "/v1/charges", json=body).json()["error"]["code"] == "idempotency_key_missing"


@pytest.mark.parametrize("path", ["/v1/charges", "/v1/calls", "/v1/stats"])
def test_without_the_bearer_key_nothing_is_returned(provider, path):
    stranger = provider._replace(key="sk_guess")
    assert stranger.request("GET", path).status_code == 401
    assert stranger.charge("k-stranger").status_code == 401
    assert provider.calls("k-stranger") == []


def test_a_connection_serves_several_requests(provider):
    connection = http.client.HTTPConnection(provider.url.removeprefix("http://"))
    for _ in range(3):
        connection.request("GET", "/v1/stats", headers={"Authorization": f"Bearer {provider.key}"})
        assert connection.getresponse().read().startswith(b"{")
    connection.close()


def test_a_key_may_begin_with_a_dash(store):
    # One random key in 64 does; then the stack did not start.
    webhook = {"webhook_url": "http://127.0.0.1:9/", "webhook_secret": "whsec_" + "a" * 32}
    command = services.provider(os.environ, 0, store, "-key", **webhook)
    with subprocess.Popen(command.argv, env=command.env, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            answer = httpx2.get(f"{url}/v1/stats", headers={"Authorization": "Bearer -key"}, trust_env=False)
            assert answer.status_code == 200
        finally:
            process.terminate()


def test_lists_have_a_limit(provider):
    for number in range(3):
        provider.charge(f"limited-{number}")
    listed = provider.request("GET", "/v1/charges", params={"limit": "2"}).json()["data"]
    assert [charge["idempotency_key"] for charge in listed] == ["limited-2", "limited-1"]
    assert provider.request("GET", "/v1/charges", params={"limit": "-1"}).status_code == 400


def test_it_needs_nothing_but_python():
    known = sys.stdlib_module_names | {"devstack.sandbox_provider"}
    for file in sorted((ROOT / "devstack/sandbox_provider").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in known or name.startswith("devstack.sandbox_provider."), (file, name)
