"""The gateway reports the outcome that is certain: refused, not done or done; anything else is uncertain."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import UUID

import pytest

from jobs.operations import EffectNotDone, EffectRefused, RetryableError
from operations.http_client import MAX_RESPONSE_BYTES
from operations.payments.charge import ChargePayment
from operations.payments.gateway import PaymentProvider
from operations.payments.provider_responses import OutcomeUncertain
from tests.support.provider import running_provider

JOB = UUID("01994e5c-0000-7000-8000-000000000001")
CHARGE = {"id": "ch_1", "status": "succeeded", "amount": 1999, "currency": "usd"}
# Short for tests that run into the time-out; otherwise long enough for a busy machine.
SHORT, LONG = timedelta(seconds=0.4), timedelta(seconds=20)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    store = tmp_path_factory.mktemp("provider") / "provider.sqlite"
    with running_provider(store, "--slow-seconds", "1.5") as running:
        yield running


def gateway(url, key="sk_test_sandbox", *, fence=1, timeout=LONG):
    return PaymentProvider(url, key, JOB, fence, timeout)


def charge(provider, idempotency_key="k", source="tok_visa", **changes):
    order = {"amount": 1999, "currency": "usd", "source": source, **changes}
    return provider.charge(**order, idempotency_key=idempotency_key)


@contextlib.contextmanager
def raw_server(serve):
    """Run a server that calls `serve(connection, gone)` for its only connection; yield its URL.

    `gone` is set at the end of the test, so that a server can wait for it and still end.
    """
    gone = threading.Event()

    def accept():
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                serve(connection, gone)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            gone.set()
            with contextlib.suppress(OSError):  # wakes a server without a connection
                listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def answering(status, body, **headers):
    """Run a server that gives this answer to every request."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    head += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    whole = "\r\n".join([*head, "", ""]).encode() + body

    def serve(connection, gone):
        read_request(connection)
        connection.sendall(whole)

    return raw_server(serve)


def read_request(connection):
    with connection.makefile("rb") as stream:
        length = 0
        while (line := stream.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        stream.read(length)


@contextlib.contextmanager
def raises_exactly(kind):
    """Expect this class and no subclass: EffectNotDone and OutcomeUncertain are both RetryableError, and must not be confused."""
    with pytest.raises(kind) as caught:
        yield caught
    assert type(caught.value) is kind


# --- the sandbox provider --------------------------------------------------------------------------------------------


def test_a_charge_sends_job_and_fence(sandbox, request):
    made = charge(gateway(sandbox.url, fence=7), request.node.name, description="Zwölf Äpfel")
    assert made == {"id": made["id"], "status": "succeeded", "amount": 1999, "currency": "usd"}
    [call] = sandbox.calls(request.node.name)
    assert (call["job"], call["fence"], call["outcome"]) == (str(JOB), "7", "charged")
    assert sandbox.charges(request.node.name)[0]["description"] == "Zwölf Äpfel"


def test_a_repeat_and_a_look_up_return_the_same_charge(sandbox, request):
    provider = gateway(sandbox.url)
    made = charge(provider, request.node.name)
    assert charge(provider, request.node.name) == made
    assert provider.find_charge(request.node.name) == made
    assert len(sandbox.charges(request.node.name)) == 1


def test_a_look_up_of_a_key_without_a_charge_returns_none(sandbox):
    assert gateway(sandbox.url).find_charge("never seen, with spaces & signs?") is None


def test_a_declined_card_is_a_refusal_with_the_providers_code(sandbox, request):
    with raises_exactly(EffectRefused) as refused:
        charge(gateway(sandbox.url), request.node.name, "tok_declined")
    assert refused.value.code == "card_declined"
    assert str(refused.value) == "The card was declined."


def test_an_amount_that_the_provider_rejects_is_a_refusal(sandbox, request):
    with raises_exactly(EffectRefused) as refused:
        charge(gateway(sandbox.url), request.node.name, amount=10**30)
    assert refused.value.code == "amount_invalid"


@pytest.mark.parametrize(
    ("source", "outcome"), [("tok_cut", "charged_then_cut"), ("tok_timeout_after_charge", "charged_then_silent")]
)
def test_a_charge_without_an_answer_is_uncertain_and_a_repeat_settles_it(sandbox, source, outcome, request):
    with raises_exactly(OutcomeUncertain):
        charge(gateway(sandbox.url, timeout=SHORT), request.node.name, source)
    sandbox.wait_for(request.node.name, [outcome])
    provider = gateway(sandbox.url)
    found = provider.find_charge(request.node.name)
    assert charge(provider, request.node.name, source) == found
    assert len(sandbox.charges(request.node.name)) == 1


def test_a_slow_charge_is_made_after_its_client_timed_out(sandbox, request):
    with raises_exactly(OutcomeUncertain):
        charge(gateway(sandbox.url, timeout=SHORT), request.node.name, "tok_slow")
    sandbox.wait_for(request.node.name, ["charged"])
    provider = gateway(sandbox.url)
    assert charge(provider, request.node.name, "tok_slow") == provider.find_charge(request.node.name)


def test_a_500_is_uncertain_and_a_429_means_not_done(sandbox, request):
    provider = gateway(sandbox.url)
    with raises_exactly(OutcomeUncertain):
        charge(provider, f"{request.node.name}-500", "tok_500_then_ok")
    with raises_exactly(EffectNotDone) as limited:
        charge(provider, f"{request.node.name}-429", "tok_429_then_ok")
    assert limited.value.retry_after == timedelta(seconds=1)
    assert charge(provider, f"{request.node.name}-500", "tok_500_then_ok")["status"] == "succeeded"
    assert charge(provider, f"{request.node.name}-429", "tok_429_then_ok")["status"] == "succeeded"


def test_a_key_in_use_is_uncertain(tmp_path):
    with running_provider(tmp_path / "provider", "--slow-seconds", "1") as sandbox, ThreadPoolExecutor(1) as pool:
        provider = gateway(sandbox.url)
        first = pool.submit(charge, provider, "k", "tok_slow")
        sandbox.wait_for("k", ["in_progress"])
        with raises_exactly(OutcomeUncertain) as in_use:
            charge(provider, "k", "tok_slow")
        assert (in_use.value.code, in_use.value.retry_after) == ("key_in_use", timedelta(seconds=1))
        assert first.result() == provider.find_charge("k")


def test_a_key_of_another_request_is_uncertain_and_never_a_refusal(sandbox, request):
    """The other request may be our own, sent before a deploy that changed its body, and may have charged."""
    provider = gateway(sandbox.url)
    charge(provider, request.node.name)
    with raises_exactly(OutcomeUncertain):
        charge(provider, request.node.name, amount=2000)


def test_a_wrong_provider_key_is_not_a_refusal_of_the_charge(sandbox, request):
    provider = gateway(sandbox.url, "sk_wrong")
    with raises_exactly(EffectNotDone) as failure:
        charge(provider, request.node.name)
    assert "PAYMENT_PROVIDER_KEY" in str(failure.value)
    with raises_exactly(RetryableError):
        provider.find_charge(request.node.name)


# --- nothing was sent ------------------------------------------------------------------------------------------------


def nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_a_refused_connection_means_not_done():
    provider = gateway(nobody_listens())
    with raises_exactly(EffectNotDone):
        charge(provider)
    with raises_exactly(RetryableError):  # for a look-up, EffectNotDone would be read as the outcome of the charge
        provider.find_charge("k")


def test_a_failed_tls_handshake_means_not_done(sandbox):
    with raises_exactly(EffectNotDone):
        charge(gateway(sandbox.url.replace("http:", "https:")))


def test_a_tls_handshake_that_never_ends_means_not_done_in_time():
    with raw_server(lambda _, gone: gone.wait()) as url, raises_exactly(EffectNotDone), in_time():
        charge(gateway(url.replace("http:", "https:"), timeout=SHORT))


def test_a_silent_name_server_means_not_done_in_time(monkeypatch):
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: released.wait() and [])
    with raises_exactly(EffectNotDone), in_time():
        charge(gateway("http://provider.example", timeout=SHORT))
    released.set()


def test_an_unknown_host_means_not_done(monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with raises_exactly(EffectNotDone):
        charge(gateway("http://provider.example"))


def test_an_unreachable_first_address_leaves_time_for_the_second(monkeypatch, sandbox, request):
    port = int(sandbox.url.rsplit(":", 1)[1])
    dead = int(nobody_listens().rsplit(":", 1)[1])
    real = socket.getaddrinfo

    def two(host, *args, **kwargs):
        if host != "provider.example":
            return real(host, *args, **kwargs)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", number)) for number in (dead, port)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    assert charge(gateway("http://provider.example"), request.node.name)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("", "k"),
        ("localhost:9000", "k"),
        ("ftp://provider.example", "k"),
        ("http://", "k"),
        ("http://[::1", "k"),
        ("https://provider.example", ""),
        ("https://provider.example", " k"),
        ("https://provider.example", "schlüssel"),
        ("https://provider.example", "two\nlines"),
    ],
)
def test_a_missing_or_wrong_setting_is_named_before_any_effect(url, key):
    with raises_exactly(RetryableError) as failure:
        gateway(url, key)
    assert "PAYMENT_PROVIDER_URL" in str(failure.value)


# --- sent, without a full answer -------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_time():
    """Check that the block ends soon after the short time-out."""
    start = time.monotonic()
    try:
        yield
    finally:
        assert time.monotonic() - start < SHORT.total_seconds() + 1.0


def silent(connection, gone):
    read_request(connection)
    gone.wait()


def trickle(head, byte):
    def serve(connection, gone):
        read_request(connection)
        connection.sendall(head)
        while not gone.wait(0.02):
            connection.sendall(byte)

    return serve


@pytest.mark.parametrize(
    "serve",
    [
        silent,
        lambda _, gone: gone.wait(),
        trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n", b" "),
        trickle(b"HTTP/1.1 200 OK\r\nX-Header: ", b"x"),
        trickle(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
    ids=["silent", "never-reads", "body-trickles", "headers-trickle", "continues-for-ever"],
)
def test_an_answer_that_does_not_end_is_uncertain_in_time(serve):
    with raw_server(serve) as url, raises_exactly(OutcomeUncertain), in_time():
        charge(gateway(url, timeout=SHORT))
    with raw_server(serve) as url, raises_exactly(RetryableError), in_time():
        gateway(url, timeout=SHORT).find_charge("k")


def test_a_server_that_closes_at_once_is_uncertain():
    with raw_server(lambda *_: None) as url, raises_exactly(OutcomeUncertain):
        charge(gateway(url))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"<html>"),
        (200, b"["),
        (200, b"[" * 60_000),
        (200, b"\xff"),
        (200, b"null"),
        (200, {}),
        (200, {**CHARGE, "id": None}),
        (200, {**CHARGE, "id": ""}),
        (200, {**CHARGE, "status": "pending"}),
        (200, {**CHARGE, "amount": "1999"}),
        (200, {**CHARGE, "amount": True}),
        (200, {**CHARGE, "currency": None}),
        (200, {**CHARGE, "description": "x" * MAX_RESPONSE_BYTES}),
        (201, CHARGE),
        (302, b""),
        (400, b"<html>"),
        (402, b"<html>"),
        (402, {"error": "card_declined"}),
        (402, {"error": {"code": 7}}),
        (408, b""),
        (409, {"error": {"code": "conflict"}}),
        (422, b""),
        (500, {"error": {"code": "card_declined"}}),
        (502, b"<html>"),
        (504, b""),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_an_unclear_answer_is_uncertain(status, body):
    with answering(status, body) as url, raises_exactly(OutcomeUncertain):
        charge(gateway(url))


def test_a_compressed_answer_is_not_decompressed():
    with answering(200, b"\x1f\x8b\x08", Content_Encoding="gzip") as url, raises_exactly(OutcomeUncertain):
        charge(gateway(url))


def test_an_answer_shorter_than_its_content_length_is_uncertain():
    def serve(connection, gone):
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + json.dumps(CHARGE).encode())

    with raw_server(serve) as url, raises_exactly(OutcomeUncertain):
        charge(gateway(url))


@pytest.mark.parametrize("status", [404, 405])
def test_an_address_without_a_provider_means_not_done(status):
    with answering(status, b"<html>") as url, raises_exactly(EffectNotDone) as failure:
        charge(gateway(url))
    assert "PAYMENT_PROVIDER_URL" in str(failure.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        {},
        {"data": None},
        {"data": {}},
        {"data": [None]},
        {"data": [{}]},
        {"data": [{**CHARGE, "status": "pending"}]},
        {"data": [CHARGE, CHARGE]},
        {"data": [{**CHARGE, "idempotency_key": "another"}]},
    ],
    ids=repr,
)
def test_only_an_empty_list_means_that_there_is_no_charge(body):
    with answering(200, body) as url, raises_exactly(RetryableError):
        gateway(url).find_charge("k")


@pytest.mark.parametrize("status", [201, 204, 304, 401, 404, 429, 500])
def test_only_200_means_that_there_is_no_charge(status):
    body = b"" if status in (204, 304) else {"data": []}
    with answering(status, body) as url, raises_exactly(RetryableError):
        gateway(url).find_charge("k")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", timedelta(0)),
        ("120", timedelta(minutes=2)),
        ("3600", timedelta(hours=1)),
        ("3601", timedelta(hours=1)),
        ("9" * 5_000, timedelta(hours=1)),
        (format_datetime(datetime(2001, 1, 1, tzinfo=UTC), usegmt=True), timedelta(0)),
        (format_datetime(datetime(2099, 1, 1, tzinfo=UTC), usegmt=True), timedelta(hours=1)),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("Mon, 99 Foo 2001", None),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("status", [409, 429, 503])
def test_retry_after_is_accepted_up_to_an_hour(status, value, expected):
    with answering(status, b"", Retry_After=value) as url, pytest.raises(RetryableError) as failure:
        charge(gateway(url))
    assert failure.value.retry_after == expected


# --- no redirect, no proxy --------------------------------------------------------------------------------------------


def test_a_redirect_is_not_followed(sandbox, request):
    with answering(307, b"", Location=f"{sandbox.url}/v1/charges") as url, raises_exactly(OutcomeUncertain):
        charge(gateway(url), request.node.name)
    assert sandbox.calls(request.node.name) == []


def test_a_proxy_in_the_environment_is_not_used(sandbox, monkeypatch, request):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, nobody_listens())
    assert charge(gateway(sandbox.url), request.node.name)["status"] == "succeeded"


# --- the operation ---------------------------------------------------------------------------------------------------


class FirstAttempt:
    """The part of a job's handle that the operation uses; the effect is called once."""

    id, fence = JOB, 1

    def effect(self, name, call, *, timeout, key_window, reconcile):
        self.effect_of = (name, key_window, reconcile)
        return call("semel-key")


def test_the_operation_charges_and_returns_the_charge(tmp_path, settings):
    with running_provider(tmp_path / "provider") as sandbox:
        settings.PAYMENT_PROVIDER_URL, settings.PAYMENT_PROVIDER_KEY = sandbox.url, sandbox.key
        job = FirstAttempt()
        result = ChargePayment().perform({"amount": 5, "currency": "eur", "source": "tok_visa"}, job)
        [made] = sandbox.charges("semel-key")
        name, key_window, reconcile = job.effect_of
        assert reconcile("semel-key")["id"] == made["id"]
    assert (name, key_window) == ("charge", timedelta(hours=24))
    expected = {"charge_id": made["id"], "amount": 5, "amount_decimal": "0.05", "currency": "eur"}
    assert result == {**expected, "status": "succeeded"}


def test_without_a_provider_the_operation_names_the_setting_and_starts_no_effect(settings):
    settings.PAYMENT_PROVIDER_URL = ""
    job = FirstAttempt()
    with raises_exactly(RetryableError) as failure:
        ChargePayment().perform({"amount": 5, "currency": "eur", "source": "tok_visa"}, job)
    assert "PAYMENT_PROVIDER_URL" in str(failure.value)
    assert not hasattr(job, "effect_of")
