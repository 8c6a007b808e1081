"""Actions on one job in the admin: permissions, effects, audit entries."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.test import Client

from accounts.models import AuditEntry
from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Job, JobStep
from jobs.payloads import decode_payload
from jobs.states import State
from tests.support.admin_pages import JOBS, PASSWORD, client_of, text_of, user_with
from tests.support.factories import claim
from tests.support.keyed import keyed_job
from tests.support.scenarios import history, in_state

pytestmark = pytest.mark.django_db

BY_NAME = ("redrive", "cancel", "erase", "resolve", "release-key")
ALLOWED = {
    State.QUEUED: {"cancel"},
    State.RUNNING: {"cancel"},
    State.SUCCEEDED: {"erase"},
    State.FAILED: {"redrive", "erase"},
    State.CANCELED: {"redrive", "erase"},
    State.UNKNOWN: {"resolve"},
}


@pytest.fixture
def reader():
    return client_of(user_with("view_job"))


@pytest.fixture
def operator():
    return client_of(user_with("view_job", "operate_job", name="grace"))


def address(job, name):
    return f"{JOBS}{job.id}/{name}/"


def offered(client, job):
    """Return the actions whose buttons are on the job's page."""
    html = client.get(f"{JOBS}{job.id}/").content.decode()
    return {name for name in BY_NAME if address(job, name) in html}


def state_of(job):
    return Job.objects.get(pk=job.id).state


# --- Permissions and buttons ---


@pytest.mark.parametrize("state", list(State))
def test_only_operators_see_the_buttons_that_the_state_allows(tenant, reader, operator, state):
    job = in_state(tenant, state)
    assert offered(operator, job) == ALLOWED[state]
    assert offered(reader, job) == set()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_read_only_user_is_refused_and_nothing_changes(tenant, reader, name):
    job = failed_with_key(tenant)
    for answer in (reader.get(address(job, name)), reader.post(address(job, name), {"note": "because"})):
        assert answer.status_code == 403
        assert "Not allowed" in text_of(answer)
    assert state_of(job) == "failed"
    assert not AuditEntry.objects.exclude(actor="command").exists()


@pytest.mark.parametrize("name", BY_NAME)
def test_a_form_without_its_csrf_token_is_refused(tenant, name):
    job = failed_with_key(tenant)
    client = Client(enforce_csrf_checks=True)
    client.force_login(user_with("view_job", "operate_job"))
    assert client.post(address(job, name), {"note": "because"}).status_code == 403
    assert state_of(job) == "failed"


def test_opening_a_confirmation_changes_nothing(tenant, operator):
    job = failed_with_key(tenant)
    before = history(job.id)
    for name in ("redrive", "erase", "release-key"):
        assert operator.get(address(job, name)).status_code == 200
    assert history(job.id) == before
    assert not AuditEntry.objects.exclude(actor="command").exists()


@pytest.mark.parametrize("name", ["cancel", "resolve", "release-key", "succeed"])
def test_a_missing_job_or_action_is_not_found(operator, name):
    assert operator.get(f"{JOBS}{uuid4()}/{name}/").status_code == 404


def failed_with_key(tenant):
    job = keyed_job(tenant, "order-1001")
    job = claim(job.id)
    return transitions.fail_job(job_id=job.id, attempt=job.attempt, detail="no", cause="no")


# --- Each action ---


@pytest.mark.parametrize(
    ("name", "state", "then"),
    [
        ("redrive", State.FAILED, ("queued", "redrive")),
        ("redrive", State.CANCELED, ("queued", "redrive")),
        ("cancel", State.QUEUED, ("canceled", "cancel")),
        ("cancel", State.RUNNING, ("running", "cancel-requested")),
        ("erase", State.SUCCEEDED, ("succeeded", "payload-erased")),
    ],
)
def test_an_action_is_done_and_audited_with_the_users_name(tenant, operator, name, state, then):
    job = in_state(tenant, state)
    answer = operator.post(address(job, name), {"note": "requested by phone"}, follow=True)
    assert answer.redirect_chain == [(f"{JOBS}{job.id}/", 302)]
    assert 'class="success"' in answer.content.decode()
    assert (state_of(job), history(job.id)[-1]) == then
    [entry] = AuditEntry.objects.exclude(actor="command")
    assert (entry.actor, entry.action, entry.subject) == ("user grace", f"job.{name}", f"job/{job.id}")
    assert entry.note == "requested by phone"


@pytest.mark.parametrize(
    ("name", "state"), [("redrive", State.SUCCEEDED), ("cancel", State.SUCCEEDED), ("erase", State.RUNNING)]
)
def test_an_action_that_the_state_no_longer_allows_is_refused_with_the_reason(tenant, operator, name, state):
    """The page was stale, or another operator acted first."""
    job = in_state(tenant, state)
    before = history(job.id)
    answer = operator.post(address(job, name), follow=True)
    assert f"is {state}, which" in text_of(answer)
    assert 'class="error"' in answer.content.decode()
    assert history(job.id) == before


def test_a_double_click_redrives_once(tenant, operator):
    job = in_state(tenant, State.FAILED)
    for _ in range(2):
        operator.post(address(job, "redrive"))
    assert history(job.id).count("redrive") == 1


# --- Resolve ---


def unknown_job(tenant):
    return in_state(tenant, State.UNKNOWN)


DONE = {
    "step": "charge",
    "verdict": "done",
    "then": "succeeded",
    "result": '{"charge_id": "ch_1"}',
    "note": "The bank says so.",
}


def test_an_operator_resolves_an_unknown_effect(tenant, operator):
    job = unknown_job(tenant)
    text = text_of(operator.get(address(job, "resolve")))
    assert f"charge (semel-{job.id}-charge-1)" in text
    operator.post(address(job, "resolve"), DONE)
    resolved = Job.objects.get(pk=job.id)
    assert (resolved.state, decode_payload(resolved.result)) == ("succeeded", {"charge_id": "ch_1"})
    [entry] = AuditEntry.objects.filter(action="job.resolve")
    assert (entry.actor, entry.note, entry.subject) == ("user grace", "The bank says so.", f"job/{job.id}")
    page = text_of(operator.get(f"{JOBS}{job.id}/"))
    assert "by: user grace" in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"note": ""}, "This field is required"),
        ({"note": "  "}, "This field is required"),
        ({"verdict": "not_done", "result": ""}, "cannot succeed"),
        ({"verdict": "not_done", "then": "queued"}, "has no result"),
        ({"result": "{"}, "This is not JSON"),
        ({"result": '{"a": 1, "a": 2}'}, "This is not JSON"),
        ({"step": "refund"}, "Select a valid choice"),
        ({"verdict": "maybe"}, "Select a valid choice"),
        ({"then": "running"}, "Select a valid choice"),
    ],
)
def test_an_invalid_verdict_shows_the_form_again(tenant, operator, changes, message):
    job = unknown_job(tenant)
    answer = operator.post(address(job, "resolve"), {**DONE, **changes})
    assert answer.status_code == 200
    assert message in text_of(answer)
    assert state_of(job) == "unknown"
    assert not AuditEntry.objects.filter(action="job.resolve").exists()


def test_a_verdict_not_done_can_queue_the_job(tenant, operator):
    job = unknown_job(tenant)
    operator.post(address(job, "resolve"), {**DONE, "verdict": "not_done", "then": "queued", "result": ""})
    assert state_of(job) == "queued"
    assert JobStep.objects.get(job_id=job.id).state == "not_done"


def test_a_job_without_an_unknown_effect_cannot_be_resolved(tenant, operator):
    job = in_state(tenant, State.FAILED)
    assert "No effect of this job has an unknown outcome" in text_of(operator.get(address(job, "resolve")))
    assert operator.post(address(job, "resolve"), DONE).status_code == 200
    assert state_of(job) == "failed"


# --- The key ---


def test_a_key_is_released_with_a_reason(tenant, operator):
    job = failed_with_key(tenant)
    assert "release-key" in offered(operator, job)
    path, owner = address(job, "release-key"), IdempotencyRecord.objects.get().owner
    assert "This field is required" in text_of(operator.post(path, {"owner": owner, "note": ""}))
    assert IdempotencyRecord.objects.exists()
    answer = operator.post(path, {"owner": owner, "note": "The client lost its order."}, follow=True)
    assert "The key order-1001 is free" in text_of(answer)
    assert not IdempotencyRecord.objects.exists()
    [entry] = AuditEntry.objects.filter(action="key.release")
    assert (entry.actor, entry.note) == ("user grace", "The client lost its order.")
    assert "release-key" not in offered(operator, job)


def test_a_key_with_a_new_owner_is_not_released(tenant, operator):
    job = failed_with_key(tenant)
    owner = IdempotencyRecord.objects.get().owner
    IdempotencyRecord.objects.update(owner=owner + 1)
    operator.post(address(job, "release-key"), {"owner": owner, "note": "why"})
    assert IdempotencyRecord.objects.exists()


def test_the_key_of_an_unfinished_job_is_not_released(tenant, operator):
    job = keyed_job(tenant, "order-1001")
    assert "release-key" not in offered(operator, job)
    operator.post(address(job, "release-key"), {"owner": 0, "note": "why"})
    assert IdempotencyRecord.objects.exists()


# --- Login ---


def test_an_operator_logs_in_with_a_password(tenant):
    user_with("view_job", "operate_job", name="joan")
    client = Client()
    answer = client.post("/admin/login/?next=/admin/jobs/job/", {"username": "joan", "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/jobs/job/")
