"""DELETE /v1/jobs/{id}/payload: an ended job forgets what was sent and what came of it; its ids, keys and states stay."""

from __future__ import annotations

from uuid import UUID

import pytest
from django.db import connection

from jobs import transitions
from jobs.queries.history import append_evidence
from jobs.queries.steps import remember_step
from jobs.sealed import seal
from jobs.states import TERMINAL, State
from tests.client import accepted, charge, post, problem
from tests.factories import TenantFactory, claim
from tests.situations import HOUR, begin, close, everything, history, in_state

pytestmark = pytest.mark.django_db

SECRET = "4242-SECRET"
BODY = charge(description=SECRET)


def erase(api, job_id, **headers):
    return api.delete(f"/v1/jobs/{job_id}/payload", headers=headers)


def whole_database():
    """Every byte of every row that could hold a copy."""
    found = ""
    with connection.cursor() as cursor:
        for table in ("job", "job_attempt", "job_step", "job_event", "idempotency_record"):
            cursor.execute(f"SELECT * FROM {table}")
            found += repr([[bytes(v) if isinstance(v, memoryview) else v for v in row] for row in cursor])
    return found


def live(api, end):
    """The id of a job that did much, told its secret everywhere, and ended."""
    job_id = UUID(accepted(post(api, BODY))["id"])
    first = claim(job_id)
    begin(first, "charge")
    close(first, "charge", "done", {"secret": SECRET})
    remember_step(job_id=job_id, attempt=1, name="look", kind="step", result=seal(SECRET))
    transitions.retry_job(job_id=job_id, attempt=1, delay=-HOUR, detail=SECRET, cause="test")
    attempt = claim(job_id).attempt
    append_evidence(job_id=job_id, attempt=1, data={"step": "charge", "outcome": "done", "result": SECRET})
    held = {"job_id": job_id, "attempt": attempt}
    if end is State.SUCCEEDED:
        transitions.succeed_job(**held, result=seal({"secret": SECRET}))
    else:
        transitions.fail_job(**held, detail=SECRET, cause="test")
    return job_id


@pytest.mark.parametrize("end", [State.SUCCEEDED, State.FAILED])
def test_nothing_of_it_is_left_in_any_row(api, end):
    job_id = live(api, end)
    before, names = api.get(f"/v1/jobs/{job_id}").json(), history(job_id)
    assert SECRET in whole_database()
    response = erase(api, job_id)
    assert response.status_code == 200
    assert SECRET not in whole_database()
    after = response.json()
    assert (after["params"], after["result"]) == (None, None)
    kept = ["id", "state", "attempt", "idempotency_key", "effects", "finished_at"]
    assert [after[name] for name in kept] == [before[name] for name in kept]
    assert history(job_id) == [*names, "payload-erased"]


def test_twice_is_once(api):
    job_id = live(api, State.FAILED)
    first = erase(api, job_id)
    before = everything(job_id)
    again = erase(api, job_id)
    assert (again.status_code, again.json()) == (200, first.json())
    assert everything(job_id) == before


def test_under_a_key_it_is_replayed(api):
    job_id = live(api, State.FAILED)
    first, again = (erase(api, job_id, **{"Idempotency-Key": "an-erasure"}) for _ in range(2))
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("state", [state for state in State if state not in TERMINAL])
def test_a_job_that_has_not_ended_keeps_its_payload(api, tenant, state):
    job = in_state(tenant, state)
    before = everything(job.id)
    problem(erase(api, job.id), 409, "illegal-state-transition")
    assert everything(job.id) == before


def test_a_retry_of_its_request_and_a_redrive_are_told_and_start_nothing(api):
    job_id = live(api, State.FAILED)
    erase(api, job_id)
    before = everything(job_id)
    assert problem(post(api, BODY), 410, "payload-erased")["resource"] == f"/v1/jobs/{job_id}"
    redriven = post(api, b"", key=None, path=f"/v1/jobs/{job_id}/redrive")
    assert problem(redriven, 410, "payload-erased")["resource"] == f"/v1/jobs/{job_id}"
    assert everything(job_id) == before


def test_anothers_job_is_as_missing_as_none(api):
    problem(erase(api, in_state(TenantFactory(), State.SUCCEEDED).id), 404, "not-found")
    problem(erase(api, UUID(int=1)), 404, "not-found")
