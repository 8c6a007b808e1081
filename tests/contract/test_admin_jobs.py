"""Jobs in the admin: the list, the search, a job's page, permissions."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from uuid_utils import uuid7

from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Job, Priority
from jobs.payloads import encode_payload
from jobs.queries.steps import close_effect
from jobs.registry import current_operation
from jobs.states import State
from jobs.submission import Submission, submit_job
from tests.support.admin_pages import JOBS, client_of, job_ids, text_of, user_with
from tests.support.factories import TenantFactory, backdate, claim, queued_job
from tests.support.keyed import keyed_job
from tests.support.scenarios import begin, in_state

pytestmark = pytest.mark.django_db

SECRET = "hunter2"


@pytest.fixture
def reader():
    """Return the browser of a read-only user."""
    return client_of(user_with("view_job"))


def listed(client, **query):
    """Return the ids on the first page of the list with these filters."""
    return job_ids(client.get(JOBS, query))


# --- Permissions ---


def test_pages_need_a_login(tenant):
    job = queued_job(tenant)
    for path in ("/admin/", JOBS, f"{JOBS}{job.id}/"):
        answer = Client().get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")


def test_a_user_without_the_permission_gets_an_html_page(tenant):
    client = client_of(user_with())
    for path in (JOBS, f"{JOBS}{queued_job(tenant).id}/"):
        answer = client.get(path)
        assert answer.status_code == 403
        assert answer["Content-Type"].startswith("text/html")
        assert "Not allowed" in text_of(answer)


def test_the_admin_is_found_without_its_trailing_slash(reader):
    answer = reader.get("/admin", follow=True)
    assert answer.redirect_chain == [("/admin/", 302)]
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["add/", "{}/change/", "{}/delete/", "{}/history/"])
def test_there_is_no_form_over_a_jobs_columns(tenant, admin_client, path):
    address = JOBS + path.format(queued_job(tenant).id)
    for answer in (admin_client.get(address), admin_client.post(address, {"state": "succeeded"})):
        assert answer.status_code == 404
    assert not Job.objects.exclude(state="queued").exists()


# --- The list ---


def test_each_filter_finds_its_jobs_and_no_others(tenant, reader):
    other = TenantFactory(name="another")
    failed, done = in_state(tenant, State.FAILED), in_state(tenant, State.SUCCEEDED)
    live = queued_job(other, mode="live", priority=Priority.HIGH)
    old = backdate(queued_job(other).id, created_at=timedelta(minutes=3))
    assert listed(reader) == [old.id, live.id, done.id, failed.id]
    assert listed(reader, state="failed") == [failed.id]
    assert listed(reader, tenant=str(other.id)) == [old.id, live.id]
    assert listed(reader, mode="live") == [live.id]
    assert listed(reader, priority="0") == [live.id]
    assert listed(reader, operation="test.scripted", mode="live") == [live.id]
    assert listed(reader, operation="payments.charge") == []
    minute_ago = f"{live.created_at - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}"
    assert listed(reader, created_from=minute_ago) == [live.id, done.id, failed.id]
    assert listed(reader, created_to=minute_ago) == [old.id]


@pytest.mark.parametrize(
    "query", [{"state": "lost"}, {"tenant": "x"}, {"created_from": "yesterday"}, {"priority": "9"}]
)
def test_an_invalid_filter_shows_an_error_and_no_jobs(tenant, reader, query):
    queued_job(tenant)
    answer = reader.get(JOBS, query)
    assert answer.status_code == 200
    assert "errornote" in answer.content.decode()
    assert job_ids(answer) == []


def test_pages_show_each_job_once_in_both_directions_while_jobs_arrive(tenant, reader, monkeypatch):
    monkeypatch.setattr("operators.admin.list_page.ROWS", 4)
    jobs = [queued_job(tenant).id for _ in range(10)][::-1]
    seen, answer = [], reader.get(JOBS, {"state": "queued"})
    while True:
        seen += job_ids(answer)
        queued_job(tenant)
        if not (older := link_of(answer, "next")):
            break
        answer = reader.get(f"{JOBS}{older}")
    assert seen == jobs
    back = []
    while newer := link_of(answer, "prev"):
        answer = reader.get(f"{JOBS}{newer}")
        back = job_ids(answer) + back
    assert [job for job in back if job in jobs] == jobs[:8]
    assert len(back) == len({*back}) == 8 + 3


def link_of(answer, relation):
    """Return the link to another page; None if there is none."""
    html = answer.content.decode()
    _, found, rest = html.partition(f'rel="{relation}" href="')
    return rest.partition('"')[0].replace("&amp;", "&") if found else None


def test_an_invalid_position_shows_the_newest_page(tenant, reader):
    job = queued_job(tenant)
    assert listed(reader, older_than="'; DROP TABLE job") == [job.id]


def test_the_filter_accepts_a_tenant_that_is_not_among_the_choices(tenant, reader, monkeypatch):
    monkeypatch.setattr("operators.admin.job_filters._MAX_TENANT_CHOICES", 1)
    TenantFactory(name="a-first"), TenantFactory(name="another")
    job = queued_job(tenant)
    assert "another" not in reader.get(JOBS).content.decode()
    assert listed(reader, tenant=str(tenant.id)) == [job.id]
    assert f'<option value="{tenant.id}" selected>' in reader.get(JOBS, {"tenant": tenant.id}).content.decode()


# --- The search ---


def test_a_single_hit_opens_the_job(tenant, reader):
    request_id = str(uuid7())
    job = keyed_job(tenant, "order-1001")
    Job.objects.filter(pk=job.id).update(request_id=request_id)
    for text in (str(job.id), f"  {job.id} ", str(job.id).upper(), "order-1001", request_id):
        answer = reader.get(JOBS, {"q": text})
        assert (answer.status_code, answer["Location"]) == (302, f"{JOBS}{job.id}/")


def test_a_key_that_two_tenants_use_lists_both_jobs(tenant, reader):
    jobs = [keyed_job(whose, "order-1001").id for whose in (tenant, TenantFactory())]
    assert listed(reader, q="order-1001") == jobs[::-1]


@pytest.mark.parametrize(
    "text", ["order-100", "ORDER-1001", "\x00", "é", "x" * 300, "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000", "%"]
)
def test_only_exact_names_are_found(tenant, reader, text):
    keyed_job(tenant, "order-1001")
    answer = reader.get(JOBS, {"q": text})
    assert answer.status_code == 200
    assert "No job has exactly this id, key, request id or reference" in text_of(answer)


# --- A job's page ---


@pytest.mark.parametrize("state", list(State))
def test_a_job_in_any_state_has_a_page_with_its_history(tenant, reader, state):
    job = in_state(tenant, state)
    page_text = text_of(reader.get(f"{JOBS}{job.id}/"))
    for part in ("Accepted", "Timeline", "Events", "submit", str(job.id), state, tenant.name):
        assert part in page_text
    assert ("Attempt 1" in page_text) == (job.attempt > 0)
    assert (f"Settled: {state}" in page_text) == state.is_settled
    assert ("The outcome of an effect is unknown" in page_text) == (state is State.UNKNOWN)


def test_a_missing_job_gets_an_html_page(reader):
    answer = reader.get(f"{JOBS}{uuid4()}/")
    assert answer.status_code == 404
    assert "does not exist" in text_of(answer)


def test_the_page_shows_attempts_and_effects(tenant, reader):
    job = in_state(tenant, State.UNKNOWN)
    page_text = text_of(reader.get(f"{JOBS}{job.id}/"))
    assert f"semel-{job.id}-charge-1" in page_text
    assert "outcome-unknown: who knows" in page_text
    assert "a-worker" in page_text


def test_the_page_shows_how_often_its_key_was_replayed(tenant, reader):
    job = keyed_job(tenant, "order-1001")
    IdempotencyRecord.objects.filter(pk=job.idempotency_record_id).update(replays=7)
    page_text = text_of(reader.get(f"{JOBS}{job.id}/"))
    assert "Replays of the key 7" in page_text
    assert "order-1001" in page_text


def test_the_page_gives_shell_commands_without_a_credential(tenant, reader):
    job = claim(queued_job(tenant).id, worker="host-7:4242")
    page_text = text_of(reader.get(f"{JOBS}{job.id}/"))
    address = f"http://testserver/v1/jobs/{job.id}"
    assert f'curl -sS -H "Authorization: Bearer $SEMEL_API_KEY" {address}' in page_text
    assert "celery -A config inspect active -d worker@host-7" in page_text


def test_no_part_of_the_page_shows_a_secret(tenant, reader):
    """Params, metadata, progress, step results, errors and events of attempts, the job's error."""
    submission = Submission(
        operation=current_operation("test.anything"),
        params={"card": {"number": SECRET}, "note": f"password={SECRET}", "shown": "amount 1999"},
        metadata={"session_token": SECRET, "plain": f"https://me:{SECRET}@host/"},
    )
    job = submit_job(tenant_id=tenant.id, mode="test", submission=submission)
    Job.objects.filter(pk=job.id).update(progress={"message": f"token: {SECRET}"})
    job = claim(job.id)
    begin(job, "charge")
    result = {"source": SECRET, "charge_id": "ch_1"}
    assert close_effect(job_id=job.id, attempt=job.attempt, name="charge", state="done", result=encode_payload(result))
    detail = f"503 from https://user:{SECRET}@provider/ with secret={SECRET}"
    transitions.retry_job(job_id=job.id, attempt=job.attempt, delay=-timedelta(hours=1), detail=detail, cause="x")
    job = claim(job.id)
    transitions.fail_job(job_id=job.id, attempt=job.attempt, detail=detail, cause="x")
    html = reader.get(f"{JOBS}{job.id}/").content.decode()
    assert SECRET not in html
    assert "amount 1999" in html
    assert "ch_1" in html


def test_client_data_is_escaped(tenant, reader):
    hostile = "<script>alert(1)</script>"
    submission = Submission(
        operation=current_operation("test.anything"), params={hostile: hostile}, metadata={"m": hostile}
    )
    job = submit_job(tenant_id=tenant.id, mode="test", submission=submission, idempotency_key="<b>key</b>")
    for path in (f"{JOBS}{job.id}/", JOBS):
        html = reader.get(path).content.decode()
        assert hostile not in html
        assert "<b>key</b>" not in html


# --- Time limit ---


@pytest.mark.django_db(transaction=True)
def test_a_page_that_takes_too_long_ends_in_an_error_page(tenant, settings, reader):
    settings.ADMIN_STATEMENT_SECONDS = 0.05
    job = queued_job(tenant)
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("LOCK TABLE job IN ACCESS EXCLUSIVE MODE")
        for path in (JOBS, f"{JOBS}{job.id}/"):
            answer = reader.get(path)
            assert answer.status_code == 503
            assert answer["Content-Type"].startswith("text/html")
            assert "This took too long" in text_of(answer)
        with other.cursor() as cursor:
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    settings.ADMIN_STATEMENT_SECONDS = 20
    assert listed(reader) == [job.id]
