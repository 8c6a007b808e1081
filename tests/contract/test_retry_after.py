"""`Retry-After` follows the median duration of the tenant's latest jobs of the same operation."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import DatabaseError

from jobs import transitions
from jobs.durations import typical_durations
from jobs.payloads import encode_payload
from tests.support.client import CHARGE, accepted, post
from tests.support.factories import TenantFactory, backdate, claim, queued_job

SCRIPT = {"operation": "test.scripted", "params": {"script": "none"}}


def succeeded_after(tenant, seconds, **options):
    """Return a job that ran for this many seconds and succeeded."""
    job = claim(queued_job(tenant, **options).id)
    transitions.succeed_job(job_id=job.id, attempt=job.attempt, result=encode_payload(1))
    return backdate(job.id, started_at=timedelta(seconds=seconds))


def retry_after(response):
    assert response.status_code < 400, response.content
    return int(response["Retry-After"])


def read(api, job):
    return api.get(f"/v1/jobs/{job.id}")


def load_durations(api):
    """Request a duration once, so that the refresh loads it."""
    post(api, SCRIPT, key="first")
    typical_durations.refresh()


def test_without_a_known_duration_retry_after_is_one_second(api, tenant):
    succeeded_after(tenant, 20)
    assert retry_after(post(api, SCRIPT)) == 1


def test_retry_after_of_a_new_job_is_the_median_duration(api, tenant):
    for seconds in (5, 20, 300):
        succeeded_after(tenant, seconds)
    load_durations(api)
    response = post(api, SCRIPT)
    assert retry_after(response) in (20, 21)
    assert retry_after(api.get(response["Location"])) in (20, 21)


@pytest.mark.parametrize(("seconds", "expected"), [(0, {1}), (0.5, {1}), (600, {60})])
def test_retry_after_is_between_a_second_and_a_minute(api, tenant, seconds, expected):
    succeeded_after(tenant, seconds)
    load_durations(api)
    assert retry_after(post(api, SCRIPT)) in expected


def test_the_elapsed_time_of_a_running_job_is_subtracted(api, tenant):
    succeeded_after(tenant, 50)
    load_durations(api)
    job = claim(queued_job(tenant).id)
    assert retry_after(read(api, job)) in (50, 51)
    assert retry_after(read(api, backdate(job.id, started_at=timedelta(seconds=30)))) in (20, 21)
    assert retry_after(read(api, backdate(job.id, started_at=timedelta(hours=1)))) == 1


def test_the_time_until_the_job_is_due_is_added(api, tenant):
    succeeded_after(tenant, 5)
    load_durations(api)
    job = backdate(queued_job(tenant).id, run_at=-timedelta(seconds=30))
    assert retry_after(read(api, job)) in range(30, 37)
    assert retry_after(read(api, backdate(job.id, run_at=-timedelta(hours=1)))) == 60


def test_other_tenants_modes_operations_and_failures_are_not_counted(api, tenant):
    succeeded_after(tenant, 3)
    succeeded_after(TenantFactory(), 40)
    succeeded_after(tenant, 40, mode="live")
    failed = claim(queued_job(tenant).id)
    transitions.fail_job(job_id=failed.id, attempt=1, detail="no", cause="no")
    backdate(failed.id, started_at=timedelta(seconds=59))
    load_durations(api)
    assert retry_after(post(api, SCRIPT)) in (3, 4)
    assert retry_after(post(api, CHARGE, key="charge")) == 1


def test_only_the_latest_jobs_count(api, tenant):
    for _ in range(3):
        succeeded_after(tenant, 50)
    for _ in range(21):
        succeeded_after(tenant, 9)
    load_durations(api)
    assert retry_after(post(api, SCRIPT)) in (9, 10)


def test_a_replay_has_the_retry_after_of_the_first_response(api, tenant):
    first = post(api, SCRIPT)
    succeeded_after(tenant, 20)
    typical_durations.refresh()
    again = post(api, SCRIPT)
    assert (again["Retry-After"], again["Idempotency-Replayed"]) == (first["Retry-After"], "true")
    assert retry_after(api.get(f"/v1/jobs/{accepted(first)['id']}")) in (20, 21)


def test_known_durations_are_kept_while_the_database_is_down(api, tenant, monkeypatch):
    succeeded_after(tenant, 20)
    load_durations(api)
    post(api, SCRIPT, key="second")

    def fail(_kinds):
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr("jobs.durations.median_seconds", fail)
        typical_durations.refresh()
    assert retry_after(post(api, SCRIPT)) in (20, 21)


def test_a_refresh_without_requests_keeps_known_durations(api, tenant):
    succeeded_after(tenant, 20)
    load_durations(api)
    for _ in range(2):
        typical_durations.refresh()
    assert retry_after(post(api, SCRIPT)) in (20, 21)


def test_an_ended_job_has_no_retry_after(api, tenant):
    job = succeeded_after(tenant, 20)
    load_durations(api)
    assert "Retry-After" not in read(api, job)
