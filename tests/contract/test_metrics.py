"""`/metrics`: closed to the public, and each figure moves when its fact happens."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
import redis
from django.db import connection, transaction
from rest_framework.test import APIClient

from broker.circuit_breaker import redis_breaker
from broker.hints import DueJob, publish_hints
from idempotency.models import IdempotencyRecord
from jobs import transitions
from jobs.models import Pause
from jobs.operations import PermanentError, RetryableError
from jobs.signals import violation_found
from jobs.states import State
from observability.metrics.database_metrics import COUNTED
from tests.support.client import accepted, charge, post
from tests.support.factories import backdate, claim, end_lease, make_due, queued_job
from tests.support.metrics import read
from tests.support.scenarios import in_state
from workers import purge, sweep
from workers.executor import execute_job

TOKEN = "a-scraper's-token"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def scraper(settings):
    settings.METRICS_TOKEN = TOKEN
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {TOKEN}")
    return client


@pytest.fixture
def figures(scraper):
    """What a scrape says now."""

    def scrape():
        answer = scraper.get("/metrics")
        assert answer.status_code == 200, answer.content
        return read(answer.content.decode())

    return scrape


@pytest.fixture
def rises(figures):
    """Give a figure: within the block it rises by 1, or as said."""

    @contextmanager
    def check(name, by=1, **labels):
        before = figures()
        was = before.of(name, **labels) if before.has(name, **labels) else 0
        yield
        assert figures().of(name, **labels) - was == by, (name, labels)

    return check


# --- Who may read ------------------------------------------------------------------------------------------------------


def test_without_a_token_there_is_no_such_address(api):
    answer = api.get("/metrics")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "sent", ["", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xfc"]
)
def test_whoever_does_not_know_the_token_is_refused(scraper, sent):
    scraper.credentials(**({"HTTP_AUTHORIZATION": sent} if sent else {}))
    answer = scraper.get("/metrics")
    assert answer.status_code == 401
    assert json.loads(answer.content)["code"] == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_api_key_opens_nothing_here(scraper, api):
    assert api.get("/metrics").status_code == 401


def test_figures_are_text_that_nobody_keeps(scraper):
    answer = scraper.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_figures_can_only_be_read(scraper):
    assert scraper.post("/metrics").status_code == 405


# --- Requests ----------------------------------------------------------------------------------------------------------


def test_a_request_counts_under_its_route_method_and_status(api, rises):
    job = accepted(post(api))
    route = {"method": "GET", "route": "/v1/jobs/<uuid:job_id>"}
    with (
        rises("semel_http_requests_total", status="200", **route),
        rises("semel_http_request_duration_seconds_count", **route),
    ):
        api.get(job["links"]["self"])


def test_no_label_takes_its_value_from_a_client(api, figures):
    api.get("/v1/jobs/0199f3a4-7a3c-7000-8000-00000000abcd")
    api.get("/nowhere/at-all")
    api.generic("BREW", "/v1/jobs")
    api.get("/admin/some/page")
    found = figures()
    assert found.has("semel_http_requests_total", route="other", status="404")
    assert found.has("semel_http_requests_total", method="other")
    labels = {value for _, labels in found.samples for _, value in labels}
    assert not [value for value in labels if "abcd" in value or "nowhere" in value or "BREW" in value]
    assert "/admin/some/page" not in labels


# --- Keys --------------------------------------------------------------------------------------------------------------

KEYED = "semel_idempotency_requests_total"


def test_a_first_use_a_replay_and_a_reuse_are_told_apart(api, rises):
    with rises(KEYED, outcome="first"), rises(KEYED, 0, outcome="replayed"):
        post(api, key="told-apart")
    with (
        rises(KEYED, outcome="replayed"),
        rises(KEYED, 0, outcome="first"),
        rises("semel_idempotency_replay_age_seconds_count"),
    ):
        post(api, key="told-apart")
    with rises(KEYED, outcome="reused"), rises(KEYED, 0, outcome="replayed"):
        assert post(api, charge(amount=5), key="told-apart").status_code == 409


def test_the_age_of_a_key_at_its_replay_is_known(api, rises):
    post(api, key="old")
    past = timedelta(hours=13)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - %s, expires_at = expires_at - %s",
            [past, past],
        )
    with (
        rises("semel_idempotency_replay_age_seconds_bucket", 0, le="43200.0"),
        rises("semel_idempotency_replay_age_seconds_bucket", 1, le="64800.0"),
        rises("semel_idempotency_replay_lifetime_ratio_bucket", 0, le="0.5"),
        rises("semel_idempotency_replay_lifetime_ratio_bucket", 1, le="0.75"),
    ):
        post(api, key="old")


def test_an_expired_key_that_is_used_again_is_a_take_over(api, tenant, rises):
    job = accepted(post(api, key="again"))
    transitions.cancel_queued_job(job_id=job["id"])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = now() - interval '2 d', expires_at = now() - interval '1 d'"
        )
    with rises(KEYED, outcome="taken_over"), rises(KEYED, 0, outcome="first"):
        post(api, charge(amount=7), key="again")


def test_a_duplicate_that_gives_up_waiting_is_in_progress(api, rises, settings):
    settings.IDEMPOTENCY_WAIT_SECONDS = 0.0
    with rises(KEYED, outcome="in_progress"):
        assert post(api, key="busy").status_code == 409


# --- Jobs --------------------------------------------------------------------------------------------------------------

MOVES = "semel_job_transitions_total"


def test_a_job_counts_from_its_submission_to_its_end(tenant, script, rises):
    with rises(MOVES, event="submit", state="queued", operation="test.scripted"):
        job = queued_job(tenant, script=script(lambda _: {}))
    with (
        rises(MOVES, event="claim", state="running"),
        rises(MOVES, event="succeed", state="succeeded"),
        rises("semel_job_wait_seconds_count", operation="test.scripted"),
        rises("semel_job_run_seconds_count", operation="test.scripted", outcome="succeeded"),
    ):
        execute_job(job.id)


def test_what_is_undone_does_not_count(tenant, rises):
    with rises(MOVES, 0, event="submit"), transaction.atomic():
        queued_job(tenant)
        transaction.set_rollback(True)


def test_the_wait_counts_from_when_the_job_was_due(tenant, rises):
    job = make_due(queued_job(tenant).id)  # an hour ago
    with (
        rises("semel_job_wait_seconds_bucket", 0, operation="test.scripted", le="900.0"),
        rises("semel_job_wait_seconds_count", 1, operation="test.scripted"),
    ):
        claim(job.id)


def test_retries_failures_and_doubts_count(tenant, script, rises):
    def raising(error):
        def perform(job):
            raise error

        return queued_job(tenant, script=script(perform)).id

    with (
        rises(MOVES, event="retry", state="queued"),
        rises("semel_job_run_seconds_count", outcome="retryat"),
    ):
        execute_job(raising(RetryableError("later", code="x")))
    with rises(MOVES, event="fail", state="failed"):
        execute_job(raising(PermanentError("no", code="x")))
    with rises(MOVES, event="doubt", state="unknown"):
        in_state(tenant, State.UNKNOWN)


def test_an_expired_lease_counts_and_so_does_the_sweep_that_found_it(tenant, rises):
    job = claim(queued_job(tenant).id)
    end_lease(job.id)
    with (
        rises(MOVES, event="expire", state="queued"),
        rises("semel_sweep_rows_total", kind="expired"),
        rises("semel_sweep_duration_seconds_count"),
    ):
        sweep.run_once()


@pytest.mark.parametrize(
    ("state", "reason"),
    [(State.RUNNING, "running"), (State.SUCCEEDED, "settled"), (State.UNKNOWN, "settled")],
)
def test_a_duplicate_delivery_is_counted_by_what_it_met(tenant, rises, state, reason):
    job = in_state(tenant, state)
    with rises("semel_deliveries_dropped_total", reason=reason):
        execute_job(job.id)


def test_a_delivery_that_came_too_early_is_no_duplicate(tenant, rises):
    ahead = queued_job(tenant, concurrency_key="one")
    behind = queued_job(tenant, concurrency_key="one")
    with rises("semel_deliveries_dropped_total", reason="blocked"):
        execute_job(behind.id)
    backdate(ahead.id, run_at=timedelta(hours=-1))
    with rises("semel_deliveries_dropped_total", reason="blocked"):
        execute_job(ahead.id)
    later = backdate(queued_job(tenant).id, run_at=timedelta(hours=-1))
    with rises("semel_deliveries_dropped_total", reason="waiting"):
        execute_job(later.id)


def test_a_write_that_the_fence_refuses_counts_once_an_attempt(tenant, script, rises):
    def lose(job):
        end_lease(job.id)
        assert sweep.run_once().expired == 1
        return {}

    job = queued_job(tenant, script=script(lose))
    with rises("semel_stale_writes_total"):
        execute_job(job.id)


# --- The broker --------------------------------------------------------------------------------------------------------


def test_messages_count_by_whether_the_broker_took_them(tenant, rises, settings):
    with rises("semel_publishes_total", outcome="sent"), rises("semel_publishes_total", 0, outcome="failed"):
        queued_job(tenant)


def test_an_open_breaker_shows_and_so_does_what_it_spares(tenant, rises, figures):
    try:
        for _ in range(3):
            redis_breaker.failed()
        found = figures()
        assert found.of("semel_breaker_open") == 1
        assert found.of("semel_up", component="redis") == 0
        with rises("semel_publishes_total", outcome="skipped"):
            publish_hints([DueJob(uuid4(), "default")])
    finally:
        redis_breaker.succeeded()
    redis_breaker.failed()
    redis_breaker.succeeded()
    assert figures().of("semel_breaker_open") == 0


def test_the_length_of_each_queue_is_asked_of_the_broker(settings, figures):
    with redis.Redis.from_url(settings.REDIS_URL) as valkey:
        valkey.flushdb()
        valkey.lpush("low", "a", "b")
        found = figures()
        valkey.flushdb()
    assert found.of("semel_broker_queue_messages", queue="low") == 2
    assert found.of("semel_broker_queue_messages", queue="default") == 0
    assert found.of("semel_up", component="redis") == 1


# --- What stands in the database ---------------------------------------------------------------------------------------


def test_jobs_that_have_not_ended_stand_by_operation_and_state(tenant, figures):
    for state in State:
        in_state(tenant, state)
    found = figures()
    for state in ("queued", "running", "unknown"):
        assert found.of("semel_jobs", operation="test.scripted", state=state) == 1
        assert found.of("semel_jobs", operation="payments.charge", state=state) == 0
    assert not found.has("semel_jobs", state="succeeded")


def test_the_oldest_due_job_tells_how_long_it_has_been_due_in_each_queue(tenant, figures):
    make_due(queued_job(tenant).id)
    queued_job(tenant)
    backdate(queued_job(tenant).id, run_at=timedelta(hours=-1))  # due in an hour
    make_due(queued_job(tenant, concurrency_key="one").id)  # in a line
    found = figures()
    assert found.of("semel_queue_due_jobs", queue="default") == 2
    assert 3_600 <= found.of("semel_queue_oldest_due_age_seconds", queue="default") < 3_700
    assert found.of("semel_queue_due_jobs", queue="low") == 0
    assert found.of("semel_queue_oldest_due_age_seconds", queue="low") == 0


def test_a_job_that_somebody_paused_is_not_overdue(tenant, figures):
    make_due(queued_job(tenant).id)
    Pause.objects.create(by="user ada", note="a test", operation="test.scripted")
    sweep.run_once()
    found = figures()
    assert found.of("semel_queue_due_jobs", queue="default") == 0
    assert found.of("semel_queue_oldest_due_age_seconds", queue="default") == 0
    assert found.of("semel_jobs", operation="test.scripted", state="queued") == 1


def test_a_backlog_is_counted_only_so_far(tenant, figures):
    job = queued_job(tenant)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempts_left, max_attempts,
                   run_at, next_publish_at, queue, priority)
               SELECT gen_random_uuid(), tenant_id, mode, operation, 1, '', 'queued', 3, 3, run_at, run_at, queue, priority
               FROM job, generate_series(1, %s) WHERE id = %s""",
            [COUNTED + 5, job.id],
        )
    found = figures()
    assert found.of("semel_queue_due_jobs", queue="default") == COUNTED
    assert found.of("semel_jobs", operation="test.scripted", state="queued") == COUNTED


def test_purge_lag_is_that_of_keys_that_could_go(api, tenant, figures, rises):
    key = {"created_at": "2 d", "expires_at": "1 h"}
    post(api, key="stays")
    job = accepted(post(api, key="goes"))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = now() - %(created_at)s::interval,"
            " expires_at = now() - %(expires_at)s::interval",
            key,
        )
    assert figures().of("semel_purge_lag_seconds") == 0
    transitions.cancel_queued_job(job_id=job["id"])
    assert 3_600 <= figures().of("semel_purge_lag_seconds") < 3_700
    with rises("semel_purge_rows_total", kind="keys"), rises("semel_purge_duration_seconds_count"):
        purge.run_once()
    assert figures().of("semel_purge_lag_seconds") == 0
    assert IdempotencyRecord.objects.count() == 1


def test_when_sweep_and_purge_last_ended_is_known(figures):
    before = time.time()
    sweep.run_once()
    purge.run_once()
    found = figures()
    for name in ("sweep", "purge"):
        assert before <= found.of(f"semel_{name}_last_finished_timestamp_seconds") <= time.time()


def test_a_violation_is_there_before_the_first_one_and_counts(figures, rises):
    assert figures().has("semel_audit_violations_total", invariant="I10")
    with rises("semel_audit_violations_total", invariant="I1"):
        violation_found.send_robust(sender=None, finding=SimpleNamespace(invariant="I1"))
