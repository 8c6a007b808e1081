"""One trace from the request over the job to the downstream's call, received by OTLP; none if tracing is off."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import redis
from django.conf import settings

from accounts.credentials import parse_credential
from tests.support.broker_proxy import BrokerProxy
from tests.support.client import CHARGE
from tests.support.stack import Caller, running_stack
from tests.support.waiting import until

pytest.importorskip("opentelemetry.sdk", reason="requirements-otel.txt is not installed")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[2]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CANARY = "CANARY-91b2"


class Receiver(ThreadingHTTPServer):
    """Receives what exporters send to /v1/traces."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Taker)
        self.raw = b""
        # By trace id: {(service, span's name)}, and by span id: (name, parent's id).
        self.traces = defaultdict(set)
        self.spans = {}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def take(self, body):
        self.raw += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            named = {one.key: one.value.string_value for one in resource.resource.attributes}
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                self.traces[span.trace_id.hex()].add((named["service.name"], span.name))
                self.spans[span.span_id.hex()] = (span.name, span.parent_span_id.hex())


class _Taker(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.take(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words):
        """Log nothing."""


class Listening(BrokerProxy):
    """A relay that records what passes."""

    data = b""

    def _pass_on(self, data, source, sink):
        self.data += data
        super()._pass_on(data, source, sink)


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        yield receiver
        receiver.shutdown()


def test_a_charge_is_one_trace_even_if_its_message_was_lost(receiver, api_key, tmp_path):
    # An empty PYTHONPATH: these processes find OpenTelemetry's SDK.
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_BSP_SCHEDULE_DELAY": "200", "PYTHONPATH": ""}
    with running_stack(tmp_path, **env) as stack:
        relay = Listening(stack.provider.url)
        stack.env["PAYMENT_PROVIDER_URL"] = relay.url
        caller = Caller(stack.start_api(), api_key)
        with caller.http:
            headers = {"Idempotency-Key": CANARY, "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
            body = {**CHARGE, "metadata": {"note": CANARY}}
            answer = caller.http.post("/v1/jobs", json=body, headers=headers)
            assert answer.status_code == 202, answer.text
            caller.http.get(f"/v1/idempotency-keys/{CANARY}", headers=headers)
            with redis.Redis.from_url(settings.REDIS_URL) as broker:
                broker.flushdb()
            stack.start_workers("worker", "maintenance", "beat")
            caller.job_when(answer.headers["Location"], "succeeded")
        wanted = {
            ("semel-api", "POST v1/jobs"), ("semel-api", "accept"),
            ("semel-worker", "attempt"), ("semel-worker", "effect"), ("semel-worker", "call"),
        }  # fmt: skip
        until(lambda: wanted <= receiver.traces[TRACE], seconds=30)
        relay.refuse()
    # The provider received the span of the call itself.
    line = next(
        line for line in relay.data.decode(errors="replace").splitlines() if line.lower().startswith("traceparent")
    )
    _version, trace_id, span_id, _flags = line.split(": ")[1].split("-")
    assert trace_id == TRACE
    path = []
    while span_id in receiver.spans:
        name, span_id = receiver.spans[span_id]
        path.append(name)
    assert path == ["call", "effect", "attempt", "POST v1/jobs"]
    assert span_id == "00f067aa0ba902b7"
    # Statements belong to their request or attempt; ticks make no trace.
    assert any(name.startswith(("SELECT", "INSERT", "WITH")) for _service, name in receiver.traces[TRACE])
    assert not any(
        service in ("semel-beat", "semel-maintenance") for trace in receiver.traces.values() for service, _ in trace
    )
    # No payload, no key.
    for secret in (CANARY, "tok_visa", parse_credential(api_key).secret):
        assert secret.encode() not in receiver.raw


def test_the_sdk_is_not_loaded_if_tracing_is_off():
    # The API package is always loaded, and does nothing by itself.
    code = """
import sys, django
django.setup()
import config.wsgi, config.celery
ours = ("opentelemetry.instrumentation", "opentelemetry.exporter", "observability.tracing")
print(*[name for name in sys.modules if name.startswith(ours)])
"""
    env = {**os.environ, "SEMEL_PROCESS": "api", "DJANGO_SETTINGS_MODULE": "config.settings"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
