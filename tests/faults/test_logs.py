"""The logs of a whole run: one JSON object per line, the same ids from request to effect, no secrets."""

from __future__ import annotations

import json
import signal
from datetime import datetime

import pytest
from django.conf import settings

from accounts.credentials import parse_credential
from jobs.models import Job
from tests.support.stack import Caller, running_stack
from tests.support.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

CANARY = "CANARY-7f3a9c"
KEY = "idempotency-KEY-51"
WAYS = ("raise", "refuse", "effect", "statement", "log", "warn", "none")
BASE = ["timestamp", "level", "process", "logger", "event"]


def started(caller, way, request_id):
    params = {"way": way, "secret": CANARY}
    body = {"operation": "test.leaky", "params": params, "metadata": {"note": CANARY}}
    headers = {"Idempotency-Key": f"{KEY}-{way}", "X-Request-Id": request_id}
    answer = caller.http.post("/v1/jobs", json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


@pytest.fixture
def run(api_key, tmp_path):
    """Run a stack with one job per way of failing. Return all its logs, and the ids of the jobs by way."""
    operations = ",".join([*settings.OPERATIONS, "tests.support.operations.Leaky"])
    env = {"OPERATIONS": operations, "LOG_LEVEL": "DEBUG", "PAYMENT_PROVIDER_KEY": f"{CANARY}-provider"}
    with running_stack(tmp_path, **env) as stack:
        caller = Caller(stack.start_api(), api_key)
        stack.start_streams()
        stack.start_workers("worker", "maintenance", "beat")
        with caller.http:
            jobs = {way: started(caller, way, f"req-{way}") for way in WAYS}
            for way, end in (("raise", "failed"), ("effect", "unknown"), ("none", "succeeded")):
                caller.job_when(f"/v1/jobs/{jobs[way]}", end)
            caller.http.get(f"/v1/idempotency-keys/{KEY}-none")
            caller.http.get("/nowhere", params={"q": CANARY})
            until(lambda: not Job.objects.filter(state__in=["queued", "running"]).exists(), seconds=60)
        for name in stack.running:
            stack.signal(name, signal.SIGTERM)
        for one in stack.running.values():
            one.popen.wait(timeout=60)
        logs = {name: one.log.read_text() for name, one in stack.running.items()}
    return logs, jobs


def test_logs_of_a_whole_run_contain_no_secret(run, api_key):
    logs, jobs = run
    # Every line of every process is one object with the same first members.
    lines = []
    for name, text in logs.items():
        assert text, f"{name} wrote nothing"
        for line in text.splitlines():
            if line == "an operation prints":
                continue
            event = json.loads(line)
            assert list(event)[: len(BASE)] == BASE, line
            assert datetime.fromisoformat(event["timestamp"]).utcoffset().total_seconds() == 0
            assert event["process"] == name
            lines.append(event)
    # No content that was sent, returned or raised; no credential; no key.
    everything = "\n".join(logs.values())
    for secret in (CANARY, KEY, parse_credential(api_key).secret, settings.SECRET_KEY):
        assert secret not in everything
    # The request, the job and its effect have the same ids.
    followed = [line for line in lines if line.get("request_id") == "req-effect"]
    by_event = {line["event"]: line for line in followed}
    assert by_event.keys() >= {"request", "effect.sent", "effect.in_doubt", "job.settled"}
    assert {line["job_id"] for line in followed} == {jobs["effect"]}
    request, sent = by_event["request"], by_event["effect.sent"]
    assert (request["process"], request["method"], request["route"], request["status"]) == (
        "api",
        "POST",
        "v1/jobs",
        202,
    )
    assert request["tenant_id"]
    assert request["api_key_id"] in api_key
    assert 0 < request["seconds"] < 30
    assert request["replayed"] is False
    assert len(request["idempotency_key_digest"]) == 16
    assert (sent["process"], sent["attempt"], sent["operation"], sent["step"]) == ("worker", 1, "test.leaky", "call")
    # The place and class of an exception, without its text.
    raised = next(t for t in lines if t["event"] == "job.raised" and t["request_id"] == "req-raise")
    assert raised["exception"]["type"] == "builtins.ValueError"
    assert any("quote" in frame for frame in raised["exception"]["frames"])
    assert [cause["type"] for cause in raised["exception"]["causes"]] == ["builtins.KeyError"]
    unique = next(t for t in lines if t["event"] == "job.raised" and t["request_id"] == "req-statement")
    assert unique["exception"]["sqlstate"].startswith("23")
    assert any(t["logger"] == "py.warnings" for t in lines)
