"""`POST /v1/inbox/{source}`: each event is handled once. The Standard Webhooks library signs the events of these tests."""

from __future__ import annotations

import base64
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from rest_framework.test import APIClient
from standardwebhooks import Webhook

from idempotency.models import InboxMessage
from jobs import transitions
from jobs.models import Job, JobEvent, JobStep
from jobs.payloads import decode_payload
from jobs.states import State
from operations.payments import events
from tests.support.client import problem
from tests.support.factories import claimed_job, queued_job
from tests.support.scenarios import begin, everything, history
from workers import sweep
from workers.testing import run_to_end

pytestmark = pytest.mark.django_db

SECRET = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
OTHER = f"whsec_{base64.b64encode(bytes(range(1, 33))).decode()}"
TYPE = "provider-event"
UNKNOWN_JOB = "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000"


@pytest.fixture(autouse=True)
def _sandbox_may_send(settings):
    settings.INBOX_SECRETS = [f"sandbox:{SECRET}"]


def deliver(event, message_id="evt_1", *, secret=SECRET, ago=timedelta(0), source="sandbox", signed=None, **headers):
    """Send one delivery, signed by the library. `signed` is the body that is signed if it differs from the one sent."""
    body = event if isinstance(event, str) else json.dumps(event)
    at = datetime.now(UTC) - ago
    sent = {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body if signed is None else signed),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    sent = {name: value for name, value in sent.items() if value is not None}
    client = APIClient(raise_request_exception=False)
    return client.generic("POST", f"/v1/inbox/{source}", body, content_type="application/json", headers=sent)


def succeeded(job, *, key=None, **changes):
    """Return the provider's event about the job's charge."""
    key = key or f"semel-{job.id}-charge-1"
    data = {
        "id": "ch_1",
        "status": "succeeded",
        "amount": 5,
        "currency": "usd",
        "request": {"idempotency_key": key, "job": str(job.id)},
    }
    return {"type": "charge.succeeded", "data": {**data, **changes}}


def provider_events_of(job):
    return [event.data for event in JobEvent.objects.filter(job_id=job.id, type=TYPE).order_by("seq")]


def unknown_job(tenant, script=None):
    """Return a job that is unknown because of its charge."""
    job = claimed_job(tenant, **({} if script is None else {"script": script}))
    begin(job, "charge")
    return transitions.stop_as_unknown(job_id=job.id, attempt=job.attempt, detail="outcome unknown")


def perform_charge(job):
    return {"charge": job.effect("charge", fail_if_called)}


def fail_if_called(_key):
    raise AssertionError("the charge was made already")


# --- Authentication ---------------------------------------------------------------------------------------------------


def test_repeated_deliveries_of_an_event_are_accepted_and_marked_as_such(tenant):
    event = succeeded(queued_job(tenant))
    first, *again = [deliver(event) for _ in range(3)]
    assert (first.status_code, first.json()) == (200, {"id": "evt_1", "first": True})
    assert [(one.status_code, one.json()["first"]) for one in again] == [(200, False), (200, False)]


def test_an_event_is_handled_once_however_often_it_is_delivered(tenant):
    job = queued_job(tenant)
    for _ in range(3):
        deliver(succeeded(job))
    assert len(provider_events_of(job)) == 1
    assert [message.message_id for message in InboxMessage.objects.all()] == ["evt_1"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": OTHER},
        {"signed": '{"type": "x", "data": {"a": 1}}'},
        # Relative to the time of sending: the parameters are built at collection, which may be minutes earlier.
        {"ago": timedelta(minutes=6)},
        {"ago": timedelta(minutes=-6)},
        {"webhook_signature": "v1,"},
        {"webhook_signature": "v1,AAAA"},
        {"webhook_signature": "v2,AAAA v1a,BBBB"},
        {"webhook_signature": None},
        {"webhook_id": None},
        {"webhook_id": ""},
        {"webhook_id": "evt_2"},
        {"message_id": "x" * 256},
        {"webhook_timestamp": None},
        {"webhook_timestamp": "now"},
        {"webhook_timestamp": "9" * 30},
    ],
    ids=",".join,
)
def test_an_event_with_a_wrong_signature_is_refused_and_changes_nothing(tenant, wrong):
    job = queued_job(tenant)
    before = everything(job.id)
    document = problem(deliver(succeeded(job), **wrong), 401, "unauthenticated")
    assert "webhook-" in document["detail"]
    assert everything(job.id) == before
    assert not InboxMessage.objects.exists()


def test_one_valid_signature_of_several_is_enough_during_a_rotation_of_the_secret(settings, tenant):
    event = json.dumps(succeeded(queued_job(tenant)))
    at = datetime.now(UTC)
    old, new = (Webhook(secret).sign("evt_1", at, event) for secret in (OTHER, SECRET))
    signed = {"webhook_timestamp": str(int(at.timestamp())), "webhook_signature": f"{old} {new}"}
    assert deliver(event, **signed).status_code == 200
    settings.INBOX_SECRETS = [f"sandbox:{SECRET}", f"sandbox:{OTHER}"]
    for number, secret in enumerate((SECRET, OTHER)):
        assert deliver(event, f"evt_r{number}", secret=secret).status_code == 200


def test_an_unconfigured_source_is_not_found(settings):
    problem(deliver({"type": "x", "data": {}}, source="unconfigured"), 404, "not-found")
    settings.INBOX_SECRETS = []
    problem(deliver({"type": "x", "data": {}}), 404, "not-found")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("{", "malformed-json"),
        ("[1]", "validation-failed"),
        ('{"type": "x"}', "validation-failed"),
        ('{"type": 1, "data": {}}', "validation-failed"),
        ('{"type": "x", "data": {"a": "\\u0000"}}', "malformed-json"),
        ('{"type": "x", "data": {}, "data": {}}', "malformed-json"),
    ],
)
def test_a_signed_body_that_is_not_an_event_is_refused_and_can_be_redelivered(body, code):
    problem(deliver(body), 400, code)
    assert not InboxMessage.objects.exists()


def test_a_body_that_is_too_large_is_refused(settings):
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100
    problem(deliver({"type": "x", "data": {"a": "x" * 200}}), 413, "payload-too-large")


def test_other_methods_are_refused():
    problem(APIClient().get("/v1/inbox/sandbox"), 405, "method-not-allowed")


# --- Effects of an event ----------------------------------------------------------------------------------------------


def test_the_history_of_the_job_shows_the_event(tenant, api):
    job = queued_job(tenant)
    deliver(succeeded(job))
    event = api.get(f"/v1/jobs/{job.id}/events").json()["data"][-1]
    assert event["type"] == TYPE
    assert event["data"] == {
        "source": "sandbox",
        "message_id": "evt_1",
        "type": "charge.succeeded",
        "key": f"semel-{job.id}-charge-1",
        "result": {"id": "ch_1", "status": "succeeded", "amount": 5, "currency": "usd"},
    }


@pytest.mark.parametrize(
    "event",
    [
        {"type": "customer.created", "data": {}},
        {"type": "charge.succeeded", "data": {}},
        {"type": "charge.succeeded", "data": {"request": {"idempotency_key": "other"}}},
        {"type": "charge.succeeded", "data": {"request": {"idempotency_key": 1}}},
        {"type": "charge.succeeded", "data": {"request": {"idempotency_key": f"semel-{UNKNOWN_JOB}-charge-1"}}},
        {"type": "charge.succeeded", "data": {"request": 1, "idempotency_key": f"semel-{UNKNOWN_JOB}-charge-1"}},
    ],
)
def test_an_event_without_a_known_job_is_accepted_and_ignored(event):
    assert deliver(event).status_code == 200
    assert not JobEvent.objects.filter(type=TYPE).exists()


def test_the_idempotency_key_may_be_outside_the_request_object(tenant, script):
    job = unknown_job(tenant, script(perform_charge))
    event = succeeded(job)
    event["data"] |= event["data"].pop("request")
    deliver(event)
    assert run_to_end(job.id).job.state == State.SUCCEEDED


def test_an_event_whose_status_contradicts_its_type_resolves_nothing(tenant):
    job = unknown_job(tenant)
    assert deliver(succeeded(job, status="failed")).status_code == 200
    assert (provider_events_of(job), Job.objects.get(pk=job.id).state) == ([], State.UNKNOWN)


def test_an_event_resolves_an_unknown_job(tenant, script):
    job = unknown_job(tenant, script(perform_charge))
    deliver(succeeded(job))
    resolved = Job.objects.get(pk=job.id)
    assert (resolved.state, resolved.open_effects, resolved.done_effects) == (State.QUEUED, 0, 1)
    [resolution] = [event.data for event in JobEvent.objects.filter(job_id=job.id, type="resolve")]
    assert (resolution["by"], resolution["note"]) == ("provider sandbox", "charge.succeeded, event evt_1")
    job = run_to_end(job.id).job
    assert job.state == State.SUCCEEDED
    assert decode_payload(job.result)["charge"]["id"] == "ch_1"
    assert history(job.id)[-4:] == [TYPE, "resolve", "claim", "succeed"]


def test_an_event_before_the_outcome_is_unknown_resolves_the_job_later(tenant, script):
    job = claimed_job(tenant, script=script(perform_charge))
    begin(job, "charge")
    deliver(succeeded(job))
    assert Job.objects.get(pk=job.id).state == State.RUNNING
    transitions.stop_as_unknown(job_id=job.id, attempt=job.attempt, detail="outcome unknown")
    assert sweep.run_once().resolved == 1
    assert run_to_end(job.id).job.state == State.SUCCEEDED
    assert sweep.run_once().resolved == 0


def test_an_event_about_another_effect_resolves_nothing(tenant):
    job = unknown_job(tenant)
    deliver(succeeded(job, key=f"semel-{job.id}-charge-2"))
    assert Job.objects.get(pk=job.id).state == State.UNKNOWN
    assert sweep.run_once().resolved == 0


def test_an_event_after_the_job_was_resolved_changes_no_state(tenant, script):
    job = unknown_job(tenant, script(perform_charge))
    deliver(succeeded(job))
    run_to_end(job.id)
    before = Job.objects.get(pk=job.id)
    deliver(succeeded(job), "evt_2")
    after = Job.objects.get(pk=job.id)
    assert (after.state, after.result, after.attempt) == (before.state, before.result, before.attempt)
    assert [event["message_id"] for event in provider_events_of(job)] == ["evt_1", "evt_2"]


def test_events_may_arrive_in_any_order_and_repeatedly(tenant):
    job = queued_job(tenant)
    events = [(succeeded(job, amount=number), f"evt_{number}") for number in range(10)]
    deliveries = events * 3
    random.shuffle(deliveries)
    assert {deliver(*delivery).status_code for delivery in deliveries} == {200}
    assert sorted(event["message_id"] for event in provider_events_of(job)) == sorted(name for _, name in events)


def test_an_event_whose_handler_fails_can_be_redelivered(tenant, monkeypatch):
    job = queued_job(tenant)
    failures = [RuntimeError("once")]

    def fail_once(evidence):
        if failures:
            raise failures.pop()
        record_provider_event(evidence)

    record_provider_event = events.record_provider_event
    monkeypatch.setattr(events, "record_provider_event", fail_once)
    problem(deliver(succeeded(job)), 500, "internal-error")
    assert not InboxMessage.objects.exists()
    assert deliver(succeeded(job)).json()["first"] is True
    assert len(provider_events_of(job)) == 1


def test_a_step_resolved_by_an_event_has_the_providers_result(tenant):
    job = unknown_job(tenant)
    deliver(succeeded(job))
    step = JobStep.objects.get(job_id=job.id, name="charge")
    assert (step.state, decode_payload(step.result)["id"]) == ("done", "ch_1")
