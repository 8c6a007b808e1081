"""What the admin shows of jobs: the list, the search, a job's page; and to whom."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client

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
    """The browser of somebody who may look."""
    return client_of(user_with("view_job"))


def listed(client, **asked):
    """The ids on the page of the list that these filters give."""
    return job_ids(client.get(JOBS, asked))


# --- Who may look ---


def test_nobody_looks_without_logging_in(tenant):
    job = queued_job(tenant)
    for path in ("/admin/", JOBS, f"{JOBS}{job.id}/"):
        answer = Client().get(path)
        assert (answer.status_code, answer["Location"]) == (302, f"/admin/login/?next={path}")


def test_who_may_not_look_at_jobs_is_told_so_in_html(tenant):
    client = client_of(user_with())
    for path in (JOBS, f"{JOBS}{queued_job(tenant).id}/"):
        answer = client.get(path)
        assert answer.status_code == 403
        assert answer["Content-Type"].startswith("text/html")
        assert "Not allowed" in text_of(answer)


def test_the_admin_is_found_without_its_slash(reader):
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
    "asked", [{"state": "lost"}, {"tenant": "x"}, {"created_from": "yesterday"}, {"priority": "9"}]
)
def test_a_filter_that_cannot_be_is_told_and_finds_nothing(tenant, reader, asked):
    queued_job(tenant)
    answer = reader.get(JOBS, asked)
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
    """The address behind a link to another page; None where there is none."""
    html = answer.content.decode()
    _, found, rest = html.partition(f'rel="{relation}" href="')
    return rest.partition('"')[0].replace("&amp;", "&") if found else None


def test_a_page_that_is_none_begins_at_the_newest(tenant, reader):
    job = queued_job(tenant)
    assert listed(reader, older_than="'; DROP TABLE job") == [job.id]


def test_a_tenant_that_is_not_offered_can_be_filtered_by_all_the_same(tenant, reader, monkeypatch):
    monkeypatch.setattr("operators.admin.job_filters._MAX_TENANT_CHOICES", 1)
    TenantFactory(name="a-first"), TenantFactory(name="another")
    job = queued_job(tenant)
    assert "another" not in reader.get(JOBS).content.decode()
    assert listed(reader, tenant=str(tenant.id)) == [job.id]
    assert (
        f'<option value="{tenant.id}" selected>' in reader.get(JOBS, {"tenant": tenant.id}).content.decode()
    )


# --- The search ---


def test_an_exact_hit_leads_straight_to_the_job(tenant, reader):
    job = keyed_job(tenant, "order-1001")
    Job.objects.filter(pk=job.id).update(request_id="req-77")
    for text in (str(job.id), f"  {job.id} ", str(job.id).upper(), "order-1001", "req-77"):
        answer = reader.get(JOBS, {"q": text})
        assert (answer.status_code, answer["Location"]) == (302, f"{JOBS}{job.id}/")


def test_a_key_that_two_tenants_use_lists_both_jobs(tenant, reader):
    jobs = [keyed_job(whose, "order-1001").id for whose in (tenant, TenantFactory())]
    assert listed(reader, q="order-1001") == jobs[::-1]


@pytest.mark.parametrize(
    "text", ["order-100", "ORDER-1001", "\x00", "é", "x" * 300, "0199aaaa-bbbb-7ccc-8ddd-eeeeffff0000", "%"]
)
def test_what_is_called_otherwise_is_not_found(tenant, reader, text):
    keyed_job(tenant, "order-1001")
    answer = reader.get(JOBS, {"q": text})
    assert answer.status_code == 200
    assert "No job has exactly this id, key, request id or reference" in text_of(answer)


# --- A job's page ---


@pytest.mark.parametrize("state", list(State))
def test_a_job_in_any_state_has_a_page_with_its_life(tenant, reader, state):
    job = in_state(tenant, state)
    said = text_of(reader.get(f"{JOBS}{job.id}/"))
    for words in ("Accepted", "Timeline", "Events", "submit", str(job.id), state, tenant.name):
        assert words in said
    assert ("Attempt 1" in said) == (job.attempt > 0)
    assert (f"Settled: {state}" in said) == state.is_settled
    assert ("The outcome of an effect is unknown" in said) == (state is State.UNKNOWN)


def test_a_job_that_is_not_there_is_told_in_html(reader):
    answer = reader.get(f"{JOBS}{uuid4()}/")
    assert answer.status_code == 404
    assert "does not exist" in text_of(answer)


def test_the_page_tells_what_each_attempt_and_effect_came_to(tenant, reader):
    job = in_state(tenant, State.UNKNOWN)
    said = text_of(reader.get(f"{JOBS}{job.id}/"))
    assert f"semel-{job.id}-charge-1" in said
    assert "outcome-unknown: who knows" in said
    assert "a-worker" in said


def test_the_page_tells_how_often_its_key_was_replayed(tenant, reader):
    job = keyed_job(tenant, "order-1001")
    IdempotencyRecord.objects.filter(pk=job.idempotency_record_id).update(replays=7)
    said = text_of(reader.get(f"{JOBS}{job.id}/"))
    assert "Replays of the key 7" in said
    assert "order-1001" in said


def test_the_page_gives_command_lines_without_a_credential(tenant, reader):
    job = claim(queued_job(tenant).id, worker="host-7:4242")
    said = text_of(reader.get(f"{JOBS}{job.id}/"))
    address = f"http://testserver/v1/jobs/{job.id}"
    assert f'curl -sS -H "Authorization: Bearer $SEMEL_API_KEY" {address}' in said
    assert "celery -A config inspect active -d worker@host-7" in said


def test_no_secret_is_on_the_page_whatever_part_of_the_job_holds_it(tenant, reader):
    """Params, metadata, progress, step results, errors and events of attempts, the job's error."""
    submission = Submission(
        operation=current_operation("test.anything"),
        params={"card": {"number": SECRET}, "note": f"password={SECRET}", "shown": "amount 1999"},
        metadata={"session_token": SECRET, "plain": f"https://me:{SECRET}@host/"},
    )
    job = submit_job(tenant_id=tenant.id, mode="test", submission=submission)
    Job.objects.filter(pk=job.id).update(progress={"message": f"token: {SECRET}"})
    held = claim(job.id)
    begin(held, "charge")
    result = {"source": SECRET, "charge_id": "ch_1"}
    assert close_effect(
        job_id=job.id, attempt=held.attempt, name="charge", state="done", result=encode_payload(result)
    )
    detail = f"503 from https://user:{SECRET}@provider/ with secret={SECRET}"
    transitions.retry_job(
        job_id=job.id, attempt=held.attempt, delay=-timedelta(hours=1), detail=detail, cause="x"
    )
    held = claim(job.id)
    transitions.fail_job(job_id=job.id, attempt=held.attempt, detail=detail, cause="x")
    html = reader.get(f"{JOBS}{job.id}/").content.decode()
    assert SECRET not in html
    assert "amount 1999" in html
    assert "ch_1" in html


def test_what_a_client_sent_is_text_and_not_markup(tenant, reader):
    hostile = "<script>alert(1)</script>"
    submission = Submission(
        operation=current_operation("test.anything"), params={hostile: hostile}, metadata={"m": hostile}
    )
    job = submit_job(tenant_id=tenant.id, mode="test", submission=submission, idempotency_key="<b>key</b>")
    for path in (f"{JOBS}{job.id}/", JOBS):
        html = reader.get(path).content.decode()
        assert hostile not in html
        assert "<b>key</b>" not in html


# --- Time ---


@pytest.mark.django_db(transaction=True)
def test_a_look_that_takes_too_long_ends_in_a_page_that_says_so(tenant, settings, reader):
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
