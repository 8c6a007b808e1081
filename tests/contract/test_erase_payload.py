"""DELETE /v1/jobs/{id}/payload erases the params and results of an ended job; its ids, keys and states stay."""

from __future__ import annotations

import json
from uuid import UUID

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts.models import AuditEntry
from idempotency import maintenance_queries
from idempotency.models import IdempotencyRecord
from idempotency.replay_counter import replay_counter
from idempotency.response_format import decode_response
from jobs import transitions
from jobs.models import Job, JobEvent
from jobs.payloads import encode_payload
from jobs.queries.events import append_late_effect
from jobs.queries.lease import write_progress
from jobs.queries.steps import record_step
from jobs.states import TERMINAL, State
from operations.payments.charge import ChargePayment
from tests.support.client import accepted, charge, post, problem
from tests.support.factories import TenantFactory, claim, new_api_key
from tests.support.scenarios import HOUR, begin, close, everything, history, in_state

pytestmark = pytest.mark.django_db

SECRET = "4242-SECRET"
BODY = {**charge(description=SECRET), "metadata": {SECRET: SECRET}, "concurrency_key": SECRET}
RESOLUTION = {"step": "charge", "verdict": "not_done", "then": "fail", "note": SECRET}
# The requests about the job below that carry keys.
KEYED = {"a-cancel": ("cancel", b""), "a-redrive": ("redrive", b""), "a-resolve": ("resolve", RESOLUTION)}


@pytest.fixture
def api(tenant):
    """Return a client whose key has the admin scope, which `resolve` needs."""
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {new_api_key(tenant, is_admin=True)}")
    return client


def erase(api, job_id, **headers):
    return api.delete(f"/v1/jobs/{job_id}/payload", headers=headers)


def keyed(api, job_id, key):
    name, body = KEYED[key]
    return post(api, body, key=key, path=f"/v1/jobs/{job_id}/{name}")


def whole_database():
    """Return every value of every table except the audit log, which never changes; stored responses also uncompressed."""
    stored = IdempotencyRecord.objects.exclude(response=None).values_list("response", flat=True)
    values = repr([decode_response(bytes(response)) for response in stored])
    with connection.cursor() as cursor:
        for table in set(connection.introspection.table_names(cursor)) - {AuditEntry._meta.db_table}:
            cursor.execute(f'SELECT * FROM "{table}"')
            values += repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in cursor])
    return values


def write_secrets(job_id, attempt):
    """Write the secret everywhere that an attempt can."""
    job = Job.objects.get(pk=job_id)
    progress = json.dumps({"done": 1, "total": 2, "message": SECRET})
    assert write_progress(job_id=job_id, attempt=attempt, progress=progress)
    if attempt == 1:
        begin(job, "charge")
        close(job, "charge", "done", {"secret": SECRET})
        record_step(job_id=job_id, attempt=1, name="look", kind="step", result=encode_payload(SECRET))


def ended_job(api, end):
    """Return the id of an ended job that wrote the secret everywhere."""
    job_id = UUID(accepted(post(api, BODY))["id"])
    claim(job_id)
    write_secrets(job_id, 1)
    transitions.retry_job(job_id=job_id, attempt=1, delay=-HOUR, detail=SECRET, cause=SECRET)
    attempt = claim(job_id).attempt
    write_secrets(job_id, attempt)
    append_late_effect(job_id=job_id, attempt=1, data={"step": "charge", "outcome": "done", "result": SECRET})
    claimed = {"job_id": job_id, "attempt": attempt}
    if end is State.SUCCEEDED:
        transitions.succeed_job(**claimed, result=encode_payload({"secret": SECRET}))
    else:
        transitions.fail_job(**claimed, detail=SECRET, cause=SECRET)
    return job_id


def resolved_job(api):
    """Return the id of a job that was canceled, redriven, unknown and resolved, each under a key whose response contains it."""
    job_id = UUID(accepted(post(api, BODY))["id"])
    responses = [keyed(api, job_id, "a-cancel"), keyed(api, job_id, "a-redrive")]
    begin(claim(job_id), "charge")
    transitions.stop_as_unknown(job_id=job_id, attempt=1, detail=SECRET)
    responses.append(keyed(api, job_id, "a-resolve"))
    assert [(response.status_code, SECRET in response.text) for response in responses] == [(200, True)] * 3
    assert Job.objects.get(pk=job_id).state == State.FAILED
    return job_id


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED])
def test_the_payload_is_left_in_no_row(api, end):
    job_id = ended_job(api, end)
    before, names = api.get(f"/v1/jobs/{job_id}").json(), history(job_id)
    assert SECRET in whole_database()
    response = erase(api, job_id)
    assert response.status_code == 200
    assert SECRET not in whole_database()
    after = response.json()
    erased = ["params", "result", "progress", "concurrency_key"]
    assert {after[name] for name in erased} == {None}
    assert after["metadata"] == {}
    kept = ["id", "state", "attempt", "idempotency_key", "effects", "finished_at"]
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert history(job_id) == [*names, "payload-erased"]


def test_the_payload_is_left_in_no_stored_response_to_a_cancel_redrive_or_resolve(api):
    job_id = resolved_job(api)
    names = history(job_id)
    for key in KEYED:
        assert keyed(api, job_id, key)["Idempotency-Replayed"] == "true"
    replay_counter.flush()
    assert erase(api, job_id).status_code == 200
    assert SECRET not in whole_database()
    assert history(job_id) == [*names, "payload-erased"]
    (data,) = JobEvent.objects.filter(job_id=job_id, type="resolve").values_list("data", flat=True)
    assert data.keys() == {"step", "verdict", "then", "by"}


def test_a_repeated_cancel_redrive_or_resolve_gets_payload_erased_and_starts_nothing(api):
    job_id = resolved_job(api)
    erase(api, job_id)
    before = everything(job_id)
    for key in KEYED:
        assert problem(keyed(api, job_id, key), 410, "payload-erased")["resource"] == f"/v1/jobs/{job_id}"
        record_document = api.get(f"/v1/idempotency-keys/{key}").json()
        assert record_document["resource"] == f"/v1/jobs/{job_id}"
        assert record_document["payload_erased_at"] is not None
    assert everything(job_id) == before


def test_the_key_of_a_cancel_shows_its_job_before_and_after_the_erasure(api):
    job_id = resolved_job(api)
    other = post(api, b"", key="a-cancel", path=f"/v1/jobs/{job_id}/redrive")
    assert problem(other, 409, "idempotency-key-reused")["resource"] == f"/v1/jobs/{job_id}"
    assert api.get("/v1/idempotency-keys/a-cancel").json()["resource_state"] == "failed"


def test_responses_about_another_job_stay(api):
    other = UUID(accepted(post(api, BODY, key="another"))["id"])
    first = post(api, b"", key="another-cancel", path=f"/v1/jobs/{other}/cancel")
    erase(api, resolved_job(api))
    again = post(api, b"", key="another-cancel", path=f"/v1/jobs/{other}/cancel")
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"


def test_a_stored_refusal_is_erased_too(api):
    """The operator's note is stored nowhere, and its digest is erased too."""
    job_id = ended_job(api, State.FAILED)
    problem(post(api, RESOLUTION, key="a-resolve", path=f"/v1/jobs/{job_id}/resolve"), 409, "illegal-state-transition")
    erase(api, job_id)
    record = IdempotencyRecord.objects.get(key="a-resolve")
    assert (record.response, record.members) == (None, None)
    problem(keyed(api, job_id, "a-resolve"), 410, "payload-erased")


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED])
def test_the_business_intent_is_erased_unless_the_job_succeeded(api, monkeypatch, end):
    monkeypatch.setattr(ChargePayment, "identity", lambda _operation, params: params["description"])
    job_id = ended_job(api, end)
    erase(api, job_id)
    has_intent = Job.objects.get(pk=job_id).identity is not None
    again = post(api, BODY, key="a-second-click")
    if end is State.SUCCEEDED:
        assert has_intent
        assert problem(again, 409, "duplicate-operation")["resource"] == f"/v1/jobs/{job_id}"
    else:
        assert not has_intent
        assert accepted(again)["id"] != str(job_id)


def test_a_result_that_a_stale_attempt_reports_after_the_erasure_is_not_stored(api):
    job_id = ended_job(api, State.FAILED)
    erase(api, job_id)
    append_late_effect(job_id=job_id, attempt=1, data={"step": "charge", "outcome": "done", "result": SECRET})
    assert SECRET not in whole_database()
    assert JobEvent.objects.filter(job_id=job_id).latest("seq").data == {"step": "charge", "outcome": "done"}


def test_responses_after_the_erasure_contain_no_payload(api):
    """A cancel of a canceled job returns the job as it is now."""
    job_id = UUID(accepted(post(api, BODY))["id"])
    keyed(api, job_id, "a-cancel")
    erase(api, job_id)
    later = post(api, b"", key="later", path=f"/v1/jobs/{job_id}/cancel")
    assert (later.status_code, later.json()["params"]) == (200, None)
    assert SECRET not in whole_database()


def test_a_second_erasure_changes_nothing(api):
    job_id = ended_job(api, State.FAILED)
    first = erase(api, job_id)
    before = everything(job_id)
    again = erase(api, job_id)
    assert (again.status_code, again.json()) == (200, first.json())
    assert everything(job_id) == before


def test_an_erasure_under_a_key_is_replayed_even_after_another_erasure(api):
    job_id = ended_job(api, State.FAILED)
    first, again = (erase(api, job_id, **{"Idempotency-Key": "an-erasure"}) for _ in range(2))
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"
    erase(api, job_id, **{"Idempotency-Key": "another-erasure"})
    assert erase(api, job_id, **{"Idempotency-Key": "an-erasure"}).content == first.content


@pytest.mark.parametrize("function", ["erase_by_subject", "erase_payload"])
def test_an_erasure_that_fails_half_way_changes_nothing(api, monkeypatch, function):
    job_id = resolved_job(api)
    before, database = everything(job_id), whole_database()

    def fail(*_values):
        raise RuntimeError("erasure interrupted")

    monkeypatch.setattr(f"idempotency.queries.{function}", fail)
    problem(erase(api, job_id), 500, "internal-error")
    assert everything(job_id) == before
    assert whole_database() == database
    monkeypatch.undo()
    assert erase(api, job_id).status_code == 200
    assert SECRET not in whole_database()


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_a_job_that_has_not_ended_keeps_its_payload(api, tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    problem(erase(api, job.id), 409, "illegal-state-transition")
    assert everything(job.id) == before


def test_a_retry_of_the_submission_and_a_redrive_get_payload_erased_and_start_nothing(api):
    job_id = ended_job(api, State.FAILED)
    erase(api, job_id)
    before = everything(job_id)
    assert problem(post(api, BODY), 410, "payload-erased")["resource"] == f"/v1/jobs/{job_id}"
    redriven = post(api, b"", key=None, path=f"/v1/jobs/{job_id}/redrive")
    assert problem(redriven, 410, "payload-erased")["resource"] == f"/v1/jobs/{job_id}"
    assert everything(job_id) == before


def test_a_redrive_after_its_key_was_purged_reclaims_no_key(api):
    job_id = ended_job(api, State.FAILED)
    maintenance_queries.delete_records([Job.objects.get(pk=job_id).idempotency_record_id])
    erase(api, job_id)
    problem(post(api, b"", key=None, path=f"/v1/jobs/{job_id}/redrive"), 410, "payload-erased")
    assert not IdempotencyRecord.objects.exists()


def test_another_tenants_job_is_not_found(api):
    problem(erase(api, in_state(TenantFactory(), State.SUCCEEDED).id), 404, "not-found")
    problem(erase(api, UUID(int=1)), 404, "not-found")
