"""`/metrics`: requires a token, and each metric counts what it names."""

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
from broker.hints import DueJob
from broker.publisher import publisher
from idempotency.errors import RequestInProgress
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
def metrics(scraper):
    """Return a function that scrapes the metrics now."""

    def scrape():
        answer = scraper.get("/metrics")
        assert answer.status_code == 200, answer.content
        return read(answer.content.decode())

    return scrape


@pytest.fixture
def rises(metrics):
    """Check that a metric rises within the block: by 1, or by the given number."""

    @contextmanager
    def check(name, by=1, **labels):
        before = metrics()
        was = before.of(name, **labels) if before.has(name, **labels) else 0
        yield
        assert metrics().of(name, **labels) - was == by, (name, labels)

    return check


# --- Who may read ------------------------------------------------------------------------------------------------------


def test_metrics_are_not_found_without_a_configured_token(api):
    answer = api.get("/metrics")
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("sent", ["", "Bearer", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer \xfc"])
def test_a_request_without_the_token_is_refused(scraper, sent):
    scraper.credentials(**({"HTTP_AUTHORIZATION": sent} if sent else {}))
    answer = scraper.get("/metrics")
    assert answer.status_code == 401
    assert json.loads(answer.content)["code"] == "unauthenticated"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_an_api_key_does_not_give_access(scraper, api):
    assert api.get("/metrics").status_code == 401


def test_metrics_are_text_and_not_cached(scraper):
    answer = scraper.get("/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Cache-Control"] == "no-store"


def test_metrics_can_only_be_read(scraper):
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


def test_no_label_takes_its_value_from_a_client(api, metrics):
    api.get("/v1/jobs/0199f3a4-7a3c-7000-8000-00000000abcd")
    api.get("/nowhere/at-all")
    api.generic("BREW", "/v1/jobs")
    api.get("/admin/some/page")
    found = metrics()
    assert found.has("semel_http_requests_total", route="other", status="404")
    assert found.has("semel_http_requests_total", method="other")
    labels = {value for _, labels in found.samples for _, value in labels}
    assert not [value for value in labels if "abcd" in value or "nowhere" in value or "BREW" in value]
    assert "/admin/some/page" not in labels


# --- Keys --------------------------------------------------------------------------------------------------------------

KEYED = "semel_idempotency_requests_total"


def test_first_uses_replays_and_reuses_count_separately(api, rises):
    with rises(KEYED, outcome="first"), rises(KEYED, 0, outcome="replayed"):
        post(api, key="the-key")
    with (
        rises(KEYED, outcome="replayed"),
        rises(KEYED, 0, outcome="first"),
        rises("semel_idempotency_replay_age_seconds_count"),
    ):
        post(api, key="the-key")
    with rises(KEYED, outcome="reused"), rises(KEYED, 0, outcome="replayed"):
        assert post(api, charge(amount=5), key="the-key").status_code == 409


def test_the_age_of_a_key_at_its_replay_is_observed(api, rises):
    post(api, key="old")
    past = timedelta(hours=13)
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = created_at - %s, expires_at = expires_at - %s", [past, past]
        )
    with (
        rises("semel_idempotency_replay_age_seconds_bucket", 0, le="43200.0"),
        rises("semel_idempotency_replay_age_seconds_bucket", 1, le="64800.0"),
        rises("semel_idempotency_replay_lifetime_ratio_bucket", 0, le="0.5"),
        rises("semel_idempotency_replay_lifetime_ratio_bucket", 1, le="0.75"),
    ):
        post(api, key="old")


def test_reuse_of_an_expired_key_counts_as_a_takeover(api, tenant, rises):
    job = accepted(post(api, key="again"))
    transitions.cancel_queued_job(job_id=job["id"])
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = now() - interval '2 d', expires_at = now() - interval '1 d'"
        )
    with rises(KEYED, outcome="taken_over"), rises(KEYED, 0, outcome="first"):
        post(api, charge(amount=7), key="again")


def test_a_duplicate_that_gives_up_waiting_counts_as_in_progress(api, rises, monkeypatch):
    def wait_in_vain(*_arguments, **_options):
        raise RequestInProgress

    monkeypatch.setattr("idempotency.http.accept_at_once", lambda *_, **__: None)
    monkeypatch.setattr("idempotency.http.accept", wait_in_vain)
    with rises(KEYED, outcome="in_progress"):
        assert post(api, retries=False, key="busy").status_code == 409


# --- Jobs --------------------------------------------------------------------------------------------------------------

TRANSITIONS = "semel_job_transitions_total"


def test_each_transition_of_a_job_counts(tenant, script, rises):
    with rises(TRANSITIONS, event="submit", state="queued", operation="test.scripted"):
        job = queued_job(tenant, script=script(lambda _: {}))
    with (
        rises(TRANSITIONS, event="claim", state="running"),
        rises(TRANSITIONS, event="succeed", state="succeeded"),
        rises("semel_job_wait_seconds_count", operation="test.scripted"),
        rises("semel_job_run_seconds_count", operation="test.scripted", outcome="succeeded"),
    ):
        execute_job(job.id)


def test_a_transition_that_is_rolled_back_does_not_count(tenant, rises):
    with rises(TRANSITIONS, 0, event="submit"), transaction.atomic():
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

    with rises(TRANSITIONS, event="retry", state="queued"), rises("semel_job_run_seconds_count", outcome="retryat"):
        execute_job(raising(RetryableError("later", code="x")))
    with rises(TRANSITIONS, event="fail", state="failed"):
        execute_job(raising(PermanentError("no", code="x")))
    with rises(TRANSITIONS, event="doubt", state="unknown"):
        in_state(tenant, State.UNKNOWN)


def test_an_expired_lease_and_its_sweep_count(tenant, rises):
    job = claim(queued_job(tenant).id)
    end_lease(job.id)
    with (
        rises(TRANSITIONS, event="expire", state="queued"),
        rises("semel_sweep_rows_total", kind="expired"),
        rises("semel_sweep_duration_seconds_count"),
    ):
        sweep.run_once()


@pytest.mark.parametrize(
    ("state", "reason"), [(State.RUNNING, "running"), (State.SUCCEEDED, "settled"), (State.UNKNOWN, "settled")]
)
def test_a_duplicate_delivery_counts_by_the_state_of_its_job(tenant, rises, state, reason):
    job = in_state(tenant, state)
    with rises("semel_deliveries_dropped_total", reason=reason):
        execute_job(job.id)


def test_an_early_delivery_does_not_count_as_a_duplicate(tenant, rises):
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


def test_a_refused_write_counts_once_per_attempt(tenant, script, rises):
    def lose(job):
        end_lease(job.id)
        assert sweep.run_once().expired == 1
        return {}

    job = queued_job(tenant, script=script(lose))
    with rises("semel_stale_writes_total"):
        execute_job(job.id)


# --- The broker --------------------------------------------------------------------------------------------------------


def test_hints_count_by_their_outcome(tenant, rises, settings):
    with redis.Redis.from_url(settings.REDIS_URL) as valkey:
        valkey.flushdb()
    with rises("semel_publishes_total", outcome="sent"), rises("semel_publishes_total", 0, outcome="failed"):
        queued_job(tenant)
        assert publisher.flush(seconds=20.0)


def test_an_open_breaker_and_skipped_hints_are_visible(tenant, rises, metrics):
    try:
        for _ in range(3):
            redis_breaker.failed()
        found = metrics()
        assert found.of("semel_breaker_open") == 1
        assert found.of("semel_up", component="redis") == 0
        with rises("semel_publishes_total", outcome="skipped"):
            publisher.publish_hint(DueJob(uuid4(), "default"))
            assert publisher.flush(seconds=20.0)
    finally:
        redis_breaker.succeeded()
    redis_breaker.failed()
    redis_breaker.succeeded()
    assert metrics().of("semel_breaker_open") == 0


def test_the_length_of_each_queue_is_read_from_the_broker(settings, metrics):
    with redis.Redis.from_url(settings.REDIS_URL) as valkey:
        valkey.flushdb()
        valkey.lpush("low", "a", "b")
        found = metrics()
        valkey.flushdb()
    assert found.of("semel_broker_queue_messages", queue="low") == 2
    assert found.of("semel_broker_queue_messages", queue="default") == 0
    assert found.of("semel_up", component="redis") == 1


# --- Database metrics ---------------------------------------------------------------------------------------


def test_jobs_that_have_not_ended_count_by_operation_and_state(tenant, metrics):
    for state in State:
        in_state(tenant, state)
    found = metrics()
    for state in ("queued", "running", "unknown"):
        assert found.of("semel_jobs", operation="test.scripted", state=state) == 1
        assert found.of("semel_jobs", operation="payments.charge", state=state) == 0
    assert not found.has("semel_jobs", state="succeeded")


def test_each_queue_reports_the_age_of_its_oldest_due_job(tenant, metrics):
    make_due(queued_job(tenant).id)
    queued_job(tenant)
    backdate(queued_job(tenant).id, run_at=timedelta(hours=-1))  # due in an hour
    for _ in range(2):  # the second waits in a concurrency queue
        queued_job(tenant, concurrency_key="one")
    found = metrics()
    assert found.of("semel_queue_due_jobs", queue="default") == 3
    assert 3_600 <= found.of("semel_queue_oldest_due_age_seconds", queue="default") < 3_700
    assert found.of("semel_queue_due_jobs", queue="low") == 0
    assert found.of("semel_queue_oldest_due_age_seconds", queue="low") == 0


def test_a_paused_job_is_not_due(tenant, metrics):
    make_due(queued_job(tenant).id)
    Pause.objects.create(by="user ada", note="a test", operation="test.scripted")
    sweep.run_once()
    found = metrics()
    assert found.of("semel_queue_due_jobs", queue="default") == 0
    assert found.of("semel_queue_oldest_due_age_seconds", queue="default") == 0
    assert found.of("semel_jobs", operation="test.scripted", state="queued") == 1


def test_a_backlog_is_counted_up_to_a_limit(tenant, metrics):
    job = queued_job(tenant)
    with connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO job (id, tenant_id, mode, operation, operation_version, params, state, attempts_left, max_attempts,
                   run_at, queue, priority)
               SELECT gen_random_uuid(), tenant_id, mode, operation, 1, '', 'queued', 3, 3, run_at, queue, priority
               FROM job, generate_series(1, %s) WHERE id = %s""",
            [COUNTED + 5, job.id],
        )
    found = metrics()
    assert found.of("semel_queue_due_jobs", queue="default") == COUNTED
    assert found.of("semel_jobs", operation="test.scripted", state="queued") == COUNTED


def test_purge_lag_considers_only_purgeable_keys(api, tenant, metrics, rises):
    key = {"created_at": "2 d", "expires_at": "1 h"}
    post(api, key="stays")
    job = accepted(post(api, key="goes"))
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE idempotency_record SET created_at = now() - %(created_at)s::interval,"
            " expires_at = now() - %(expires_at)s::interval",
            key,
        )
    assert metrics().of("semel_purge_lag_seconds") == 0
    transitions.cancel_queued_job(job_id=job["id"])
    assert 3_600 <= metrics().of("semel_purge_lag_seconds") < 3_700
    with rises("semel_purge_rows_total", kind="keys"), rises("semel_purge_duration_seconds_count"):
        purge.run_once()
    assert metrics().of("semel_purge_lag_seconds") == 0
    assert IdempotencyRecord.objects.count() == 1


def test_the_end_of_the_last_sweep_and_purge_is_reported(metrics):
    before = time.time()
    sweep.run_once()
    purge.run_once()
    found = metrics()
    for name in ("sweep", "purge"):
        assert before <= found.of(f"semel_{name}_last_finished_timestamp_seconds") <= time.time()


def test_violations_start_at_zero_and_count(metrics, rises):
    assert metrics().has("semel_audit_violations_total", invariant="I10")
    with rises("semel_audit_violations_total", invariant="I1"):
        violation_found.send_robust(sender=None, finding=SimpleNamespace(invariant="I1"))
