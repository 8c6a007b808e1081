"""Each rule of the self-audit, broken on purpose, is reported once; correct rows are not reported."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO
from threading import Thread

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from structlog.testing import capture_logs

from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Job, JobStep, Violation
from jobs.payloads import encode_payload
from jobs.queries import selfaudit as queries
from jobs.queries import violations
from jobs.queries.selfaudit import JOB_RULES
from jobs.queries.violations import Finding
from jobs.selfaudit import run_once
from jobs.services import erase_payload, redrive_job, resolve_job
from jobs.signals import violation_found
from jobs.states import State
from tests.support.client import CHARGE
from tests.support.factories import claim, claimed_job, make_due, queued_job
from tests.support.keyed import keyed_job
from tests.support.scenarios import begin, close, expire, in_state

# A snapshot must be the first statement of its transaction, so tests may not run inside one.
pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def sql(statement, **values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def audit(**options):
    return run_once(window=HOUR, **options)


def found():
    """Return invariant, rule and subject of the open violations."""
    return sorted(Violation.objects.filter(resolved_at=None).values_list("invariant", "rule", "subject"))


@pytest.fixture
def _unconstrained(transactional_db):
    """Disable the triggers that refuse illegal rows, so that a test can write broken ones; enable them afterwards."""
    guarded = ("job", "job_step", "idempotency_record")
    with connection.cursor() as cursor:
        for table in guarded:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        yield
        for table in (*guarded, "job_attempt", "job_event"):
            cursor.execute(f"DELETE FROM {table}")
        for table in guarded:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


def charged(tenant):
    """Return a succeeded job with one done effect."""
    job = claimed_job(tenant)
    begin(job, "charge")
    close(job, "charge", JobStep.State.DONE, {"id": "ch_1"})
    return transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(1))


def last_attempt_of(tenant):
    """Return a job that runs its last attempt."""
    job = claimed_job(tenant)
    while job.attempts_left:
        transitions.retry_job(job_id=job.id, attempt=job.attempt, delay=-HOUR, detail="again", cause="test")
        job = claim(make_due(job.id).id)
    return job


JOBS = {
    ("I1", "effects-counted"): (charged, ["UPDATE job SET done_effects = 2 WHERE id = %(id)s"]),
    ("I1", "ended-with-open-effect"): (
        charged,
        [
            "UPDATE job SET open_effects = 1, done_effects = 0 WHERE id = %(id)s",
            "UPDATE job_step SET state = 'started', ended_at = NULL WHERE job_id = %(id)s",
        ],
    ),
    ("I1", "downstream-key"): (
        charged,
        ["UPDATE job_step SET downstream_key = downstream_key || 'x' WHERE job_id = %(id)s"],
    ),
    ("I4", "attempts-gap-free"): (last_attempt_of, ["DELETE FROM job_attempt WHERE job_id = %(id)s AND number = 2"]),
    ("I4", "events-gap-free"): (charged, ["UPDATE job SET event_seq = event_seq + 1 WHERE id = %(id)s"]),
    ("I4", "events-in-order"): (
        charged,
        [
            "UPDATE job SET event_seq = event_seq + 1 WHERE id = %(id)s",
            (
                "INSERT INTO job_event (job_id, seq, type, attempt, data, created_at)"
                " SELECT id, event_seq, 'succeed', attempt, '{}', now() FROM job WHERE id = %(id)s"
            ),
        ],
    ),
    ("I4", "state-has-its-event"): (charged, ["UPDATE job SET state = 'failed', error = result WHERE id = %(id)s"]),
    ("I4", "fence-rises"): (
        last_attempt_of,
        [
            "UPDATE job_event SET attempt = 1 WHERE job_id = %(id)s AND seq = (SELECT event_seq FROM job WHERE id = %(id)s)"
        ],
    ),
    ("I5", "attempts-bounded"): (last_attempt_of, ["UPDATE job SET max_attempts = max_attempts - 1 WHERE id = %(id)s"]),
    ("I10", "result-size"): (charged, ["UPDATE job SET result = repeat('x', 300000)::bytea WHERE id = %(id)s"]),
}


@pytest.mark.usefixtures("_unconstrained")
@pytest.mark.parametrize("rule", JOBS, ids=[rule for _, rule in JOBS])
def test_a_job_that_breaks_a_rule_is_found(tenant, rule):
    make, statements = JOBS[rule]
    job, healthy = make(tenant), make(tenant)
    assert audit().is_clean
    for statement in statements:
        sql(statement, id=job.id)
    assert audit().new == 1
    assert found() == [(*rule, f"job/{job.id}")]
    assert healthy.id != job.id


def test_every_rule_of_jobs_is_tested_here():
    assert set(JOB_RULES) == set(JOBS)


def test_two_live_jobs_of_one_key_are_found_but_not_a_live_and_an_ended_one(tenant):
    first, second = keyed_job(tenant, "a-key"), queued_job(tenant)
    sql("UPDATE job SET idempotency_key = 'a-key' WHERE id = %(id)s", id=second.id)
    audit()
    assert found() == [("I3", "two-jobs-of-one-key", f"job/{second.id}")]
    transitions.cancel_queued_job(job_id=second.id)
    assert audit().resolved == 1
    assert found() == []
    assert Job.objects.get(pk=first.id).state == State.QUEUED


@pytest.fixture
def record(api):
    """The record of an accepted charge."""
    assert api.post("/v1/jobs", CHARGE, format="json", headers={"Idempotency-Key": "a-key"}).status_code == 202
    return IdempotencyRecord.objects.get()


RECORDS = {
    "key-has-its-job": "DELETE FROM job",
    "job-is-the-keys-own": "UPDATE job SET idempotency_key = 'another'",
    "key-has-an-answer": "UPDATE idempotency_record SET status = NULL, response = NULL",
    "key-has-a-fingerprint": "UPDATE idempotency_record SET fingerprint = ''",
}


@pytest.mark.parametrize("rule", RECORDS)
def test_a_key_whose_answer_cannot_be_replayed_is_found(record, rule):
    assert audit().is_clean
    sql(RECORDS[rule])
    audit()
    assert found() == [("I3", rule, f"record/{record.id}")]


def test_an_answer_beyond_the_limit_is_found(record, settings):
    settings.IDEMPOTENCY_STORED_RESPONSE_MAX_BYTES = 1
    assert audit().is_clean  # a headers' worth of bytes is allowed beside the body
    sql("UPDATE idempotency_record SET response = repeat('x', 20000)::bytea")
    audit()
    assert found() == [("I10", "answer-size", f"record/{record.id}")]


def test_overdue_rows_are_found_unless_the_purge_must_keep_them(record, tenant, settings):
    sql("UPDATE idempotency_record SET created_at = now() - interval '9 days', expires_at = now() - interval '2 hours'")
    assert audit().is_clean  # its job is still queued
    transitions.cancel_queued_job(job_id=Job.objects.get().id)
    ended = charged(tenant)
    sql(
        "UPDATE job SET finished_at = now() - %(kept)s - interval '2 hours' WHERE id = %(id)s",
        kept=timedelta(seconds=settings.JOB_RETENTION_SECONDS),
        id=ended.id,
    )
    audit()
    assert found() == [("I10", "purge-keeps-pace", "purge/jobs"), ("I10", "purge-keeps-pace", "purge/keys")]
    call_command("purge", stdout=StringIO())
    assert audit().resolved == 2


def test_a_violation_is_reported_once_and_resolved_when_it_is_gone(tenant):
    job = charged(tenant)
    received = []

    def listen(*, finding, **_signal):
        received.append(finding)

    violation_found.connect(listen)
    try:
        sql("UPDATE job SET done_effects = 2 WHERE id = %(id)s", id=job.id)
        with capture_logs() as logs:
            assert [audit().new for _ in range(3)] == [1, 0, 0]
        assert [(one.invariant, one.rule, one.subject) for one in received] == [
            ("I1", "effects-counted", f"job/{job.id}")
        ]
        assert len([line for line in logs if line["event"] == "selfaudit.violation"]) == 1
        row = Violation.objects.get()
        assert row.last_seen_at > row.first_seen_at
        sql("UPDATE job SET done_effects = 1 WHERE id = %(id)s", id=job.id)
        assert audit().resolved == 1
        assert Violation.objects.get().resolved_at is not None
        sql("UPDATE job SET done_effects = 2 WHERE id = %(id)s", id=job.id)
        assert audit().new == 1  # it is back, and reported again
        assert len(received) == 2
    finally:
        violation_found.disconnect(listen)


def test_each_of_many_violations_is_reported_once():
    findings = [Finding(invariant="I4", rule="fence-rises", subject=f"job/{number}") for number in range(2_000)]
    assert [len(violations.record_findings(findings)) for _ in range(2)] == [2_000, 0]


def test_a_failing_receiver_does_not_stop_the_others(tenant):
    def fail(**_signal):
        raise RuntimeError

    violation_found.connect(fail)
    try:
        sql("UPDATE job SET done_effects = 2 WHERE id = %(id)s", id=charged(tenant).id)
        assert audit().new == 1
    finally:
        violation_found.disconnect(fail)


def test_a_known_violation_is_checked_again_even_if_its_job_is_old(tenant):
    job = charged(tenant)
    sql("UPDATE job SET done_effects = 2 WHERE id = %(id)s", id=job.id)
    audit()
    sql("UPDATE job SET created_at = now() - interval '2 days', finished_at = now() - interval '2 days'")
    assert audit().resolved == 0
    assert len(found()) == 1
    sql("DELETE FROM job; DELETE FROM job_step; DELETE FROM job_event; DELETE FROM job_attempt")
    assert audit().resolved == 1


def test_details_hold_only_numbers_and_names(record):
    sql("UPDATE job SET idempotency_key = 'another'")
    audit()
    row = Violation.objects.get()
    assert "a-key" not in json.dumps(row.details) + row.subject
    assert set(row.details) == {"resource", "record_of_job"}


def test_a_defect_that_breaks_everything_does_not_flood_the_table(tenant):
    for _ in range(120):
        queued_job(tenant)
    sql("UPDATE job SET event_seq = 2")
    assert (audit().violations, Violation.objects.count()) == (120, 100)


def test_a_run_stops_at_its_time_limit_and_reports_it(tenant):
    queued_job(tenant)
    assert audit(seconds=0).is_complete is False
    assert audit(seconds=60).is_complete is True


def test_only_recent_jobs_are_checked(tenant):
    old, ended = queued_job(tenant), charged(tenant)
    sql("UPDATE job SET created_at = now() - interval '2 hours' WHERE id = ANY(%(ids)s)", ids=[old.id, ended.id])
    assert audit().jobs == 1  # it ended just now


def test_no_legal_transition_is_a_violation(tenant):
    """Reach each state as the product does, and take each way out of it that an operator has."""
    for state in State:
        in_state(tenant, state)
    job = in_state(tenant, State.FAILED)
    redrive_job(tenant_id=tenant.id, mode="test", job_id=job.id)
    claim(job.id)
    for then in (State.SUCCEEDED, State.FAILED, State.QUEUED):
        job = in_state(tenant, State.UNKNOWN)
        verdict = {"step": "charge", "verdict": JobStep.State.DONE, "note": "seen", "by": "ada", "result": 1}
        resolve_job(tenant_id=tenant.id, mode="test", job_id=job.id, then=then, **verdict)
    erase_payload(tenant_id=tenant.id, mode="test", job_id=charged(tenant).id)
    job = last_attempt_of(tenant)
    begin(job, "charge")
    job = claim(make_due(expire(job).id).id)  # one more attempt, which only reconciles
    assert job.reconcile_only
    transitions.stop_as_unknown(job_id=job.id, attempt=job.attempt, detail="who knows")
    job = claimed_job(tenant)
    for _ in range(12):  # postponed many times, which charges no attempt
        transitions.postpone_job(job_id=job.id, attempt=job.attempt, delay=-HOUR, detail="stopping")
        job = claim(make_due(job.id).id)
    expire(last_attempt_of(tenant))
    counts = audit()
    assert found() == []
    assert counts.jobs == 14


def test_a_job_that_changes_during_a_run_is_read_in_one_snapshot(tenant):
    """The change is committed between two statements of one batch; both read the state before it."""
    job = claimed_job(tenant)

    def settle():
        transitions.succeed_job(job_id=job.id, attempt=1, result=encode_payload(1))
        connection.close()

    with queries.one_snapshot():
        before = queries.broken_jobs(("I4", "attempts-gap-free"), [job.id], result_max_bytes=1)
        thread = Thread(target=settle)
        thread.start()
        thread.join()
        broken = [queries.broken_jobs(rule, [job.id], result_max_bytes=10) for rule in JOB_RULES]
    assert (before, broken) == ([], [[]] * len(JOB_RULES))
    assert Job.objects.get().state == State.SUCCEEDED
    assert audit().is_clean


def run_command(**options):
    out = StringIO()
    try:
        call_command("selfaudit", stdout=out, **options)
    except SystemExit as ended:
        return out.getvalue(), ended.code
    return out.getvalue(), 0


def test_the_command_exits_with_1_if_it_found_a_violation(tenant):
    job = charged(tenant)
    assert run_command() == ("jobs: 1, keys: 0, violations: 0, new: 0, resolved: 0, is_complete: True\n", 0)
    sql("UPDATE job SET done_effects = 2 WHERE id = %(id)s", id=job.id)
    text, code = run_command()
    assert code == 1
    assert f"I1 effects-counted job/{job.id}" in text


def test_the_admin_shows_violations_read_only(tenant):
    sql("UPDATE job SET done_effects = 2 WHERE id = %(id)s", id=charged(tenant).id)
    audit()
    admin = get_user_model().objects.create_superuser("ada", password="x" * 12)
    client = Client()
    client.force_login(admin)
    row = Violation.objects.get()
    assert "effects-counted" in client.get("/admin/jobs/violation/").content.decode()
    page = client.get(f"/admin/jobs/violation/{row.id}/change/")
    assert page.status_code == 200
    assert 'name="_save"' not in page.content.decode()
    assert client.post(f"/admin/jobs/violation/{row.id}/delete/", {"post": "yes"}).status_code == 403


def test_a_violation_that_was_resolved_long_ago_is_deleted(tenant, settings):
    age = timedelta(seconds=settings.JOB_RETENTION_SECONDS) + HOUR
    for resolved_at in (timezone.now() - age, timezone.now(), None):
        Violation.objects.create(invariant="I4", rule="fence-rises", subject="job/x", resolved_at=resolved_at)
    Violation.objects.filter(resolved_at=None).delete()
    audit()
    assert Violation.objects.count() == 1
